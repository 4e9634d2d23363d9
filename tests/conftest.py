"""What all tests share: records of their own."""

from __future__ import annotations

import pytest

from tests.kinds import need
from underlay.records import Records

LONGEST_FIRST = "uml", "docker"


def pytest_collection_modifyitems(items):
    """Begin with what takes longest and mostly waits: kernels, then engines."""
    turns = {name: turn for turn, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: turns.get(item.path.parent.name, len(turns)))


def pytest_runtest_setup(item):
    """Before any fixture: a lab host need not boot for a test that is skipped.

    The fake kernel has every kind.
    """
    if getattr(getattr(item, "callspec", None), "params", {}).get("kernel") == "fake":
        return
    for mark in item.iter_markers("needs"):
        for kind in mark.args:
            need(kind)


@pytest.fixture
def records(tmp_path):
    found = Records(tmp_path / "underlay.db")
    yield found
    found.close()
