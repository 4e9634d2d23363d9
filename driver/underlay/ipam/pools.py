"""Pools as they are asked for, and recorded unless they overlap in their domain."""

from __future__ import annotations

from collections.abc import Mapping

from underlay.errors import NoSubnet, Overlap
from underlay.ipam.options import domain_of, narrowed
from underlay.ipam.subnets import Span, parse_range, parse_subnet, usable
from underlay.model import IpNetwork, Pool
from underlay.records import Records

EXAMPLES = {4: "192.168.1.0/24", 6: "fd00:1::/64"}
WITHOUT_IPV4 = (
    " A network without IPv4 needs --ipv4=false (Docker 28 and later). For"
    " addresses from a DHCP server, add --ipam-opt source=dhcp instead. Compose before"
    " August 2026 does not pass on `options` of `ipam`: create the network with the"
    " docker command, and name it in the file (external)."
)


def asked_pool(
    subnet: str, span: str, options: Mapping[str, str], family: int
) -> tuple[str, IpNetwork, Span]:
    """Return the domain, the subnet, and the range (--ip-range) that are asked for.

    Raises NoSubnet, BadSubnet, BadRange, and for the options Invalid.
    """
    domain = domain_of(options)
    if not subnet:
        hint = WITHOUT_IPV4 if family == 4 else ""
        raise NoSubnet(family=family, example=EXAMPLES[family], hint=hint)
    wanted = parse_subnet(subnet, family)
    return domain, wanted, narrowed(options, parse_range(span, wanted))


def add_pool(records: Records, domain: str, subnet: IpNetwork) -> Pool:
    """Record the pool of a subnet; raises Overlap.

    What was kept in an earlier pool of these addresses is not free in this one.
    """
    other = records.pools.overlapping(domain, subnet)
    if other:
        raise Overlap(
            subnet=subnet,
            other=other.subnet,
            holder=_holder(records, other),
            domain=domain,
        )
    pool = records.pools.add(domain, subnet, *usable(subnet))
    for kept in records.reservations.inside(domain, subnet):
        records.pools.take(pool.id, kept.address)
    return pool


def _holder(records: Records, pool: Pool) -> str:
    names = list(pool.holders) or [
        network.label
        for claim in records.pools.claims_on(pool.id)
        if (network := records.networks.get(claim.network))
    ]
    if not names:
        return "a network Docker has not named yet"
    return f"network {' and '.join(names)}"
