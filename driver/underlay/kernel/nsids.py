"""The numbers by which this namespace knows others. Layouts: linux/net_namespace.h."""

from __future__ import annotations

import os
import struct
from contextlib import suppress

from underlay.kernel import rtnetlink as raw

NEW, GONE, _GET = 88, 89, 90
_GENERAL = struct.pack("=Bxxx", 0)
_NSID, _FD, NONE = 1, 3, -1


def given(path: str) -> int:
    """Return the number of the namespace pinned at a path, a new one if it had none.

    Raises OSError if there is no namespace.
    """
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            raw.request(NEW, 0, _about(target) + _number(NONE))
        return of(target)
    finally:
        os.close(target)


def own() -> int:
    """Return the number this namespace has for itself: NONE, as a rule."""
    target = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return of(target)
    finally:
        os.close(target)


def named(payload: bytes) -> int:
    """Return the number that a message (NEW, GONE) is about, NONE if it tells none."""
    found = dict(raw.attributes(payload[len(_GENERAL) :])).get(_NSID, b"")
    number: int = struct.unpack("=i", found)[0] if len(found) == 4 else NONE
    return number


def of(target: int) -> int:
    """Return the number by which this namespace knows an open one, NONE if it does not.

    It may get one when the kernel tells of a device that stands on one there.
    """
    for message in raw.exchange(_GET, raw.REQUEST, NEW, _about(target)):
        return named(message)
    return NONE


def _about(target: int) -> bytes:
    return _GENERAL + raw.attribute(_FD, struct.pack("=i", target))


def _number(nsid: int) -> bytes:
    return raw.attribute(_NSID, struct.pack("=i", nsid))
