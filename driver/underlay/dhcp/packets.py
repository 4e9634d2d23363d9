"""DHCP messages: made and read.

RFC 2131 and 2132, with long options (RFC 3396), client identifiers (RFC 4361) and the
name of a client (RFC 4702). A MAC is text in lower case.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from uuid import UUID

from underlay.model import lease_options
from underlay.model.lease_options import addresses
from underlay.model.text import printable

BOOTREQUEST, BOOTREPLY = 1, 2
NOWHERE = IPv4Address(0)

# op, htype, hlen, hops, xid, secs, flags, four addresses, chaddr, sname, file, cookie.
_HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = b"\x63\x82\x53\x63"
_ETHERNET, _MAC_BYTES, _BROADCAST = 1, 6, 0x8000
# BOOTP's size of a message, which relays and old servers expect (RFC 1542, 2.1).
_SHORTEST = 300
_LONGEST_PART = 255
_IN_FILE, _IN_SNAME = 1, 2  # bits of the overload option
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LONGEST_NAME, _LONGEST_TEXT = 253, 60
_SERVER_UPDATES, _WIRE_FORMAT = 0x01, 0x04  # the flags S and E of RFC 4702
_DUID_UUID = 4  # RFC 6355


class BadPacket(ValueError):
    """Bytes that are no DHCP message over Ethernet."""


class MessageType(IntEnum):
    """The values of option 53."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """The codes of options that are made or read here."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTERS = lease_options.ROUTERS
    NAME_SERVERS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = lease_options.MTU
    REQUESTED_ADDRESS = 50
    LEASE_SECONDS = 51
    OVERLOAD = 52
    MESSAGE_TYPE = 53
    SERVER = 54
    PARAMETERS = 55
    MESSAGE = 56
    LONGEST_MESSAGE = 57
    T1 = 58
    T2 = 59
    CLIENT_ID = 61
    FQDN = 81
    SEARCH = 119
    CLASSLESS_ROUTES = lease_options.CLASSLESS_ROUTES
    END = 255


@dataclass(frozen=True, slots=True)
class Packet:
    """A DHCP message. Options are whole, however many parts they came in.

    The overload option is none of them: it says only where the others are.
    """

    op: int
    xid: int
    chaddr: str
    options: Mapping[int, bytes] = field(default_factory=dict)
    secs: int = 0
    broadcast: bool = False
    ciaddr: IPv4Address = NOWHERE
    yiaddr: IPv4Address = NOWHERE
    siaddr: IPv4Address = NOWHERE
    giaddr: IPv4Address = NOWHERE

    @property
    def kind(self) -> MessageType | None:
        """Return the type of the message, None if it has none that is known."""
        value = int.from_bytes(self.options.get(Option.MESSAGE_TYPE, b""), "big")
        try:
            return MessageType(value)
        except ValueError:
            return None

    @property
    def server(self) -> IPv4Address | None:
        """Return the address a server is known by (option 54), if there is one."""
        found = addresses(self.options.get(Option.SERVER, b""))
        return found[0] if len(found) == 1 and int(found[0]) else None

    @property
    def message(self) -> str:
        """Return what a server says to people (option 56), escaped, "" for nothing."""
        return text(self.options.get(Option.MESSAGE, b""))


def encode(packet: Packet) -> bytes:
    """Return a message as bytes; raises ValueError for values that do not fit."""
    mac = bytes.fromhex(packet.chaddr.replace(":", ""))
    if len(mac) != _MAC_BYTES:
        raise ValueError(f"{packet.chaddr!r} is no MAC")
    fixed = packet.op, _ETHERNET, _MAC_BYTES, 0, packet.xid, packet.secs
    told = packet.ciaddr, packet.yiaddr, packet.siaddr, packet.giaddr
    flags, packed = _BROADCAST * packet.broadcast, (a.packed for a in told)
    try:
        head = _HEAD.pack(*fixed, flags, *packed, mac, b"", b"", _COOKIE)
    except struct.error as error:
        raise ValueError(str(error)) from None
    return (head + encode_options(packet.options)).ljust(_SHORTEST, b"\0")


