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


class CallRate:
    """Measures whether more than `number` calls come in a second."""

    def __init__(self, number: int) -> None:
        self._latest: deque[float] = deque(maxlen=number)

    def note(self) -> None:
        """Note a call; in any thread."""
        self._latest.append(time.monotonic())

    @property
    def is_on(self) -> bool:
        """Whether the last `number` calls came within the last second."""
        full = len(self._latest) == self._latest.maxlen
        return full and time.monotonic() - self._latest[0] < 1.0


class PeriodicJob:
    """Runs a job in the calling thread until told to stop.

    Times are in seconds. A run begins every `period`, or `settle` after a wake-up, but
    no sooner than `least()` after the last run began. So one event is handled at once,
    and a storm of events costs one run per `least()`. The job may return the seconds
    after which it must run again. A failed job is run again after `retry`.
    """

    def __init__(
        self,
        job: Callable[[], float | None],
        *,
        period: float,
        settle: float,
        least: Callable[[], float],
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
        while not self._stopping.is_set():
            self._woken.clear()
            self._hurried.clear()
            began = time.monotonic()
            again = self._run_once()
            rest = self._period if again is None else min(self._period, again)
            if self._woken.wait(rest):
                self._hurried.wait(self._settle)
            early = began + self._least() - time.monotonic()
            self._stopping.wait(max(early, 0.0))

    def _run_once(self) -> float | None:
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
        return None
