"""Placeholders of lost claims, until Docker names the PoolIDs that it kept.

Docker's list does not show PoolIDs. But each request for an address names one, and the
PoolID contains its domain and subnet.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address

from underlay.ipam.dhcp_claims import EVERYWHERE
from underlay.ipam.leases import start_lease
from underlay.ipam.subnets import Span, parse_pool_id
from underlay.model import (
    Claim,
    Endpoint,
    IpAddress,
    IpNetwork,
    Lease,
    Pool,
    Source,
    host_network,
)
from underlay.model.owner import Owner
from underlay.records import Records

log = logging.getLogger(__name__)

Seen = tuple[Owner, IpAddress]
# The age of a claim that Docker made before the records were lost is unknown.
LONG_AGO = 0.0


def placeholder_id(domain: str, subnet: IpNetwork, network: str) -> str:
    """Return the id of a claim whose PoolID is not known."""
    return f"{domain}/{subnet}/of-{network[:12]}"


def is_placeholder(claim: Claim) -> bool:
    """Return whether the PoolID of a claim is not known."""
    return parse_pool_id(claim.id) is None


def add_placeholder(
    records: Records,
    pool: Pool,
    name: str,
    span: Span,
    network: str = "",
    source: Source = "pool",
) -> Claim:
    """Record a claim of a listed network; `network` is its id, "" if not ours."""
    records.pools.add_claim(name, pool, *span, LONG_AGO, source=source)
    records.pools.bind(name, network)
    return Claim(name, pool, *span, network, source=source)


def claims_under(records: Records, identity: str) -> list[Claim]:
    """Return the placeholders that an unknown PoolID may belong to, oldest first."""
    parsed = parse_pool_id(identity)
    pool = records.pools.get(*parsed) if parsed else None
    claims = records.pools.claims_on(pool.id) if pool else []
    return [claim for claim in claims if is_placeholder(claim)]


def bind_name(records: Records, claim: Claim, identity: str) -> Claim:
    """Record the PoolID of a placeholder, and return the claim with it."""
    records.pools.rename_claim(claim.id, identity)
    log.info("pool id recovered from Docker", extra={"pool": identity})
    return replace(claim, id=identity)


def resolve(records: Records, identity: str) -> Claim | None:
    """Return the claim that an unknown PoolID means; None if no placeholder is left.

    With several networks of one subnet the oldest is taken, until an endpoint shows
    which network it is.
    """
    for claim in claims_under(records, identity)[:1]:
        return bind_name(records, claim, identity)
    return None


def known(records: Records, identity: str) -> Claim | None:
    """Return the claim of a PoolID, None if that is not on record.

    With DHCP also the lost claim that it means, in a transaction of its own: while
    servers are asked, there is none.
    """
    found, parsed = records.pools.claim(identity), parse_pool_id(identity)
    if found or parsed is None or parsed[1] != EVERYWHERE:
        return found
    with records.transaction():
        return resolve(records, identity)


def release_name(records: Records, claim: Claim) -> None:
    """Make a claim a placeholder again: its PoolID belongs to another claim."""
    if not is_placeholder(claim):
        network = claim.network or secrets.token_hex(6)
        records.pools.rename_claim(claim.id, _unused(records, claim.pool, network))


def _unused(records: Records, pool: Pool, network: str) -> str:
    name = placeholder_id(pool.domain, pool.subnet, network)
    taken = records.pools.claim(name) is not None
    return f"{name}-{secrets.token_hex(3)}" if taken else name


def move_lease_to_network(records: Records, endpoint: Endpoint) -> None:
    """Move the leases of a new endpoint to the claim of its own network.

    If a PoolID was taken for the claim of another network, the endpoint shows to which
    network it belongs. This concerns only claims made from Docker's list (LONG_AGO).
    """
    for lease in records.leases.live_of_endpoint(endpoint.id):
        claim = records.pools.claim(lease.claim)
        if claim is None or claim.since or claim.network in ("", endpoint.network):
            continue
        for own in records.pools.claims_of(endpoint.network):
            if own.pool.id == claim.pool.id:
                if is_placeholder(own) and not is_placeholder(claim):
                    release_name(records, claim)
                    own = bind_name(records, own, claim.id)
                records.leases.move(lease, own)
                break


def leases_at(records: Records, claim: Claim, address: str) -> list[Lease]:
    """Return the leases by a claim of an address, given as text."""
    try:
        found = records.leases.live(claim.pool.id, ip_address(address))
    except ValueError:
        return []
    return [lease for lease in found if lease.claim == claim.id]


def reserve_in_all_pools(
    records: Records, seen: Collection[Seen], now: float, only: Pool | None = None
) -> None:
    """Reserve addresses of the service's devices in all pools they may belong to.

    Not where DHCP servers know which addresses are free. The mark of a device names the
    network, not the pool. `only` limits this to a pool.
    """
    if not seen:
        return
    pools = (only,) if only else records.pools.all()
    domains = sorted({pool.domain for pool in pools})
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
            _reserve(records, next(mine, None), owner, address, now)


def _reserve(
    records: Records, claim: Claim | None, owner: Owner, address: IpAddress, now: float
) -> None:
    if claim is None or claim.source == "dhcp":
        return
    live = records.leases.live(claim.pool.id, address)
    if not any(t.role == "endpoint" for t in live):
        start_lease(records, claim, address, "endpoint", now)
        facts = {"address": address, "network": owner.network[:12]}
        log.warning("address reserved for an unknown container", extra=facts)
