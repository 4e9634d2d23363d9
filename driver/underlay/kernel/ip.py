"""Addresses, routes and neighbours: read and changed by raw netlink.

A container has up to five of them, and pyroute2 takes a millisecond for each. Our
routes and neighbours carry our protocol number.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from math import inf, isinf

from underlay import model
from underlay.kernel import links
from underlay.kernel import rtnetlink as nl
from underlay.kernel.clock import since_boot
from underlay.kernel.rtnetlink import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NTF_PROXY,
    NUD_PERMANENT,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RTM_DELADDR,
    RTM_DELNEIGH,
    RTM_DELROUTE,
    RTM_GETADDR,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
)
from underlay.model.cache import GenerationCache
from underlay.model.objects import (
    MAIN_TABLE,
    POOL_METRIC,
    Address,
    Lifetimes,
    Neighbour,
    Route,
    protocol,
)

# Preferred and valid lifetime in seconds, and two times.
_CACHE_INFO, _FOREVER = struct.Struct("=IIII"), 0xFFFFFFFF
# Of up to so many devices the kernel is asked one by one: it leaves out all others.
ONE_BY_ONE = 4
# Routes of a namespace are read whole up to FEW, and up to MANY of each sort beyond.
_FEW, _MANY = 1_000, 2_000

# Addresses that are not yet, or not for long, the host's to speak from.
_UNFIT = IFA_F_TENTATIVE | IFA_F_DEPRECATED | IFA_F_DADFAILED | IFA_F_TEMPORARY
# Routes of the kernel, of Docker and `ip route`, and static ones. What a routing daemon
# learns comes by the hundred thousand.
NOT_LEARNT = (nl.RTPROT_KERNEL, nl.RTPROT_BOOT, nl.RTPROT_STATIC)


def next_generation() -> None:
    """Begin to read everything; caches forget what was not read for two times."""
    for remembered in (_address_on, _leaves_by, _route):
        remembered.next_generation()


def default_device_index() -> int | None:
    """Return the index of the device the best default route leaves by, IPv4 first."""
    for family in nl.FAMILIES.values():
        if ways := _defaults(family):
            return ways[0][0]
    return None


def routers() -> list[tuple[int, model.IpAddress]]:
    """Return the next hops of the default routes with their devices, best first."""
    ways = (way for family in nl.FAMILIES.values() for way in _defaults(family))
    return [(index, ip_address(hop)) for index, hop in ways if hop]


def _defaults(family: int) -> list[tuple[int, bytes]]:
    """Return device and next hop (b"" if there is none) of each, best first."""
    ways = []
    for message in nl.dump(
        *_in_main_table(family), strict=True, wanted=partial(_is_main, family, 0)
    ):
        route = dict(nl.attributes(message[nl.RTMSG.size :]))
        if nl.RTA_OIF in route:
            metric = nl.number(route.get(nl.RTA_PRIORITY, b""))
            hop = route.get(nl.RTA_GATEWAY, b"")
            ways.append((metric, nl.number(route[nl.RTA_OIF]), hop))
    return [(index, hop) for _, index, hop in sorted(ways)]


def addresses_given_to(index: int) -> list[str]:
    """Return the addresses that were given to a link: not link-local, not by RA.

    An IPv4 address with a lifetime is one that a DHCP client on this host gave it.
    """
    return [
        str(interface.ip)
        for found, interface, flags, scope in _addresses(index)
        if found == index
        and scope == RT_SCOPE_UNIVERSE
        and (flags & IFA_F_PERMANENT or interface.version == 4)
    ]


def usable_on(index: int) -> tuple[model.IpInterface, ...]:
    """Return addresses on a link (0: on any) that the host can speak from, and keeps.

    Not those that are still being checked, going out of use, or made for privacy.
    """
    return tuple(
        interface
        for found, interface, flags, scope in _addresses(index)
        if index in (0, found)
        and scope == RT_SCOPE_UNIVERSE
        and not flags & (_UNFIT if interface.version == 6 else 0)
    )


def addresses(names: Mapping[int, str]) -> Iterator[Address]:
    """Return the addresses on our links, given by index."""
    found = list(_address_messages(names))
    # A container may have thousands; they are not remembered.
    make = _address_on if len(found) <= max(_FEW, 10 * len(names)) else _address
    for message in found:
        name = names.get(nl.IFADDR.unpack_from(message)[4])
        address = make(message, name) if name else None
        if address:
            yield address


def from_routers(indexes: Collection[int]) -> dict[int, tuple[IPv6Interface, ...]]:
    """Return the IPv6 addresses in use on links that end with a lifetime, by index."""
    found: dict[int, list[IPv6Interface]] = {index: [] for index in indexes}
    for message in _address_messages(indexes) if indexes else ():
        _, _, flags, scope, link = nl.IFADDR.unpack_from(message)
        interface = interface_of(message)
        if (
            isinstance(interface, IPv6Interface)
            and scope == RT_SCOPE_UNIVERSE
            and not flags & (_UNFIT | IFA_F_PERMANENT)
        ):
            found[link].append(interface)
    return {index: tuple(sorted(those)) for index, those in found.items()}


def _address(message: bytes, device: str) -> Address | None:
    interface = interface_of(message)
    if interface is None or interface.version == 4:
        return Address(interface, device) if interface else None
    failed = bool(nl.IFADDR.unpack_from(message)[2] & IFA_F_DADFAILED)
    lifetimes = _lifetimes(message)
    return Address(interface, device, lifetimes=lifetimes, has_failed=failed)


def _lifetimes(message: bytes) -> Lifetimes | None:
    """Return how long an address of a message is used; None if nothing tells."""
    told = dict(nl.attributes(message[nl.IFADDR.size :])).get(nl.IFA_CACHEINFO, b"")
    if len(told) < _CACHE_INFO.size:
        return None
    preferred, valid = (
        inf if seconds == _FOREVER else float(seconds)
        for seconds in _CACHE_INFO.unpack_from(told)[:2]
    )
    return Lifetimes(since_boot(), preferred, valid)


_address_on = GenerationCache(_address)


def _address_messages(indexes: Collection[int] = ()) -> Iterator[bytes]:
    """Return the messages about addresses on these links, or on all of them."""
    if 0 < len(indexes) <= ONE_BY_ONE:
        for index in indexes:
            yield from _address_dump(index, lambda m: _on_link(m) in indexes)
    else:
        yield from _address_dump(0, lambda m: not indexes or _on_link(m) in indexes)


def _address_dump(index: int, wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
    body = nl.IFADDR.pack(0, 0, 0, 0, index)
    yield from nl.dump(RTM_GETADDR, RTM_NEWADDR, body, strict=True, wanted=wanted)


def _on_link(message: bytes) -> int:
    return int(nl.IFADDR.unpack_from(message)[4])


def interface_of(message: bytes) -> model.IpInterface | None:
    """Return the address of a message, None if it is none of IP."""
    found = dict(nl.attributes(message[nl.IFADDR.size :]))
    packed = found.get(nl.IFA_LOCAL) or found.get(nl.IFA_ADDRESS, b"")
    size = nl.SIZES.get(message[0])
    if size is None or len(packed) != size or message[1] > 8 * size:
        return None
    return ip_interface((packed, message[1]))


def _addresses(
    index: int = 0,
) -> Iterator[tuple[int, model.IpInterface, int, int]]:
    for message in _address_messages((index,) if index else ()):
        _, _, flags, scope, link = nl.IFADDR.unpack_from(message)
        interface = interface_of(message)
        if interface:
            yield link, interface, flags, scope


def routes(names: Mapping[int, str]) -> Iterator[Route]:
    """Return our routes in every table; `names` are links by index."""
    for family in nl.FAMILIES.values():
        body = nl.RTMSG.pack(family, 0, 0, 0, 0, protocol(), 0, 0, 0)
        ours = partial(_is_ours, family, protocol())
        for message in nl.dump(
            RTM_GETROUTE, RTM_NEWROUTE, body, strict=True, wanted=ours
        ):
            index = _leaves_by(message)
            found = _route(message, names.get(index) or name_of(index))
            if found and (found.device or found.metric == POOL_METRIC):
                yield found


def _is_ours(family: int, by: int, message: bytes) -> bool:
    kinds = nl.RTN_UNICAST, nl.RTN_BLACKHOLE
    return (message[0], message[3], message[5]) == (family, 0, by) and (
        message[7] in kinds
    )


def _index_of(message: bytes) -> int:
    """Return the index of the device that a route is by, 0 for none or several."""
    for kind, value in nl.attributes(message[nl.RTMSG.size :]):
        if kind == nl.RTA_OIF:
            return nl.number(value)
    return 0


_leaves_by = GenerationCache(_index_of)


def _new_route(message: bytes, device: str) -> Route | None:
    """Return the route of a message, None if it has no form that ours have."""
    head = nl.RTMSG.unpack_from(message)
    found = dict(nl.attributes(message[nl.RTMSG.size :]))
    size = nl.SIZES.get(head[0], 0)
    packed = found.get(nl.RTA_DST, b"\0" * size)
    source = found.get(nl.RTA_PREFSRC, b"")
    # After the family: an IPv4 route may be by an IPv6 next hop.
    hop = found.get(nl.RTA_GATEWAY) or found.get(nl.RTA_VIA, b"")[2:]
    if (
        {len(packed), len(source) or size} != {size}
        or len(hop) not in (0, *nl.SIZES.values())
        or head[1] > 8 * size
    ):
        return None
    return Route(
        ip_network((packed, head[1]), strict=False),
        # IPv6 shows what leads nowhere on the loopback device.
        None if head[7] == nl.RTN_BLACKHOLE else device,
        nl.number(found.get(nl.RTA_PRIORITY, b"")),
        nl.number(found.get(nl.RTA_TABLE, bytes([head[4]]))),
        ip_address(source) if source else None,
        via=ip_address(hop) if hop else None,
    )


_route = GenerationCache(_new_route)


def routes_inside(names: Mapping[int, str]) -> Iterator[Route]:
    """Return the routes of this namespace by links given by index, and default ones.

    Those of the main table, of any origin but router advertisements, whose routes are
    beside Docker's at the same metric. Where there are thousands, those of routing
    daemons are left out, but for default ones.
    """
    for family in nl.FAMILIES.values():
        found, make = _ways_inside(family, names)
        for message in found:
            index = _index_of(message)
            route = make(message, names.get(index, str(index)))
            if route:
                yield replace(route, connected=message[5] == nl.RTPROT_KERNEL)


def _ways_inside(
    family: int, indexes: Collection[int]
) -> tuple[Iterable[bytes], Callable[[bytes, str], Route | None]]:
    """Return messages about routes of this namespace, and the function to read them."""

    def concerns(message: bytes) -> bool:
        there = _is_main(family, None, message) and message[5] != nl.RTPROT_RA
        return there and (not message[1] or _index_of(message) in indexes)

    asked = _in_main_table(family)
    try:
        few = nl.dump(*asked, strict=True, wanted=concerns, most=_FEW)
    except nl.TooManyError as error:
        # A crowd is not remembered. IPv4 default routes come first, of any protocol.
        crowd = [m for m in error.first if not m[1]]
        crowd += [m for m in _best_default(family) if concerns(m)]
        crowd += _not_learnt(family, indexes, concerns)
        return dict.fromkeys(crowd), _new_route
    return few, _route


def _in_main_table(family: int, by: int = 0, oif: int = 0) -> tuple[int, int, bytes]:
    """Return the request for the unicast routes of the main table."""
    body = nl.RTMSG.pack(family, 0, 0, 0, MAIN_TABLE, by, 0, nl.RTN_UNICAST, 0)
    if oif:
        body += nl.attribute(nl.RTA_OIF, nl.NUMBER.pack(oif))
    return RTM_GETROUTE, RTM_NEWROUTE, body


def _is_main(family: int, length: int | None, message: bytes) -> bool:
    """Return whether a route is a unicast one of the main table, of a prefix length."""
    return (
        message[0] == family
        and message[3] == 0  # one for a TOS is another route, and none of Docker's
        and message[4] == MAIN_TABLE
        and message[7] == nl.RTN_UNICAST
        and length in (None, message[1])
    )


def _not_learnt(
    family: int, indexes: Collection[int], concerns: Callable[[bytes], bool]
) -> Iterator[bytes]:
    """Return the routes that no routing daemon made, up to MANY of each protocol."""

    def wanted(message: bytes) -> bool:
        return message[5] in NOT_LEARNT and concerns(message)

    if not nl.is_strict():
        # Everything comes, and is looked through once.
        yield from nl.dump(*_in_main_table(family), wanted=wanted)
        return
    for by in NOT_LEARNT:
        for oif in indexes if len(indexes) <= ONE_BY_ONE else (0,):
            asked = _in_main_table(family, by, oif)
            try:
                yield from nl.dump(*asked, strict=True, wanted=wanted, most=_MANY)
            except nl.TooManyError as error:
                yield from error.first


def _best_default(family: int) -> Iterator[bytes]:
    """Return the IPv6 default route in use, which comes last in a dump."""
    if family != socket.AF_INET6:
        return
    anywhere = nl.RTMSG.pack(family, 128, 0, 0, 0, 0, 0, 0, nl.RTM_F_FIB_MATCH)
    anywhere += nl.attribute(nl.RTA_DST, b"\0" * 16)
    with suppress(OSError):  # none at all
        for message in nl.exchange(RTM_GETROUTE, NLM_F_REQUEST, RTM_NEWROUTE, anywhere):
            if not message[1]:
                yield message


def name_of(index: int) -> str:
    """Return the name of a device that is not ours, or its index if it is gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def create(wanted: Address | Route | Neighbour, *, beside: bool = False) -> None:
    """Create an object; raises OSError. If it exists as wanted, that is no error.

    An address or route of another program in its place is never replaced. In a sandbox,
    any object in its place is EEXIST; with `beside`, for an IPv6 route only the same.
    """
    match wanted:
        case Address():
            kind, body, flags = RTM_NEWADDR, _of_address(wanted), NLM_F_EXCL
        case Route():
            flags = 0 if beside else NLM_F_EXCL
            kind, body = RTM_NEWROUTE, _of_route(wanted)
        case Neighbour():
            kind, body, flags = RTM_NEWNEIGH, _of_neighbour(wanted), NLM_F_REPLACE
    try:
        nl.request(kind, NLM_F_CREATE | flags, body)
    except OSError as error:
        known = error.errno == errno.EEXIST and not isinstance(wanted, Neighbour)
        inside = not isinstance(wanted, Neighbour) and wanted.sandbox
        if not known or inside or not _is_there(wanted):
            raise


