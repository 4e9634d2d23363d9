"""Pools, addresses, MACs and routes of containers, by the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from underlay.doctor.examined import Examined, labels, needs_parent
from underlay.doctor.finding import Finding
from underlay.ipam.subnets import usable
from underlay.model import Endpoint, Network
from underlay.modes import gateway, mode_name, traits_of

_FULL = 0.9


def pools(host: Examined) -> Iterator[Finding]:
    """Find pools that are nearly used up, or that another device of the host has."""
    records = host.records
    for pool in records.pools.all() if records else ():
        live = records.leases.live_in(pool.id) if records else []
        for claim in records.pools.claims_on(pool.id) if records else ():
            first, last = usable(pool.subnet)
            low, high = max(claim.first, first), min(claim.last, last)
            size = int(high) - int(low) + 1
            used = sum(low <= lease.address <= high for lease in live)  # type: ignore[operator]
            if used >= _FULL * size:
                holders = ", ".join(pool.holders) or "no network with a known name"
                yield Finding(
                    "failure" if used >= size else "warning",
                    f"pool {pool.subnet}",
                    f"{used} of {size} addresses from {low} to {high} are in use, of"
                    f" {holders}",
                    "the next container gets none (E-141)",
                    "stop containers, or create the network with a larger --ip-range;"
                    " underlay history ADDRESS says what has one",
                )


def identities(host: Examined) -> Iterator[Finding]:
    """Find containers that have two addresses of one pool."""
    records, having = host.records, defaultdict(list)
    for kept in records.reservations.in_use_twice() if records else ():
        pool = records.pools.having(kept.domain, kept.address) if records else 0
        having[kept.name, pool].append(str(kept.address))
    for (container, _), addresses in having.items():
        if len(addresses) > 1:
            yield Finding(
                "warning",
                f"container {container}",
                f"it has {' and '.join(addresses)} of one subnet",
                "each has its own MAC, and after starts in another order the two may be"
                " exchanged",
                "if it is on two networks of this subnet, give it --ip on each; if not,"
                " two containers claim its name: remove one",
            )


def colliding(host: Examined) -> Iterator[Finding]:
    """Find subnets of networks that the host has on another device."""
    for network in map(host.as_leased, host.networks):
        if not needs_parent(network):
            continue
        for device in host.kernel.devices():
            if device.ours or device.loopback or device.name == network.uplink.parent:
                continue
            for own in host.kernel.addresses_of(device.name):
                hit = [
                    s.subnet for s in network.subnets
                    if own.version == s.subnet.version
                    and own.network.num_addresses > 1
                    and own.network.overlaps(s.subnet)
                ]  # fmt: skip
                if hit and not _is_below(host, device.name, network):
                    yield Finding(
                        "warning",
                        f"network {network.label}",
                        f"the host has {own} on {device.name}, and {hit[0]} is on"
                        f" {network.uplink.parent}",
                        "the host sends what is for these containers to the wrong"
                        " device, unless host_access is on",
                        "use the subnet of the parent; if both are one segment, put"
                        " the host's address on the parent",
                    )


def _is_below(host: Examined, name: str, network: Network) -> bool:
    """Return whether a device is what the parent of a network stands on or leads to."""
    parent = host.kernel.device(network.uplink.parent)
    if parent is None:
        return False
    lower = "" if parent.kind == "veth" else parent.parent  # a veth names its peer
    return name in (lower, parent.master, network.uplink.base_identity.name)


def host_access(host: Examined) -> Iterator[Finding]:
    """Find networks whose containers the host does not reach directly."""
    for network in map(host.as_leased, host.networks):
        name = mode_name(network.options)
        if name not in ("macvlan", "ipvlan") or not needs_parent(network):
            continue
        if not traits_of(network.options).host_objects:
            if network.options.get("host_access") != "off":
                continue  # a mode that keeps the host apart was chosen
            yield Finding(
                "warning",
                f"network {network.label}",
                "host_access is off",
                "the kernel keeps the host apart from its own containers there: no"
                " ping, no port, in both directions",
                "create the network without host_access=off, unless that is wanted",
            )
            continue
        own = host.kernel.addresses_of(network.uplink.parent)
        on_segment = traits_of(network.options).answers_arp
        for subnet in (s.subnet for s in network.subnets):
            if on_segment and not any(a.ip in subnet for a in own):
                yield Finding(
                    "warning",
                    f"network {network.label}",
                    f"the host has no address of {subnet} on {network.uplink.parent}",
                    "host and containers reach each other through the router only",
                    "add one, if they are to talk directly:"
                    f" ip addr add ADDRESS dev {network.uplink.parent}",
                )


def default_routes(host: Examined) -> Iterator[Finding]:
    """Find containers without a default route, though a network of theirs has one."""
    known = {n.id: n for n in host.networks}
    rooms: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in host.endpoints:
        if endpoint.sandbox and endpoint.learned and not endpoint.left:
            rooms[endpoint.sandbox].append(endpoint)
    for endpoints in rooms.values():
        networks = [known[e.network] for e in endpoints if e.network in known]
        for family in (4, 6):
            has = any(
                e.learned and family in e.learned.default_families for e in endpoints
            )
            is_leased = family == 4 and any(e.router for e in endpoints)
            offered = [n for n in networks if _offers(n, family, leased=is_leased)]
            if offered and not has:
                name = endpoints[0].container or endpoints[0].id[:12]
                yield Finding(
                    "warning",
                    f"container {name}",
                    f"it has no IPv{family} default route by networks"
                    f" {labels(networks)}",
                    "it reaches its own segments only, unless another network of Docker"
                    " has the default route",
                    "docker network connect --gw-priority 1 (engine 28), or"
                    " default_route=no on the networks that must not have it",
                )


def _offers(network: Network, family: int, *, leased: bool) -> bool:
    """Return whether a network has a default route to give; `leased`: DHCP has."""
    given = any(g and g.version == family for g in gateway.of(network))
    if leased and any(s.dhcp for s in network.subnets):
        given = given or "gateway" not in network.options
    allowed = gateway.default_families(network.options)
    return given and family in allowed and not network.internal


def same_macs(host: Examined) -> Iterator[Finding]:
    """Find a MAC that exists twice on a segment, as far as this host knows."""
    known = {n.id: n for n in host.networks}
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for endpoint in host.endpoints:
        network = known.get(endpoint.network)
        if network and endpoint.mac and network.uplink.parent:
            name = f"container {endpoint.container or endpoint.id[:12]}"
            found[network.uplink.parent, endpoint.mac.lower()].append(name)
    for device in host.kernel.devices():
        key = device.name, device.mac
        if key in found:
            found[key].append(f"the device {device.name}")
    for (parent, mac), holders in found.items():
        if len(holders) > 1:
            yield Finding(
                "failure",
                parent,
                f"{' and '.join(holders)} have the MAC {mac}",
                "switches send frames for one of them to the other: connections hang"
                " for minutes, then work, then hang",
                "leave --mac-address out, or choose another one",
            )
