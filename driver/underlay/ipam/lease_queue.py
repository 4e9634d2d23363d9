"""When leases of DHCP servers are looked at next, and the threads that do so.

One thread waits for what is due next, and a few ask servers. What is on record says
what is due; the queue only says when to look.
"""

from __future__ import annotations

import heapq
import logging
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from underlay.errors import UnderlayError

log = logging.getLogger(__name__)

# So many servers are asked at once: each is a wait, not work.
AT_ONCE = 8
# A container whose device is on its way is looked at again after this time.
STARTING_SECONDS = 1.0
# An error that is none of a server's: a full disk, or a defect.
FAILED_SECONDS = 10.0


class LeaseQueue:
    """Looks at leases, by their ids. `monotonic`: seconds since the host booted."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        # When to look at a lease, and the earliest entry of each.
        self._queue: list[tuple[float, int]] = []
        self._first: dict[int, float] = {}
        # Those that a thread is about to ask for.
        self._busy: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False

    @abstractmethod
    def _keep(self, identity: int) -> None:
        """Do what is due for a lease."""

    def stop(self) -> None:
        """End the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def run(self) -> None:
        """Look at leases as they become due, until told to stop."""
        pool = ThreadPoolExecutor(AT_ONCE, "lease")
        while (due := self._next()) is not None:
            pool.submit(self._try, due)
        pool.shutdown(wait=False, cancel_futures=True)

    def _try(self, identity: int) -> None:
        """Do what is due for a lease, unless another thread does so now."""
        with self._changed:
            if identity in self._busy:
                self._first[identity] = self.monotonic() + STARTING_SECONDS
                heapq.heappush(self._queue, (self._first[identity], identity))
                self._changed.notify_all()
                return
            self._busy.add(identity)
        try:
            self._keep(identity)
        except (UnderlayError, OSError) as error:
            log.warning("lease not kept, retrying", extra={"error": error})
            self._look_at(identity, self.monotonic() + FAILED_SECONDS)
        except Exception:
            # One lease must not end the keeping of all others.
            log.exception("internal error")
            self._look_at(identity, self.monotonic() + FAILED_SECONDS)
        finally:
            with self._changed:
                self._busy.discard(identity)

    def _look_at(self, lease: int, due: float) -> None:
        with self._changed:
            if due < self._first.get(lease, float("inf")):
                self._first[lease] = due
                heapq.heappush(self._queue, (due, lease))
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Wait for the next lease that is due; return its id, None to stop."""
        with self._changed:
            while not self._stopping:
                pause = self._queue[0][0] - self.monotonic() if self._queue else None
                if pause is not None and pause <= 0:
                    due, lease = heapq.heappop(self._queue)
                    if self._first.get(lease) == due:
                        del self._first[lease]
                        return lease
                    continue  # it was looked at before, by an earlier entry
                self._changed.wait(pause)
        return None
