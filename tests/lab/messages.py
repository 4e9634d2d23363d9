"""What DHCP clients say, of the frames that were captured on a wire."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import NamedTuple

from tests.lab.capture import Frame
from underlay.dhcp.frames import SERVER_PORT, unwrap
from underlay.dhcp.packets import MessageType, Option, Packet, decode


class Message(NamedTuple):
    """A message to a server: from and to which MAC, and from which address."""

    source: str
    target: str
    address: IPv4Address
    packet: Packet

    @property
    def kind(self) -> MessageType:
        assert self.packet.kind
        return self.packet.kind

    @property
    def client(self) -> tuple[str, str, bytes]:
        """What a server knows the client by: source MAC, its MAC inside, client id."""
        packet = self.packet
        return self.source, packet.chaddr, packet.options[Option.CLIENT_ID]


def to_servers(frames: Iterable[Frame], mac: str = "") -> list[Message]:
    """Return the messages that came in where they were captured, of a MAC or of all."""
    found = []
    for frame in frames:
        ends = bytes.fromhex(f"{frame.target}{frame.source}".replace(":", ""))
        whole = ends + frame.kind.to_bytes(2) + frame.payload
        datagram = None if frame.outgoing else unwrap(whole, SERVER_PORT)
        if datagram:
            packet = decode(datagram.payload)
            one = Message(frame.source, frame.target, datagram.source, packet)
            if mac in ("", packet.chaddr):
                found.append(one)
    return found
