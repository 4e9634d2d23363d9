"""Live endpoints: no call of Docker's IPAM ends their leases.

An endpoint is alive if it is recorded, if Docker listed it when last asked, or if its
device still exists: being deleted, or left behind in a sandbox. A PoolID that Docker
kept while records were lost may have been taken for the claim of another network of the
subnet. So the removal of a claim spares the leases of live endpoints, and the gateway
and aux addresses of a network stay while one lives.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from underlay.ipam.placeholder_claims import (
    Seen,
    bind_name,
    claims_under,
    leases_at,
    release_name,
)
from underlay.model import Claim, IpAddress, Lease
from underlay.model.docker import DockerView
from underlay.records import Records

log = logging.getLogger(__name__)

MOST_UNKNOWN = 1000
Place = tuple[str, IpAddress]


@dataclass
class LiveEndpoints:
    """The recorded endpoints, and those Docker listed last; used by many threads.

    Endpoints of other drivers are not recorded: their addresses are known by domain.
    `kept` are addresses seen on the service's devices, with the owners, until Docker is
    asked.
    """

    records: Records
    kept: tuple[Seen, ...] = ()
    seen: frozenset[IpAddress] = frozenset()
    # Ended, but their devices are still there; removed under the write lock.
    being_deleted: set[str] = field(default_factory=set)
    _endpoints: set[str] = field(default_factory=set)
    _addresses: set[Place] = field(default_factory=set)
    # What ended since Docker was asked; None while no answer is awaited.
    _gone: set[str | Place] | None = None
    _unknown: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self) -> None:
        """Prepare for an answer of Docker: what ends from now on outdates it."""
        with self._lock:
            self._gone = set()

    def update(self, view: DockerView) -> None:
        """Store what Docker listed, without what has ended since it was asked."""
        addresses = {
            (network.domain, interface.ip)
            for network in view.networks
            for endpoint in network.endpoints
            for interface in endpoint.addresses
        }
        with self._lock:
            gone, self._gone = self._gone or set(), None
            self.kept, self.seen = (), frozenset()
            self._endpoints = {e for e in view.endpoints if e not in gone}
            self._addresses = {a for a in addresses if a not in gone}

    def note_unknown(self, pool: str) -> None:
        """Store an unknown PoolID by which Docker requested an address."""
        with self._lock:
            if len(self._unknown) < MOST_UNKNOWN:
                self._unknown.add(pool)

    def take_unknown(self) -> set[str]:
        """Return the unknown PoolIDs, and clear them."""
        with self._lock:
            found, self._unknown = self._unknown, set()
        return found

    def keep(self, kept: Sequence[Seen]) -> None:
        """Store the addresses seen on devices, until Docker is asked."""
        with self._lock:
            self.kept = tuple(kept)
            self.seen = frozenset(address for _, address in kept)
            self._endpoints |= {owner.endpoint for owner, _ in kept}

    def forget(self, gone: str | Place) -> None:
        """Note that Docker deleted an endpoint, or released an address."""
        with self._lock:
            if self._gone is not None:
                self._gone.add(gone)
            if isinstance(gone, str):
                self._endpoints.discard(gone)
            else:
                self._addresses.discard(gone)

    def is_listed(self, endpoint: str) -> bool:
        """Return whether Docker listed an endpoint, and has not deleted it since."""
        return endpoint in self._endpoints

    def has(self, claim: Claim, lease: Lease) -> bool:
        """Return whether a lease by a claim is that of a live endpoint."""
        if lease.role != "endpoint":
            return False
        if not lease.endpoint:
            place = claim.pool.domain, lease.address
            return place in self._addresses or lease.address in self.seen
        endpoint = lease.endpoint
        return (
            self.records.endpoints.get(endpoint) is not None
            or self.is_listed(endpoint)
            or endpoint in self.being_deleted
            or self.records.endpoints.has_leftover(endpoint)
        )

    def is_on(self, claim: Claim) -> bool:
        """Return whether a claim holds the address of a live endpoint."""
        return self.records.leases.is_inhabited(claim.id) or any(
            self.has(claim, lease)
            for lease in self.records.leases.live_of_claim(claim.id)
        )

    def release(self, claim: Claim, now: float) -> None:
        """Remove a claim, and end its leases but those of live endpoints.

        Those move to another claim of their network. If there is none, Docker meant
        another claim: this one stays, as a placeholder.
        """
        held = self.records.leases.live_of_claim(claim.id)
        live = [lease for lease in held if self.has(claim, lease)]
        staying = [lease for lease in live if not self._moves(claim, lease)]
        if staying:
            log.warning("pool claim kept: containers use it", extra={"pool": claim.id})
            release_name(self.records, claim)
            return
        moved = {lease.id for lease in live}
        for lease in held:
            if lease.id not in moved:
                self.records.leases.end(lease, now)
        self.records.pools.remove_claim(claim)

    def _moves(self, claim: Claim, lease: Lease) -> bool:
        """Move a lease to another claim of its network; return whether there is one."""
        for other in self.records.pools.claims_of(lease.network):
            if other.id != claim.id and other.pool.id == claim.pool.id:
                self.records.leases.move(lease, other)
                return True
        return False

    def named(self, identity: str, address: str = "") -> Claim | None:
        """Return the claim that Docker releases, or releases an address of.

        An unknown PoolID may belong to any placeholder: to the one that holds the
        container's address. Otherwise a placeholder is released with its network, which
        Docker names. The only idle one of another driver's network is taken now.
        """
        found = claims_under(self.records, identity)
        for claim in found:
            held = leases_at(self.records, claim, address)
            if any(lease.role == "endpoint" for lease in held):
                return bind_name(self.records, claim, identity)
        idle = [claim for claim in found if not self.is_on(claim)]
        if len(idle) == 1 and not idle[0].network:
            return bind_name(self.records, idle[0], identity)
        return None
