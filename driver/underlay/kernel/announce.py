"""Announcing addresses to a wire, so that it forgets whom they were with before.

Gratuitous ARP (RFC 5227, RFC 5944) and unsolicited neighbour advertisements (RFC 4861).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address

from underlay import model
from underlay.kernel import ip, neighbours
from underlay.kernel.links import index_of

_ETHERNET = struct.Struct("!6s6sH")
_ARP, _IPV6 = 0x0806, 0x86DD
_EVERYBODY, _ALL_NODES_MAC = b"\xff" * 6, b"\x33\x33\0\0\0\1"
_ALL_NODES = IPv6Address("ff02::1").packed
# Hardware and protocol types and lengths, operation, sender, target.
_ARP_BODY = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_IPV6_HEADER = struct.Struct("!IHBB16s16s")  # version, length, next, hop limit
_ICMPV6, _HOPS = 58, 255
_ADVERTISEMENT = struct.Struct("!BBHI16sBB6s")  # with the target's link-layer option
_KIND, _OVERRIDE, _TARGET_MAC, _EIGHT_BYTES = 136, 1 << 29, 2, 1


def what_is_there(device: str, addresses: Collection[model.Address]) -> None:
    """Announce those addresses that a device has; raises OSError."""
    index = index_of(device)
    there = {found.interface.ip for found in ip.addresses({index: device})}
    announce(device, there.intersection(addresses))


def what_is_answered(device: str, addresses: Collection[model.Address]) -> None:
    """Announce those addresses that a device has a proxy entry for; raises OSError."""
    index = index_of(device)
    there = set(neighbours.answered_on(index, device))
    own = (a.interface.ip for a in ip.addresses({index: device}))
    speaker = next((a for a in own if a.version == 6 and a.is_link_local), None)
    announce(device, there.intersection(addresses), speaker)


def announce(
    device: str,
    addresses: Collection[model.Address],
    speaker: IPv6Address | None = None,
) -> None:
    """Tell the wire of a device that addresses are at its MAC; raises OSError.

    In the calling thread's namespace. Nobody answers: whoever has an entry for one of
    them corrects it. `speaker` is the device's own address, where those of IPv6 are
    not. Takes some 10 ms, without work: the kernel's, to close the socket.
    """
    if not addresses:
        return
    # Of protocol 0: nothing is ever received.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind((socket.if_indextoname(index_of(device)), 0))
        # Asked for the link, the kernel would wait for its lock of all links.
        mac = s.getsockname()[4]
        if len(mac) != len(_EVERYBODY):
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        for address in addresses:
            for frame in _frames(mac, address, speaker):
                s.send(frame)


def _frames(
    mac: bytes, address: model.Address, speaker: IPv6Address | None
) -> Iterator[bytes]:
    if isinstance(address, IPv4Address):
        # Some heed only requests, others only replies.
        yield _arp(mac, address, _REQUEST, b"\0" * len(mac))
        yield _arp(mac, address, _REPLY, mac)
    else:
        yield _advertisement(mac, address, speaker or address)


def _arp(mac: bytes, address: IPv4Address, operation: int, target: bytes) -> bytes:
    packed = address.packed
    body = _ARP_BODY.pack(
        1, 0x0800, len(mac), len(packed), operation, mac, packed, target, packed
    )
    return _ETHERNET.pack(_EVERYBODY, mac, _ARP) + body


def _advertisement(mac: bytes, address: IPv6Address, speaker: IPv6Address) -> bytes:
    own, target = speaker.packed, address.packed

    def body(checksum: int) -> bytes:
        option = (_TARGET_MAC, _EIGHT_BYTES, mac)
        # Without it, who has another MAC keeps that. A proxy may as well (RFC 4861,
        # 7.2.8): what is behind the host is not on the wire to speak for itself.
        return _ADVERTISEMENT.pack(_KIND, 0, checksum, _OVERRIDE, target, *option)

    length = _ADVERTISEMENT.size
    pseudo = own + _ALL_NODES + struct.pack("!II", length, _ICMPV6)
    ether = _ETHERNET.pack(_ALL_NODES_MAC, mac, _IPV6)
    head = _IPV6_HEADER.pack(6 << 28, length, _ICMPV6, _HOPS, own, _ALL_NODES)
    return ether + head + body(_checksum(pseudo + body(0)))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
