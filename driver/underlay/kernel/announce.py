"""Announcing addresses on a segment, so that neighbours learn their present MAC.

Gratuitous ARP (RFC 5227, RFC 5944) and unsolicited neighbour advertisements (RFC 4861).
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Set
from ipaddress import IPv4Address, IPv6Address, ip_address

from underlay import model
from underlay.kernel import ip, neighbours
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import index_of

_ETHERNET = struct.Struct("!6s6sH")
_ARP, _IPV6, _EVERYTHING = 0x0806, 0x86DD, 0x0003
_EVERYBODY, _ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\0\0\0\1"
_ALL_NODES = IPv6Address("ff02::1").packed
# The multicast group of an address, by its last three bytes (RFC 4291, 2.7.1).
_SOLICITED, _SOLICITED_MAC = IPv6Address("ff02::1:ff00:0").packed[:13], b"\x33\x33\xff"
# Hardware and protocol types and lengths, operation, sender, target.
_ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_IPV6_HEADER = struct.Struct("!IHBB16s16s")  # version, length, next, hop limit
_ICMPV6, _HOPS = 58, 255
_DISCOVERY = struct.Struct("!BBHI16sBB6s")  # with an option: a link-layer address
_SOLICITATION, _ADVERTISEMENT, _OVERRIDE = 135, 136, 1 << 29
_SOURCE_MAC, _TARGET_MAC, _EIGHT_BYTES = 1, 2, 1

# Where a frame has the address that answers, and the one it answers to.
_ARP_FROM, _ARP_TO = slice(28, 32), slice(38, 42)
_TARGET, _IPV6_TO = slice(62, 78), slice(38, 54)
_LONGEST = 128  # bytes
_ASK_AGAIN_SECONDS = 0.5
_HALF, _BYTE, _IF_EQUAL, _RETURN = 0x28, 0x30, 0x15, 0x06
# A filter: of all that a device receives, ARP replies and neighbour advertisements.
_ANSWERS = (
    (_HALF, 0, 0, 12),
    (_IF_EQUAL, 0, 2, _ARP),
    (_HALF, 0, 0, 20),
    (_IF_EQUAL, 5, 6, _REPLY),
    (_IF_EQUAL, 0, 5, _IPV6),
    (_BYTE, 0, 0, 20),
    (_IF_EQUAL, 0, 3, _ICMPV6),
    (_BYTE, 0, 0, 54),
    (_IF_EQUAL, 0, 1, _ADVERTISEMENT),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


def what_is_there(
    device: str,
    addresses: Collection[model.IpAddress],
    gateways: Collection[model.IpAddress] = (),
    seconds: float = 0.0,
) -> frozenset[model.IpAddress]:
    """Announce those addresses that a device has; raises OSError."""
    index = index_of(device)
    there = {found.interface.ip for found in ip.addresses({index: device})}
    return announce(
        device, there.intersection(addresses), gateways=gateways, seconds=seconds
    )


def what_is_answered(
    device: str,
    addresses: Collection[model.IpAddress],
    gateways: Collection[model.IpAddress] = (),
    seconds: float = 0.0,
) -> frozenset[model.IpAddress]:
    """Announce those addresses that a device has a proxy entry for; raises OSError."""
    index = index_of(device)
    there = set(neighbours.answered_on(index, device))
    own = (a.interface.ip for a in ip.addresses({index: device}))
    speaker = next((a for a in own if a.version == 6 and a.is_link_local), None)
    return announce(device, there.intersection(addresses), speaker, gateways, seconds)


def announce(
    device: str,
    addresses: Collection[model.IpAddress],
    speaker: IPv6Address | None = None,
    gateways: Collection[model.IpAddress] = (),
    seconds: float = 0.0,
) -> frozenset[model.IpAddress]:
    """Announce that addresses are at the MAC of a device; raises OSError.

    In the calling thread's namespace. Neighbours that have an entry correct it.
    `speaker` is the device's own IPv6 address, where `addresses` are not its own.

    Each address also asks the gateways of its family: some correct their entries only
    then. Returns the addresses to which a gateway answers within `seconds`. It answers
    to this MAC, so the way back works. The kernel's neighbour table is not used. The
    kernel takes some 10 ms to close the socket.
    """
    if not addresses:
        return frozenset()
    pairs = {(g, a) for a in addresses for g in gateways if g.version == a.version}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        nl.attach(s, _ANSWERS)
        # With protocol 0 nothing is ever received.
        heard = _EVERYTHING if pairs and seconds else 0
        s.bind((socket.if_indextoname(index_of(device)), heard))
        # A netlink request for the link would wait for the kernel's lock (RTNL).
        mac = s.getsockname()[4]
        if len(mac) != len(_EVERYBODY):
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        for address in addresses:
            for frame in _frames(mac, address, speaker):
                s.send(frame)
        for gateway, address in pairs:
            s.send(_question(mac, address, gateway))
        return _confirmed(s, mac, pairs, seconds) if heard else frozenset()


def answering_gateways(
    device: str,
    asked: Mapping[model.IpAddress, model.IpAddress],
    seconds: float,
) -> frozenset[model.IpAddress]:
    """Return which gateways answer the MAC of a device within `seconds`.

    `asked` has the sender's address for each gateway. Nothing is announced: questions
    only, again and again, since the first may be lost. Raises OSError.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        nl.attach(s, _ANSWERS)
        s.bind((socket.if_indextoname(index_of(device)), _EVERYTHING))
        mac = s.getsockname()[4]
        if len(mac) != len(_EVERYBODY):
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        answered: set[model.IpAddress] = set()
        end = time.monotonic() + seconds
        while (left := asked.keys() - answered) and time.monotonic() < end:
            for gateway in left:
                s.send(_question(mac, asked[gateway], gateway))
            pause = min(end, time.monotonic() + _ASK_AGAIN_SECONDS)
            answered |= _answers(s, mac, left, pause)
    return frozenset(answered)


