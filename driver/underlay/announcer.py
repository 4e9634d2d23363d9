"""Telling a segment where a container's addresses are now, so that no one asks in vain.

A neighbour keeps the old MAC of an address that came back elsewhere for as long as its
cache likes, and engines before 28 announce nothing.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import count

from underlay.kernel import Kernel
from underlay.model import Address, Endpoint

log = logging.getLogger(__name__)

# A switch may be learning still, a frame may be lost.
AFTER_SECONDS = (0.0, 1.0, 3.0, 7.0)
# The kernel takes its time for each, without work: the containers of a host share it.
AT_ONCE = 16
# The path of a sandbox, "" for the host, and a device there.
_Place = tuple[str, str]


@dataclass
class Announcer:
    """Announces at once, and again with growing pauses. `clock` in seconds."""

    kernel: Kernel
    clock: Callable[[], float]
    _due: list[tuple[float, int, _Place, Endpoint]] = field(default_factory=list)
    _turns: Iterator[int] = field(default_factory=count)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    def tell(self, endpoint: Endpoint, proxy: str = "") -> None:
        """Have announced what an endpoint has, as far as its device has it then.

        Or as far as `proxy`, a device of the host, answers for it then.
        """
        now, device = self.clock(), endpoint.inside.device if endpoint.inside else ""
        place = ("", proxy) if proxy else (endpoint.sandbox, device)
        if not place[1]:
            return
        with self._changed:
            for pause in AFTER_SECONDS:
                turn = now + pause, next(self._turns), place, endpoint
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
            threads = [threading.Thread(target=self._send, args=d) for d in due]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _next(self) -> Collection[tuple[_Place, set[Address]]]:
        """Return where to announce what now: all that one proxy answers for at once."""
        found: dict[Hashable, tuple[_Place, set[Address]]] = {}
        now = self.clock()
        with self._changed:
            while self._due and self._due[0][0] <= now and len(found) < AT_ONCE:
                _, turn, place, endpoint = heapq.heappop(self._due)
                together = turn if place[0] else place
                _, addresses = found.setdefault(together, (place, set()))
                addresses |= {a.ip for a in endpoint.addresses}
        return found.values()

    def _send(self, place: _Place, addresses: set[Address]) -> None:
        try:
            self.kernel.announce(*place, addresses)
        except OSError as error:
            # It has left since, or is down: then there is nothing to tell.
            log.debug("not announced", extra={"error": error})
