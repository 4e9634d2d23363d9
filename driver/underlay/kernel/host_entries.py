"""Addresses and routes of a host device, kept as the kernel's own messages.

So nothing is lost: metrics, labels, scopes, protocols.
Layouts: linux/if_addr.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterator, Set
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network

from underlay import model
from underlay.kernel import links
from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import (
    IFA_F_DADFAILED,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    IFA_F_TENTATIVE,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RT_SCOPE_LINK,
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    RTNH_F_ONLINK,
)
from underlay.model import HostEntry
from underlay.model.objects import MovedEntry

_LOOPBACK = 1  # its index in any namespace
_BY_KERNEL, _BY_ROUTERS = b"\3", b"\2"  # IFAPROT_KERNEL_LO, IFAPROT_KERNEL_RA
_FOR_EVER = b"\xff" * 4
# Flags that the kernel sets itself: secondary or temporary, tentative, duplicate.
_FOUND_OUT = IFA_F_SECONDARY | IFA_F_TENTATIVE | IFA_F_DADFAILED
_NOT_TWICE = (errno.EEXIST,)


def entries_on(device: str) -> list[HostEntry]:
    """Return what was put on a device, in the order in which it can be put on another.

    Not what the kernel derives itself or learns from routers: that comes again.
    """
    link = links.link_named(device)
    if link is None:
        return []
    index, name = link.index, link.name
    here = _addresses(index)
    # From 5.18 on the kernel reports which addresses it made: 127.0.0.1 is one.
    known = (*here, *_addresses(_LOOPBACK))
    kernel_says = any(nl.IFA_PROTO in _attributes(m) for m in known)
    found = [(m, _address(m, name, kernel_says=kernel_says)) for m in here]
    kept = [entry for _, entry in found if entry]
    connected = {
        ip_interface(entry.words).network
        for m, entry in found
        if entry and not _flags(m) & IFA_F_NOPREFIXROUTE
    }
    routes = [r for m in _routes(index) if (r := _route(m, index, connected))]
    return kept + sorted(routes, key=lambda r: (bool(r.via), r.words))


def locate(wanted: Collection[MovedEntry]) -> Iterator[MovedEntry]:
    """Return where these entries are; one on both devices counts as misplaced.

    An incomplete entry is nowhere: older kernels take the source out of an IPv6 route
    when that address leaves the device.
    """
    devices = {d for h in wanted for d in (h.device, h.apart)}
    found = {d: {(s.what, s.words): s.payload for s in entries_on(d)} for d in devices}
    for h in wanted:
        key = h.entry.what, h.entry.words
        if key in found[h.apart]:
            yield replace(h, device=h.apart)
        elif found[h.device].get(key) == h.entry.payload:
            yield h


def move(held: MovedEntry) -> None:
    """Put an entry on its device and take it off the other one; raises OSError."""
    link, apart = links.link_named(held.device), links.link_named(held.apart)
    if link is None:
        raise OSError(errno.ENODEV, f"no device {held.device}")
    _put(held.entry, link.index)
    if apart:
        _take(held.entry, apart.index)


def _put(entry: HostEntry, index: int) -> None:
    """Put an entry on a device, also where another has the same; raises OSError.

    An IPv6 address skips duplicate detection: the host had it a moment ago.
    """
    if entry.what == "route":
        _send(RTM_NEWROUTE, NLM_F_REPLACE, _to(entry, index), _NOT_TWICE)
        return
    body = _to(entry, index)
    if body[0] == socket.AF_INET6:
        _send(RTM_NEWADDR, NLM_F_REPLACE, body, (), IFA_F_NODAD)
    _send(RTM_NEWADDR, NLM_F_REPLACE, body, _NOT_TWICE)


def _take(entry: HostEntry, index: int) -> None:
    """Take an entry off a device; what is not there is no error."""
    kind = RTM_DELROUTE if entry.what == "route" else RTM_DELADDR
    _send(kind, 0, _to(entry, index), nl.ABSENT)


def forget_routers(index: int) -> None:
    """Delete what a device learned from routers, which it no longer hears."""
    for message in _addresses(index):
        if message[0] == socket.AF_INET6 and not _flags(message) & IFA_F_PERMANENT:
            _send(RTM_DELADDR, 0, message, nl.ABSENT)
    for message in _routes(index):
        found = dict(nl.attributes(message[nl.RTMSG.size :]))
        here = (
            message[0] == socket.AF_INET6
            and nl.number(found.get(nl.RTA_OIF, b"")) == index
        )
        if here and (
            nl.RTMSG.unpack_from(message)[5] == nl.RTPROT_RA or _expires(found)
        ):
            _send(RTM_DELROUTE, 0, message, nl.ABSENT)


def _addresses(index: int) -> list[bytes]:
    body = nl.IFADDR.pack(0, 0, 0, 0, index)

    def here(message: bytes) -> bool:
        return bool(nl.IFADDR.unpack_from(message)[4] == index)

    return nl.dump(RTM_GETADDR, RTM_NEWADDR, body, strict=True, wanted=here)


def _attributes(address: bytes) -> dict[int, bytes]:
    return dict(nl.attributes(address[nl.IFADDR.size :]))


def _routes(index: int) -> Iterator[bytes]:
    """Return the routes by a device, also as one of several ways.

    A kernel before 4.20 sends all routes of the host; they are filtered as they come.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        body = nl.RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        body += nl.attribute(nl.RTA_OIF, nl.NUMBER.pack(index))
        here = partial(_leads_by, family, index)
        yield from nl.dump(RTM_GETROUTE, RTM_NEWROUTE, body, strict=True, wanted=here)


