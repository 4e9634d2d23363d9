"""Telling a segment where a container's addresses are now, so that no one asks in vain.

A neighbour keeps the old MAC of an address that came back elsewhere for as long as its
cache likes, and engines before 28 announce nothing.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from underlay.kernel import Kernel
from underlay.model import Endpoint

log = logging.getLogger(__name__)

# A switch may be learning still, a frame may be lost.
AGAIN_AFTER_SECONDS = (1.0, 3.0, 7.0)


@dataclass
class Announcer:
    """Announces at once, and again with growing pauses. `clock` in seconds."""

    kernel: Kernel
    clock: Callable[[], float]
    _due: list[tuple[float, str, Endpoint]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    def tell(self, endpoint: Endpoint) -> None:
        """Announce what an endpoint has, as far as its device still has it."""
        if not self._send(endpoint):
            return
        now = self.clock()
        with self._changed:
            for pause in AGAIN_AFTER_SECONDS:
                heapq.heappush(self._due, (now + pause, endpoint.id, endpoint))
            self._changed.notify()

    def run(self) -> None:
        """Repeat announcements as they are due, until told to stop."""
        while True:
            with self._changed:
                pause = self._due[0][0] - self.clock() if self._due else None
                if not self._stopping and (pause is None or pause > 0):
                    self._changed.wait(pause)
                    continue
                if self._stopping:
                    return
                _, _, endpoint = heapq.heappop(self._due)
            self._send(endpoint)

    def stop(self) -> None:
        """End the repeating."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _send(self, endpoint: Endpoint) -> bool:
        if endpoint.inside is None:
            return False
        addresses = {a.ip for a in endpoint.addresses}
        try:
            self.kernel.announce(endpoint.sandbox, endpoint.inside.device, addresses)
        except OSError as error:
            # It has left since, or is down: then there is nothing to tell.
            log.debug("not announced", extra={"error": error})
            return False
        return True
