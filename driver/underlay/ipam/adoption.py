"""Pools, claims and leases that Docker lists and the records lack are recorded.

This comes before all other rebuilding, so that no address is leased twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from underlay.errors import Overlap
from underlay.ipam.leases import start_lease
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.ipam.placeholder_claims import (
    add_placeholder,
    claims_under,
    placeholder_id,
)
from underlay.ipam.pools import add_pool
from underlay.ipam.subnets import parse_pool_id, parse_range
from underlay.model import Claim, IpAddress, IpNetwork, Lease, Source, Subnet
from underlay.model.docker import DockerEndpoint, DockerNetwork, DockerView
from underlay.records import Records

log = logging.getLogger(__name__)


Place = tuple[str, IpNetwork]


@dataclass(frozen=True, slots=True)
class RecordsSnapshot:
    """The records before Docker was asked.

    An entry that Docker still lists, and that the records no longer have, is not lost:
    it was removed while Docker answered. `claims` has the networks of claims, by domain
    and subnet and by PoolID. `addresses` are the leased ones of all pools, as text.
    """

    networks: frozenset[str]
    endpoints: frozenset[str]
    claims: Mapping[Place, Mapping[str, str]]
    addresses: frozenset[tuple[int, str]]

    @classmethod
    def of(cls, records: Records) -> RecordsSnapshot:
        """Return a snapshot of the records."""
        claims = {
            (p.domain, p.subnet): {
                c.id: c.network for c in records.pools.claims_on(p.id)
            }
            for p in records.pools.all()
        }
        return cls(
            frozenset(n.id for n in records.networks.all()),
            frozenset(records.endpoints.containers()),
            claims,
            frozenset(records.leases.all_live()),
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """Records addresses that one view of Docker lists; part of a transaction.

    `remove_dead_endpoint` removes an endpoint from the records if it is dead, and
    returns whether it was.
    """

    records: Records
    view: DockerView
    before: RecordsSnapshot
    remove_dead_endpoint: Callable[[str], bool]
    live_endpoints: LiveEndpoints
    now: float

    def adopt(self, network: DockerNetwork) -> None:
        """Record the claims of a network, and the addresses of its containers.

        The subnets also have gateways that Docker does not list.
        """
        for segment, span in zip(network.subnets, network.ranges, strict=True):
            claim = self._claim(network, segment, span) if segment.pooled else None
            if claim is None:
                continue
            for endpoint in network.endpoints:
                for interface in endpoint.addresses:
                    if interface.ip in segment.subnet and self._is_new(endpoint):
                        known = endpoint.id if network.ours else ""
                        self._adopt(claim, endpoint, known, interface.ip)

    def _is_new(self, endpoint: DockerEndpoint) -> bool:
        known = endpoint.id in self.before.endpoints
        return not known and self.records.endpoints.get(endpoint.id) is None

    def _claim(
        self, network: DockerNetwork, segment: Subnet, span: str
    ) -> Claim | None:
        """Return the claim of a network on a pool, or one that may be its claim."""
        name = placeholder_id(network.domain, segment.subnet, network.id)
        pool = self.records.pools.get(network.domain, segment.subnet)
        claims = self.records.pools.claims_on(pool.id) if pool else []
        if own := [c for c in claims if c.network == network.id or c.id == name]:
            return own[0]
        if self._is_going(network, segment.subnet):
            return None
        for claim in claims if segment.dhcp and network.ours else ():
            if not claim.network:  # the domain is that of one network
                self.records.pools.bind(claim.id, network.id)
                return replace(claim, network=network.id)
        if not self._is_short(network.domain, segment.subnet, claims):
            return next((c for c in claims if not c.network), None)
        return self._add_claim(network, segment, span)

    def add_unknown_claim(self, identity: str) -> None:
        """Record the claim of a PoolID that Docker named and the records lack.

        It was made after the backup that the records were restored from. Docker does
        not list to which network it belongs, so the first network of the pool is taken.
        """
        place = parse_pool_id(identity)
        known = self.records.pools.claim(identity)
        if known or not place or claims_under(self.records, identity):
            return
        for network in sorted(self.view.networks, key=lambda n: n.ours):
            for segment, span in zip(network.subnets, network.ranges, strict=True):
                if segment.pooled and (network.domain, segment.subnet) == place:
                    self._add_claim(network, segment, span, identity)
                    return

    def _add_claim(
        self, network: DockerNetwork, segment: Subnet, span: str, identity: str = ""
    ) -> Claim | None:
        """Record a claim of a network, and its gateway and aux addresses."""
        domain, subnet = network.domain, segment.subnet
        try:
            pool = self.records.pools.get(domain, subnet) or add_pool(
                self.records, domain, subnet
            )
        except Overlap as error:
            log.warning("cannot record pool", extra={"subnet": subnet, "error": error})
            return None
        name = identity or placeholder_id(domain, subnet, network.id)
        bounds = parse_range(span, subnet)
        owner = network.id if network.ours else ""
        source: Source = "dhcp" if segment.dhcp else "pool"
        claim = add_placeholder(self.records, pool, name, bounds, owner, source)
        if segment.gateway:
            start_lease(self.records, claim, segment.gateway, "gateway", self.now)
        for address in segment.aux:
            start_lease(self.records, claim, address, "aux", self.now)
        return claim

    def _is_going(self, network: DockerNetwork, subnet: IpNetwork) -> bool:
        """Return whether a network or its claim was removed while Docker answered."""
        before = self.before.claims.get((network.domain, subnet), {})
        had = network.id in self.before.networks
        gone = had and self.records.networks.get(network.id) is None
        return gone or network.id in before.values()

    def _is_short(self, domain: str, subnet: IpNetwork, claims: list[Claim]) -> bool:
        """Return whether more networks lack a claim than claims lack a network.

        Claims that were removed while Docker answered count too.
        """
        now = {c.id: c.network for c in claims}
        known = {**self.before.claims.get((domain, subnet), {}), **now}
        listed = [
            network
            for network in self.view.networks
            if network.domain == domain and subnet in network.ip_networks
        ]
        names = {placeholder_id(domain, subnet, n.id): n.id for n in listed}
        having = {network or names.get(c, "") for c, network in known.items()}
        free = [c for c, network in known.items() if not (network or c in names)]
        return len(free) < len([n for n in listed if n.id not in having])

    def _adopt(
        self, claim: Claim, endpoint: DockerEndpoint, known: str, address: IpAddress
    ) -> None:
        """Record a container's address, unless Docker released it meanwhile."""
        live = self.records.leases.live(claim.pool.id, address)
        holder = next((t for t in live if t.role == "endpoint"), None)
        if holder is None:
            if (claim.pool.id, str(address)) not in self.before.addresses:
                self._start_lease(claim, address, endpoint.name, known)
        elif not holder.endpoint and self.live_endpoints.is_listed(known):
            self.records.leases.assign(
                holder.id, role="endpoint", network=claim.network, endpoint=known
            )
            # Until now some claim on the pool held it.
            self.records.leases.move(holder, claim)
        elif holder.endpoint not in ("", endpoint.id) and self._is_dead(holder):
            self.records.leases.end(holder, self.now)
            self._start_lease(claim, address, endpoint.name, known)

    def _is_dead(self, holder: Lease) -> bool:
        """Return whether the endpoint of a lease is dead, and not listed by Docker."""
        listed = holder.endpoint in self.view.endpoints
        older = holder.endpoint in self.before.endpoints
        known = self.records.endpoints.get(holder.endpoint)
        return (
            not listed
            and (older or not known)
            and self.remove_dead_endpoint(holder.endpoint)
        )

    def _start_lease(
        self, claim: Claim, address: IpAddress, container: str, endpoint: str
    ) -> None:
        start_lease(
            self.records, claim, address, "endpoint", self.now, container, endpoint
        )
