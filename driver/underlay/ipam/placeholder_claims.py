"""Claims that stand in for lost ones, until Docker names the PoolIDs it kept.

Docker's list does not show a PoolID. But whoever asks for an address of a pool names
it, and it says itself which domain and subnet it is of.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address

from underlay.ipam import leases as tenures
from underlay.ipam import subnets as pools
from underlay.ipam.subnets import Span
from underlay.model import (
    Claim,
    Endpoint,
    IpAddress,
    IpNetwork,
    Lease,
    Pool,
    host_network,
)
from underlay.model.owner import Owner
from underlay.records import Records

log = logging.getLogger(__name__)

Seen = tuple[Owner, IpAddress]
# Of a claim that Docker made before records were lost, nobody knows how old it is.
LONG_AGO = 0.0


def identity(domain: str, subnet: IpNetwork, network: str) -> str:
    """Return what a claim is called as long as its PoolID is not known."""
    return f"{domain}/{subnet}/of-{network[:12]}"


def is_placeholder(claim: Claim) -> bool:
    """Tell whether a claim stands in for one whose PoolID is not known."""
    return pools.parse_pool_id(claim.id) is None


def pool_for(records: Records, domain: str, subnet: IpNetwork) -> Pool | None:
    """Return the pool of a subnet, put on record if need be; None if it overlaps."""
    known = records.pools.get(domain, subnet)
    if known or records.pools.overlapping(domain, subnet):
        return known
    return records.pools.add(domain, subnet, *pools.usable(subnet))


def add(
    records: Records, pool: Pool, name: str, span: Span, network: str = ""
) -> Claim:
    """Put a claim on record for a network that Docker lists: with its id, if ours."""
    records.pools.add_claim(name, pool, *span, LONG_AGO)
    records.pools.bind(name, network)
    return Claim(name, pool, *span, network)


def claims_under(records: Records, identity: str) -> list[Claim]:
    """Return the claims that a PoolID not on record may be for, oldest first."""
    parsed = pools.parse_pool_id(identity)
    pool = records.pools.get(*parsed) if parsed else None
    claims = records.pools.claims_on(pool.id) if pool else []
    return [claim for claim in claims if is_placeholder(claim)]


def bind_name(records: Records, claim: Claim, identity: str) -> Claim:
    """Note the PoolID by which Docker knows a claim, and return it with that."""
    records.pools.rename_claim(claim.id, identity)
    log.info("pool known again", extra={"pool": identity})
    return replace(claim, id=identity)


def resolve(records: Records, identity: str) -> Claim | None:
    """Return the claim an address is asked for by a PoolID; None if none is left.

    Of several networks of one subnet it is taken for the oldest, until an endpoint
    tells which one it was.
    """
    for claim in claims_under(records, identity)[:1]:
        return bind_name(records, claim, identity)
    return None


def release_name(records: Records, claim: Claim) -> None:
    """Have a claim stand in for one whose PoolID is not known: this one is not its."""
    if not is_placeholder(claim):
        whose = claim.network or secrets.token_hex(6)
        records.pools.rename_claim(claim.id, _unused(records, claim.pool, whose))


def _unused(records: Records, pool: Pool, whose: str) -> str:
    name = identity(pool.domain, pool.subnet, whose)
    taken = records.pools.claim(name) is not None
    return f"{name}-{secrets.token_hex(3)}" if taken else name


def move_lease_to_network(records: Records, endpoint: Endpoint) -> None:
    """Have the addresses of a new endpoint held by the claim of its own network.

    A PoolID that was taken for the claim of another one, for want of anything that
    tells, is known by this from now on. What only Docker's list was asked for is
    certain: that is when no claim is older.
    """
    for tenure in records.leases.live_of_endpoint(endpoint.id):
        claim = records.pools.claim(tenure.claim)
        if claim is None or claim.since or claim.network in ("", endpoint.network):
            continue
        for own in records.pools.claims_of(endpoint.network):
            if own.pool.id == claim.pool.id:
                if is_placeholder(own) and not is_placeholder(claim):
                    release_name(records, claim)
                    own = bind_name(records, own, claim.id)
                records.leases.move(tenure, own)
                break


def leases_at(records: Records, claim: Claim, address: str) -> list[Lease]:
    """Return what a claim holds at an address given as text."""
    try:
        found = records.leases.live(claim.pool.id, ip_address(address))
    except ValueError:
        return []
    return [tenure for tenure in found if tenure.claim == claim.id]


def reserve_in_all_pools(
    records: Records, seen: Collection[Seen], now: float, only: Pool | None = None
) -> None:
    """Keep addresses that devices of ours have out of all pools they may be of.

    The mark of a device names the network, and not the pool. `only` one pool, perhaps.
    """
    if not seen:
        return
    pools_known = (only,) if only else records.pools.all()
    domains = sorted({pool.domain for pool in pools_known})
    networks = {network.id for network in records.networks.all()}
    claims: dict[int, list[Claim]] = {}
    for owner, address in seen:
        for domain in domains:
            pool = records.pools.overlapping(domain, host_network(address))
            if pool is None or (only and pool.id != only.id):
                continue
            if pool.id not in claims:
                claims[pool.id] = records.pools.claims_on(pool.id)
            known = owner.network in networks
            mine = (
                c for c in claims[pool.id] if not known or c.network == owner.network
            )
            _keep(records, next(mine, None), owner, address, now)


def _keep(
    records: Records, claim: Claim | None, owner: Owner, address: IpAddress, now: float
) -> None:
    if claim is None:
        return
    live = records.leases.live(claim.pool.id, address)
    if not any(t.role == "endpoint" for t in live):
        tenures.start(records, claim, address, "endpoint", now)
        facts = {"address": address, "network": owner.network[:12]}
        log.warning("address kept for a container without a record", extra=facts)
