"""Addresses that Docker lists and the records lack, put on record: pools, claims, who.

They come before anything else that is rebuilt, so that none is handed out twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from underlay.ipam import leases as tenures
from underlay.ipam import placeholder_claims as standins
from underlay.ipam import subnets as pools
from underlay.ipam.live_endpoints import LiveEndpoints
from underlay.model import Claim, IpAddress, IpNetwork, Lease, Role, Subnet
from underlay.model.docker import DockerEndpoint, DockerNetwork, DockerView
from underlay.records import Records

log = logging.getLogger(__name__)


Place = tuple[str, IpNetwork]


@dataclass(frozen=True, slots=True)
class RecordsSnapshot:
    """What was on record before Docker was asked.

    What of that Docker still lists, and is not on record any more, is not lost: it was
    removed while Docker answered. `claims` has the networks of claims, by domain and
    subnet and by PoolID; `addresses` are those of all pools, as text.
    """

    networks: frozenset[str]
    endpoints: frozenset[str]
    claims: Mapping[Place, Mapping[str, str]]
    addresses: frozenset[tuple[int, str]]

    @classmethod
    def of(cls, records: Records) -> RecordsSnapshot:
        """Return what is on record now."""
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
    """Puts addresses on record by one view of Docker's; part of a transaction.

    `reap` takes a dead endpoint off the record, and tells whether it was dead.
    """

    records: Records
    view: DockerView
    before: RecordsSnapshot
    remove_dead_endpoint: Callable[[str], bool]
    living: LiveEndpoints
    now: float

    def adopt(self, network: DockerNetwork) -> None:
        """Put on record what a network's containers have, and what it keeps from them.

        Its segments have the gateways that are not listed, too.
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
        """Return the claim of a network on a pool, or as like as not the one."""
        name = standins.identity(network.domain, segment.subnet, network.id)
        pool = self.records.pools.get(network.domain, segment.subnet)
        claims = self.records.pools.claims_on(pool.id) if pool else []
        if own := [c for c in claims if c.network == network.id or c.id == name]:
            return own[0]
        if self._is_going(network, segment.subnet):
            return None
        if not self._is_short(network.domain, segment.subnet, claims):
            return next((c for c in claims if not c.network), None)
        return self._put(network, segment, span)

    def know(self, identity: str) -> None:
        """Put on record the claim that Docker names by a PoolID nobody knows.

        It was made after an old copy was, for a network that claims of the copy seemed
        to be of: which one it is, Docker does not list.
        """
        place = pools.parse_pool_id(identity)
        known = self.records.pools.claim(identity)
        if known or not place or standins.claims_under(self.records, identity):
            return
        for network in sorted(self.view.networks, key=lambda n: n.ours):
            for segment, span in zip(network.subnets, network.ranges, strict=True):
                if segment.pooled and (network.domain, segment.subnet) == place:
                    self._put(network, segment, span, identity)
                    return

    def _put(
        self, network: DockerNetwork, segment: Subnet, span: str, identity: str = ""
    ) -> Claim | None:
        """Put a claim on record for a network, with the addresses that it keeps."""
        pool = standins.pool_for(self.records, network.domain, segment.subnet)
        if pool is None:
            log.error("pool overlaps another", extra={"subnet": segment.subnet})
            return None
        name = identity or standins.identity(pool.domain, pool.subnet, network.id)
        bounds = pools.parse_range(span, segment.subnet)
        whose = network.id if network.ours else ""
        claim = standins.add(self.records, pool, name, bounds, whose)
        if segment.gateway:
            self._begin(claim, segment.gateway, "gateway")
        for address in segment.aux:
            self._begin(claim, address, "aux")
        return claim

    def _is_going(self, network: DockerNetwork, subnet: IpNetwork) -> bool:
        """Tell whether a network was removed, or its claim, while Docker answered."""
        before = self.before.claims.get((network.domain, subnet), {})
        had = network.id in self.before.networks
        gone = had and self.records.networks.get(network.id) is None
        return gone or network.id in before.values()

    def _is_short(self, domain: str, subnet: IpNetwork, claims: list[Claim]) -> bool:
        """Tell whether fewer claims are of no network yet than networks have none.

        What had been one before Docker was asked counts: it was given up meanwhile.
        """
        now = {c.id: c.network for c in claims}
        known = {**self.before.claims.get((domain, subnet), {}), **now}
        listed = [
            network
            for network in self.view.networks
            if network.domain == domain and subnet in network.ip_networks
        ]
        names = {standins.identity(domain, subnet, n.id): n.id for n in listed}
        having = {network or names.get(c, "") for c, network in known.items()}
        free = [c for c, network in known.items() if not (network or c in names)]
        return len(free) < len([n for n in listed if n.id not in having])

    def _adopt(
        self, claim: Claim, endpoint: DockerEndpoint, known: str, address: IpAddress
    ) -> None:
        """Put on record that a container has an address, unless it gave it back."""
        live = self.records.leases.live(claim.pool.id, address)
        holder = next((t for t in live if t.role == "endpoint"), None)
        if holder is None:
            if (claim.pool.id, str(address)) not in self.before.addresses:
                self._begin(claim, address, "endpoint", endpoint.name, known)
        elif not holder.endpoint and self.living.is_listed(known):
            self.records.leases.assign(
                holder.id, role="endpoint", network=claim.network, endpoint=known
            )
            # It was kept by any claim on the pool that there was.
            self.records.leases.move(holder, claim)
        elif holder.endpoint not in ("", endpoint.id) and self._is_dead(holder):
            self.records.leases.end(holder, self.now)
            self._begin(claim, address, "endpoint", endpoint.name, known)

    def _is_dead(self, holder: Lease) -> bool:
        """Tell whether who has an address on record is nobody Docker knows of."""
        listed = holder.endpoint in self.view.endpoints
        older = holder.endpoint in self.before.endpoints
        known = self.records.endpoints.get(holder.endpoint)
        return (
            not listed
            and (older or not known)
            and self.remove_dead_endpoint(holder.endpoint)
        )

    def _begin(
        self,
        claim: Claim,
        address: IpAddress,
        role: Role,
        container: str = "",
        endpoint: str = "",
    ) -> None:
        facts = role, self.now, container, endpoint
        tenures.start(self.records, claim, address, *facts)
