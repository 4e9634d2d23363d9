"""Messages of DHCP servers, for the tests of what reads them."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

from underlay.dhcp.frames import CLIENT_PORT, Receiver, wrap
from underlay.dhcp.packets import BOOTREPLY, MessageType, Option, Packet, encode

MAC, SERVER_MAC = "02:00:00:00:00:09", "02:00:00:00:00:01"
ADDRESS, SERVER = ip_address("10.55.0.77"), ip_address("10.55.0.1")
XID = 0x11223344
# Of an OFFER that lacks nothing: mask, server and an hour.
GIVEN = {
    Option.SUBNET_MASK: IPv4Address("255.255.254.0").packed,
    Option.SERVER: SERVER.packed,
    Option.LEASE_SECONDS: (3600).to_bytes(4, "big"),
}


def reply(kind=MessageType.OFFER, options=GIVEN, **fields):
    """Return a message of the server for the client; a None among options is none."""
    told = {Option.MESSAGE_TYPE: bytes((kind,))} | dict(options)
    kept = {code: value for code, value in told.items() if value is not None}
    base = {"op": BOOTREPLY, "xid": XID, "chaddr": MAC, "yiaddr": ADDRESS}
    return Packet(**(base | fields), options=kept)


def framed(packet, mac=SERVER_MAC, server=SERVER):
    """Return the frame in which a server sends a message to all."""
    receiver = Receiver(port=CLIENT_PORT)
    return wrap(encode(packet), mac, server, receiver)


def dice(*numbers):
    """Return a source of numbers that gives XID first, then no jitter."""
    told = iter([XID / 2**32, *numbers])
    return lambda: next(told, 0.5)
