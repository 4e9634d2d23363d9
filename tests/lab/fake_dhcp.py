"""A DHCP server that says what a test makes of each message, on a real packet socket.

For manners that no server of the field has.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from tests.lab import net
from underlay.dhcp.frames import (
    CLIENT_PORT,
    EVERY_MAC,
    EVERYWHERE,
    SERVER_PORT,
    Receiver,
    unwrap,
    wrap,
)
from underlay.dhcp.packets import (
    BOOTREPLY,
    MessageType,
    Option,
    Packet,
    decode,
    encode,
)
from underlay.kernel.namespaces import run_in

ETH_P_ALL = 3
ADDRESS, SERVER = ip_address("10.55.0.77"), ip_address("10.55.0.1")
SERVER_MAC = "02:00:00:00:00:01"
# Of an OFFER that lacks nothing.
GIVEN = {
    Option.SUBNET_MASK: IPv4Address("255.255.255.0").packed,
    Option.SERVER: SERVER.packed,
    Option.LEASE_SECONDS: (60).to_bytes(4, "big"),
}
ANSWERS = {
    MessageType.DISCOVER: MessageType.OFFER,
    MessageType.REQUEST: MessageType.ACK,
}

Answers = Callable[[Packet], Collection[bytes]]


def answer(packet: Packet, **fields: object) -> Packet:
    """Return what a good server answers, but for these fields of the message."""
    kind = {Option.MESSAGE_TYPE: bytes((ANSWERS[packet.kind],))}
    good = {"op": BOOTREPLY, "yiaddr": ADDRESS, "options": kind | GIVEN}
    return replace(packet, **(good | fields))


def refusal(packet: Packet, why: bytes = b"not here") -> Packet:
    """Return the answer of a server that refuses."""
    kind = bytes((MessageType.NAK,))
    options = {Option.MESSAGE_TYPE: kind, 54: SERVER.packed, 56: why}
    return replace(packet, op=BOOTREPLY, options=options)


def framed(
    packet: Packet | bytes, mac: str = SERVER_MAC, server: IPv4Address = SERVER
) -> bytes:
    """Return a message, or what is none, in a frame to all machines."""
    payload = packet if isinstance(packet, bytes) else encode(packet)
    return wrap(payload, mac, server, Receiver(EVERY_MAC, EVERYWHERE, CLIENT_PORT))


def to_all(packet: Packet) -> list[bytes]:
    """Return the frames in which a good server answers: one, to all machines."""
    return [framed(answer(packet))]


@contextmanager
def answering(
    machine: net.Namespace, answers: Answers, device: str = "wire0"
) -> Iterator[list[bytes]]:
    """Answer the clients on a wire of a machine; yield the frames they sent."""

    def opened() -> socket.socket:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        s.bind((device, ETH_P_ALL))
        s.settimeout(0.02)
        return s

    heard: list[bytes] = []
    ended = threading.Event()
    with run_in(net.NETNS / machine.netns, opened) as wire:

        def serve() -> None:
            while not ended.is_set():
                try:
                    frame = wire.recv(2000)
                except TimeoutError:
                    continue
                if datagram := unwrap(frame, SERVER_PORT):
                    heard.append(frame)
                    packet = decode(datagram.payload)
                    for told in answers(packet) if packet.kind in ANSWERS else ():
                        wire.send(told)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield heard
        finally:
            ended.set()
            server.join()
