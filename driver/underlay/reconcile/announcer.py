"""Announcing a container's addresses on its segment, when they have a new place there.

A neighbour keeps the old MAC of such an address until its cache entry expires, and
engines before 28 announce nothing.
"""

from __future__ import annotations

import errno
import heapq
import logging
import threading
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from underlay.kernel import Kernel
from underlay.model import Endpoint, IpAddress

log = logging.getLogger(__name__)

# Between announcements. A switch may be learning still, a frame may be lost, a port may
# forward nothing for half a minute (spanning tree).
PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# So many are sent even if the gateway answers: it is not the only neighbour.
ALWAYS = 3
# How long the gateway may take to answer. Usually it answers in a millisecond.
ANSWER_SECONDS = 0.2
# So many run at once: each is a wait for the kernel, not work.
AT_ONCE = 16
# A sandbox that is gone, or a file where it was pinned.
_GONE = (errno.ENOENT, errno.EINVAL)
# The path of a sandbox, "" for the host, and a device there.
_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Pending:
    """Addresses to announce at a place when it is `due`, after `sent` times before.

    `number` is that of an endpoint's latest announcement there; older ones are void.
    """

    place: _Place
    endpoint: str
    addresses: frozenset[IpAddress]
    gateways: frozenset[IpAddress]
    due: float
    number: int
    sent: int = 0

    @property
    def key(self) -> Hashable:
        return self.place, self.endpoint

    @property
    def may_end(self) -> bool:
        """Whether the gateway's answer to the next announcement ends it."""
        return self.sent + 1 >= ALWAYS

    def after(self, confirmed: Collection[IpAddress], now: float) -> _Pending | None:
        """Return what is left to announce after one more time, None for nothing."""
        left = self.addresses.difference(confirmed if self.may_end else ())
        if not left or self.sent == len(PAUSES_SECONDS):
            return None
        due = now + PAUSES_SECONDS[self.sent]
        return replace(self, addresses=left, due=due, sent=self.sent + 1)


@dataclass
class Announcer:
    """Announces at once, and again with growing pauses, until the gateway answers.

    An answer to an address proves that the way back works. `clock` returns seconds.
    """

    kernel: Kernel
    clock: Callable[[], float]
    # Called with how many addresses were announced, and how many of these the gateway
    # confirmed; must not fail or wait.
    on_sent: Callable[[int, int], None] = lambda _sent, _confirmed: None
    _waiting: list[tuple[float, int, _Pending]] = field(default_factory=list)
    # Those that are due, the ones that were never sent first.
    _ready: list[tuple[int, int, _Pending]] = field(default_factory=list)
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _counter: Iterator[int] = field(default_factory=count)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    def schedule(
        self, endpoint: Endpoint, proxy: str = "", gateways: Collection[IpAddress] = ()
    ) -> None:
        """Announce those addresses of an endpoint that its device has when it is due.

        Or those that `proxy`, a device of the host, then answers for. Starts again if
        it is under way. `gateways` are asked whether they reach the addresses.
        """
        device = endpoint.learned.device if endpoint.learned else ""
        place = ("", proxy) if proxy else (endpoint.sandbox, device)
        addresses = frozenset(a.ip for a in endpoint.addresses)
        if not (place[1] and addresses):
            return
        with self._changed:
            item = _Pending(
                place,
                endpoint.id,
                addresses,
                frozenset(gateways),
                self.clock(),
                next(self._counter),
            )
            self._numbers[item.key] = item.number
            heapq.heappush(self._waiting, (item.due, item.number, item))
            self._changed.notify()

    def defend(self, endpoint: Endpoint, address: IpAddress) -> None:
        """Announce an address of an endpoint once, because another machine claims it.

        Not if its announcing is under way: that goes on.
        """
        place = endpoint.sandbox, endpoint.learned.device if endpoint.learned else ""
        if not place[1]:
            return
        now, sent = self.clock(), len(PAUSES_SECONDS)
        with self._changed:
            number = next(self._counter)
            item = _Pending(
                place, endpoint.id, frozenset({address}), frozenset(), now, number, sent
            )
            if item.key not in self._numbers:
                self._numbers[item.key] = number
                heapq.heappush(self._waiting, (now, number, item))
                self._changed.notify()

    def run(self) -> None:
        """Announce what is due, until told to stop."""
        while not self._stopping:
            try:
                self.send_due()
            except Exception:
                # A process may have too many threads for a moment.
                log.exception("internal error")
            with self._changed:
                due = self._waiting[0][0] if self._waiting else None
                pause = None if due is None else due - self.clock()
                if not self._stopping and (pause is None or pause > 0):
                    self._changed.wait(pause)

    def stop(self) -> None:
        """End the announcing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def send_due(self) -> None:
        """Announce what is due now."""
        while due := self._next():
            threads = [threading.Thread(target=self._send, args=(d,)) for d in due]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _next(self) -> Collection[list[_Pending]]:
        """Return what to announce now, in groups: one for each proxy or endpoint."""
        found: dict[Hashable, list[_Pending]] = {}
        now = self.clock()
        with self._changed:
            while self._waiting and self._waiting[0][0] <= now:
                _, number, item = heapq.heappop(self._waiting)
                heapq.heappush(self._ready, (item.sent, number, item))
            while self._ready and len(found) < AT_ONCE:
                _, number, item = heapq.heappop(self._ready)
                if self._numbers.get(item.key) == number:
                    together = number if item.place[0] else item.place
                    found.setdefault(together, []).append(item)
        return found.values()

    def _send(self, items: Collection[_Pending]) -> None:
        place = next(iter(items)).place
        addresses = {a for t in items for a in t.addresses}
        gateways = {g for t in items for g in t.gateways}
        seconds = ANSWER_SECONDS if any(t.may_end for t in items) else 0.0
        confirmed: Collection[IpAddress] = ()
        try:
            confirmed = self.kernel.announce(*place, addresses, gateways, seconds)
            self.on_sent(len(addresses), len(confirmed))
        except OSError as error:
            # The device has left, or is down: then there is nothing to announce.
            log.debug("cannot announce an address", extra={"error": error})
            if error.errno in _GONE:
                confirmed = addresses
                items = [replace(t, sent=len(PAUSES_SECONDS)) for t in items]
        with self._changed:
            for item in items:
                self._reschedule(item, confirmed)

    def _reschedule(self, item: _Pending, confirmed: Collection[IpAddress]) -> None:
        if self._numbers.get(item.key) != item.number:
            return  # scheduled again meanwhile
        rest = item.after(confirmed, self.clock())
        if rest is None:
            del self._numbers[item.key]
        else:
            heapq.heappush(self._waiting, (rest.due, rest.number, rest))
