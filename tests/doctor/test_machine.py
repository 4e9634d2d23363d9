"""The clock and the disk, on a small disk of its own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from underlay.doctor.checks import CHECKS, examine
from underlay.doctor.finding import Check
from underlay.model import Repair

NOW = 1_800_000_000.0


def test_clock_behind_the_newest_record_warns(bench):
    assert bench.check("clock", now=NOW) == ()
    repair = Repair(NOW + 3600, "underlay:n1:", "", "", "ip link add", 0.1)
    with bench.records.transaction():
        bench.records.repairs.note([repair])
    (found,) = bench.check("clock", now=NOW)
    assert (found.level, found.where) == ("warning", "clock")
    assert "by 3600 s" in found.what
    assert bench.check("clock", now=NOW + 3600) == ()


def test_clock_that_was_never_set_warns(bench):
    (found,) = bench.check("clock", now=100.0)
    assert "never was set" in found.what


@pytest.fixture
def disk(bench, tmp_path):
    """A disk of 60 MB for the records."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=60m,nr_inodes=100", "none", folder]
    subprocess.run(words, check=True)
    places = replace(bench.given["places"], records=folder / "state/underlay.db")
    bench.given["places"] = places
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_disk_with_room_passes(bench, disk):
    assert disk.is_dir()
    assert bench.check("disk") == ()


def test_disk_that_is_nearly_full_warns_and_a_full_one_fails(bench, disk):
    file = disk / "filler"
    for size, level in ((20, "warning"), (59, "failure")):
        with file.open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, size << 20)
        (found,) = bench.check("disk")
        assert (found.level, found.where) == (level, str(disk))
        assert "MB left" in found.what


def test_disk_without_inodes_fails(bench, disk):
    for number in range(99):
        (disk / str(number)).touch()
    (found,) = bench.check("disk")
    assert (found.level, found.what) == ("failure", "the file system: it has no free"
                                         " inode")  # fmt: skip


def test_disk_that_is_mounted_read_only_fails(bench, disk):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    (found,) = bench.check("disk")
    assert (found.level, found.what) == (
        "failure",
        "the file system: it is mounted read-only",
    )


def test_check_that_ends_with_a_bug_warns_and_holds_up_no_other(bench):
    def run(_host):
        raise IndexError("no such row")
        yield

    broken = Check("broken", "never", run)
    (clock,) = [check for check in CHECKS if check.id == "clock"]
    first, second = examine(bench.examined(), [broken, clock])
    assert (first.level, second.level) == ("warning", "ok")
    (found,) = first.findings
    assert found.what == "this could not be checked: IndexError: no such row"
    assert "a bug in underlay" in found.remedy
