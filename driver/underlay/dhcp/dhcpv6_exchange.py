"""One exchange of a DHCPv6 client with servers: which frames it sends, what it takes.

RFC 8415, section 18.2. Pure, like the exchange of DHCP (exchange.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Self

from underlay.dhcp import dhcpv6
from underlay.dhcp.client import Random
from underlay.dhcp.dhcpv6 import (
    Answer,
    BadMessage,
    Client,
    Grant,
    Message,
    MessageType,
    Status,
)
from underlay.dhcp.dhcpv6_frames import FILTER, Datagram, answer_to, unwrap, wrap
from underlay.dhcp.exchange import Kind
from underlay.dhcp.offers import Refused

# Why a message was not taken, beside the texts of BadMessage and of `accept`.
GARBAGE = "no message of DHCPv6"
FOR_OTHERS = "for another client"
UNASKED = "not asked for"
NOT_CHOSEN = "from a server that was not asked"
NO_ADDRESS = "without an address"
NONE_LEFT = "no address left"
FAILED = "refused by the server"
UNCONFIRMED = "an accepted offer was not confirmed"

_TIMES = {"renew": 1, "rebind": 3}
_REQUESTS, _LONGEST_GAP, _JITTER, _PAUSE = 3, 16.0, 0.1, 1.0
_BEST = 255  # the preference of a server that is taken at once
_REFUSALS = (Status.NO_BINDING, Status.NOT_ON_LINK)
_AT_ONCE = float("-inf")

Accept = Callable[[IPv6Address], str]  # returns why one is not taken, "" if it is


def accept_all(_: IPv6Address) -> str:
    """Return that an address is fine."""
    return ""


@dataclass(frozen=True, slots=True)
class Held:
    """An address as its server is spoken to: by the DUID."""

    address: IPv6Address
    server: bytes


@dataclass(frozen=True, slots=True)
class Leased:
    """A server gave an address, whose times count from `asked` on.

    `server` is its DUID, `server_address` the one that it spoke from.
    """

    grant: Grant
    server: bytes
    server_address: IPv6Address
    asked: float


Outcome = Leased | Refused


@dataclass(frozen=True, slots=True)
class _Advertised:
    grant: Grant
    server: bytes
    rank: tuple[int, bool]  # the server's preference, and whether it is wished


class Exchange:
    """A question to servers, and the answers; attributes are those of exchange.py."""

    FILTERS = FILTER, FILTER

    def __init__(
        self,
        client: Client,
        random: Random,
        kind: Kind,
        accept: Accept,
        held: Held | None = None,
    ) -> None:
        self.client, self.kind = client, kind
        self.due: float | None = _AT_ONCE
        self.outcome: Outcome | None = None
        self.heard: Counter[str] = Counter()
        self.sent = 0
        self._random, self._accept, self._held = random, accept, held
        self._xid = 0
        self._times = 0
        self._began = self._asked = 0.0
        # Of the offers, the best one so far; and the one that was asked for.
        self._best: _Advertised | None = None
        self._chosen: _Advertised | None = None
        self._answers: list[bytes] = []
        self._next_due: float | None = None

    @classmethod
    def new(
        cls,
        client: Client,
        random: Random,
        accept: Accept = accept_all,
        wished: IPv6Address | None = None,
    ) -> Self:
        """Return an exchange for a new lease, if possible of a wished address."""
        return cls(client, random, "new", accept, Held(wished, b"") if wished else None)

    @classmethod
    def renew(
        cls, client: Client, random: Random, held: Held, accept: Accept = accept_all
    ) -> Self:
        """Return an exchange that asks a lease's own server, once, for more time."""
        return cls(client, random, "renew", accept, held)

    @classmethod
    def rebind(
        cls, client: Client, random: Random, held: Held, accept: Accept = accept_all
    ) -> Self:
        """Return an exchange that asks any server for more time; any may refuse."""
        return cls(client, random, "rebind", accept, held)

    def tick(self, now: float) -> list[bytes]:
        """Return the frames to send now."""
        frames, self._answers = self._answers, []
        if frames:
            self.due = self._next_due
        if self.outcome or self.due is None or now < self.due:
            return frames
        if self.kind == "new" and not self._chosen and self._best:
            self._choose(self._best)
        elif self._chosen and self._times == _REQUESTS:
            self.heard[UNCONFIRMED] += 1
            self._restart()
        if not self.sent:
            self._began = now
        if not self._times:
            self._asked = now
            self._xid = int(self._random() * 2**24)
        self._times, self.sent = self._times + 1, self.sent + 1
        more = self._chosen or self._times != _TIMES.get(self.kind)
        self._wait_until(now + self._gap() if more else None)
        return [*frames, self._frame(now)]

    def feed(self, frame: bytes, now: float) -> None:
        """Take what was heard at a time; tick() then says what to send."""
        if self.outcome or not self.sent:
            return
        if answer := answer_to(frame, self.client.mac, self.client.address):
            self._answers, self.due = [answer], now
            return
        datagram = unwrap(frame)
        if not datagram:
            return
        try:
            message = dhcpv6.decode(datagram.payload)
            if (message.xid, message.client) != (self._xid, self.client.duid):
                self.heard[FOR_OTHERS] += 1
                return
            answer_in = dhcpv6.read_answer(message, self.client.iaid)
        except BadMessage:
            self.heard[GARBAGE] += 1
            return
        self._take(message, answer_in, datagram, now)

    def _take(
        self, message: Message, found: Answer, datagram: Datagram, now: float
    ) -> None:
        if not message.server:
            self.heard[GARBAGE] += 1
            return
        is_asking = self.kind == "new" and not self._chosen
        if message.kind != (MessageType.ADVERTISE if is_asking else MessageType.REPLY):
            self.heard[UNASKED] += 1
        elif is_asking:
            self._advertised(message, found, now)
        elif self._asked_server not in (b"", message.server):
            self.heard[NOT_CHOSEN] += 1
        else:
            self._replied(message, found, datagram, now)

    @property
    def _asked_server(self) -> bytes:
        """Return the only server that may answer, b"" for any."""
        if self._chosen:
            return self._chosen.server
        return self._held.server if self._held and self.kind == "renew" else b""

    def _advertised(self, message: Message, found: Answer, now: float) -> None:
        grant, why = self._usable(found)
        if grant is None:
            self.heard[why] += 1
            return
        wish = self._held and self._held.address
        rank = message.preference, grant.address == wish
        if self._best is None or rank > self._best.rank:
            self._best = _Advertised(grant, message.server, rank)
        # The first question is given its whole time for answers (RFC 8415, 18.2.1).
        if message.preference == _BEST or self._times > 1:
            self._wait_until(now)

    def _replied(
        self, message: Message, found: Answer, datagram: Datagram, now: float
    ) -> None:
        grant, why = self._usable(found)
        if grant:
            self.outcome = Leased(grant, message.server, datagram.source, self._asked)
            self.due = None
        elif self._chosen:
            self.heard[why] += 1
            self._restart()
            self._wait_until(now + _PAUSE)
        elif found.status in _REFUSALS or found.ended or found.grants:
            self.heard[why] += 1
            self.outcome, self.due = Refused(None, why), None
        else:
            self.heard[why] += 1

    def _usable(self, found: Answer) -> tuple[Grant | None, str]:
        """Return the grant to take, the address that the client has first, or why not.

        Without a grant, that is.
        """
        if not found.grants:
            return None, _in_words(found.status)
        mine = self._held and self._held.address
        why = ""
        for grant in sorted(found.grants, key=lambda g: g.address != mine):
            why = self._accept(grant.address)
            if not why:
                return grant, ""
        return None, why

    def _choose(self, offer: _Advertised) -> None:
        self._chosen, self._best, self._times = offer, None, 0

    def _restart(self) -> None:
        self._chosen, self._best, self._times = None, None, 0

    def _wait_until(self, due: float | None) -> None:
        self.due = self._next_due = due

    def _gap(self) -> float:
        jitter = 1 + _JITTER * (2 * self._random() - 1)
        return float(min(2.0 ** (self._times - 1), _LONGEST_GAP) * jitter)

    def _frame(self, now: float) -> bytes:
        kinds = {"renew": MessageType.RENEW, "rebind": MessageType.REBIND}
        kind = kinds.get(self.kind, MessageType.SOLICIT)
        address = self._held.address if self._held else None
        if self._chosen:
            kind, address = MessageType.REQUEST, self._chosen.grant.address
        message = self.client.message(
            kind,
            self._xid,
            # Since the first of this kind: a request is another one (RFC 8415, 21.9).
            elapsed=now - (self._asked if self._chosen else self._began),
            server=self._asked_server,
            address=address,
        )
        return wrap(message, self.client.mac, self.client.address)


def release(client: Client, random: Random, held: Held) -> bytes:
    """Return the frame that gives an address back to its server."""
    return _told(client, random, held, MessageType.RELEASE)


def decline(client: Client, random: Random, held: Held) -> bytes:
    """Return the frame that tells a server: another machine has this address."""
    return _told(client, random, held, MessageType.DECLINE)


def _told(client: Client, random: Random, held: Held, kind: MessageType) -> bytes:
    xid = int(random() * 2**24)
    message = client.message(kind, xid, server=held.server, address=held.address)
    return wrap(message, client.mac, client.address)


def _in_words(status: int) -> str:
    if status == Status.SUCCESS:
        return NO_ADDRESS
    return NONE_LEFT if status == Status.NONE_LEFT else FAILED
