"""One exchange of a DHCP client with servers: which frames it sends, what it takes.

RFC 2131, section 4.4. Pure: frames and times are given to it, in seconds of a clock
that is never set. Renewals are exchanges of their own; when they are due, the caller
knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, Self

from underlay.dhcp import packets
from underlay.dhcp.client import Client, Random, new_xid
from underlay.dhcp.frames import (
    ALL_SERVERS,
    BOTH_WAYS,
    FILTER,
    Receiver,
    unwrap,
    wrap,
)
from underlay.dhcp.offers import (
    BadOffer,
    Held,
    Leased,
    Offer,
    Outcome,
    Refused,
    read_offer,
)
from underlay.dhcp.packets import (
    BOOTREPLY,
    NOWHERE,
    BadPacket,
    MessageType,
    Option,
    Packet,
)

# Why a message was not taken, beside the texts of BadOffer and of `accept`.
GARBAGE = "no message of DHCP"
FOR_OTHERS = "for another client"
UNASKED = "not asked for"
NOT_CHOSEN = "from a server that was not asked"
REFUSED = "refused by the server"
UNCONFIRMED = "an accepted offer was not confirmed"
OTHER_ADDRESS = "another address than offered"
OTHER_OFFERS = "other offers"

# So many servers are noted: a machine can claim to be any number of them.
MOST_SERVERS = 16
# A reason may name an address: of a flood of offers, no more reasons are counted apart.
MOST_REASONS = 32
# How long an offer waits for one with the wished address.
WISH_SECONDS = 0.1
# A server that offers and refuses in turn is asked no more often than this.
_PAUSE = 1.0
_REQUESTS, _LONGEST_GAP, _JITTER = 3, 16.0, 0.1
_MOST_SECS = 0xFFFF
_AT_ONCE = float("-inf")

# For a new lease; whether one holds here; more time from its server, or from any.
Kind = Literal["new", "reboot", "renew", "rebind"]
Accept = Callable[[Offer], str]  # returns why an offer is not taken, "" if it is


def accept_all(_: Offer) -> str:
    """Return that an offer is fine."""
    return ""


@dataclass(frozen=True, slots=True)
class _Question:
    """What is sent, and again until it was sent `times` times (None: on and on)."""

    kind: MessageType
    options: dict[int, bytes]
    times: int | None = _REQUESTS
    server: IPv4Address | None = None  # the only one that may answer
    address: IPv4Address = NOWHERE  # of a client that has one
    receiver: Receiver = ALL_SERVERS


class Exchange:
    """A question to servers, and the answers.

    `due` is when tick() has something to do, None if never. `outcome` is None until the
    exchange ends; it need not end. `heard` counts the messages that were not taken, by
    the reason, `servers` are those that answered this client. `sent` counts frames.
    """

    # What a socket hears for it: what it receives, and what leaves there as well.
    FILTERS = FILTER, BOTH_WAYS

    def __init__(
        self, client: Client, random: Random, question: _Question, accept: Accept
    ) -> None:
        self.client = client
        self.due: float | None = _AT_ONCE
        self.outcome: Outcome | None = None
        self.heard: Counter[str] = Counter()
        self.servers: set[IPv4Address] = set()
        self.sent = 0
        self._random, self._accept = random, accept
        self._first, self._question = question, question
        self._xid = new_xid(random)
        self._times = self._secs = 0
        self._began = self._asked = self._last = 0.0
        self._chosen: Offer | None = None  # asked for, or waiting for a better one
        self._offered_after: float | None = None

    @classmethod
    def new(
        cls,
        client: Client,
        random: Random,
        accept: Accept = accept_all,
        wished: IPv4Address | None = None,
    ) -> Self:
        """Return an exchange for a new lease, if possible of a wished address."""
        question = _Question(MessageType.DISCOVER, _asking_for(wished), times=None)
        return cls(client, random, question, accept)

    @classmethod
    def reboot(
        cls,
        client: Client,
        random: Random,
        address: IPv4Address,
        accept: Accept = accept_all,
    ) -> Self:
        """Return an exchange for an address that the client had before (INIT-REBOOT).

        Three messages in three seconds; any server may refuse.
        """
        question = _Question(MessageType.REQUEST, _asking_for(address))
        return cls(client, random, question, accept)

    @classmethod
    def renew(
        cls, client: Client, random: Random, held: Held, accept: Accept = accept_all
    ) -> Self:
        """Return an exchange that asks a lease's own server, once, for more time."""
        receiver = Receiver(held.server_mac, held.server)
        question = _Question(
            MessageType.REQUEST, {}, 1, held.server, held.address, receiver
        )
        return cls(client, random, question, accept)

    @classmethod
    def rebind(
        cls,
        client: Client,
        random: Random,
        address: IPv4Address,
        accept: Accept = accept_all,
    ) -> Self:
        """Return an exchange that asks any server, once, for more time."""
        question = _Question(MessageType.REQUEST, {}, 1, address=address)
        return cls(client, random, question, accept)

    @property
    def kind(self) -> Kind:
        """Return what is asked for."""
        if self._first.kind == MessageType.DISCOVER:
            return "new"
        if not int(self._first.address):
            return "reboot"
        return "renew" if self._first.server else "rebind"

    def tick(self, now: float) -> list[bytes]:
        """Return the frames to send now."""
        if self.due is None or now < self.due:
            return []
        if self._chosen and self._question is self._first:
            self._request(self._chosen)
        elif self._chosen and self._times == self._question.times:
            self.heard[UNCONFIRMED] += 1
            self._restart(now)
        if not self.sent:
            self._began = now
        if not self._times:
            self._asked = now
        if not self._chosen:
            # A REQUEST has the number of its DISCOVER (RFC 2131, 4.4.1).
            self._secs = min(int(now - self._began), _MOST_SECS)
        self._last = now
        self._times, self.sent = self._times + 1, self.sent + 1
        more = self._chosen or self._times != self._question.times
        self.due = now + self._gap() if more else None
        return [self._frame()]

    def _gap(self) -> float:
        jitter = 1 + _JITTER * (2 * self._random() - 1)
        return float(min(2.0 ** (self._times - 1), _LONGEST_GAP) * jitter)

    def _frame(self) -> bytes:
        asked = self._question
        message = self.client.message(
            asked.kind,
            asked.options,
            xid=self._xid,
            secs=self._secs,
            # One that has an address is answered there.
            broadcast=not int(asked.address),
            ciaddr=asked.address,
        )
        return wrap(message, self.client.mac, asked.address, asked.receiver)

    def feed(self, frame: bytes, now: float) -> None:
        """Take what was heard at a time; tick() then says what to send."""
        datagram = unwrap(frame)
        if self.outcome or not self.sent or not datagram:
            return
        try:
            packet = packets.decode(datagram.payload)
        except BadPacket:
            self.heard[GARBAGE] += 1
            return
        told = packet.op, packet.xid, packet.chaddr
        kind, asked = packet.kind, self._question
        if told != (BOOTREPLY, self._xid, self.client.mac):
            self.heard[FOR_OTHERS] += 1
            return
        if packet.server and len(self.servers) < MOST_SERVERS:
            self.servers.add(packet.server)
        if asked.kind == MessageType.DISCOVER:
            if kind == MessageType.OFFER:
                self._offered(packet, now)
            else:
                self.heard[UNASKED] += 1
        elif kind not in (MessageType.ACK, MessageType.NAK):
            self.heard[UNASKED] += 1
        elif asked.server not in (None, packet.server):
            self.heard[NOT_CHOSEN] += 1
        elif kind == MessageType.NAK:
            self._refused(packet.server, REFUSED, packet.message, now)
        else:
            self._confirmed(packet, datagram.source_mac, now)

    def _offered(self, packet: Packet, now: float) -> None:
        if not (offer := self._read(packet)):
            return
        if why := self._accept(offer):
            is_room = why in self.heard or len(self.heard) < MOST_REASONS
            self.heard[why if is_room else OTHER_OFFERS] += 1
            return
        wished, known = self._is_wished(offer), self._chosen
        if known and (self._is_wished(known) or not wished):
            self.heard[UNASKED] += 1
            return
        self._chosen, self._offered_after = offer, now - self._last
        self.due = now if wished else now + WISH_SECONDS

    def _is_wished(self, offer: Offer) -> bool:
        wish = self._first.options.get(Option.REQUESTED_ADDRESS)
        return wish in (None, offer.address.ip.packed)

    def _request(self, offer: Offer) -> None:
        options = _asking_for(offer.address.ip)
        options[Option.SERVER] = offer.server.packed
        self._times = 0
        self._question = _Question(MessageType.REQUEST, options, server=offer.server)

    def _restart(self, due: float) -> None:
        self._question, self._chosen, self._times = self._first, None, 0
        self.due = due

    def _confirmed(self, packet: Packet, mac: str, now: float) -> None:
        if not (offer := self._read(packet)):
            return
        if self._chosen and offer.address.ip != self._chosen.address.ip:
            self.heard[OTHER_ADDRESS] += 1
        elif why := self._accept(offer):
            self._refused(offer.server, why, why, now)
        else:
            self.outcome = Leased(offer, mac, self._asked, self._offered_after)
            self.due = None

    def _refused(
        self, server: IPv4Address | None, reason: str, why: str, now: float
    ) -> None:
        """End the exchange, or look for another offer."""
        self.heard[reason] += 1
        if self._chosen:
            self._restart(now + _PAUSE)
        else:
            self.outcome, self.due = Refused(server, why), None

    def _read(self, packet: Packet) -> Offer | None:
        try:
            return read_offer(packet)
        except BadOffer as error:
            self.heard[str(error)] += 1
            return None


def _asking_for(address: IPv4Address | None) -> dict[int, bytes]:
    return {Option.REQUESTED_ADDRESS: address.packed} if address else {}
