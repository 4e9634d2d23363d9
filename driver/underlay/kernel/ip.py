"""Addresses, routes and neighbours: looked at and touched by raw netlink.

A container has up to five of them, and pyroute2 takes a millisecond for each. What is
ours carries our protocol number. Layouts: linux/rtnetlink.h, linux/if_addr.h,
linux/neighbour.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from underlay import model
from underlay.kernel import links, raw
from underlay.memory import Remembered
from underlay.objects import MAIN_TABLE, Address, Neighbour, Route, protocol

_IFADDR = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, proto, scope, type
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_NUMBER = struct.Struct("=I")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_GLOBAL, _LINK, _PERMANENT = 0, 253, 0x80
_UNFIT = 0x40 | 0x20 | 0x08 | 0x01  # tentative, deprecated, found elsewhere, temporary
_NODAD, _NO_PREFIX_ROUTE = 0x02, 0x200
_DESTINATION, _OIF, _GATEWAY, _PRIORITY, _SOURCE, _TABLE = 1, 4, 5, 6, 7, 15
_VIA = 18
_UNICAST, _LOCAL, _BLACKHOLE = 1, 2, 6
_NDA_DST, _NDA_MAC, _NDA_PROTOCOL = 1, 2, 12
_PROXY, _NUD_PERMANENT = 0x08, 0x80
_BY_KERNEL, _BY_BOOT, _BY_ROUTER, _ANYWHERE = 2, 3, 9, 255
# The heads of the two attributes at the end: ages in clock ticks, and the protocol.
_AGES_THEN_PROTOCOL = struct.pack("=HH", 20, 3), struct.pack("=HH", 5, _NDA_PROTOCOL)
_ABSENT = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)


def turn() -> None:
    """Say that everything is about to be read: the rest need not be remembered."""
    for remembered in (_address_on, _leaves_by, _route, _neighbour):
        remembered.turn()


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
    """Return addresses on a link (0: on any) that the host can speak from, and keeps.

    Not those that are still being checked, going out of use, or made for privacy.
    """
    return tuple(
        interface
        for found, interface, flags, scope in _addresses(index)
        if index in (0, found)
        and scope == _GLOBAL
        and not flags & (_UNFIT if interface.version == 6 else 0)
    )


def neighbouring(address: bytes) -> int:
    """Return the index of the device on which a packed address would be asked for.

    0: on none, because a router is the way to it, or nothing is.
    """
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += raw.attribute(_DESTINATION, address)
    try:
        for message in raw.exchange(_GETROUTE, raw.REQUEST, _NEWROUTE, body):
            found = dict(raw.attributes(message[_RTMSG.size :]))
            direct = _RTMSG.unpack_from(message)[7] == _UNICAST
            if direct and _GATEWAY not in found and _VIA not in found:
                return raw.number(found.get(_OIF, b""))
    except OSError:
        return 0  # no route there at all
    return 0


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
    for message in _address_messages():
        name = names.get(_IFADDR.unpack_from(message)[4])
        if name:
            yield _address_on(message, name)


@Remembered
def _address_on(message: bytes, device: str) -> Address:
    return Address(_interface(message), device)


def _address_messages(index: int = 0) -> list[bytes]:
    body = _IFADDR.pack(0, 0, 0, 0, index)
    return raw.dump(_GETADDR, _NEWADDR, body, strict=True)


def _interface(message: bytes) -> model.Interface:
    found = dict(raw.attributes(message[_IFADDR.size :]))
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return ip_interface((packed, message[1]))


def _addresses(
    index: int = 0,
) -> Iterator[tuple[int, model.Interface, int, int]]:
    for message in _address_messages(index):
        _, _, flags, scope, link = _IFADDR.unpack_from(message)
        yield link, _interface(message), flags, scope


def routes(names: Mapping[int, str]) -> Iterator[Route]:
    """Return the routes of ours in every table; `names` are links by index."""
    for family in FAMILIES.values():
        body = _RTMSG.pack(family, 0, 0, 0, 0, protocol(), 0, 0, 0)
        for message in raw.dump(_GETROUTE, _NEWROUTE, body, strict=True):
            if message[5] == protocol() and message[7] in (_UNICAST, _BLACKHOLE):
                index = _leaves_by(message)
                yield _route(message, names.get(index, str(index)))


@Remembered
def _leaves_by(message: bytes) -> int:
    """Return the index of the device that a route is by, 0 for none or several."""
    found = dict(raw.attributes(message[_RTMSG.size :]))
    return raw.number(found.get(_OIF, b""))


@Remembered
def _route(message: bytes, device: str) -> Route:
    head = _RTMSG.unpack_from(message)
    found = dict(raw.attributes(message[_RTMSG.size :]))
    empty = b"\0" * (4 if head[0] == socket.AF_INET else 16)
    source, hop = found.get(_SOURCE), found.get(_GATEWAY)
    return Route(
        ip_network((found.get(_DESTINATION, empty), head[1])),
        # IPv6 shows what leads nowhere on the loopback device.
        None if head[7] == _BLACKHOLE else device,
        raw.number(found.get(_PRIORITY, b"")),
        raw.number(found.get(_TABLE, bytes([head[4]]))),
        ip_address(source) if source else None,
        via=ip_address(hop) if hop else None,
    )


def routes_inside(names: Mapping[int, str]) -> Iterator[Route]:
    """Return the routes of this namespace by links given by index, and default ones.

    Those of the main table, whoever put them there, but not by router advertisement:
    they stand beside Docker's, at the same metric.
    """
    for family in FAMILIES.values():
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for message in raw.dump(_GETROUTE, _NEWROUTE, body):
            if message[4] != MAIN_TABLE or message[7] != _UNICAST:
                continue
            if message[5] == _BY_ROUTER:
                continue
            index = _leaves_by(message)
            if index in names or not message[1]:
                found = _route(message, names.get(index, str(index)))
                yield replace(found, connected=message[5] == _BY_KERNEL)


def neighbours(names: Mapping[int, str]) -> Iterator[Neighbour]:
    """Return the neighbours and proxy entries of ours; `names` are links by index."""
    for flags in (0, _PROXY):
        body = _NDMSG.pack(0, 0, 0, flags, 0)
        for message in raw.dump(_GETNEIGH, _NEWNEIGH, body):
            _, index, state, marks, _ = _NDMSG.unpack_from(message)
            if state & _NUD_PERMANENT or marks & _PROXY:
                found = _neighbour(_ageless(message), names.get(index, str(index)))
                if found:
                    yield found


def answered_on(index: int, device: str) -> Iterator[model.Address]:
    """Return what the proxy entries of ours on a device of the host are for."""
    for message in raw.dump(_GETNEIGH, _NEWNEIGH, _NDMSG.pack(0, 0, 0, _PROXY, 0)):
        if _NDMSG.unpack_from(message)[1] == index and (
            found := _neighbour(_ageless(message), device)
        ):
            yield found.address


def _ageless(message: bytes) -> bytes:
    """Leave out how long ago a neighbour was used: all else is as it was, as a rule."""
    if (message[-28:-24], message[-8:-4]) == _AGES_THEN_PROTOCOL:
        return message[:-28] + message[-8:]
    return message


@Remembered
def _neighbour(message: bytes, device: str) -> Neighbour | None:
    """Return what a message tells, None if it is none of ours."""
    marks = _NDMSG.unpack_from(message)[3]
    found = dict(raw.attributes(message[_NDMSG.size :]))
    if found.get(_NDA_PROTOCOL) != bytes([protocol()]) or _NDA_DST not in found:
        return None
    mac = b"" if marks & _PROXY else found.get(_NDA_MAC, b"")
    return Neighbour(ip_address(found[_NDA_DST]), device, mac.hex(":"))


def create(wanted: Address | Route | Neighbour, *, beside: bool = False) -> None:
    """Make it; raises OSError. What is there as wanted is no error.

    A stranger in the place of an address or a route is refused, never replaced. In a
    sandbox, whatever is there already is refused with EEXIST; `beside`: an IPv6 route
    only if it is the same.
    """
    match wanted:
        case Address():
            kind, body, flags = _NEWADDR, _of_address(wanted), raw.EXCLUSIVE
        case Route():
            flags = 0 if beside else raw.EXCLUSIVE
            kind, body = _NEWROUTE, _of_route(wanted)
        case Neighbour():
            kind, body, flags = _NEWNEIGH, _of_neighbour(wanted), raw.REPLACE
    try:
        raw.ask(kind, raw.CREATE | flags, body)
    except OSError as error:
        known = error.errno == errno.EEXIST and not isinstance(wanted, Neighbour)
        inside = not isinstance(wanted, Neighbour) and wanted.sandbox
        if not known or inside or not _is_there(wanted):
            raise


def delete(doomed: Address | Route | Neighbour) -> None:
    """Remove it; raises OSError. What is gone already is no error."""
    try:
        match doomed:
            case Address():
                raw.ask(_DELADDR, 0, _of_address(doomed))
            case Route():
                raw.ask(_DELROUTE, 0, _of_any(_of_route(doomed), doomed))
            case Neighbour():
                raw.ask(_DELNEIGH, 0, _of_neighbour(doomed))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise


def _is_there(wanted: Address | Route | Neighbour) -> bool:
    names = {index: name for index, name in socket.if_nameindex()}  # noqa: C416
    seen = addresses(names) if isinstance(wanted, Address) else routes(names)
    return any(o.key == wanted.key and wanted.same(o) for o in seen)


def _of_address(address: Address) -> bytes:
    interface, packed = address.interface, address.interface.ip.packed
    version, length = interface.version, interface.network.prefixlen
    scope = _LINK if version == 4 and not address.sandbox else _GLOBAL
    index = links.index_of(address.device)
    body = _IFADDR.pack(FAMILIES[version], length, 0, scope, index)
    body += raw.attribute(_IFA_LOCAL, packed) + raw.attribute(_IFA_ADDRESS, packed)
    if version == 4 and address.sandbox and length < 31:
        everybody = interface.network.broadcast_address.packed
        body += raw.attribute(_IFA_BROADCAST, everybody)
    if version == 6:
        alone = 0 if address.sandbox else _NO_PREFIX_ROUTE
        body += raw.attribute(_IFA_FLAGS, _NUMBER.pack(_NODAD | alone))
    return body


def _of_route(route: Route) -> bytes:
    to, away = route.destination, route.device is None
    family, kind = FAMILIES[to.version], _BLACKHOLE if away else _UNICAST
    scope = _GLOBAL if away or route.via else _LINK
    # Inside a sandbox as Docker makes them, who takes them away again.
    by = _BY_BOOT if route.sandbox else protocol()
    by = _BY_KERNEL if route.connected else by
    head = family, to.prefixlen, 0, 0, 0, by, scope, kind, 0
    body = _RTMSG.pack(*head) + raw.attribute(_DESTINATION, to.network_address.packed)
    body += raw.attribute(_TABLE, _NUMBER.pack(route.table))
    body += raw.attribute(_PRIORITY, _NUMBER.pack(route.metric))
    if route.device:
        body += raw.attribute(_OIF, _NUMBER.pack(links.index_of(route.device)))
    if route.via:
        body += raw.attribute(_GATEWAY, route.via.packed)
    if route.source:
        body += raw.attribute(_SOURCE, route.source.packed)
    return body


def _of_any(route: bytes, doomed: Route) -> bytes:
    """Return a route to be deleted; in a sandbox, whoever made it."""
    if not doomed.sandbox:
        return route
    head = list(_RTMSG.unpack_from(route))
    head[5:7] = 0, _ANYWHERE
    return _RTMSG.pack(*head) + route[_RTMSG.size :]


def _of_neighbour(neighbour: Neighbour) -> bytes:
    family = FAMILIES[neighbour.address.version]
    index = links.index_of(neighbour.device)
    how = (_NUD_PERMANENT, 0) if neighbour.mac else (0, _PROXY)
    body = _NDMSG.pack(family, index, *how, 0)
    body += raw.attribute(_NDA_DST, neighbour.address.packed)
    body += raw.attribute(_NDA_PROTOCOL, bytes([protocol()]))
    if neighbour.mac:
        mac = bytes.fromhex(neighbour.mac.replace(":", ""))
        body += raw.attribute(_NDA_MAC, mac)
    return body
