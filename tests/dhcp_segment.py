"""A segment in memory with one DHCP server, which speaks in frames as a real one does.

It stands in the place of the packet sockets: exchanges run as they do on a wire, and
each frame that is sent or heard is a point at which the process may die.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from tests.fakes import Death
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.frames import CLIENT_PORT, SERVER_PORT, Receiver, unwrap, wrap
from underlay.dhcp.offers import Outcome
from underlay.dhcp.packets import (
    BOOTREPLY,
    MessageType,
    Option,
    Packet,
    decode,
    encode,
)
from underlay.records.database import Database

SERVER, SERVER_MAC = IPv4Address("10.55.0.1"), "02:00:00:00:00:01"
NETWORK, MASK = IPv4Address("10.55.0.0"), IPv4Address("255.255.254.0")


class Fate:
    """Counts points; at the one that is armed, the process dies.

    A dead process does nothing: whatever it tries is death again.
    """

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.armed: int | None = None
        self.dead = False

    def arm(self, number: int | None) -> None:
        """Count from here on, and have the process die at the point of this number."""
        self.passed, self.armed, self.dead = [], number, False

    def point(self, label: str) -> None:
        """Pass a point, or die there."""
        self.check_alive()
        self.passed.append(label)
        if len(self.passed) == self.armed:
            self.dead = True
            raise Death

    def check_alive(self) -> None:
        if self.dead:
            raise Death

    def at_commits(self, run: Callable[..., int]) -> Callable[..., int]:
        """Return what executes statements, with points around each COMMIT."""

        def mortal_run(database: Database, sql: str, *values: Any) -> int:
            if sql != "COMMIT":
                self.check_alive()
                return run(database, sql, *values)
            self.point("before COMMIT")
            changed = run(database, sql, *values)
            self.point("after COMMIT")
            return changed

        return mortal_run


class Server:
    """Knows its clients by their client ids, and leases from a first number on."""

    def __init__(self, clock: Callable[[], float], seconds: int = 3600) -> None:
        self.clock, self.seconds, self.first = clock, seconds, 100
        self._given: dict[bytes, tuple[IPv4Address, float]] = {}

    @property
    def leases(self) -> dict[bytes, IPv4Address]:
        """The addresses that clients have now, by client id."""
        now = self.clock()
        return {who: ip for who, (ip, end) in self._given.items() if end > now}

    def renumber(self, first: int) -> None:
        """Forget all clients, and lease other addresses."""
        self._given.clear()
        self.first = first

    def answer(self, packet: Packet) -> Packet | None:
        """Return what a client is answered, None for silence."""
        client = packet.options[Option.CLIENT_ID]
        address = self._address(client)
        if packet.kind == MessageType.DISCOVER:
            return _reply(packet, MessageType.OFFER, address, self.seconds)
        if packet.kind == MessageType.RELEASE:
            if self.leases.get(client) == packet.ciaddr:
                del self._given[client]
        elif packet.kind == MessageType.REQUEST and packet.server in (None, SERVER):
            asked = packet.options.get(Option.REQUESTED_ADDRESS, packet.ciaddr.packed)
            if IPv4Address(asked) != address:
                return _reply(packet, MessageType.NAK)
            self._given[client] = address, self.clock() + self.seconds
            return _reply(packet, MessageType.ACK, address, self.seconds)
        return None

    def _address(self, client: bytes) -> IPv4Address:
        taken = self.leases
        free = NETWORK + self.first
        while free in taken.values():
            free += 1
        return taken.get(client, free)


def _reply(
    packet: Packet,
    kind: MessageType,
    address: IPv4Address | None = None,
    seconds: int = 0,
) -> Packet:
    options = {Option.MESSAGE_TYPE: bytes((kind,)), Option.SERVER: SERVER.packed}
    if address is None:
        return replace(packet, op=BOOTREPLY, options=options)
    options[Option.SUBNET_MASK] = MASK.packed
    options[Option.ROUTERS] = SERVER.packed
    options[Option.LEASE_SECONDS] = seconds.to_bytes(4, "big")
    return replace(packet, op=BOOTREPLY, yiaddr=address, options=options)


class Segment:
    """The wire: `run` and `send` are those of underlay/dhcp/sockets.py."""

    def __init__(self, server: Server, clock: Callable[[], float], fate: Fate) -> None:
        self.server, self.clock, self.fate = server, clock, fate

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
        """Bring the server what it does not answer."""
        for frame in frames:
            self._carry(frame)

    def _carry(self, frame: bytes) -> list[bytes]:
        datagram = unwrap(frame, SERVER_PORT)
        assert datagram, "no message for a server"
        packet = decode(datagram.payload)
        assert packet.kind, "no message of a known type"
        self.fate.point(f"before {packet.kind.name}")
        answer = self.server.answer(packet)
        self.fate.point(f"after {packet.kind.name}")
        receiver = Receiver(port=CLIENT_PORT)
        answers = [answer] if answer else []
        return [wrap(encode(a), SERVER_MAC, SERVER, receiver) for a in answers]
