"""What stands on a device: addresses and routes, kept as the kernel's own messages.

Nothing is lost that way (metrics, labels, scopes, protocols), whatever it means.
Layouts: linux/if_addr.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterator, Set
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network

from underlay import model
from underlay.kernel import links
from underlay.kernel import rtnetlink as raw
from underlay.model import HostEntry
from underlay.model.objects import MovedEntry

_IFADDR = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, proto, scope, type
_FOUR, _SIX = 2, 10
_SIZES = {_FOUR: 4, _SIX: 16}
_LOOPBACK = 1  # its index in any namespace
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_REPLACE = 0x100

_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 3, 6, 8
_IFA_PROTO, _BY_KERNEL, _BY_ROUTERS = 11, b"\3", b"\2"
_FOR_EVER = b"\xff" * 4
_NODAD, _PERMANENT, _NO_PREFIX_ROUTE = 0x02, 0x80, 0x200
# What the kernel finds out itself: secondary or temporary, tentative, no duplicates.
_FOUND_OUT = 0x01 | 0x08 | 0x40
_LINK = 253

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH = 1, 4, 5, 6, 9
_RTA_CACHEINFO, _RTA_TABLE, _RTA_VIA, _RTA_NEXTHOP = 12, 15, 18, 30
_HOP = struct.Struct("=HBBI")  # length, flags, weight, index
_LOCAL_TABLE, _MAIN_TABLE = 255, 254
_REDIRECT, _KERNEL, _RA = 1, 2, 9
_UNICAST, _ON_LINK, _CLONED = 1, 4, 0x200
_NOT_TWICE = (errno.EEXIST,)
_ABSENT = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)


def on(device: str) -> list[HostEntry]:
    """Return what somebody put on a device, in the order in which it can be put again.

    What the kernel makes itself, and what routers tell it, comes again by itself.
    """
    link = links.link_named(device)
    if link is None:
        return []
    index, name = link.index, link.name
    here = _addresses(index)
    # From 5.18 on the kernel says which addresses it made, beginning with 127.0.0.1.
    known = (*here, *_addresses(_LOOPBACK))
    tells = any(_IFA_PROTO in _attributes(m) for m in known)
    found = [(m, _address(m, name, tells=tells)) for m in here]
    kept = [standing for _, standing in found if standing]
    connected = {
        ip_interface(standing.words).network
        for m, standing in found
        if standing and not _flags(m) & _NO_PREFIX_ROUTE
    }
    routes = [r for m in _routes(index) if (r := _route(m, index, connected))]
    return kept + sorted(routes, key=lambda r: (bool(r.via), r.words))


def held(wanted: Collection[MovedEntry]) -> Iterator[MovedEntry]:
    """Return where these are now; what is on both devices, as on the wrong one.

    What is not whole counts as being nowhere: older kernels take the source out of
    an IPv6 route when that address leaves the device.
    """
    devices = {d for h in wanted for d in (h.device, h.apart)}
    found = {d: {(s.what, s.words): s.payload for s in on(d)} for d in devices}
    for h in wanted:
        key = h.entry.what, h.entry.words
        if key in found[h.apart]:
            yield replace(h, device=h.apart)
        elif found[h.device].get(key) == h.entry.payload:
            yield h


def move(held: MovedEntry) -> None:
    """Put it on its device and take it off the other; raises OSError."""
    link, apart = links.link_named(held.device), links.link_named(held.apart)
    if link is None:
        raise OSError(errno.ENODEV, f"no device {held.device}")
    put(held.entry, link.index)
    if apart:
        take(held.entry, apart.index)


def put(standing: HostEntry, index: int) -> None:
    """Put it on a device, in place of its like on another one; raises OSError.

    An IPv6 address is not looked for elsewhere first: it was here a moment ago.
    """
    if standing.what == "route":
        _send(_NEWROUTE, _REPLACE, _to(standing, index), _NOT_TWICE)
        return
    body = _to(standing, index)
    if body[0] == _SIX:
        _send(_NEWADDR, _REPLACE, body, (), _NODAD)
    _send(_NEWADDR, _REPLACE, body, _NOT_TWICE)


def take(standing: HostEntry, index: int) -> None:
    """Take it off a device; what is not there is no error."""
    kind = _DELROUTE if standing.what == "route" else _DELADDR
    _send(kind, 0, _to(standing, index), _ABSENT)


def forget_routers(index: int) -> None:
    """Take off a device what routers told: a port of a bridge hears no more of them."""
    for message in _addresses(index):
        if message[0] == _SIX and not _flags(message) & _PERMANENT:
            _send(_DELADDR, 0, message, _ABSENT)
    for message in _routes(index):
        found = dict(raw.attributes(message[_RTMSG.size :]))
        here = message[0] == _SIX and raw.number(found.get(_RTA_OIF, b"")) == index
        if here and (_RTMSG.unpack_from(message)[5] == _RA or _expires(found)):
            _send(_DELROUTE, 0, message, _ABSENT)


def _addresses(index: int) -> list[bytes]:
    body = _IFADDR.pack(0, 0, 0, 0, index)

    def here(message: bytes) -> bool:
        return bool(_IFADDR.unpack_from(message)[4] == index)

    return raw.dump(_GETADDR, _NEWADDR, body, strict=True, wanted=here)


def _attributes(address: bytes) -> dict[int, bytes]:
    return dict(raw.attributes(address[_IFADDR.size :]))


def _routes(index: int) -> Iterator[bytes]:
    """Return the routes by a device, also as one of several ways.

    A kernel before 4.20 tells all the host has, which are looked through as they come.
    """
    for family in (_FOUR, _SIX):
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        body += raw.attribute(_RTA_OIF, struct.pack("=I", index))
        here = partial(_leads_by, family, index)
        yield from raw.dump(_GETROUTE, _NEWROUTE, body, strict=True, wanted=here)


def _leads_by(family: int, index: int, message: bytes) -> bool:
    """Return whether a route is by a device and may be one that somebody put there."""
    if message[0] != family or message[4] == _LOCAL_TABLE or message[7] != _UNICAST:
        return False
    found = dict(raw.attributes(message[_RTMSG.size :]))
    only = raw.number(found.get(_RTA_OIF, b"")) == index
    return only or index in _hops(found.get(_RTA_MULTIPATH, b""))


def _hops(ways: bytes) -> Iterator[int]:
    """Return the indexes of the devices that a route with several ways is by."""
    offset = 0
    while offset + _HOP.size <= len(ways):
        length, _, _, index = _HOP.unpack_from(ways, offset)
        yield index
        offset += max((length + 3) & ~3, _HOP.size)


def _address(message: bytes, name: str, *, tells: bool) -> HostEntry | None:
    family, length, _, scope, _ = _IFADDR.unpack_from(message)
    found, flags = _attributes(message), _flags(message)
    packed = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
    size = _SIZES.get(family, 0)
    if not size or len(packed) != size or length > 8 * size:
        return None  # no address of IP
    lasts = found.get(_IFA_CACHEINFO, b"\0" * 16)[4:8] == _FOR_EVER
    if family == _SIX:
        by = found.get(_IFA_PROTO)
        made = by == _BY_KERNEL if tells else scope == _LINK
        told = by == _BY_ROUTERS if tells else length == 64 and not lasts
        if made or told:
            return None
    if raw.text(found.get(_IFA_LABEL, b"")) == name:
        del found[_IFA_LABEL]
    found[_IFA_FLAGS] = struct.pack("=I", flags & ~_FOUND_OUT)
    if _IFA_CACHEINFO in found:
        found[_IFA_CACHEINFO] = found[_IFA_CACHEINFO][:8] + b"\0" * 8
    head = _IFADDR.pack(family, length, flags & 0xFF & ~_FOUND_OUT, scope, 0)
    why = "" if lasts else "it has a lifetime, as one from a DHCP server"
    words = str(ip_interface((packed, length)))
    return HostEntry("address", words, _packed(head, found), obstacle=why)


def _flags(message: bytes) -> int:
    return raw.number(_attributes(message).get(_IFA_FLAGS, message[2:3]))


def _route(
    message: bytes, index: int, connected: Set[model.IpNetwork]
) -> HostEntry | None:
    head = _RTMSG.unpack_from(message)
    family, length, _, tos, table, protocol, _, kind, flags = head
    found = dict(raw.attributes(message[_RTMSG.size :]))
    table = raw.number(found.get(_RTA_TABLE, bytes([table])))
    hops = index in _hops(found.get(_RTA_MULTIPATH, b""))
    packed = found.get(_RTA_DST, b"\0" * _SIZES[family])
    gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
    sound = len(packed) == _SIZES[family] and length <= 8 * len(packed)
    if not sound or len(gateway) not in (0, *_SIZES.values()):
        return None
    destination = ip_network((packed, length), strict=False)
    if (
        table == _LOCAL_TABLE
        or kind != _UNICAST
        or flags & _CLONED
        or protocol in (_REDIRECT, _RA)
        or _expires(found)
        or (protocol == _KERNEL and _is_made(destination, connected))
    ):
        return None
    why = "it is one of several ways" if hops or _RTA_NEXTHOP in found else ""
    kept = {k: v for k, v in found.items() if k not in (_RTA_OIF, _RTA_CACHEINFO)}
    first = _RTMSG.pack(*head[:8], flags & _ON_LINK)
    via = str(ip_address(gateway)) if gateway else ""
    words = [str(destination), *(["via", via] if via else [])]
    words += ["metric", str(raw.number(found.get(_RTA_PRIORITY, b"")))]
    words += ["table", str(table), *(["tos", hex(tos)] if tos else [])]
    return HostEntry(
        "route", " ".join(words), _packed(first, kept), via=via, obstacle=why
    )


def _is_made(destination: model.IpNetwork, connected: Set[model.IpNetwork]) -> bool:
    """Tell whether a route comes with an address, or with the device."""
    return destination in connected or destination == ip_network("fe80::/64")


def _expires(found: dict[int, bytes]) -> bool:
    return any(found.get(_RTA_CACHEINFO, b"")[8:12])


def _packed(head: bytes, found: dict[int, bytes]) -> str:
    return (head + b"".join(raw.attribute(k, v) for k, v in found.items())).hex()


def _to(standing: HostEntry, index: int) -> bytes:
    body = bytes.fromhex(standing.payload)
    if standing.what == "route":
        return body + raw.attribute(_RTA_OIF, struct.pack("=I", index))
    return body[:4] + struct.pack("=I", index) + body[8:]


def _send(
    kind: int, flags: int, body: bytes, fine: tuple[int, ...], also: int = 0
) -> None:
    if also:
        given = _attributes(body)
        given[_IFA_FLAGS] = struct.pack("=I", raw.number(given[_IFA_FLAGS]) | also)
        body = bytes.fromhex(_packed(body[: _IFADDR.size], given))
    how = raw.REQUEST | raw.ACK | flags
    how |= raw.CREATE if kind in (_NEWADDR, _NEWROUTE) else 0
    try:
        list(raw.exchange(kind, how, kind, body))
    except OSError as error:
        if error.errno and error.errno not in fine:
            raise
