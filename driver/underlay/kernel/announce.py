"""Announcing addresses on a segment, so that neighbours learn their present MAC.

Gratuitous ARP (RFC 5227, RFC 5944) and unsolicited neighbour advertisements (RFC 4861).
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Set
from ipaddress import IPv4Address, IPv6Address, ip_address

from underlay import model
from underlay.kernel import arp_nd, ip, neighbours
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import index_of

# Where a frame has the address that answers, and the one it answers to.
_ARP_FROM, _ARP_TO = slice(28, 32), slice(38, 42)
_TARGET, _IPV6_TO = slice(62, 78), slice(38, 54)
_ASK_AGAIN_SECONDS = 0.5


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
        nl.attach(s, arp_nd.ANSWERS)
        # With protocol 0 nothing is ever received.
        heard = arp_nd.EVERYTHING if pairs and seconds else 0
        s.bind((socket.if_indextoname(index_of(device)), heard))
        # A netlink request for the link would wait for the kernel's lock (RTNL).
        mac = s.getsockname()[4]
        if len(mac) != arp_nd.MAC_BYTES:
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        for address in addresses:
            for frame in _frames(mac, address, speaker):
                s.send(frame)
        for gateway, address in pairs:
            s.send(arp_nd.question(mac, address, gateway))
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
        nl.attach(s, arp_nd.ANSWERS)
        s.bind((socket.if_indextoname(index_of(device)), arp_nd.EVERYTHING))
        mac = s.getsockname()[4]
        if len(mac) != arp_nd.MAC_BYTES:
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        answered: set[model.IpAddress] = set()
        end = time.monotonic() + seconds
        while (left := asked.keys() - answered) and time.monotonic() < end:
            for gateway in left:
                s.send(arp_nd.question(mac, asked[gateway], gateway))
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
            frame = s.recv(arp_nd.LONGEST)
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
            frame = s.recv(arp_nd.LONGEST)
        except TimeoutError:
            break
        answer = _answer(frame)
        if answer in pairs and frame.startswith(mac):
            confirmed.add(answer[1])
    return frozenset(confirmed)


def _answer(frame: bytes) -> tuple[model.IpAddress, model.IpAddress]:
    """Return the two addresses of an answer; the filter drops frames too short."""
    arp = frame[12:14] == arp_nd.ARP.to_bytes(2, "big")
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
        yield arp_nd.arp(mac, address, arp_nd.REQUEST, b"\0" * len(mac), address)
        yield arp_nd.arp(mac, address, arp_nd.REPLY, mac, address)
    else:
        # Without it, a neighbour that has another MAC keeps that. A proxy may set it
        # (RFC 4861, 7.2.8): what is behind the host cannot speak on the segment.
        fields = (
            arp_nd.ADVERTISEMENT,
            0,
            arp_nd.OVERRIDE,
            address.packed,
            arp_nd.TARGET_MAC,
        )
        yield arp_nd.discovery(
            mac, speaker or address, arp_nd.ALL_NODES, arp_nd.ALL_NODES_MAC, fields
        )
