"""Starting processes directly in another pid namespace.

`nsenter --pid` and `unshare --pid` fork: the caller would hold a middleman that
passes on neither signals nor its own death. Here the calling thread itself says
where its next children go, so that a Popen made meanwhile is the process itself.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_NEWPID = 0x20000000  # os.unshare and os.setns came only with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def new() -> Iterator[None]:
    """Let the one child started meanwhile be PID 1 of a new pid namespace."""
    with _opened("/proc/thread-self/ns/pid") as own:
        _check(_libc.unshare(_NEWPID))
        try:
            yield
        finally:
            _check(_libc.setns(own, _NEWPID))


@contextmanager
def of(pid: int) -> Iterator[None]:
    """Let children started meanwhile be in the pid namespace of this process."""
    with (
        _opened("/proc/thread-self/ns/pid") as own,
        _opened(f"/proc/{pid}/ns/pid") as target,
    ):
        _check(_libc.setns(target, _NEWPID))
        try:
            yield
        finally:
            _check(_libc.setns(own, _NEWPID))


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "no pid namespace for new processes")
