"""Leases of addresses start and end; each function is part of a transaction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from underlay.errors import AddressNotAllocated
from underlay.ipam import dhcp_claims, identity
from underlay.model import Claim, Endpoint, IpAddress, Lease, Network, Role, Subnet
from underlay.modes import traits_of
from underlay.records import Records


def bind_claims(
    records: Records,
    network: Network,
    kept: Collection[IpAddress] = (),
    routers: Collection[IpAddress] = (),
) -> Network:
    """Record which claims belong to a new network; return it with its gateways.

    Docker names no pool in CreateNetwork. A claim without a network that holds exactly
    the addresses this network reserves is its claim, or equivalent to it. Docker
    requested aux addresses like any `--ip`; they become aux addresses here. Docker
    before 28 requests a gateway before it names the mode; a gateway that the mode does
    not need is freed, and so is one that neither an administrator named nor the host
    has among its `routers`. A claim may also hold addresses in `kept`: devices have
    them.
    """
    segments = (_bound(records, network, s, kept, routers) for s in network.subnets)
    return replace(network, subnets=tuple(segments))


def _bound(
    records: Records,
    network: Network,
    segment: Subnet,
    kept: Collection[IpAddress],
    routers: Collection[IpAddress],
) -> Subnet:
    """Bind the claim of one subnet; return the subnet with its gateway."""
    if segment.dhcp and segment.subnet == dhcp_claims.EVERYWHERE:
        if claim := dhcp_claims.marked(records, segment.gateway):
            records.pools.bind(claim.id, network.id)
        return replace(segment, gateway=None)
    alike = _claims_alike(records, segment, kept)
    for claim, held in alike[:1]:
        records.pools.bind(claim.id, network.id)
        for lease in held:
            role = lease.role if lease.role == "gateway" else "aux"
            records.leases.assign(lease.id, role=role, network=network.id)
        for lease in held:
            if lease.role != "gateway":
                continue
            traits = traits_of(network.options)
            is_needed = segment.subnet.version in traits.reserved_gateways
            on_segment = is_needed and not traits.host_prefix
            if on_segment and _is_guess(records, lease, routers):
                segment, is_needed = replace(segment, gateway=None), False
            # With several such claims it may be the gateway of another network.
            if not is_needed and len(alike) == 1:
                records.leases.end(lease, network.created)
    return segment


def _claims_alike(
    records: Records, segment: Subnet, kept: Collection[IpAddress]
) -> list[tuple[Claim, list[Lease]]]:
    """Return the claims that may be the one of a subnet, with what they hold."""
    reserved = {segment.gateway, *segment.aux} - {None}
    beside = set(kept) - reserved
    source = "dhcp" if segment.dhcp else "pool"
    found = []
    for claim in records.pools.unbound_claims(segment.subnet) if segment.pooled else ():
        live = records.leases.live_of_claim(claim.id)
        held = [lease for lease in live if lease.address not in beside]
        if claim.source == source and {t.address for t in held} == reserved:
            found.append((claim, held))
    return found


def as_bound(known: Network, asked: Network) -> Network:
    """Return a network that is asked for once more, as its claims had it at first.

    Without a gateway that was a guess, and with the source of its addresses.
    """
    before = {s.subnet: s for s in known.subnets}
    subnets = (
        replace(s, gateway=was.gateway and s.gateway, dhcp=was.dhcp)
        if (was := before.get(s.subnet))
        else s
        for s in asked.subnets
    )
    return replace(asked, subnets=tuple(subnets))


def _is_guess(records: Records, lease: Lease, routers: Collection[IpAddress]) -> bool:
    """Return whether a gateway is no router that is known.

    No administrator named it, for this network or for another one.
    """
    here = records.leases.live(lease.pool or 0, lease.address)
    is_alone = all(other.id == lease.id for other in here)
    return is_alone and not lease.fixed and lease.address not in routers


def start_lease(
    records: Records,
    claim: Claim,
    address: IpAddress,
    role: Role,
    now: float,
    container: str = "",
    endpoint: str = "",
    *,
    fixed: bool = False,
) -> None:
    """Lease an address of a claim, and keep it for the container.

    `fixed`: Docker asked for this address.
    """
    lease = Lease(
        id=0,
        address=address,
        role=role,
        pool=claim.pool.id,
        claim=claim.id,
        network=claim.network,
        endpoint=endpoint,
        container=container,
        since=now,
        fixed=int(fixed),
    )
    records.leases.start(lease)
    # What DHCP servers gave is kept with the lease.
    if container and claim.source == "pool":
        identity.keep(records, claim, lease, container)


def assign(
    records: Records, network: Network, endpoint: Endpoint, *, fixed_mac: bool = False
) -> None:
    """Record which endpoint has the addresses; may raise AddressNotAllocated.

    `fixed_mac`: Docker asked for its MAC.
    """
    for interface in endpoint.addresses:
        segment = network.subnet_of(interface.ip)
        if segment and segment.dhcp:
            _assign_dhcp(records, network, endpoint)
        if segment and segment.pooled:
            place = interface.ip, segment.subnet
            given = records.leases.unassigned(*place, endpoint.id, network.id)
            if given is None:
                raise AddressNotAllocated(address=interface.ip, network=network.label)
            records.leases.assign(
                given.id,
                role="endpoint",
                network=endpoint.network,
                endpoint=endpoint.id,
                mac=endpoint.mac,
                fixed_mac=fixed_mac,
            )
            if given.container:
                # Docker 29 sends the name with the request for an address.
                records.endpoints.name_container(endpoint.id, given.container)
                identity.keep_for(records, endpoint.id, given.container)
            continue
        lease = Lease(
            id=0,
            address=interface.ip,
            role="endpoint",
            network=endpoint.network,
            endpoint=endpoint.id,
            mac=endpoint.mac,
            since=endpoint.created,
            fixed_mac=int(fixed_mac),
        )
        records.leases.start(lease)


def _assign_dhcp(records: Records, network: Network, endpoint: Endpoint) -> None:
    """Record which endpoint has the address that a DHCP server gave."""
    asked = endpoint.ipv4 and records.dhcp_leases.unassigned(network.id, endpoint.ipv4)
    if asked:
        records.dhcp_leases.assign(asked.id, endpoint.id)


def note_from_routers(records: Records, endpoint: Endpoint, now: float) -> None:
    """Record which addresses an endpoint has from router advertisements.

    By what is on record, whatever was known of it before: an address that was seen
    last by a process that died has ended too.
    """
    made = {a.ip for a in endpoint.learned.from_routers} if endpoint.learned else set()
    live = [
        lease
        for lease in records.leases.live_of_endpoint(endpoint.id)
        if lease.role in ("slaac", "conflict")
    ]
    had = {lease.address for lease in live if lease.role == "slaac"}
    for lease in live:
        # What a machine had as well is free once the container can use it.
        if (lease.role == "conflict") == (lease.address in made):
            records.leases.end(lease, now)
    for address in sorted(made - had):
        records.leases.start(
            Lease(
                id=0,
                address=address,
                role="slaac",
                network=endpoint.network,
                endpoint=endpoint.id,
                mac=endpoint.mac,
                container=endpoint.container,
                since=now,
            )
        )


def end_of_endpoint(records: Records, endpoint: str, now: float) -> None:
    """End the leases of addresses for which Docker may send no release.

    It has its own IPAM, or a server has changed the address since: Docker releases the
    one that it was told. Those that the container's kernel made end too. What a DHCP
    server gave is held for the container.
    """
    given = records.dhcp_leases.of_endpoint(endpoint)
    address = given.address.ip if given and given.address else None
    records.dhcp_leases.leave(endpoint, now)
    records.dhcpv6_leases.leave(endpoint, now)
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.pool is None or lease.address == address:
            records.leases.end(lease, now)


def end_returned(records: Records, endpoint: str, now: float) -> None:
    """End the leases that Docker released before the endpoint ended.

    They stay while the endpoint's device is still in a sandbox.
    """
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.returned and not records.endpoints.has_leftover(endpoint):
            records.leases.end(lease, now)