def _leads_by(family: int, index: int, message: bytes) -> bool:
    """Return whether a route is by a device and may have been put there."""
    if (
        message[0] != family
        or message[4] == nl.RT_TABLE_LOCAL
        or message[7] != nl.RTN_UNICAST
    ):
        return False
    found = dict(nl.attributes(message[nl.RTMSG.size :]))
    only = nl.number(found.get(nl.RTA_OIF, b"")) == index
    return only or index in _hops(found.get(nl.RTA_MULTIPATH, b""))


def _hops(ways: bytes) -> Iterator[int]:
    """Return the indexes of the devices that a route with several ways is by."""
    offset = 0
    while offset + nl.RTNEXTHOP.size <= len(ways):
        length, _, _, index = nl.RTNEXTHOP.unpack_from(ways, offset)
        yield index
        offset += max((length + 3) & ~3, nl.RTNEXTHOP.size)


def _address(message: bytes, name: str, *, kernel_says: bool) -> HostEntry | None:
    family, length, _, scope, _ = nl.IFADDR.unpack_from(message)
    found, flags = _attributes(message), _flags(message)
    packed = found.get(nl.IFA_LOCAL) or found.get(nl.IFA_ADDRESS, b"")
    size = nl.SIZES.get(family, 0)
    if not size or len(packed) != size or length > 8 * size:
        return None  # no address of IP
    lasts = found.get(nl.IFA_CACHEINFO, b"\0" * 16)[4:8] == _FOR_EVER
    if family == socket.AF_INET6:
        by = found.get(nl.IFA_PROTO)
        made = by == _BY_KERNEL if kernel_says else scope == RT_SCOPE_LINK
        learned = by == _BY_ROUTERS if kernel_says else length == 64 and not lasts
        if made or learned:
            return None
    if nl.text(found.get(nl.IFA_LABEL, b"")) == name:
        del found[nl.IFA_LABEL]
    found[nl.IFA_FLAGS] = nl.NUMBER.pack(flags & ~_FOUND_OUT)
    if nl.IFA_CACHEINFO in found:
        found[nl.IFA_CACHEINFO] = found[nl.IFA_CACHEINFO][:8] + b"\0" * 8
    head = nl.IFADDR.pack(family, length, flags & 0xFF & ~_FOUND_OUT, scope, 0)
    why = "" if lasts else "it has a lifetime, as one from a DHCP server"
    words = str(ip_interface((packed, length)))
    return HostEntry("address", words, _packed(head, found), obstacle=why)


