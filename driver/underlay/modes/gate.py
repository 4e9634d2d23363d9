"""What the kernel must have for the policy of a container: elements, gates, redirects.

A gate in the host is there before the container's device, and stays while the service
is dead. The gate in the sandbox is the container's own second one: only its device sees
what is for all on the segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from underlay.model import Endpoint, IpNetwork, Network
from underlay.model.objects import TABLE, NftElements, NftTable, Owner, SharedOwner
from underlay.modes import strict
from underlay.modes.gate_rules import Place, body, in_sandbox
from underlay.modes.port_policy import Policy, policy_of, redirected

# What stays on the segment, whatever its subnet is.
_NEAR4 = IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32")
_NEAR6 = IPv6Network("fe80::/10"), IPv6Network("ff00::/8")
_NAT = "type nat hook prerouting priority dstnat;"
_NFPROTO = {4: "ipv4", 6: "ipv6"}


def elements(
    policy: Policy, who: str, hosts: Iterable[str] = ()
) -> Iterator[tuple[str, str]]:
    """Return what a gate knows of a container: the sets, and the words in them.

    `who` is its MAC, or its device in quotation marks. `hosts` are the addresses by
    which the host reaches it, where nothing else tells the host from other machines.
    """
    if policy.inbound != "open":
        yield "closed", who
    if not policy.ping:
        yield "unpinged", who
    where = "limited" if policy.allow_from else "published"
    for family, protocol, port in policy.published:
        yield f"{where}{family}", f"{who} . {protocol} . {port}"
    for network in policy.allow_from if policy.published else ():
        yield f"allowed{network.version}", f"{who} . {_net(network)}"
    for family, protocol, port in policy.for_host:
        yield f"hosted{family}", f"{who} . {protocol} . {port}"
    for address in hosts if policy.for_host else ():
        yield f"hosts{6 if ':' in address else 4}", f"{who} . {address}"
    yield from _bounds(policy, who)


def _bounds(policy: Policy, who: str) -> Iterator[tuple[str, str]]:
    if policy.egress != "open":
        yield "bounded", who
    if policy.egress == "subnet":
        four = (n for n in policy.near if isinstance(n, IPv4Network))
        six = (n for n in policy.near if isinstance(n, IPv6Network))
        # The kernel takes no network beside one that it is a part of.
        near: tuple[IpNetwork, ...] = (
            *collapse_addresses((*four, *_NEAR4)),
            *collapse_addresses((*six, *_NEAR6)),
        )
        for network in near:
            yield f"near{network.version}", f"{who} . {_net(network)}"


def _net(network: IpNetwork) -> str:
    """Return a network as nft prints it."""
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address if alone else network)


def of_host(
    network: Network, endpoint: Endpoint, place: Place, shared: SharedOwner
) -> Iterator[NftTable | NftElements]:
    """Return the gate in the host that a container is behind, and what is in it."""
    policy = policy_of(network, endpoint)
    if not policy.is_guarded:
        return
    owner, optional = Owner(network.id, endpoint.id), not policy.is_required
    who = f'"{owner.host_end.device}"' if place.kind == "ifname" else endpoint.mac
    made = replace(table(place, shared.owner, shared.device), optional=optional)
    yield made
    found = frozenset(_all_elements(network, endpoint, policy, who))
    yield NftElements(made.family, made.name, who, found, owner, optional)


def _all_elements(
    network: Network, endpoint: Endpoint, policy: Policy, who: str
) -> Iterator[tuple[str, str]]:
    yield from elements(policy, who, _hosts(network))
    # The record of a new endpoint has no MAC before one is chosen.
    if policy.strict and endpoint.mac:
        yield from strict.elements(network, endpoint, who)


def of_sandbox(
    network: Network, endpoint: Endpoint, device: str, *, has_siblings: bool
) -> Iterator[NftTable]:
    """Return what is on a container's own device: a gate, and redirects of ports.

    A gate only if it `has_siblings`: then not all that comes to it passes the host.
    """
    policy, owner = policy_of(network, endpoint), Owner(network.id, endpoint.id)
    name = f"{TABLE}-{owner.device}"
    if has_siblings and policy.is_guarded:
        filled = (
            f"element {into} {{ {words} }}"
            for into, words in _all_elements(network, endpoint, policy, f'"{device}"')
        )
        lines = (*body(in_sandbox(device)), *filled)
        yield NftTable("netdev", name, lines, device, owner, endpoint.sandbox)
    if ways := tuple(_redirects(endpoint, device)):
        lines = (f"chain redirected {{ {_NAT} }}", *ways)
        yield NftTable("inet", name, lines, device, owner, endpoint.sandbox)


def _redirects(endpoint: Endpoint, device: str) -> Iterator[str]:
    for family, protocol, published, port in redirected(endpoint):
        match = f'iifname "{device}" meta nfproto {_NFPROTO[family]}'
        to = f"{protocol} dport {published} redirect to :{port}"
        yield f"rule redirected {match} {to}"


def _hosts(network: Network) -> list[str]:
    """Return the addresses by which the host reaches containers on its segment."""
    return [str(a.ip) for a in network.uplink.host_addresses]


@cache  # the same for all containers at a place
def table(place: Place, owner: Owner, device: str) -> NftTable:
    """Return the gate of the host at a place."""
    return NftTable(place.family, f"{TABLE}-{owner.device}", body(place), device, owner)
