"""Addresses that Docker lists and the records lack, put on record: pools, claims, who.

They come before anything else that is rebuilt, so that none is handed out twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from underlay import pools, standins, tenures
from underlay.model import Address, Claim, Role, Segment, Subnet, Tenure
from underlay.records import Records
from underlay.views import DockerEndpoint, DockerNetwork, DockerView

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Before:
    """What was on record before Docker was asked.

    What of that Docker still lists, and is not on record any more, is not lost: it was
    removed while Docker answered. `claims` has their number by domain and subnet,
    `addresses` those of all pools as text.
    """

    networks: frozenset[str]
    endpoints: frozenset[str]
    claims: Mapping[tuple[str, Subnet], int]
    addresses: frozenset[tuple[int, str]]

    @classmethod
    def of(cls, records: Records) -> Before:
        """Return what is on record now."""
        addresses = records.addresses
        claims = {
            (p.domain, p.subnet): len(addresses.claims_on(p.id))
            for p in addresses.pools()
        }
        return cls(
            frozenset(n.id for n in records.networks.all()),
            frozenset(records.networks.containers()),
            claims,
            frozenset(addresses.all_live()),
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """Puts addresses on record by one view of Docker's; part of a transaction.

    `reap` takes a dead endpoint off the record, and tells whether it was dead.
    """

    records: Records
    view: DockerView
    before: Before
    reap: Callable[[str], bool]
    now: float

    def adopt(self, network: DockerNetwork) -> None:
        """Put on record what a network's containers have, and what it keeps from them.

        Its segments have the gateways that are not listed, too.
        """
        for segment, span in zip(network.segments, network.ranges, strict=True):
            claim = self._claim(network, segment, span) if segment.pooled else None
            if claim is None:
                continue
            for endpoint in network.endpoints:
                for interface in endpoint.addresses:
                    if interface.ip in segment.subnet and self._is_new(endpoint):
                        self._adopt(claim, endpoint, interface.ip)

    def _is_new(self, endpoint: DockerEndpoint) -> bool:
        known = endpoint.id in self.before.endpoints
        return not known and self.records.networks.endpoint(endpoint.id) is None

    def _claim(
        self, network: DockerNetwork, segment: Segment, span: str
    ) -> Claim | None:
        """Return the claim of a network on a pool, or as like as not the one."""
        name = standins.identity(network.domain, segment.subnet, network.id)
        pool = self.records.addresses.pool(network.domain, segment.subnet)
        claims = self.records.addresses.claims_on(pool.id) if pool else []
        own = [c for c in claims if c.network == network.id or c.id == name]
        if own or not self._is_short(network, segment.subnet, len(claims)):
            return next(iter([*own, *claims]), None)
        pool = standins.pool_for(self.records, network.domain, segment.subnet)
        if pool is None:
            log.error("pool overlaps another", extra={"subnet": segment.subnet})
            return None
        bounds = pools.parse_range(span, segment.subnet)
        claim = standins.put(self.records, pool, network.id, bounds, ours=network.ours)
        if segment.gateway:
            self._begin(claim, segment.gateway, "gateway")
        for address in segment.aux:
            self._begin(claim, address, "aux")
        return claim

    def _is_short(self, network: DockerNetwork, subnet: Subnet, claims: int) -> bool:
        """Tell whether a network has lost its claim: fewer are left than networks."""
        if network.ours and network.id in self.before.networks:
            return False
        place = network.domain, subnet
        listed = sum(
            n.domain == network.domain and subnet in n.subnets
            for n in self.view.networks
        )
        return max(claims, self.before.claims.get(place, 0)) < listed

    def _adopt(self, claim: Claim, endpoint: DockerEndpoint, address: Address) -> None:
        """Put on record that a container has an address, unless it gave it back."""
        live = self.records.addresses.live(claim.pool.id, address)
        holder = next((t for t in live if t.role == "endpoint"), None)
        if holder is None:
            if (claim.pool.id, str(address)) not in self.before.addresses:
                self._begin(claim, address, "endpoint", endpoint.name)
        elif holder.endpoint not in ("", endpoint.id) and self._is_dead(holder):
            self.records.addresses.end(holder, self.now)
            self._begin(claim, address, "endpoint", endpoint.name)

    def _is_dead(self, holder: Tenure) -> bool:
        """Tell whether who has an address on record is nobody Docker knows of."""
        listed = holder.endpoint in self.view.endpoints
        older = holder.endpoint in self.before.endpoints
        return older and not listed and self.reap(holder.endpoint)

    def _begin(
        self, claim: Claim, address: Address, role: Role, container: str = ""
    ) -> None:
        tenures.take(self.records, claim, address, role, self.now, container)
