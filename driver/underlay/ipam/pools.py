"""A pool is recorded, unless it overlaps another pool of its domain."""

from __future__ import annotations

from underlay.errors import Overlap
from underlay.ipam.subnets import usable
from underlay.model import IpNetwork, Pool
from underlay.records import Records


def add_pool(records: Records, domain: str, subnet: IpNetwork) -> Pool:
    """Record the pool of a subnet; raises Overlap."""
    other = records.pools.overlapping(domain, subnet)
    if other:
        raise Overlap(
            subnet=subnet,
            other=other.subnet,
            holder=_holder(records, other),
            domain=domain,
        )
    return records.pools.add(domain, subnet, *usable(subnet))


def _holder(records: Records, pool: Pool) -> str:
    names = list(pool.holders) or [
        network.label
        for claim in records.pools.claims_on(pool.id)
        if (network := records.networks.get(claim.network))
    ]
    if not names:
        return "a network Docker has not named yet"
    return f"network {' and '.join(names)}"
