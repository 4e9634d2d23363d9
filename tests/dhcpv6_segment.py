"""A segment in memory with one DHCPv6 server, which speaks in frames as a real one.

It stands in the place of the sockets: exchanges run as they do on a wire, and each
frame that is sent or heard is a point at which the process may die.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from contextlib import ExitStack
from ipaddress import IPv6Address

from tests.dhcp_segment import Fate
from underlay.dhcp.dhcpv6 import Message, MessageType, Option, Status, decode, encode
from underlay.dhcp.dhcpv6_exchange import Exchange, Outcome
from underlay.dhcp.dhcpv6_frames import SERVER_PORT, unwrap, wrap

DUID, SERVER = b"\0\3\0\1\2\0\0\0\0\1", IPv6Address("fe80::1")
SERVER_MAC, MAC = "02:00:00:00:00:01", "02:00:00:00:00:aa"
CLIENT = IPv6Address("fe80::aa")
PREFIX = IPv6Address("fd70:1::")
FOREVER = 0xFFFFFFFF


def association(iaid, *parts, t1=0, t2=0):
    """Return an option IA_NA with these options in it."""
    return Option.IA_NA, struct.pack("!III", iaid, t1, t2) + b"".join(
        map(option, parts)
    )


def option(part):
    code, value = part
    return struct.pack("!HH", code, len(value)) + value


def granted(address, valid, preferred=None):
    preferred = valid // 2 if preferred is None else preferred
    packed = IPv6Address(address).packed + struct.pack("!II", preferred, valid)
    return Option.IA_ADDRESS, packed


def status(code, text=b"no"):
    return Option.STATUS, struct.pack("!H", code) + text


def framed(message):
    """Return a message as a frame of the server's, to the client's port."""
    frame = bytearray(wrap(encode(message), SERVER_MAC, SERVER))
    frame[54:58] = struct.pack("!HH", 547, 546)
    return bytes(frame)


class Server:
    """Knows its clients by DUID and IAID, and leases from a first number on."""

    def __init__(self, clock: Callable[[], float], seconds: int = 3600) -> None:
        self.clock, self.seconds, self.first = clock, seconds, 0x100
        self.is_there, self.said, self.declined = True, [], set()
        self.t1 = self.t2 = 0
        self._given: dict[tuple[bytes, bytes], tuple[IPv6Address, float]] = {}

    @property
    def leases(self):
        """The addresses that clients have now, by DUID and IAID."""
        now = self.clock()
        return {who: ip for who, (ip, end) in self._given.items() if end > now}

    def renumber(self, first: int) -> None:
        """Forget all clients, and lease other addresses."""
        self._given.clear()
        self.first = first

    def answer(self, message: Message) -> Message | None:
        """Return what a client is answered, None for silence."""
        kind = MessageType(message.kind)
        self.said.append(kind.name.lower())
        value = message.get(Option.IA_NA)
        iaid, asked = value[:4], value[16:32] and IPv6Address(value[16:32])
        who = message.client, iaid
        if not self.is_there or message.server not in (b"", DUID):
            return None
        if kind in (MessageType.RELEASE, MessageType.DECLINE):
            if self.leases.get(who) == asked:
                del self._given[who]
            if kind == MessageType.DECLINE:
                self.declined.add(asked)
            return self._reply(message, status(Status.SUCCESS))
        known = self.leases.get(who)
        number = int.from_bytes(iaid)
        if kind in (MessageType.RENEW, MessageType.REBIND) and known is None:
            return self._reply(message, association(number, status(Status.NO_BINDING)))
        address = known or self._free()
        if kind != MessageType.SOLICIT:
            self._given[who] = address, self.clock() + self.seconds
        parts = [granted(address, self.seconds)]
        if (
            asked
            and asked != address
            and kind in (MessageType.RENEW, MessageType.REBIND)
        ):
            parts.insert(0, granted(asked, 0))
        given = association(number, *parts, t1=self.t1, t2=self.t2)
        return self._reply(message, given)

    def _reply(self, message, *more):
        kind = MessageType.REPLY
        if message.kind == MessageType.SOLICIT:
            kind = MessageType.ADVERTISE
        ids = (Option.CLIENT_ID, message.client), (Option.SERVER_ID, DUID)
        return Message(kind, message.xid, (*ids, *more))

    def _free(self):
        taken, free = {*self.leases.values(), *self.declined}, PREFIX + self.first
        while free in taken:
            free += 1
        return free


class Segment:
    """The wire: `run`, `send` and `speaker` are those of underlay/dhcp/sockets.py."""

    def __init__(self, server: Server, clock: Callable[[], float], fate: Fate) -> None:
        self.server, self.clock, self.is_ready = server, clock, True
        self.fate = fate

    def speaker(self, _device: str) -> tuple[str, IPv6Address] | None:
        return (MAC, CLIENT) if self.is_ready else None

    def run(
        self, exchange: Exchange, _device: str, deadline: float, **_more: object
    ) -> Outcome | None:
        """Have an exchange take what the server answers, until it ends."""
        now = self.clock()
        while exchange.outcome is None and now < deadline:
            for frame in exchange.tick(now):
                for answer in self._carry(frame):
                    exchange.feed(answer, now)
                    self.fate.point("after hearing it")
            now = deadline if exchange.due is None else max(now, exchange.due)
        return exchange.outcome

    def send(
        self, frames: Collection[bytes], _device: str, _later: ExitStack, **_more: int
    ) -> None:
        """Bring the server what no answer is waited for."""
        for frame in frames:
            self._carry(frame)

    def _carry(self, frame: bytes) -> list[bytes]:
        datagram = unwrap(frame, SERVER_PORT)
        assert datagram, "no message for a server"
        message = decode(datagram.payload)
        name = MessageType(message.kind).name
        self.fate.point(f"before {name}")
        answer = self.server.answer(message)
        self.fate.point(f"after {name}")
        return [framed(answer)] if answer else []
