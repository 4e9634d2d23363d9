"""Asking a segment for addresses: by the kernel's ARP and neighbour discovery.

Layouts: linux/neighbour.h.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from ipaddress import ip_address

from underlay import model
from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import (
    NLM_F_CREATE,
    NLM_F_REQUEST,
    NTF_USE,
    NUD_FAILED,
    NUD_PERMANENT,
    NUD_REACHABLE,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWNEIGH,
)

_ICMPV6, _SOLICITATION, _ALL_ROUTERS = 58, b"\x85" + b"\0" * 7, "ff02::2"
# The kernel asks three times, a second apart; the answer is there in milliseconds.
PATIENCE_SECONDS, _PAUSE_SECONDS = 3.0, 0.01
# How long a machine on the LAN may take, where Docker waits for it.
ANSWER_SECONDS = 0.5


def answering(
    index: int,
    addresses: Collection[model.IpAddress],
    seconds: float = PATIENCE_SECONDS,
) -> frozenset[model.IpAddress]:
    """Return which addresses answer on a device; permanent entries are not asked."""
    if not addresses:
        return frozenset()
    states = _states(index, addresses)
    asked = {a for a in addresses if not states.get(a, 0) & NUD_PERMANENT}
    for address in asked:
        _tell(RTM_DELNEIGH, 0, address, index, 0)
        _tell(RTM_NEWNEIGH, NLM_F_CREATE, address, index, NTF_USE)
    deadline = time.monotonic() + seconds
    answered: set[model.IpAddress] = set()
    while time.monotonic() < deadline:
        states = _states(index, asked)
        answered = {a for a in asked if states.get(a, 0) & NUD_REACHABLE}
        if answered == asked or all(
            states.get(a) == NUD_FAILED for a in asked - answered
        ):
            break
        time.sleep(_PAUSE_SECONDS)
    return frozenset(answered)


def ask_routers(device: str) -> None:
    """Send a router solicitation by a device; answers are not awaited.

    The kernel asks when a device gets a link, not when it leaves a bridge.
    """
    kind = socket.SOCK_RAW
    with suppress(OSError), socket.socket(socket.AF_INET6, kind, _ICMPV6) as s:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        s.sendto(_SOLICITATION, (_ALL_ROUTERS, 0, 0, socket.if_nametoindex(device)))


def _states(
    index: int, addresses: Collection[model.IpAddress]
) -> dict[model.IpAddress, int]:
    """Return the states of those that the kernel has an entry for.

    It is asked for each: a device may have thousands of other neighbours.
    """
    try:
        found = [m for a in addresses for m in _entry(index, a)]
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        # A kernel before 5.0 sends all of a device, one before 4.3 all of the host.
        body = nl.NDMSG.pack(0, 0, 0, 0, 0)
        body += nl.attribute(nl.NDA_IFINDEX, nl.NUMBER.pack(index))
        found = nl.dump(RTM_GETNEIGH, RTM_NEWNEIGH, body, strict=True)
    states = {}
    for message in found:
        family, link, state, _, _ = nl.NDMSG.unpack_from(message)
        packed = dict(nl.attributes(message[nl.NDMSG.size :])).get(nl.NDA_DST, b"")
        if link == index and len(packed) == nl.SIZES.get(family):
            states[ip_address(packed)] = state
    return states


def _entry(index: int, address: model.IpAddress) -> list[bytes]:
    body = nl.NDMSG.pack(nl.FAMILIES[address.version], index, 0, 0, 0)
    body += nl.attribute(nl.NDA_DST, address.packed)
    try:
        return list(nl.exchange(RTM_GETNEIGH, NLM_F_REQUEST, RTM_NEWNEIGH, body))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return []


def _tell(
    kind: int, how: int, address: model.IpAddress, index: int, flags: int
) -> None:
    body = nl.NDMSG.pack(nl.FAMILIES[address.version], index, 0, flags, 0)
    body += nl.attribute(nl.NDA_DST, address.packed)
    try:
        nl.request(kind, how, body)
    except OSError as error:
        if error.errno not in (0, errno.ENOENT):
            raise
