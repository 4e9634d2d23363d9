"""Routes of a container beside its default route: `route=`, in every mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from underlay.errors import BadValue
from underlay.model import Endpoint, IpAddress, IpNetwork, Network, host_network
from underlay.modes import gateway

KEY = "route"
# More than anyone writes by hand; each is a step of every repair.
MOST = 64
Way = tuple[IpNetwork, IpAddress]


def check(network: Network, options: Mapping[str, str], *, only_gateway: bool) -> None:
    """Raise unless `route=` of the network or an endpoint makes sense there.

    The kernel refuses a next hop that no route without one leads to. With
    `only_gateway` there is such a route to the gateway alone, else to each subnet.
    """
    value = options.get(KEY, "")
    gateways = [g for g in gateway.of(network) if g]
    # What the container has a route to anyway: the kernel keeps one for each.
    subnets = {s.subnet for s in network.subnets if not s.dhcp}
    seen = subnets | {host_network(g) for g in gateways}
    for destination, hop in ways(options):
        if destination in seen:
            need = f"the container has another route to {destination} already"
            raise _bad(value, need)
        seen.add(destination)
        if only_gateway and hop not in gateways:
            need = f"the next hop {hop} must be the gateway: the host routes all else"
            raise _bad(value, need)
        if network.subnet_of(hop) is None:
            need = f"the next hop {hop} must be in a subnet of the network"
            raise _bad(value, need)


def check_leased(network: Network, endpoint: Endpoint) -> None:
    """Raise unless `route=` makes sense with the subnet that a DHCP server gave.

    The network has no other. A lease of a single address tells no subnet.
    """
    named = gateway.named(network.options).values()
    for address in endpoint.addresses:
        segment, subnet = network.subnet_of(address.ip), address.network
        if not (segment and segment.dhcp and subnet.num_addresses > 1):
            continue
        for destination, hop in of(network, endpoint):
            is_near = hop in subnet or hop in named
            if hop.version == subnet.version and not is_near:
                need = f"the next hop {hop} must be in {subnet}, as the lease is"
                raise _bad(f"{destination} via {hop}", need)


def of(network: Network, endpoint: Endpoint) -> tuple[Way, ...]:
    """Return destinations and next hops, of the IP families the endpoint has."""
    families = {address.version for address in endpoint.addresses}
    found = ways({**network.options, **endpoint.options})
    return tuple(way for way in found if way[1].version in families)


def ways(options: Mapping[str, str]) -> Iterator[Way]:
    """Return what `route=` says, `10.0.0.0/8 via 192.168.1.254, ...`."""
    value = options.get(KEY, "")
    parts = [part.split() for part in value.split(",")] if value.strip() else []
    if len(parts) > MOST:
        raise _bad(value[:40], f"there may be {MOST} routes at the most")
    for words in parts:
        yield _way(value, words)


def _way(value: str, words: list[str]) -> Way:
    example = "10.0.0.0/8 via 192.168.1.254, with commas between several"
    if len(words) != 3 or words[1] != "via":
        raise _bad(value, f"routes are like {example}")
    text, _, hop_text = words
    try:
        destination, hop = ip_network(text), ip_address(hop_text)
    except ValueError as error:
        raise _bad(value, f"routes are like {example}: {error}") from None
    if "%" in hop_text or destination.version != hop.version:
        raise _bad(value, "a destination and its next hop are of one IP family")
    if not destination.prefixlen:
        raise _bad(value, "the default route is what gateway= is for")
    if destination.is_multicast or destination.is_loopback:
        raise _bad(value, f"{destination} is not behind a router")
    return destination, hop


def _bad(value: str, need: str) -> BadValue:
    return BadValue(key=KEY, value=value, need=need, hint="")
