"""Who has an address from when on, and until when. Part of the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection

from underlay.errors import AddressNotAllocated
from underlay.model import Claim, Endpoint, IpAddress, Lease, Network, Role
from underlay.modes import traits_of
from underlay.records import Records


def bind_claims(
    records: Records, network: Network, kept: Collection[IpAddress] = ()
) -> None:
    """Note which claims a new network was created with.

    Docker names no pool here. A claim without network that holds just what this
    network reserves is the one, or as good as it: aux addresses came to IPAM
    looking like any `--ip`, and are told apart from now on. Engines before 28 ask for
    a gateway before they name the mode; where none is needed, it is given back. `kept`
    are addresses that a claim may hold beside, because devices were seen to have them.
    """
    traits = traits_of(network.options)
    for segment in network.subnets:
        keeps = segment.subnet.version in traits.reserved_gateways
        reserved = {segment.gateway, *segment.aux} - {None}
        claims = records.pools.unbound_claims(segment.subnet) if segment.pooled else []
        beside = set(kept) - reserved
        held = {
            claim.id: [
                tenure
                for tenure in records.leases.live_of_claim(claim.id)
                if tenure.address not in beside
            ]
            for claim in claims
        }
        alike = [c for c in claims if {t.address for t in held[c.id]} == reserved]
        for claim in alike[:1]:
            records.pools.bind(claim.id, network.id)
            for tenure in held[claim.id]:
                role = tenure.role if tenure.role == "gateway" else "aux"
                records.leases.assign(tenure.id, role=role, network=network.id)
                # Of several alike it may be the gateway of another network.
                if role == "gateway" and not keeps and len(alike) == 1:
                    records.leases.end(tenure, network.created)


def start(
    records: Records,
    claim: Claim,
    address: IpAddress,
    role: Role,
    now: float,
    container: str = "",
    endpoint: str = "",
) -> None:
    """Note that somebody has an address by a claim."""
    records.pools.take(claim.pool.id, address)
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
                # Engines from 29 on tell it with the request for an address.
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
    """End the addresses Docker's own IPAM gave: nobody else tells us of it."""
    for tenure in records.leases.live_of_endpoint(endpoint):
        if tenure.pool is None:
            records.leases.end(tenure, now)


def end_returned(records: Records, endpoint: str, now: float) -> None:
    """End what Docker gave back while an endpoint lived, which is gone now.

    Not as long as its device is still in a sandbox. Part of the caller's transaction.
    """
    for tenure in records.leases.live_of_endpoint(endpoint):
        if tenure.returned and not records.endpoints.has_leftover(endpoint):
            records.leases.end(tenure, now)
