"""What all tests share: records of their own."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.kinds import left_out, need
from underlay.records import Records

# A run says whether a change is good: what is generated is the same each time.
# `script/test long` looks for more.
settings.register_profile("steady", derandomize=True)
if not os.environ.get("UNDERLAY_EXPLORE"):
    settings.load_profile("steady")

LONGEST_FIRST = "uml", "docker"
# Of these, the files that keep a worker busy for longest.
LONGEST_FILES = "test_kernels", "test_restarts", "test_crashes", "test_flaps"


def pytest_collection_modifyitems(config, items):
    """Begin with what takes longest and mostly waits: kernels, then engines.

    Leave out what needs something that this kernel is known not to have, and what
    another kernel runs.
    """
    lost = [item for item in items if left_out(needed(item))]
    if lost:
        config.hook.pytest_deselected(items=lost)
        items[:] = [item for item in items if item not in lost]
    items.sort(
        key=lambda item: (
            _turn(LONGEST_FIRST, item.path.parent.name),
            _turn(LONGEST_FILES, item.path.stem),
        )
    )


def pytest_terminal_summary(terminalreporter):
    """Write down which tests failed, for script/test."""
    if path := os.environ.get("UNDERLAY_FAILED_TESTS"):
        stats = terminalreporter.stats
        reports = [*stats.get("failed", ()), *stats.get("error", ())]
        # pytest-xdist adds the group of a test to its name.
        names = dict.fromkeys(re.sub(r"@[\w.-]+$", "", x.nodeid) for x in reports)
        Path(path).write_text("".join(f"{name}\n" for name in names))


def _turn(names, name):
    return names.index(name) if name in names else len(names)


def pytest_configure():
    """Have what is started here end by an interrupt.

    It would ignore that, as what a shell runs in the background does.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item):
    """Before any fixture: a lab host need not boot for a test that is skipped."""
    for kind in needed(item):
        need(kind)


def needed(item):
    """What a test must have of its kernel; the fake one has everything."""
    if getattr(getattr(item, "callspec", None), "params", {}).get("kernel") == "fake":
        return []
    return [kind for mark in item.iter_markers("needs") for kind in mark.args]


@pytest.fixture
def records(tmp_path):
    found = Records(tmp_path / "underlay.db")
    yield found
    found.close()
