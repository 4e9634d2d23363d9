"""Claims whose addresses come from the DHCP servers of a segment.

Without --subnet Docker is told 0.0.0.0/0, so that a network needs none, and outlives a
change of it. Each such pool is in a domain of its own, and overlaps no other. Docker
hands its gateway to CreateNetwork: by that the network is known to be the claim's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from underlay.errors import NotWithDhcp, UnknownPool
from underlay.ipam.options import domain_of, is_probing
from underlay.ipam.subnets import parse_address, usable
from underlay.model import Claim, IpAddress, IpInterface, Network, Subnet
from underlay.records import Records

EVERYWHERE = IPv4Network("0.0.0.0/0")
_PREFIX = "dhcp-"
_MARKS = IPv4Network("0.0.0.0/8")
_NO_IPV6 = "IPv6 addresses come from router advertisements or a pool. Leave --ipv6 out"


def claim(
    records: Records,
    options: Mapping[str, str],
    family: int,
    now: float,
    note: Callable[[str], None],
) -> Claim:
    """Record a claim in a domain of its own, and return it.

    `now` in seconds since 1970; `note` is told its id before it is recorded. Raises
    NotWithDhcp, and for the options Invalid.
    """
    domain_of(options)
    if family != 4:
        raise NotWithDhcp(why=_NO_IPV6)
    first, last = usable(EVERYWHERE)
    domain = _new_domain(records)
    identity = f"{domain}/{EVERYWHERE}/{secrets.token_hex(6)}"
    note(identity)
    probe = is_probing(options)
    with records.transaction():
        pool = records.pools.add(domain, EVERYWHERE, first, last)
        records.pools.add_claim(
            identity, pool, first, last, now, probe=probe, source="dhcp"
        )
    return Claim(identity, pool, first, last, probe=probe, source="dhcp")


def _new_domain(records: Records) -> str:
    while True:
        domain = f"{_PREFIX}{secrets.randbelow((1 << 24) - 1) + 1:06x}"
        if records.pools.get(domain, EVERYWHERE) is None:
            return domain


def refuse_gateway(claim: Claim, address: str) -> None:
    """Raise NotWithDhcp if an administrator names the gateway that a server names."""
    if claim.source == "dhcp" and (address or mark_of(claim)):
        why = f"the lease brings the gateway. Use -o gateway={address or 'ADDRESS'}"
        raise NotWithDhcp(why=why)


def is_asked(claim: Claim, address: str) -> bool:
    """Return whether a server is asked for an address, "" for any, of a claim.

    Not for one in --ip-range: there the administrator gives out the addresses.
    """
    if claim.source != "dhcp":
        return False
    has_range = (claim.first, claim.last) != usable(claim.pool.subnet)
    wanted = parse_address(address, claim.pool.subnet) if address else None
    return not (has_range and wanted and claim.first <= wanted <= claim.last)  # type: ignore[operator]


def with_source(records: Records, network: Network) -> Network:
    """Return a new network whose subnets tell which of them servers give addresses of.

    Their claims know it, which have no network yet.
    """

    def told(segment: Subnet) -> Subnet:
        newest = records.pools.unbound_claims(segment.subnet)[:1]
        is_ours = segment.pooled and any(c.source == "dhcp" for c in newest)
        return replace(segment, dhcp=True) if is_ours else segment

    return replace(network, subnets=tuple(map(told, network.subnets)))


def mark_of(claim: Claim) -> IPv4Address | None:
    """Return the gateway that marks the network of a claim, 0.A.B.C; None: no mark."""
    if claim.source != "dhcp" or claim.pool.subnet != EVERYWHERE:
        return None
    return IPv4Address(int(claim.pool.domain.removeprefix(_PREFIX), 16))


def domain_of_mark(mark: IpAddress) -> str:
    """Return the domain of the claim that a mark stands for."""
    return f"{_PREFIX}{int(mark):06x}"


def is_mark(address: IpAddress) -> bool:
    """Return whether an address can be a mark: no machine has it."""
    return address in _MARKS and int(address) > 0


def marked(records: Records, mark: IpAddress | None) -> Claim | None:
    """Return the claim without a network that a mark stands for."""
    found = records.pools.unbound_claims(EVERYWHERE)
    return next((c for c in found if mark and mark_of(c) == mark), None)


def unserved(claim: Claim, _address: str, _container: str) -> IpInterface:
    """Refuse an address of a claim where there is no one to ask servers."""
    raise UnknownPool(pool=claim.id, path="")