def change(wanted: Address) -> None:
    """Change the lifetimes of an address that exists; raises OSError."""
    nl.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _of_address(wanted))


def delete(doomed: Address | Route | Neighbour) -> None:
    """Delete an object; raises OSError. If it is gone already, that is no error."""
    try:
        match doomed:
            case Address():
                nl.request(RTM_DELADDR, 0, _of_address(doomed))
            case Route():
                nl.request(RTM_DELROUTE, 0, _of_any(_of_route(doomed), doomed))
            case Neighbour():
                nl.request(RTM_DELNEIGH, 0, _of_neighbour(doomed))
    except OSError as error:
        if error.errno not in nl.ABSENT:
            raise


def _is_there(wanted: Address | Route | Neighbour) -> bool:
    names = {index: name for index, name in socket.if_nameindex()}  # noqa: C416
    seen = addresses(names) if isinstance(wanted, Address) else routes(names)
    return any(o.key == wanted.key and wanted.is_amendable_from(o) for o in seen)


def _of_address(address: Address) -> bytes:
    interface, packed = address.interface, address.interface.ip.packed
    version, length = interface.version, interface.network.prefixlen
    scope = RT_SCOPE_LINK if version == 4 and not address.sandbox else RT_SCOPE_UNIVERSE
    index = links.index_of(address.device)
    body = nl.IFADDR.pack(nl.FAMILIES[version], length, 0, scope, index)
    body += nl.attribute(nl.IFA_LOCAL, packed) + nl.attribute(nl.IFA_ADDRESS, packed)
    if version == 4 and address.sandbox and length < 31:
        broadcast = interface.network.broadcast_address.packed
        body += nl.attribute(nl.IFA_BROADCAST, broadcast)
    if address.lifetimes:
        # Its subnet is on the link as far as routers say so.
        body += nl.attribute(nl.IFA_FLAGS, nl.NUMBER.pack(IFA_F_NOPREFIXROUTE))
        left = address.lifetimes.left(since_boot())
        told = (_FOREVER if isinf(s) else int(s) for s in (left.preferred, left.valid))
        return body + nl.attribute(nl.IFA_CACHEINFO, _CACHE_INFO.pack(*told, 0, 0))
    if version == 6:
        alone = 0 if address.sandbox else IFA_F_NOPREFIXROUTE
        body += nl.attribute(nl.IFA_FLAGS, nl.NUMBER.pack(IFA_F_NODAD | alone))
    return body


