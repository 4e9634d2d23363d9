"""A device in its sandbox: what must be there, and what an observation teaches.

Docker gives the device its name, its addresses and routes, and may give the default
route to another network of the container. So the service records the state of the
device when Docker has finished, and keeps it so. Only the default route changes.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from itertools import count

from underlay import model, modes
from underlay.model import (
    FAMILIES,
    Endpoint,
    Family,
    Former,
    LearnedState,
    LeasedIpv6,
    Network,
)
from underlay.model.objects import (
    HOST_METRIC,
    IPV6_SWITCH,
    OWN_LINK_LOCAL,
    Address,
    AltName,
    Link,
    Object,
    Owner,
    Route,
    Slaac,
)
from underlay.modes import gate, ipv6, mode_of, traits_of
from underlay.modes.device_name import alternative
from underlay.modes.ipvlan import EVERYWHERE
from underlay.modes.options import is_repaired
from underlay.modes.sysctls import asked, switch_ipv6_off

_Place = tuple[Hashable, str | None]
# More addresses than that are never recorded. As many the kernel makes from routers.
LINK_LOCAL_MOST = 16
_CONNECTED_METRIC = {4: 0, 6: 256}


def sandbox_objects(
    network: Network, endpoint: Endpoint, known: LearnedState, here: Iterable[Object]
) -> Iterator[Object]:
    """Return what must be in host and sandbox while the device is in the sandbox.

    `here` is what would be in the host with the device in the host. The container's end
    of a veth is an object of its own.
    """
    owner = Owner(network.id, endpoint.id)
    for o in here:
        if isinstance(o, Link) and o.peer and o.peer.key == owner.mark:
            far = _moved(o.peer, network, endpoint, known)
            yield from (replace(o, peer=far), far)
        elif isinstance(o, Link) and o.key == owner.mark:
            yield _moved(o, network, endpoint, known)
        else:
            yield o
    if name := alternative(network, endpoint):
        yield AltName(name, known.device, owner, endpoint.sandbox)
    if slaac := ipv6.slaac(network, endpoint, known):
        yield slaac
    has_siblings = traits_of(network.options).has_siblings
    yield from gate.of_sandbox(
        network, endpoint, known.device, has_siblings=has_siblings
    )
    yield from _standing(network, endpoint, known, owner)
    for way in _ways(network, endpoint, known.device):
        family = way.destination.version
        default = not is_default(way) or family in known.default_families
        if default and family not in known.families_off:
            yield way


def _standing(
    network: Network, endpoint: Endpoint, known: LearnedState, owner: Owner
) -> Iterator[Address | Route]:
    """Return the addresses of the device, with the connected routes they bring."""
    leased = endpoint.leased6
    if leased and not leased.is_lost and 6 not in known.families_off:
        ends = ipv6.lifetimes(network, leased)
        where = known.device, owner, endpoint.sandbox
        yield Address(leased.address, *where, lifetimes=ends)
    reached: set[model.IpNetwork] = set()
    for address in (*endpoint.addresses, *known.link_local):
        if address.version in known.families_off:
            continue
        yield Address(address, known.device, owner, endpoint.sandbox)
        # Two addresses of a subnet share one route; every device has fe80::/64.
        alone = address.network.prefixlen == address.max_prefixlen
        own = address.version == 6 and address.is_link_local
        if not (alone or own or address.network in reached):
            reached.add(address.network)
            yield _connected(address, known.device, owner, endpoint.sandbox)


def learn_state(
    network: Network, endpoint: Endpoint, seen: Collection[Object], *, given: bool
) -> Endpoint:
    """Return an endpoint with the state of its device, as observed in its sandbox.

    Nothing is learnt until Docker has finished: everything that Join answered is there,
    or Docker was `given` enough time.
    """
    mark = Owner(network.id, endpoint.id).mark
    link = next((o for o in seen if isinstance(o, Link) and o.key == mark), None)
    known = endpoint.learned
    if link is None:
        # What the kernel made went with the device.
        gone = known and replace(known, from_routers=())
        return replace(endpoint, learned=gone)
    if not (known or given or _is_complete(network, endpoint, link, seen)):
        return endpoint
    mtu = known.mtu if known else 0
    if not mtu and network.uplink.has_parent_now:
        mtu = link.mtu or 0
    by_it, elsewhere = _defaults(link.name, seen)
    without = _switched_off(link)
    ways = _ways(network, endpoint, link.name)
    answered = {way.destination.version for way in ways if is_default(way)}
    # While a family is off, there is no telling where its default route would go.
    had = set(known.default_families) if known else answered.intersection(without)
    had |= _by_routers(network, endpoint)
    defaults = tuple(f for f in FAMILIES if f in by_it | (had - elsewhere))
    settings = known.sysctls if known else ()
    link_local = known.link_local if known else _link_local(endpoint, link, seen)
    made = _made_by(link, seen, endpoint.leased6)
    found = LearnedState(link.name, mtu, defaults, settings, without, link_local, made)
    keys = {(o.key, o.device) for o in seen}
    left = (a for a in endpoint.former if _as_object(endpoint, link.name, a) in keys)
    return replace(endpoint, learned=found, former=tuple(left))


def assume_state(
    network: Network,
    endpoint: Endpoint,
    seen: Collection[Object],
    names: Collection[str],
    prefix: str,
) -> Endpoint:
    """Return an endpoint with the state that its unobserved device must have had.

    `names` are the devices in the sandbox. Docker numbers the devices it moves there,
    behind the `prefix` that Join answered.
    """
    device = next(name for n in count() if (name := f"{prefix}{n}") not in names)
    _, elsewhere = _defaults(device, seen)
    ways = (way for way in _ways(network, endpoint, device) if is_default(way))
    had = {way.destination.version for way in ways} | _by_routers(network, endpoint)
    had -= elsewhere
    defaults = tuple(f for f in FAMILIES if f in had)
    without: tuple[Family, ...] = (6,) if switch_ipv6_off(endpoint.options) else ()
    found = LearnedState(device, 0, defaults, asked(endpoint.options), without)
    return replace(endpoint, learned=found)


def relevant(
    wanted: Iterable[Object],
    rooms: Mapping[str, Collection[Object]],
    endpoints: Iterable[Endpoint] = (),
) -> frozenset[Object]:
    """Return the observed objects in sandboxes that are desired or half made.

    And what `endpoints` had by earlier leases. All other objects there are the
    container's own.
    """
    keys = {o.key for o in wanted}
    former = {place: owner for e in endpoints for place, owner in _former(e)}
    found = set()
    for o in (o for room in rooms.values() for o in room):
        if o.key in keys or (isinstance(o, Link) and o.owner is None):
            found.add(o)
        elif owner := former.get((o.key, o.device)):
            # As an object of its endpoint, by which it is deleted.
            found.add(replace(o, owner=owner))
    return frozenset(found)


def _by_routers(network: Network, endpoint: Endpoint) -> set[Family]:
    """Return the IP family whose default route may come from router advertisements.

    Those routes are not looked at.
    """
    return {6} if ipv6.takes_default(network, endpoint) else set()


def _made_by(
    link: Link, seen: Iterable[Object], leased: LeasedIpv6 | None
) -> tuple[IPv6Interface, ...]:
    """Return the addresses that a device made from router advertisements.

    The one of a DHCPv6 server may have a lifetime as they do.
    """
    made = (o.found for o in seen if isinstance(o, Slaac) and o.device == link.name)
    others = [a for a in next(made, ()) if leased is None or a != leased.address]
    return tuple(others[:LINK_LOCAL_MOST])


def failed_address(endpoint: Endpoint, seen: Iterable[Object]) -> bool:
    """Return whether the kernel found another machine with a DHCPv6 server's address.

    `seen` is what is in the sandbox.
    """
    leased, known = endpoint.leased6, endpoint.learned
    if leased is None or known is None:
        return False
    place = known.device, leased.address
    failed = (o for o in seen if isinstance(o, Address) and o.has_failed)
    return any((o.device, o.interface) == place for o in failed)


def _former(endpoint: Endpoint) -> Iterator[tuple[_Place, Owner]]:
    """Return what a device may have of earlier leases, and its owner."""
    if known := endpoint.learned:
        owner = Owner(endpoint.network, endpoint.id)
        lost: list[Former] = [endpoint.lost] if endpoint.lost else []
        if endpoint.leased6 and endpoint.leased6.is_lost:
            lost.append(endpoint.leased6.address)
        for former in (*endpoint.former, *lost):
            yield _as_object(endpoint, known.device, former), owner


def _as_object(endpoint: Endpoint, device: str, former: Former) -> _Place:
    """Return the key and the device of an address or a route of an earlier lease."""
    if isinstance(former, IPv4Interface | IPv6Interface):
        return Address(former, device, None, endpoint.sandbox).key, device
    metric = HOST_METRIC[former.version]
    return Route(former, device, metric, sandbox=endpoint.sandbox).key, device


def repairs_allowed(
    network: Network, endpoint: Endpoint, room: Collection[Object]
) -> bool:
    """Return whether the service may repair what it observed in a sandbox.

    With `repair=off` too, as long as the container has only a placeholder.
    """
    if is_repaired(network, endpoint):
        return True
    mark, kind = Owner(network.id, endpoint.id).mark, mode_of(network.options).KIND
    return any(isinstance(o, Link) and o.key == mark and o.kind != kind for o in room)


def _is_complete(
    network: Network, endpoint: Endpoint, link: Link, seen: Collection[Object]
) -> bool:
    """Return whether a device has everything; the default route may go elsewhere."""
    keys = {o.key for o in seen}
    without = _switched_off(link)
    wanted: list[Object] = [
        Address(a, link.name, None, endpoint.sandbox)
        for a in endpoint.addresses
        if a.version not in without
    ]
    ways = [
        way
        for way in _ways(network, endpoint, link.name)
        if way.destination.version not in without
    ]
    wanted += [way for way in ways if not is_default(way)]
    families = {way.destination.version for way in ways if is_default(way)}
    return bool(
        link.up
        and all(o.key in keys for o in wanted)
        and families <= set().union(*_defaults(link.name, seen))
    )


def _defaults(device: str, seen: Collection[Object]) -> tuple[set[Family], set[Family]]:
    """Return the IP families whose default route goes by a device, and by others."""
    by_it: set[Family] = set()
    elsewhere: set[Family] = set()
    for o in seen:
        if isinstance(o, Route) and is_default(o):
            (by_it if o.device == device else elsewhere).add(o.destination.version)
    return by_it, elsewhere


def _link_local(
    endpoint: Endpoint, link: Link, seen: Collection[Object]
) -> tuple[model.IpInterface, ...]:
    """Return the link-local addresses that Docker gave a device (--link-local-ip)."""
    there = {
        o.interface
        for o in seen
        if isinstance(o, Address)
        and o.device == link.name
        and o.interface.is_link_local
        and not _is_by_kernel(o.interface, link)
    }
    given = sorted(there.difference(endpoint.addresses), key=lambda a: (a.version, a))
    return tuple(given[:LINK_LOCAL_MOST])


def _is_by_kernel(address: model.IpInterface, link: Link) -> bool:
    """Return whether the kernel gave a device a link-local address, or may have.

    The kernel usually makes it from the MAC, with two bytes (ff:fe) in the middle.
    """
    if address.version == 4 or f"{OWN_LINK_LOCAL}1" in link.sysctls:
        return False
    if f"{OWN_LINK_LOCAL}0" not in link.sysctls:
        return True
    mac = bytes.fromhex((link.mac or "").replace(":", ""))
    made = address.ip.packed[8:]
    return (made[1:3], made[5:]) == (mac[1:3], mac[3:])


def _switched_off(link: Link) -> tuple[Family, ...]:
    """Return the IP families that are switched off on an observed device."""
    return (6,) if f"{IPV6_SWITCH}1" in link.sysctls else ()


def is_default(way: Route) -> bool:
    """Return whether a route is a default route."""
    return way.destination.prefixlen == 0


def _size(link: Link, network: Network, known: LearnedState) -> int | None:
    """Return the MTU of a device: the one asked for, at most the parent's present one.

    Without a parent it is the MTU that was observed first.
    """
    most = network.uplink.mtu
    if network.uplink.parent and most:
        return min(link.mtu or most, most)
    return link.mtu or known.mtu or None


def _moved(
    link: Link, network: Network, endpoint: Endpoint, known: LearnedState
) -> Link:
    return replace(
        link,
        name=known.device,
        sandbox=endpoint.sandbox,
        up=True,
        mtu=_size(link, network, known),
        initial_sysctls=ipv6.at_birth(known.sysctls)
        if ipv6.hears_routers(network, endpoint)
        else _at_birth(known),
    )


def _at_birth(known: LearnedState) -> tuple[str, ...]:
    """Return a device's sysctls as Docker set them; IPv6 on or off as last observed."""
    kept = tuple(s for s in known.sysctls if not s.startswith(IPV6_SWITCH))
    if 6 in known.families_off:
        return (*kept, f"{IPV6_SWITCH}1")
    return kept if kept == known.sysctls else (*kept, f"{IPV6_SWITCH}0")


def _connected(
    address: model.IpInterface, device: str, owner: Owner, sandbox: str
) -> Route:
    """Return the route to its subnet that the kernel adds with an address."""
    return Route(
        address.network,
        device,
        _CONNECTED_METRIC[address.version],
        source=address.ip if address.version == 4 else None,
        owner=owner,
        sandbox=sandbox,
        connected=True,
    )


def _ways(network: Network, endpoint: Endpoint, device: str) -> Iterator[Route]:
    """Return the container's routes by a device, in the order in which they depend."""
    owner = Owner(network.id, endpoint.id)

    def way(to: model.IpNetwork, via: model.IpAddress | None = None) -> Route:
        metric, where = HOST_METRIC[to.version], endpoint.sandbox
        return Route(to, device, metric, owner=owner, via=via, sandbox=where)

    found = modes.attachment(network, endpoint)
    yield from (way(to) for to in found.on_link)
    yield from (way(to, hop) for to, hop in found.via)
    for gateway in (found.gateway4, found.gateway6):
        if gateway:
            yield way(EVERYWHERE[gateway.version], gateway)