def encode_options(options: Mapping[int, bytes]) -> bytes:
    """Return options as an area that ends; long ones are in parts (RFC 3396).

    Raises ValueError for the codes that are no options of their own.
    """
    area = bytearray()
    for code, value in options.items():
        if code in (Option.PAD, Option.OVERLOAD) or not 0 < code < Option.END:
            raise ValueError(f"{code} is no option of its own")
        for at in range(0, len(value) or 1, _LONGEST_PART):
            part = value[at : at + _LONGEST_PART]
            area += bytes((code, len(part))) + part
    return bytes(area) + bytes((Option.END,))


def decode(data: bytes) -> Packet:
    """Return the message in bytes; raises BadPacket."""
    if len(data) < _HEAD.size:
        raise BadPacket("too short")
    op, kind, length, _, xid, secs, flags, *fields = _HEAD.unpack_from(data)
    *told, hardware, sname, file, cookie = fields
    if cookie != _COOKIE or (kind, length) != (_ETHERNET, _MAC_BYTES):
        raise BadPacket("not of DHCP over Ethernet")
    options = decode_options(data[_HEAD.size :], file, sname)
    mac = hardware[:_MAC_BYTES].hex(":")
    flag = bool(flags & _BROADCAST)
    return Packet(op, xid, mac, options, secs, flag, *map(IPv4Address, told))


def decode_options(
    area: bytes, file: bytes = b"", sname: bytes = b""
) -> dict[int, bytes]:
    """Return the options of an area, those in overloaded fields included.

    In the order of RFC 3396: options, file, sname. Raises BadPacket for one that is cut
    off.
    """
    found: dict[int, bytes] = {}
    _add(found, area)
    overload = found.pop(Option.OVERLOAD, b"")
    fields = overload[0] if len(overload) == 1 else 0
    if fields & _IN_FILE:
        _add(found, file)
    if fields & _IN_SNAME:
        _add(found, sname)
    found.pop(Option.OVERLOAD, None)
    return found


def _add(found: dict[int, bytes], area: bytes) -> None:
    try:
        for code, value in lease_options.parts(area):
            found[code] = found.get(code, b"") + value
    except ValueError as error:
        raise BadPacket(str(error)) from None


def text(value: bytes) -> str:
    """Return the text in an option, with what is not printable ASCII escaped."""
    return printable(value.rstrip(b"\0").decode("ascii", "backslashreplace"))


def is_name(name: str) -> bool:
    """Return whether a text is a name of a host (RFC 1123), qualified or not."""
    labels = name.split(".")
    return len(name) <= _LONGEST_NAME and all(map(_LABEL.fullmatch, labels))


def host_name(name: str) -> bytes:
    """Return a value for option 12; raises ValueError if it is no name of a host."""
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of a host")
    return name.encode()


def fqdn(name: str) -> bytes:
    """Return a value for option 81 that asks the server to update the DNS (S=1, E=1).

    A name with a dot is fully qualified. Raises ValueError if it is no name of a host.
    """
    return bytes((_SERVER_UPDATES | _WIRE_FORMAT, 0, 0)) + fqdn_labels(name)


def fqdn_labels(name: str) -> bytes:
    """Return a name as DNS messages have it; one with a dot is fully qualified.

    Raises ValueError if it is no name of a host.
    """
    host_name(name)
    labels = (label.encode() for label in name.split("."))
    encoded = b"".join(bytes((len(label),)) + label for label in labels)
    return encoded + (b"\0" if "." in name else b"")


def client_id_of_mac(mac: str) -> bytes:
    """Return the client identifier of most clients: Ethernet, and the MAC."""
    return bytes((_ETHERNET,)) + bytes.fromhex(mac.replace(":", ""))


def client_id_of_duid(iaid: int, uuid: UUID) -> bytes:
    """Return a client identifier by RFC 4361: an IAID of 32 bits, and a DUID-UUID."""
    return (
        b"\xff" + iaid.to_bytes(4, "big") + _DUID_UUID.to_bytes(2, "big") + uuid.bytes
    )


def iaid_and_duid(client_id: bytes) -> tuple[int, bytes]:
    """Return both parts of a client identifier by RFC 4361."""
    return int.from_bytes(client_id[1:5], "big"), client_id[5:]


def client_id_of_text(text: str) -> bytes:
    """Return a text as a client identifier, of 1 to 60 bytes; raises ValueError."""
    value = text.encode()
    if not 0 < len(value) <= _LONGEST_TEXT:
        raise ValueError(f"{text!r} has not 1 to {_LONGEST_TEXT} bytes")
    return b"\0" + value
