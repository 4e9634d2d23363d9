"""A job that runs at start, then every period, and soon after an event."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from underlay.errors import UnderlayError
from underlay.reconcile.log_once import LogOnce

log = logging.getLogger(__name__)


class Calls:
    """When Docker's calls came. `rush`: so many in a second are many containers."""

    def __init__(self, rush: int) -> None:
        self._latest: deque[float] = deque(maxlen=rush)

    def note(self) -> None:
        """Note a call; in any thread."""
        self._latest.append(time.monotonic())

    @property
    def is_rush(self) -> bool:
        """Whether Docker starts or stops many containers just now."""
        full = len(self._latest) == self._latest.maxlen
        return full and time.monotonic() - self._latest[0] < 1.0

    @property
    def quiet_seconds(self) -> float:
        """How long ago the last call came."""
        latest = self._latest[-1] if self._latest else float("-inf")
        return time.monotonic() - latest


class PeriodicJob:
    """Runs a job in the calling thread until told to stop.

    Times are in seconds. A run begins every `period`, or a little after a wake-up:
    `settle` is given how long that was ago, and returns how long to wait still. So
    does `least`, given how long ago the last run began: one event is handled at once,
    and a storm of events is not. The job may return the seconds after which it must run
    again. A failed job is run again after `retry`.
    """

    def __init__(
        self,
        job: Callable[[], float | None],
        *,
        period: float,
        settle: Callable[[float], float],
        least: Callable[[float], float],
        retry: float | None = None,
    ) -> None:
        self._job = job
        self._period = period
        self._retry = retry
        self._settle = settle
        self._least = least
        self._woken = threading.Event()
        self._hurried = threading.Event()
        self._stopping = threading.Event()
        self._once = LogOnce()
        # When the present run began or got on; None between two runs.
        self._progress: float | None = None
        self._thread = 0

    def note_progress(self) -> None:
        """Note that the present run gets on; other threads may call this as well."""
        if threading.get_ident() == self._thread:
            self._progress = time.monotonic()

    @property
    def stalled_seconds(self) -> float:
        """For how long the present run has not got on; 0 while none is due."""
        since = self._progress
        return 0.0 if since is None else time.monotonic() - since

    def wake(self) -> None:
        """Ask for a run soon; never waits."""
        self._woken.set()

    def hurry(self) -> None:
        """Ask for a run at once, without the time to `settle`; never waits."""
        self._hurried.set()
        self._woken.set()

    def stop(self) -> None:
        """End the loop after the present run."""
        self._stopping.set()
        self.hurry()

    def run(self) -> None:
        """Run the job now, and again whenever it is time."""
        self._thread = threading.get_ident()
        while not self._stopping.is_set():
            self._woken.clear()
            self._hurried.clear()
            began = time.monotonic()
            again = self._run_once()
            rest = self._period if again is None else min(self._period, again)
            if self._woken.wait(rest):
                self._wait_to_settle()
            early = self._least(time.monotonic() - began)
            self._stopping.wait(max(early, 0.0))

    def _wait_to_settle(self) -> None:
        woken = time.monotonic()
        while (pause := self._settle(time.monotonic() - woken)) > 0:
            if self._hurried.wait(pause):
                return

    def _run_once(self) -> float | None:
        self._progress = time.monotonic()
        try:
            again = self._job()
        except (UnderlayError, OSError) as error:
            if self._once.is_news("job", error):
                log.warning("background job failed, retrying", extra={"error": error})
            return self._retry
        except Exception:
            # An internal error in one run must not end all later runs.
            log.exception("internal error")
        else:
            self._once.is_news("job", "")
            return again
        finally:
            self._progress = None
        return None
