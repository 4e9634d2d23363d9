"""The clock and the disk of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding

# A record cannot be older than the program, nor newer than now.
_FIRST_RELEASE = 1_767_225_600  # 2026-01-01
_TOLERANCE_SECONDS = 60.0
_LEAST_BYTES, _FEW_BYTES = 2 << 20, 50 << 20
_MEGABYTE = 1 << 20


def clock(host: Examined) -> Iterator[Finding]:
    """Find that the clock on the wall is wrong: earlier than what is on record."""
    newest = [n.created for n in host.networks] + [e.created for e in host.endpoints]
    if host.records:
        newest += [repair.at for repair in host.records.repairs.latest(1)]
    ahead = max(newest, default=0.0) - host.now
    if host.now < _FIRST_RELEASE or ahead > _TOLERANCE_SECONDS:
        by = f" by {ahead:.0f} s" if ahead > _TOLERANCE_SECONDS else ""
        yield Finding(
            "warning",
            "clock",
            f"the time is earlier than the newest record{by}, or never was set",
            "the history of addresses and repairs is in the wrong order; nothing else"
            " depends on this clock",
            "timedatectl set-ntp true; a machine without a battery-backed clock needs"
            " NTP at each boot",
        )


def disk(host: Examined) -> Iterator[Finding]:
    """Find that the records cannot be written soon, or not at all."""
    folder = host.places.records.parent
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if found.f_flag & os.ST_RDONLY:
        what, level = "it is mounted read-only", True
    elif found.f_files and not found.f_favail:
        what, level = "it has no free inode", True
    elif free < _FEW_BYTES:
        what = f"it has {free / _MEGABYTE:.1f} MB left"
        level = free < _LEAST_BYTES
    else:
        return
    yield Finding(
        "failure" if level else "warning",
        str(folder),
        f"the file system: {what}",
        "containers cannot start when the records cannot be written (E-504)",
        "free space there, or mount it writable; it must be a local disk",
    )
