"""Who has an address and lives: no verb ends that, whatever it was sent for.

An endpoint lives that is on record, or that Docker listed when it was last asked, or
whose device was left behind in a sandbox. A PoolID that Docker kept while records were
lost may have been taken for the claim of another network of the subnet. So a claim is
given up without the addresses of the living, and an address of the network's own
(gateway, aux) not from under them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from underlay.ipam import placeholder_claims as standins
from underlay.model import Claim, IpAddress, Lease
from underlay.model.docker import DockerView
from underlay.records import Records

log = logging.getLogger(__name__)

MOST_UNKNOWN = 1000
Place = tuple[str, IpAddress]


@dataclass
class LiveEndpoints:
    """What is on record, and what Docker listed last; used by many threads.

    An address that is not known to be an endpoint's (no endpoint of other drivers' ever
    is on record) is known by its domain. `kept` are addresses seen on devices of ours,
    with whose they are, until Docker is asked.
    """

    records: Records
    kept: tuple[standins.Seen, ...] = ()
    seen: frozenset[IpAddress] = frozenset()
    _endpoints: set[str] = field(default_factory=set)
    _addresses: set[Place] = field(default_factory=set)
    _gone: set[str | Place] = field(default_factory=set)
    _unknown: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self) -> None:
        """Note that Docker is asked now: what goes from here on outdates its answer."""
        with self._lock:
            self._gone.clear()

    def update(self, view: DockerView) -> None:
        """Note what Docker listed, but what has gone since it was asked."""
        addresses = {
            (network.domain, interface.ip)
            for network in view.networks
            for endpoint in network.endpoints
            for interface in endpoint.addresses
        }
        with self._lock:
            self.kept, self.seen = (), frozenset()
            self._endpoints = {e for e in view.endpoints if e not in self._gone}
            self._addresses = {a for a in addresses if a not in self._gone}

    def note_unknown(self, pool: str) -> None:
        """Note a PoolID by which Docker asks for an address, and that nobody knows."""
        with self._lock:
            if len(self._unknown) < MOST_UNKNOWN:
                self._unknown.add(pool)

    def take_unknown(self) -> set[str]:
        """Return those PoolIDs once, to be looked for in what Docker lists."""
        with self._lock:
            found, self._unknown = self._unknown, set()
        return found

    def keep(self, kept: Sequence[standins.Seen]) -> None:
        """Note whose devices were seen with which addresses, until Docker is asked."""
        with self._lock:
            self.kept = tuple(kept)
            self.seen = frozenset(address for _, address in kept)
            self._endpoints |= {owner.endpoint for owner, _ in kept}

    def forget(self, gone: str | Place) -> None:
        """Note that Docker took an endpoint away, or the address of one."""
        with self._lock:
            self._gone.add(gone)
            if isinstance(gone, str):
                self._endpoints.discard(gone)
            else:
                self._addresses.discard(gone)

    def is_listed(self, endpoint: str) -> bool:
        """Tell whether Docker listed an endpoint, and has not deleted it since."""
        return endpoint in self._endpoints

    def has(self, claim: Claim, tenure: Lease) -> bool:
        """Tell whether an address, held by a claim, is that of a living endpoint."""
        if tenure.role != "endpoint":
            return False
        if not tenure.endpoint:
            place = claim.pool.domain, tenure.address
            return place in self._addresses or tenure.address in self.seen
        endpoint = tenure.endpoint
        return (
            self.records.endpoints.get(endpoint) is not None
            or self.is_listed(endpoint)
            or self.records.endpoints.has_leftover(endpoint)
        )

    def is_on(self, claim: Claim) -> bool:
        """Tell whether a claim holds the address of anybody living."""
        return self.records.leases.is_inhabited(claim.id) or any(
            self.has(claim, tenure)
            for tenure in self.records.leases.live_of_claim(claim.id)
        )

    def release(self, claim: Claim, now: float) -> None:
        """Take a claim off the record, with all it holds but what the living have.

        That goes to the claim of their own network. If that is this one, Docker meant
        another claim: this one stays, and its PoolID is no longer known.
        """
        held = self.records.leases.live_of_claim(claim.id)
        living = [tenure for tenure in held if self.has(claim, tenure)]
        staying = [tenure for tenure in living if not self._moves(claim, tenure)]
        if staying:
            log.warning("pool claim kept: containers use it", extra={"pool": claim.id})
            standins.release_name(self.records, claim)
            return
        moved = {tenure.id for tenure in living}
        for tenure in held:
            if tenure.id not in moved:
                self.records.leases.end(tenure, now)
        self.records.pools.remove_claim(claim)

    def _moves(self, claim: Claim, tenure: Lease) -> bool:
        """Have an address held by another claim of its network, if there is one."""
        for other in self.records.pools.claims_of(tenure.network):
            if other.id != claim.id and other.pool.id == claim.pool.id:
                self.records.leases.move(tenure, other)
                return True
        return False

    def named(self, identity: str, address: str = "") -> Claim | None:
        """Return the claim that Docker gives up, or an address of, by its PoolID.

        One that is not known may be of any stand-in. It is of the one by which a
        container has the address. Else it is given up with its network, which Docker
        names then; but for that of another driver's network, if there is no other.
        """
        found = standins.claims_under(self.records, identity)
        for claim in found:
            held = standins.leases_at(self.records, claim, address)
            if any(tenure.role == "endpoint" for tenure in held):
                return standins.bind_name(self.records, claim, identity)
        idle = [claim for claim in found if not self.is_on(claim)]
        if len(idle) == 1 and not idle[0].network:
            return standins.bind_name(self.records, idle[0], identity)
        return None