def _answers(
    s: socket.socket, mac: bytes, awaited: Set[model.IpAddress], end: float
) -> set[model.IpAddress]:
    """Return which of these answer a MAC, until a moment or until all have."""
    found: set[model.IpAddress] = set()
    while awaited - found and (rest := end - time.monotonic()) > 0:
        s.settimeout(rest)
        try:
            frame = s.recv(_LONGEST)
        except TimeoutError:
            break
        if frame.startswith(mac):
            found |= {_answer(frame)[0]} & {*awaited}
    return found


def _confirmed(
    s: socket.socket,
    mac: bytes,
    pairs: Collection[tuple[model.IpAddress, model.IpAddress]],
    seconds: float,
) -> frozenset[model.IpAddress]:
    """Return the addresses to which a gateway answers, of pairs of both."""
    left, end = {address for _, address in pairs}, time.monotonic() + seconds
    confirmed: set[model.IpAddress] = set()
    while left - confirmed and (rest := end - time.monotonic()) > 0:
        s.settimeout(rest)
        try:
            frame = s.recv(_LONGEST)
        except TimeoutError:
            break
        answer = _answer(frame)
        if answer in pairs and frame.startswith(mac):
            confirmed.add(answer[1])
    return frozenset(confirmed)


def _answer(frame: bytes) -> tuple[model.IpAddress, model.IpAddress]:
    """Return the two addresses of an answer; the filter drops frames too short."""
    arp = frame[12:14] == _ARP.to_bytes(2, "big")
    by, to = (_ARP_FROM, _ARP_TO) if arp else (_TARGET, _IPV6_TO)
    size = 4 if arp else 16
    return ip_address(frame[by].ljust(size, b"\0")), ip_address(
        frame[to].ljust(size, b"\0")
    )


def _frames(
    mac: bytes, address: model.IpAddress, speaker: IPv6Address | None
) -> Iterator[bytes]:
    if isinstance(address, IPv4Address):
        # Some neighbours accept only requests, others only replies.
        yield _arp(mac, address, _REQUEST, b"\0" * len(mac), address)
        yield _arp(mac, address, _REPLY, mac, address)
    else:
        # Without it, a neighbour that has another MAC keeps that. A proxy may set it
        # (RFC 4861, 7.2.8): what is behind the host cannot speak on the segment.
        fields = _ADVERTISEMENT, 0, _OVERRIDE, address.packed, _TARGET_MAC
        yield _discovery(mac, speaker or address, _ALL_NODES, _ALL_NODES_MAC, fields)


def _question(mac: bytes, address: model.IpAddress, gateway: model.IpAddress) -> bytes:
    """Return a frame that asks for the MAC of a gateway."""
    if isinstance(address, IPv4Address):
        return _arp(mac, address, _REQUEST, b"\0" * len(mac), gateway)
    last = gateway.packed[13:]
    fields = _SOLICITATION, 0, 0, gateway.packed, _SOURCE_MAC
    return _discovery(mac, address, _SOLICITED + last, _SOLICITED_MAC + last, fields)


def _arp(
    mac: bytes,
    address: IPv4Address,
    operation: int,
    target_mac: bytes,
    target: model.IpAddress,
) -> bytes:
    sender = mac, address.packed
    sizes = len(mac), len(address.packed)
    body = _ARP_BODY.pack(
        1, 0x0800, *sizes, operation, *sender, target_mac, target.packed
    )
    return _ETHERNET.pack(_EVERYBODY, mac, _ARP) + body


def _discovery(
    mac: bytes,
    speaker: model.IpAddress,
    to: bytes,
    to_mac: bytes,
    fields: tuple[int, int, int, bytes, int],
) -> bytes:
    """Return a message of neighbour discovery: kind, code, flags, target, and option.

    The option is the link-layer address of the speaker.
    """
    own, (kind, code, *rest) = speaker.packed, fields

    def body(checksum: int) -> bytes:
        return _DISCOVERY.pack(kind, code, checksum, *rest, _EIGHT_BYTES, mac)

    length = _DISCOVERY.size
    pseudo = own + to + struct.pack("!II", length, _ICMPV6)
    ether = _ETHERNET.pack(to_mac, mac, _IPV6)
    head = _IPV6_HEADER.pack(6 << 28, length, _ICMPV6, _HOPS, own, to)
    return ether + head + body(_checksum(pseudo + body(0)))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
