"""Addresses, routes and neighbours: looked at by raw netlink, touched by pyroute2.

What is ours carries our protocol number. Layouts: linux/rtnetlink.h, linux/if_addr.h,
linux/neighbour.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from underlay import model
from underlay.kernel import links, raw
from underlay.objects import MAIN_TABLE, PROTOCOL, Address, Neighbour, Route

_IFADDR = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, proto, scope, type
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE, _NEWNEIGH, _GETNEIGH = 20, 22, 24, 26, 28, 30
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_GLOBAL, _LINK, _PERMANENT = 0, 253, 0x80
_UNFIT = 0x40 | 0x20 | 0x08 | 0x01  # tentative, deprecated, found elsewhere, temporary
_NODAD, _NO_PREFIX_ROUTE = 0x02, 0x200
_DESTINATION, _OIF, _PRIORITY, _SOURCE, _TABLE = 1, 4, 6, 7, 15
_UNICAST, _LOCAL, _BLACKHOLE = 1, 2, 6
_NDA_DST, _NDA_MAC, _NDA_PROTOCOL = 1, 2, 12
_PROXY, _NUD_PERMANENT = 0x08, 0x80
_ABSENT = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)


def default_device_index() -> int | None:
    """Return the index of the device the best default route leaves by, IPv4 first."""
    for family in FAMILIES.values():
        best: tuple[int, int] | None = None
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for message in raw.dump(_GETROUTE, _NEWROUTE, body):
            _, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(message)
            route = dict(raw.attributes(message[_RTMSG.size :]))
            if length or table != MAIN_TABLE or kind != _UNICAST:
                continue
            if _OIF in route:
                metric = raw.number(route.get(_PRIORITY, b""))
                candidate = metric, raw.number(route[_OIF])
                best = min(best or candidate, candidate)
        if best:
            return best[1]
    return None


def addresses_given_to(index: int) -> list[str]:
    """Return the addresses that somebody gave to a link: not link-local, not by RA.

    An IPv4 address with a lifetime is one that a DHCP client on this host gave it.
    """
    return [
        str(interface.ip)
        for found, interface, flags, scope in _addresses(index)
        if found == index
        and scope == _GLOBAL
        and (flags & _PERMANENT or interface.version == 4)
    ]


def usable_on(index: int) -> tuple[model.Interface, ...]:
    """Return the addresses on a link that the host can speak from, and keeps.

    Not those that are still being checked, going out of use, or made for privacy.
    """
    return tuple(
        interface
        for found, interface, flags, scope in _addresses(index)
        if found == index
        and scope == _GLOBAL
        and not flags & (_UNFIT if interface.version == 6 else 0)
    )


def route_is_local(address: bytes) -> bool:
    """Tell whether what is sent to a packed address stays on this host."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += raw.attribute(_DESTINATION, address)
    try:
        for message in raw.exchange(_GETROUTE, raw.REQUEST, _NEWROUTE, body):
            return bool(_RTMSG.unpack_from(message)[7] == _LOCAL)
    except OSError:
        return False  # no route there at all
    return False


def addresses(names: Mapping[int, str]) -> Iterator[Address]:
    """Return the addresses on links of ours, given by index."""
    for index, interface, _, _ in _addresses():
        if index in names:
            yield Address(interface, names[index])


def _addresses(
    index: int = 0,
) -> Iterator[tuple[int, model.Interface, int, int]]:
    body = _IFADDR.pack(0, 0, 0, 0, index)
    for message in raw.dump(_GETADDR, _NEWADDR, body, strict=True):
        _, length, flags, scope, link = _IFADDR.unpack_from(message)
        found = dict(raw.attributes(message[_IFADDR.size :]))
        packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
        yield link, ip_interface((packed, length)), flags, scope


def routes(names: Mapping[int, str]) -> Iterator[Route]:
    """Return the routes of ours in every table; `names` are links by index."""
    for family in FAMILIES.values():
        body = _RTMSG.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
        for message in raw.dump(_GETROUTE, _NEWROUTE, body, strict=True):
            head = _RTMSG.unpack_from(message)
            if head[5] == PROTOCOL and head[7] in (_UNICAST, _BLACKHOLE):
                yield _route(message, head, names)


