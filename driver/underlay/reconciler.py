"""The loops: once at start, then every period, or soon after something stirred."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from underlay.errors import UnderlayError

log = logging.getLogger(__name__)


class Loop:
    """Runs a job in the calling thread until told to stop.

    `period` and `settle` in seconds: a wake-up waits `settle` for more of them, so that
    a storm of events costs one run. One that failed is tried again after `retry`.
    """

    def __init__(
        self,
        job: Callable[[], object],
        *,
        period: float,
        settle: float,
        retry: float | None = None,
    ) -> None:
        self._job = job
        self._period = period
        self._retry = min(period, period if retry is None else retry)
        self._settle = settle
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._complaint = ""

    def wake(self) -> None:
        """Ask for a run soon; never waits."""
        self._woken.set()

    def stop(self) -> None:
        """End the loop after the run under way."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        """Run the job now, and again whenever it is time."""
        while not self._stopping.is_set():
            self._woken.clear()
            done = self._run_once()
            if self._woken.wait(self._period if done else self._retry):
                self._stopping.wait(self._settle)

    def _run_once(self) -> bool:
        """Tell whether the world was as the job needs it."""
        try:
            self._job()
        except (UnderlayError, OSError) as error:
            if str(error) != self._complaint:
                log.warning("not done, trying on", extra={"error": error})
            self._complaint = str(error)
            return False
        except Exception:
            # A bug in one run must not end the repairs of all later ones.
            log.exception("bug")
        else:
            self._complaint = ""
        return True