def _flags(message: bytes) -> int:
    return nl.number(_attributes(message).get(nl.IFA_FLAGS, message[2:3]))


def _route(
    message: bytes, index: int, connected: Set[model.IpNetwork]
) -> HostEntry | None:
    head = nl.RTMSG.unpack_from(message)
    family, length, _, tos, table, protocol, _, kind, flags = head
    found = dict(nl.attributes(message[nl.RTMSG.size :]))
    table = nl.number(found.get(nl.RTA_TABLE, bytes([table])))
    hops = index in _hops(found.get(nl.RTA_MULTIPATH, b""))
    packed = found.get(nl.RTA_DST, b"\0" * nl.SIZES[family])
    gateway = found.get(nl.RTA_GATEWAY) or found.get(nl.RTA_VIA, b"")[2:]
    sound = len(packed) == nl.SIZES[family] and length <= 8 * len(packed)
    if not sound or len(gateway) not in (0, *nl.SIZES.values()):
        return None
    destination = ip_network((packed, length), strict=False)
    if (
        table == nl.RT_TABLE_LOCAL
        or kind != nl.RTN_UNICAST
        or flags & nl.RTM_F_CLONED
        or protocol in (nl.RTPROT_REDIRECT, nl.RTPROT_RA)
        or _expires(found)
        or (protocol == nl.RTPROT_KERNEL and _is_made(destination, connected))
    ):
        return None
    why = "it is one of several ways" if hops or nl.RTA_NH_ID in found else ""
    kept = {k: v for k, v in found.items() if k not in (nl.RTA_OIF, nl.RTA_CACHEINFO)}
    first = nl.RTMSG.pack(*head[:8], flags & RTNH_F_ONLINK)
    via = str(ip_address(gateway)) if gateway else ""
    words = [str(destination), *(["via", via] if via else [])]
    words += ["metric", str(nl.number(found.get(nl.RTA_PRIORITY, b"")))]
    words += ["table", str(table), *(["tos", hex(tos)] if tos else [])]
    return HostEntry(
        "route", " ".join(words), _packed(first, kept), via=via, obstacle=why
    )


def _is_made(destination: model.IpNetwork, connected: Set[model.IpNetwork]) -> bool:
    """Return whether a route comes with an address, or with the device."""
    return destination in connected or destination == ip_network("fe80::/64")


def _expires(found: dict[int, bytes]) -> bool:
    return any(found.get(nl.RTA_CACHEINFO, b"")[8:12])


def _packed(head: bytes, found: dict[int, bytes]) -> str:
    return (head + b"".join(nl.attribute(k, v) for k, v in found.items())).hex()


def _to(entry: HostEntry, index: int) -> bytes:
    body = bytes.fromhex(entry.payload)
    if entry.what == "route":
        return body + nl.attribute(nl.RTA_OIF, nl.NUMBER.pack(index))
    return body[:4] + nl.NUMBER.pack(index) + body[8:]


def _send(
    kind: int, flags: int, body: bytes, fine: tuple[int, ...], also: int = 0
) -> None:
    if also:
        given = _attributes(body)
        given[nl.IFA_FLAGS] = nl.NUMBER.pack(nl.number(given[nl.IFA_FLAGS]) | also)
        body = bytes.fromhex(_packed(body[: nl.IFADDR.size], given))
    flags |= NLM_F_CREATE if kind in (RTM_NEWADDR, RTM_NEWROUTE) else 0
    try:
        nl.request(kind, flags, body)
    except OSError as error:
        if error.errno and error.errno not in fine:
            raise
