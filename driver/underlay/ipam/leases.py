"""Leases of addresses start and end; each function is part of a transaction."""

from __future__ import annotations

from collections.abc import Collection

from underlay.errors import AddressNotAllocated
from underlay.model import Claim, Endpoint, IpAddress, Lease, Network, Role
from underlay.modes import traits_of
from underlay.records import Records


def bind_claims(
    records: Records, network: Network, kept: Collection[IpAddress] = ()
) -> None:
    """Record which claims belong to a new network.

    Docker names no pool in CreateNetwork. A claim without a network that holds exactly
    the addresses this network reserves is its claim, or equivalent to it. Docker
    requested aux addresses like any `--ip`; they become aux addresses here. Docker
    before 28 requests a gateway before it names the mode; a gateway that the mode does
    not need is freed. A claim may also hold addresses in `kept`: devices have them.
    """
    traits = traits_of(network.options)
    for segment in network.subnets:
        keeps = segment.subnet.version in traits.reserved_gateways
        reserved = {segment.gateway, *segment.aux} - {None}
        claims = records.pools.unbound_claims(segment.subnet) if segment.pooled else []
        beside = set(kept) - reserved
        held = {
            claim.id: [
                lease
                for lease in records.leases.live_of_claim(claim.id)
                if lease.address not in beside
            ]
            for claim in claims
        }
        alike = [c for c in claims if {t.address for t in held[c.id]} == reserved]
        for claim in alike[:1]:
            records.pools.bind(claim.id, network.id)
            for lease in held[claim.id]:
                role = lease.role if lease.role == "gateway" else "aux"
                records.leases.assign(lease.id, role=role, network=network.id)
                # With several such claims it may be the gateway of another network.
                if role == "gateway" and not keeps and len(alike) == 1:
                    records.leases.end(lease, network.created)


def start_lease(
    records: Records,
    claim: Claim,
    address: IpAddress,
    role: Role,
    now: float,
    container: str = "",
    endpoint: str = "",
) -> None:
    """Lease an address of a claim."""
    records.leases.start(
        Lease(
            id=0,
            address=address,
            role=role,
            pool=claim.pool.id,
            claim=claim.id,
            network=claim.network,
            endpoint=endpoint,
            container=container,
            since=now,
        )
    )


def assign(records: Records, network: Network, endpoint: Endpoint) -> None:
    """Record which endpoint has the addresses; may raise AddressNotAllocated."""
    for interface in endpoint.addresses:
        segment = network.subnet_of(interface.ip)
        if segment and segment.pooled:
            place = interface.ip, segment.subnet
            given = records.leases.unassigned(*place, endpoint.id)
            if given is None:
                raise AddressNotAllocated(address=interface.ip, network=network.label)
            records.leases.assign(
                given.id,
                role="endpoint",
                network=endpoint.network,
                endpoint=endpoint.id,
                mac=endpoint.mac,
            )
            if given.container:
                # Docker 29 sends the name with the request for an address.
                records.endpoints.name_container(endpoint.id, given.container)
            continue
        records.leases.start(
            Lease(
                id=0,
                address=interface.ip,
                role="endpoint",
                network=endpoint.network,
                endpoint=endpoint.id,
                mac=endpoint.mac,
                since=endpoint.created,
            )
        )


def end_of_endpoint(records: Records, endpoint: str, now: float) -> None:
    """End the leases of addresses from Docker's own IPAM, which sends no release."""
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.pool is None:
            records.leases.end(lease, now)


def end_returned(records: Records, endpoint: str, now: float) -> None:
    """End the leases that Docker released before the endpoint ended.

    They stay while the endpoint's device is still in a sandbox.
    """
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.returned and not records.endpoints.has_leftover(endpoint):
            records.leases.end(lease, now)
