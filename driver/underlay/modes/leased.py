"""What a lease brings beside an address: `lease_routes=` and `lease_mtu=`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from underlay.errors import MtuTooSmall
from underlay.model import (
    Endpoint,
    IpAddress,
    IpNetwork,
    JoinAnswer,
    Network,
    host_network,
)
from underlay.model.lease_options import LeaseOptions
from underlay.modes.options import (
    IPV6_LEAST_MTU,
    OFF_ON,
    ON_OFF,
    check_ipv6_mtu,
    choice,
)

# More than fit into a message are not expected; each is a step of every repair.
MOST_ROUTES = 64


def takes_routes(options: Mapping[str, str]) -> bool:
    """Return whether containers have the classless routes of their leases."""
    return choice(options, "lease_routes", ON_OFF) == "on"


def takes_mtu(options: Mapping[str, str]) -> bool:
    """Return whether the devices of containers have the MTU of their leases."""
    return choice(options, "lease_mtu", OFF_ON) == "on"


def router(
    options: Mapping[str, str], recorded: IPv4Address | None, said: LeaseOptions
) -> IPv4Address | None:
    """Return the next hop of a container's default route by its lease.

    `recorded` is the one that classless routes may have named.
    """
    return recorded if takes_routes(options) else said.gateway(classless=False)


def mtu(network: Network, endpoint: Endpoint) -> int | None:
    """Return the MTU of the lease in bytes, at most the parent's; None for none.

    A small one must not take IPv6 out of a running container.
    """
    size = endpoint.leased.mtu
    if size is None or not takes_mtu(network.options):
        return None
    try:
        check_ipv6_mtu(network, size)
    except MtuTooSmall:
        size = IPV6_LEAST_MTU
    return min(size, network.uplink.mtu or size)


def with_routes(found: JoinAnswer, network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the answer to Join with the classless routes of the endpoint's lease.

    What the container has a route to already stays so: by `route=`, for example. Left
    out is what the kernel would refuse, because nothing leads to the next hop.
    """
    own = endpoint.ipv4
    if not (own and endpoint.leased.routes and takes_routes(network.options)):
        return found
    taken: set[IpNetwork] = {own.network, host_network(own.ip), *found.destinations}
    no_hops: set[IpAddress] = {own.ip}
    if own.network.prefixlen < 31:
        no_hops |= {own.network.network_address, own.network.broadcast_address}
    on_link: list[IpNetwork] = []
    via: list[tuple[IpNetwork, IpAddress]] = []
    routes = endpoint.leased.routes[:MOST_ROUTES]
    # Those on the link first: they may lead to the next hops of others.
    for route in sorted(routes, key=lambda r: r.via is not None):
        to, hop = route.destination, route.via
        if not to.prefixlen or to.is_multicast or to.is_loopback or to in taken:
            continue
        near = (own.network, *found.on_link, *on_link)
        if hop is None:
            on_link.append(to)
        elif hop not in no_hops and _leads_to(hop, near):
            via.append((to, hop))
        else:
            continue
        taken.add(to)
    return replace(found, on_link=(*found.on_link, *on_link), via=(*found.via, *via))


def _leads_to(hop: IpAddress, near: Collection[IpNetwork]) -> bool:
    return any(hop in network for network in near)