def _route(message: bytes, head: tuple[int, ...], names: Mapping[int, str]) -> Route:
    found = dict(raw.attributes(message[_RTMSG.size :]))
    empty = b"\0" * (4 if head[0] == socket.AF_INET else 16)
    source = found.get(_SOURCE)
    index = raw.number(found.get(_OIF, b""))
    return Route(
        ip_network((found.get(_DESTINATION, empty), head[1])),
        # IPv6 shows what leads nowhere on the loopback device.
        None if head[7] == _BLACKHOLE else names.get(index, str(index)),
        raw.number(found.get(_PRIORITY, b"")),
        raw.number(found.get(_TABLE, bytes([head[4]]))),
        ip_address(source) if source else None,
    )


def neighbours(names: Mapping[int, str]) -> Iterator[Neighbour]:
    """Return the neighbours and proxy entries of ours; `names` are links by index."""
    for flags in (0, _PROXY):
        body = _NDMSG.pack(0, 0, 0, flags, 0)
        for message in raw.dump(_GETNEIGH, _NEWNEIGH, body):
            found = dict(raw.attributes(message[_NDMSG.size :]))
            index = _NDMSG.unpack_from(message)[1]
            if found.get(_NDA_PROTOCOL) == bytes([PROTOCOL]) and _NDA_DST in found:
                mac = "" if flags else found.get(_NDA_MAC, b"").hex(":")
                address = ip_address(found[_NDA_DST])
                yield Neighbour(address, names.get(index, str(index)), mac)


def create(wanted: Address | Route | Neighbour) -> None:
    """Make it; raises NetlinkError, OSError. What is there as wanted is no error."""
    with IPRoute() as kernel:
        match wanted:
            case Address():
                _unless_there(kernel.addr, wanted, **_of_address(wanted))
            case Route():
                _unless_there(kernel.route, wanted, **_of_route(wanted))
            case Neighbour(mac=""):
                kernel.neigh("add", **_of_neighbour(wanted))
            case Neighbour():
                kernel.neigh("replace", **_of_neighbour(wanted))


def delete(doomed: Address | Route | Neighbour) -> None:
    """Remove it; raises NetlinkError, OSError. What is gone already is no error."""
    try:
        with IPRoute() as kernel:
            match doomed:
                case Address():
                    kernel.addr("del", **_of_address(doomed))
                case Route():
                    kernel.route("del", **_of_route(doomed))
                case Neighbour():
                    kernel.neigh("del", **_of_neighbour(doomed))
    except NetlinkError as error:
        if error.code not in _ABSENT:
            raise
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


def _unless_there(touch: Any, wanted: Address | Route, **spec: Any) -> None:
    """Add what may be there; a stranger in its place is refused, never replaced."""
    try:
        touch("add", **spec)
    except NetlinkError as error:
        if error.code != errno.EEXIST or not _is_there(wanted):
            raise


def _is_there(wanted: Address | Route) -> bool:
    names = {index: name for index, name in socket.if_nameindex()}  # noqa: C416
    seen = addresses(names) if isinstance(wanted, Address) else routes(names)
    return any(o.key == wanted.key and wanted.same(o) for o in seen)


def _of_address(address: Address) -> dict[str, Any]:
    interface = address.interface
    flags = _NODAD | _NO_PREFIX_ROUTE if interface.version == 6 else 0
    return {
        "index": links.index_of(address.device),
        "address": str(interface.ip),
        "prefixlen": interface.network.prefixlen,
        "scope": _LINK if interface.version == 4 else _GLOBAL,
        **({"flags": flags} if flags else {}),
    }


def _of_route(route: Route) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "family": FAMILIES[route.destination.version],
        "dst": str(route.destination),
        "proto": PROTOCOL,
        "table": route.table,
        "priority": route.metric,
    }
    if route.device is None:
        return {**spec, "type": "blackhole"}
    spec |= {"oif": links.index_of(route.device), "scope": _LINK}
    return {**spec, "prefsrc": str(route.source)} if route.source else spec


def _of_neighbour(neighbour: Neighbour) -> dict[str, Any]:
    spec = {
        "family": FAMILIES[neighbour.address.version],
        "dst": str(neighbour.address),
        "ifindex": links.index_of(neighbour.device),
        "protocol": PROTOCOL,
    }
    if not neighbour.mac:
        return {**spec, "flags": _PROXY}
    return {**spec, "lladdr": neighbour.mac, "state": _NUD_PERMANENT}