def _of_route(route: Route) -> bytes:
    to, away = route.destination, route.device is None
    family, kind = nl.FAMILIES[to.version], nl.RTN_BLACKHOLE if away else nl.RTN_UNICAST
    scope = RT_SCOPE_UNIVERSE if away or route.via else RT_SCOPE_LINK
    # In a sandbox, as Docker creates them: Docker deletes them again.
    by = nl.RTPROT_BOOT if route.sandbox else protocol()
    by = nl.RTPROT_KERNEL if route.connected else by
    head = family, to.prefixlen, 0, 0, 0, by, scope, kind, 0
    body = nl.RTMSG.pack(*head) + nl.attribute(nl.RTA_DST, to.network_address.packed)
    body += nl.attribute(nl.RTA_TABLE, nl.NUMBER.pack(route.table))
    body += nl.attribute(nl.RTA_PRIORITY, nl.NUMBER.pack(route.metric))
    if route.device:
        body += nl.attribute(nl.RTA_OIF, nl.NUMBER.pack(links.index_of(route.device)))
    if route.via:
        if route.via.version == to.version:
            body += nl.attribute(nl.RTA_GATEWAY, route.via.packed)
        else:
            hop = struct.pack("=H", nl.FAMILIES[route.via.version]) + route.via.packed
            body += nl.attribute(nl.RTA_VIA, hop)
    if route.source:
        body += nl.attribute(nl.RTA_PREFSRC, route.source.packed)
    return body


def _of_any(route: bytes, doomed: Route) -> bytes:
    """Return a route to be deleted; in a sandbox, of any origin."""
    if not doomed.sandbox:
        return route
    head = list(nl.RTMSG.unpack_from(route))
    head[5:7] = 0, RT_SCOPE_NOWHERE
    return nl.RTMSG.pack(*head) + route[nl.RTMSG.size :]


def _of_neighbour(neighbour: Neighbour) -> bytes:
    family = nl.FAMILIES[neighbour.address.version]
    index = links.index_of(neighbour.device)
    how = (NUD_PERMANENT, 0) if neighbour.mac else (0, NTF_PROXY)
    body = nl.NDMSG.pack(family, index, *how, 0)
    body += nl.attribute(nl.NDA_DST, neighbour.address.packed)
    body += nl.attribute(nl.NDA_PROTOCOL, bytes([protocol()]))
    if neighbour.mac:
        mac = bytes.fromhex(neighbour.mac.replace(":", ""))
        body += nl.attribute(nl.NDA_LLADDR, mac)
    return body
