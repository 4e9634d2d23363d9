"""Claims that stand in for lost ones, until Docker names the PoolIDs it kept.

Docker's list does not show a PoolID. But whoever asks for an address of a pool names
it, and it says itself which domain and subnet it is of.
"""

from __future__ import annotations

import logging

from underlay import pools, tenures
from underlay.model import Address, Claim, Pool, Subnet
from underlay.pools import Span
from underlay.records import Records

log = logging.getLogger(__name__)

# Of a claim that Docker made before records were lost, nobody knows how old it is.
LONG_AGO = 0.0


def identity(domain: str, subnet: Subnet, network: str) -> str:
    """Return what a claim is called as long as its PoolID is not known."""
    return f"{domain}/{subnet}/of-{network[:12]}"


def is_one(claim: Claim) -> bool:
    """Tell whether a claim stands in for one whose PoolID is not known."""
    return pools.parse_pool_id(claim.id) is None


def pool_for(records: Records, domain: str, subnet: Subnet) -> Pool | None:
    """Return the pool of a subnet, put on record if need be; None if it overlaps."""
    known = records.addresses.pool(domain, subnet)
    if known or records.addresses.overlapping(domain, subnet):
        return known
    return records.addresses.add_pool(domain, subnet, *pools.usable(subnet))


def put(records: Records, pool: Pool, network: str, span: Span, *, ours: bool) -> Claim:
    """Put a claim on record for a network that Docker lists; `ours`: of this driver."""
    name = identity(pool.domain, pool.subnet, network)
    records.addresses.add_claim(name, pool, *span, LONG_AGO)
    if ours:
        records.addresses.bind(name, network)
    return Claim(name, pool, *span, network if ours else "")


def named(records: Records, identity: str, address: str) -> Claim | None:
    """Return the claim a PoolID is for, known by it from now on; None if none is left.

    Of several networks of one subnet it is the one that has the address, if one has.
    """
    parsed = pools.parse_pool_id(identity)
    pool = records.addresses.pool(*parsed) if parsed else None
    if pool is None:
        return None
    found = [c for c in records.addresses.claims_on(pool.id) if is_one(c)]
    held = [c for c in found if _holds(records, c, address)]
    for claim in (*held, *found)[:1]:
        records.addresses.rename_claim(claim.id, identity)
        log.info("pool known again", extra={"pool": identity})
        return records.addresses.claim(identity)
    return None


def keep_everywhere(
    records: Records, network: str, address: Address, now: float
) -> None:
    """Keep an address that a device of ours has out of all pools it may be of.

    The mark of the device names the network, and not the pool.
    """
    for pool in records.addresses.pools():
        live = records.addresses.live(pool.id, address)
        if address not in pool.subnet or any(t.role == "endpoint" for t in live):
            continue
        claims = records.addresses.claims_on(pool.id)
        if records.networks.get(network):
            claims = [c for c in claims if c.network == network]
        for claim in claims[:1]:
            tenures.take(records, claim, address, "endpoint", now)
            facts = {"address": address, "network": network[:12]}
            log.warning("kept for a container not on record", extra=facts)


def _holds(records: Records, claim: Claim, address: str) -> bool:
    held: list[Address] = [t.address for t in records.addresses.live_of_claim(claim.id)]
    return address in map(str, held)
