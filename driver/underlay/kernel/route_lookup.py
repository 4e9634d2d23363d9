"""Asking the kernel for the way to one address, by one lookup, without a dump."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import (
    NLM_F_REQUEST,
    NUD_PERMANENT,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
)
from underlay.model import HostUse, IpAddress
from underlay.model.objects import protocol

# For documentation (RFC 5737, RFC 3849): no host has these.
_FAR = ip_address("192.0.2.1"), ip_address("2001:db8::1")


def neighbouring(address: bytes) -> int:
    """Return the index of the device on which the kernel would resolve an address.

    0: on none, because a router is the next hop, or there is no route.
    """
    index, is_direct = _way_to(address)
    return index if is_direct else 0


def ways_out() -> set[int]:
    """Return the indexes of the devices by which the host reaches far networks."""
    return {_way_to(address.packed)[0] for address in _FAR} - {0}


def _way_to(address: bytes) -> tuple[int, bool]:
    """Return the device that a packet leaves by, and whether without a next hop."""
    message = _route_to(address)
    if not message or nl.RTMSG.unpack_from(message)[7] != nl.RTN_UNICAST:
        return 0, False
    return _device_of(message)


def _device_of(message: bytes) -> tuple[int, bool]:
    found = dict(nl.attributes(message[nl.RTMSG.size :]))
    direct = nl.RTA_GATEWAY not in found and nl.RTA_VIA not in found
    return nl.number(found.get(nl.RTA_OIF, b"")), direct


def route_is_local(address: bytes) -> bool:
    """Return whether a packet to a packed address stays on this host."""
    message = _route_to(address)
    return bool(message and nl.RTMSG.unpack_from(message)[7] == nl.RTN_LOCAL)


def use_of(address: IpAddress) -> HostUse | None:
    """Return how the host's own routes and neighbours show an address in use."""
    message = _route_to(address.packed, nl.RTM_F_FIB_MATCH)
    if not message:
        return None
    _, size, _, _, _, by, _, kind, flags = nl.RTMSG.unpack_from(message)
    if kind == nl.RTN_LOCAL:
        return HostUse()
    if kind != nl.RTN_UNICAST:
        return None
    # A kernel that does not tell the entry makes one up for this address.
    is_alone = size == address.max_prefixlen and not flags & nl.RTM_F_CLONED
    if is_alone and by != protocol():
        return HostUse()
    index, is_direct = _device_of(message)
    mac = _confirmed(index, address) if index and is_direct else ""
    return HostUse(mac) if mac else None


def _route_to(address: bytes, flags: int = 0) -> bytes:
    """Return the message about the route to a packed address, b"" if there is none."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = nl.RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, flags)
    body += nl.attribute(nl.RTA_DST, address)
    try:
        return next(nl.exchange(RTM_GETROUTE, NLM_F_REQUEST, RTM_NEWROUTE, body), b"")
    except OSError:
        return b""


def _confirmed(index: int, address: IpAddress) -> str:
    """Return the MAC of a neighbour on a link that surely has an address, or "".

    Kernels before 5.0 do not tell of a single neighbour.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = nl.NDMSG.pack(family, index, 0, 0, 0)
    body += nl.attribute(nl.NDA_DST, address.packed)
    try:
        told = next(nl.exchange(RTM_GETNEIGH, NLM_F_REQUEST, RTM_NEWNEIGH, body), b"")
    except OSError:
        return ""
    state = nl.NDMSG.unpack_from(told)[2] if told else 0
    if not state & (nl.NUD_REACHABLE | NUD_PERMANENT):
        return ""
    found = dict(nl.attributes(told[nl.NDMSG.size :]))
    return found.get(nl.NDA_LLADDR, b"").hex(":")
