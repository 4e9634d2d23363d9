"""Programs of the host (iptables, nft): each ends in time, or is left behind.

A program may hang in the kernel (state D), where not even SIGKILL ends it. The service
does not wait for it. Until it ends, no second program of the same name is started.
"""

from __future__ import annotations

import errno
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

SECONDS = 3.0
# How long a killed program may take to end.
_END_SECONDS = 0.2

_until: ContextVar[float] = ContextVar("until", default=float("inf"))
_left_behind: dict[str, subprocess.Popen[str]] = {}
_lock = threading.Lock()


@contextmanager
def within(seconds: float = SECONDS) -> Iterator[None]:
    """Limit the time of all programs together that run in this context."""
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


def run(*words: str, script: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with a script as its input; return how it ended.

    Raises TimeoutError if it takes too long, OSError if it is not there.
    """
    _check_none_left(words[0])
    seconds = min(SECONDS, _until.get() - time.monotonic())
    if seconds <= 0:
        raise TimeoutError(errno.ETIMEDOUT, f"no time was left for {words[0]}")
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(  # noqa: S603 - our own words, and no shell
            words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace"
        )
    except FileNotFoundError as error:
        why = f"the program {words[0]} is not installed"
        raise FileNotFoundError(errno.ENOENT, why) from error
    try:
        out, err = process.communicate(script, seconds)
    except subprocess.TimeoutExpired as error:
        _kill(words[0], process)
        raise TimeoutError(errno.ETIMEDOUT, f"{words[0]} does not end") from error
    except BaseException:
        _kill(words[0], process)
        raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def _check_none_left(name: str) -> None:
    with _lock:
        process = _left_behind.get(name)
        if process is None:
            return
        if process.poll() is None:
            why = f"{name} (process {process.pid}) was killed and does not end"
            raise TimeoutError(errno.ETIMEDOUT, why)
        del _left_behind[name]


def _kill(name: str, process: subprocess.Popen[str]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError):
            if pipe:
                pipe.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        with _lock:
            _left_behind[name] = process
