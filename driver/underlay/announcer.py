"""Telling a segment where a container's addresses are now, so that no one asks in vain.

A neighbour keeps the old MAC of an address that came back elsewhere for as long as its
cache likes, and engines before 28 announce nothing.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from underlay.kernel import Kernel
from underlay.model import Endpoint

log = logging.getLogger(__name__)

# A switch may be learning still, a frame may be lost.
AFTER_SECONDS = (0.0, 1.0, 3.0, 7.0)
# The kernel takes its time for each, without work: the containers of a host share it.
AT_ONCE = 16


@dataclass
class Announcer:
    """Announces at once, and again with growing pauses. `clock` in seconds."""

    kernel: Kernel
    clock: Callable[[], float]
    _due: list[tuple[float, int, Endpoint]] = field(default_factory=list)
    _turns: Iterator[int] = field(default_factory=count)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    def tell(self, endpoint: Endpoint) -> None:
        """Have announced what an endpoint has, as far as its device has it then."""
        now = self.clock()
        with self._changed:
            for pause in AFTER_SECONDS:
                turn = now + pause, next(self._turns), endpoint
                heapq.heappush(self._due, turn)
            self._changed.notify()

    def run(self) -> None:
        """Announce what is due, until told to stop."""
        while not self._stopping:
            try:
                self.send()
            except Exception:
                # A process may have too many threads for a moment.
                log.exception("bug")
            with self._changed:
                pause = self._due[0][0] - self.clock() if self._due else None
                if not self._stopping and (pause is None or pause > 0):
                    self._changed.wait(pause)

    def stop(self) -> None:
        """End the announcing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def send(self) -> None:
        """Announce what is due now."""
        while due := self._next():
            threads = [threading.Thread(target=self._send, args=(e,)) for e in due]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _next(self) -> list[Endpoint]:
        found: list[Endpoint] = []
        now = self.clock()
        with self._changed:
            while self._due and self._due[0][0] <= now and len(found) < AT_ONCE:
                found.append(heapq.heappop(self._due)[2])
        return found

    def _send(self, endpoint: Endpoint) -> None:
        if endpoint.inside is None:
            return
        addresses = {a.ip for a in endpoint.addresses}
        try:
            self.kernel.announce(endpoint.sandbox, endpoint.inside.device, addresses)
        except OSError as error:
            # It has left since, or is down: then there is nothing to tell.
            log.debug("not announced", extra={"error": error})
