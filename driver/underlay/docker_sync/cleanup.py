"""Free dead endpoints, addresses, networks and pools, after two checks.

A dockerd that was killed forgets endpoints and addresses without a call. An entry that
Docker does not list, and whose sandbox is gone, is a suspect. If it is still one after
the grace time, the cleanup frees it by the verb Docker would have used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

from underlay.ipam import identity
from underlay.ipam.driver import IpamDriver
from underlay.ipam.placeholder_claims import is_placeholder, placeholder_id
from underlay.kernel import Kernel
from underlay.model import Claim, Endpoint, IpAddress
from underlay.model.docker import DockerNetwork, DockerView
from underlay.model.objects import Owner
from underlay.networks.driver import NetworkDriver
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.repair_log import names, repair_of
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.records import Records

log = logging.getLogger(__name__)

DAY_SECONDS = 86400.0
UNUSED = "not listed by Docker, not in use"


@dataclass
class Cleanup:
    """Frees dead records. `grace` in seconds; `clock` returns seconds since 1970."""

    records: Records
    kernel: Kernel
    engine: NetworkDriver
    ipam: IpamDriver
    observer: SandboxObserver
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    grace: float
    history_days: float
    reserve_days: float = 7.0
    # Called with the names of the containers that Docker lists.
    note_names: Callable[[Collection[str]], None] = lambda _names: None
    # Called with an endpoint whose container's name Docker did not tell at its start.
    note_named: Callable[[str], None] = lambda _endpoint: None
    _suspects: dict[str, float] = field(default_factory=dict)
    _held: frozenset[IpAddress] | None = None
    _once: LogOnce = field(default_factory=LogOnce)

    def note_listed(self, view: DockerView) -> bool:
        """Note which endpoints Docker lists; return whether passes waited for that."""
        observer = self.observer
        observer.not_listed_by_docker = frozenset(self._unlisted(view))
        waited, observer.is_waiting = observer.is_waiting, False
        return waited

    def run(self, view: DockerView) -> None:
        """Learn names from Docker's list, and free what was found dead twice.

        A write that fails stops nothing else.
        """
        self.note_listed(view)
        with self._once.trying("names of containers and networks"):
            self._learn_names(view)
        with self._once.trying("containers that Docker lists"):
            self._note_containers(view)
        self._held = None
        dead, staying = dict(self._dead(view)), dict(self._not_leaving(view))
        for key in self._confirmed_dead({*dead, *staying}):
            with self._once.trying(f"clean-up of {key}"):
                if key in staying:
                    with self.records.transaction(durable=False):
                        staying[key]()
                    log.warning(
                        "kept: the container is still running", extra={"what": key}
                    )
                    continue
                self._free(key, *dead[key])

    def _free(self, key: str, owner: Owner, free: Callable[[], None]) -> None:
        called, now = names(self.records, owner), self.clock()
        entry = repair_of(owner, called, UNUSED, f"free {key}", now, self.grace)
        free()
        log.warning("released stale record", extra={"what": key})
        with self.records.transaction(durable=False):
            self.records.repairs.note([entry])

    def forget(self) -> None:
        """Delete the leases that ended more than `history_days` ago.

        And free what was kept for containers that Docker has not listed for
        `reserve_days`.
        """
        now = self.clock()
        history, kept = self.history_days * DAY_SECONDS, self.reserve_days * DAY_SECONDS
        self.records.leases.forget_before(now - history)
        if self.records.reservations.gone_before(now - kept):
            with self.records.transaction():
                for gone in self.records.reservations.gone_before(now - kept):
                    self.records.reservations.drop(gone)

    def _note_containers(self, view: DockerView) -> None:
        """Record which containers are gone, so that others may have their addresses."""
        names = {identity.name_of(container.name) for container in view.containers}
        if self.records.reservations.is_news(names):
            with self.records.transaction(durable=False):
                self.records.reservations.note_listed(names, self.clock())
        self.note_names(names)

    def _dead(
        self, view: DockerView
    ) -> Iterator[tuple[str, tuple[Owner, Callable[[], None]]]]:
        """Return what seems dead now, with its owner and the verb that frees it."""
        for endpoint in (
            self.records.endpoints.containers().keys() - view.endpoints.keys()
        ):
            key = f"endpoint {endpoint}"
            if self._awaits_recheck(key) or self._is_dead(endpoint):
                known = self.records.endpoints.get(endpoint)
                owner = Owner(known.network if known else "", endpoint)
                yield key, (owner, partial(self._free_endpoint, endpoint))
        for lease in self.records.leases.orphaned():
            if self._is_creating(lease.claim):
                continue  # an aux address, which Docker asks for like any other
            key = f"address {lease.address} since {lease.id}"
            if lease.address not in view.addresses and (
                self._awaits_recheck(key) or lease.address not in self._in_sandboxes()
            ):
                owner = Owner(lease.network, lease.endpoint)
                yield key, (owner, partial(self.ipam.release_lease, lease))
        listed = {network.id for network in view.networks}
        for network in self.records.networks.all():
            busy = self.records.endpoints.any_of(network.id)
            if network.id not in listed and not busy:
                free = partial(self.engine.delete_network, network.id)
                yield f"network {network.id}", (Owner(network.id), free)
        for claim in self._dead_claims(view):
            free = partial(self.ipam.release_pool, claim.id)
            yield f"pool {claim.id}", (Owner(claim.network), free)

    def _in_sandboxes(self) -> frozenset[IpAddress]:
        """Return the addresses of these networks' devices in all other namespaces.

        They are read once for a view, if at all. Devices of other networks do not
        count: a container may be another host of this driver.
        """
        if self._held is None:
            known = {network.id for network in self.records.networks.all()}
            found = self.kernel.addresses_in_other_namespaces(()).items()
            held = (a for mark, a in found if Owner.parse(mark).network in known)
            self._held = frozenset(
                address for addresses in held for address in addresses
            )
        return self._held

    def _not_leaving(
        self, view: DockerView
    ) -> Iterator[tuple[str, Callable[[], None]]]:
        """Return endpoints that stay after Leave, because dockerd died during it."""
        for endpoint in self.records.endpoints.leaving():
            stays = partial(self.records.endpoints.cancel_leave, endpoint.id)
            if endpoint.id in view.endpoints and self.kernel.sandbox_exists(
                endpoint.sandbox
            ):
                yield f"endpoint {endpoint.id} that stays", stays

    def _confirmed_dead(self, suspects: set[str]) -> list[str]:
        """Return the suspects that have been suspects for the grace time."""
        now = self.monotonic()
        self._suspects = {key: self._suspects.get(key, now) for key in suspects}
        return [k for k, since in self._suspects.items() if now - since >= self.grace]

    def _awaits_recheck(self, key: str) -> bool:
        """Return whether the second check is not due; until then the list is enough."""
        now = self.monotonic()
        return now - self._suspects.get(key, -self.grace) < self.grace

    def _is_dead(self, identity: str) -> bool:
        endpoint = self.records.endpoints.get(identity)
        if endpoint is None:
            return False
        # After Leave the container may live on, with its other networks.
        return endpoint.left or not self._is_in_sandbox(endpoint)

    def _is_in_sandbox(self, endpoint: Endpoint) -> bool:
        """Return whether the device of an endpoint is in an existing sandbox."""
        if not endpoint.sandbox or not self.kernel.sandbox_exists(endpoint.sandbox):
            return False
        mark = Owner(endpoint.network, endpoint.id).mark
        room = self.kernel.observe_sandboxes({endpoint.sandbox})
        return any(o.key == mark for o in room.get(endpoint.sandbox, ()))

    def _unlisted(self, view: DockerView) -> Iterator[str]:
        """Return the endpoints that Docker does not list, but had time to list."""
        for endpoint in self.records.endpoints.joined():
            listed = endpoint.id in view.endpoints
            if not (listed or self.engine.is_young(endpoint.id)):
                yield endpoint.id

    def _free_endpoint(self, identity: str) -> None:
        endpoint = self.records.endpoints.get(identity)
        if endpoint:
            self.engine.delete_endpoint(endpoint.network, endpoint.id)

    def _dead_claims(self, view: DockerView) -> Iterator[Claim]:
        """Return the claims of networks that are gone from Docker and from the records.

        The recorded network of a claim may be a wrong guess. So a claim that holds a
        container's address stays, and at least as many claims stay as Docker lists
        networks of that subnet and domain.
        """
        for pool in self.records.pools.all():
            listed = [
                network
                for network in view.networks
                if network.domain == pool.domain and pool.subnet in network.ip_networks
            ]
            claims = self.records.pools.claims_on(pool.id)
            idle = [c for c in claims if self._is_idle(c, listed)]
            yield from idle[: max(0, len(claims) - len(listed))]

    def _is_creating(self, identity: str) -> bool:
        """Return whether a claim is of a network that Docker is still creating.

        Docker knows its PoolID then, but does not list the network yet.
        """
        claim = self.records.pools.claim(identity)
        return claim is not None and self.ipam.is_creating(claim)

    def _is_idle(self, claim: Claim, listed: list[DockerNetwork]) -> bool:
        if claim.network and self.records.networks.get(claim.network):
            return False
        if self.ipam.is_creating(claim):
            return False
        known = {n.id for n in listed if self.records.networks.get(n.id)}
        theirs = [n.id for n in listed if n.id not in known]
        if not claim.network and theirs:
            # Probably of another driver's network, which a placeholder's id names.
            names = {
                placeholder_id(claim.pool.domain, claim.pool.subnet, n) for n in theirs
            }
            if claim.id in names or not is_placeholder(claim):
                return False
        held = self.records.leases.live_of_claim(claim.id)
        return all(lease.role != "endpoint" for lease in held)

    def _learn_names(self, view: DockerView) -> None:
        for known in self.records.networks.all():
            name = next((n.name for n in view.networks if n.id == known.id), known.name)
            if name != known.name:
                self.records.networks.rename(known.id, name)
        for pool in self.records.pools.all():
            names = sorted(
                network.name
                for network in view.networks
                if network.domain == pool.domain and pool.subnet in network.ip_networks
            )
            if names != list(pool.holders):
                self.records.pools.name_holders(pool.id, names)
        for endpoint, known_as in self.records.endpoints.containers().items():
            name = view.endpoints.get(endpoint) or known_as
            if name != known_as:
                with self.records.transaction():
                    self.records.endpoints.name_container(endpoint, name)
                    self.records.leases.name_container(endpoint, name)
                    # A container that is renamed keeps nothing under its new name:
                    # Compose renames one to recreate it.
                    if not known_as:
                        identity.keep_for(self.records, endpoint, name)
                if not known_as:
                    self.note_named(endpoint)
                self._note_running(endpoint)

    def _note_running(self, endpoint: str) -> None:
        if known := self.records.endpoints.get(endpoint):
            self.ipam.idle.note_running(known.network, known.container)
