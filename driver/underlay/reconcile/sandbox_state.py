"""What passes learn about devices in their sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from underlay.ipam.identity import name_of
from underlay.ipam.leases import note_from_routers
from underlay.ipam.subnets import derive_secret
from underlay.kernel import Kernel
from underlay.model import Endpoint, LearnedState, Network
from underlay.model.objects import IPV6_SECRET, Object, Owner
from underlay.modes import ipv6
from underlay.modes.options import is_repaired
from underlay.networks.device_names import answered_prefix
from underlay.planning import sandbox
from underlay.records import Records

# So long after Docker took a device, it has finished with it in any case.
GIVEN_SECONDS = 30.0
# A device that is in neither namespace for so long is lost, not on its way.
LOST_SECONDS = 5.0

Rooms = Mapping[str, Collection[Object]]


@dataclass
class SandboxObserver:
    """Learns what state devices must have.

    `machine` identifies this host. `clock` returns seconds since 1970, `monotonic`
    seconds since the host booted.

    `not_listed_by_docker` are the ids of endpoints that Docker did not list when last
    asked. Nothing is repaired in their sandboxes: Docker would not remove it again. And
    nothing in any sandbox while it `is_waiting` for Docker's first answer: the previous
    process may have died with unwritten endings.
    """

    records: Records
    kernel: Kernel
    machine: str
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    not_listed_by_docker: frozenset[str] = frozenset()
    is_waiting: bool = False
    # Called with the id of an endpoint when another machine has the address that a
    # DHCPv6 server gave it; must not fail or wait.
    on_failed_address: Callable[[str], None] = lambda _endpoint: None
    _seen_since: dict[str, tuple[bool, float]] = field(default_factory=dict)
    _assumed: dict[str, set[str]] = field(default_factory=dict)

    def look(
        self, joined: Collection[Endpoint], rooms: Rooms
    ) -> tuple[dict[str, Endpoint], list[Endpoint]]:
        """Return the endpoints that may be repaired, by id, and those that changed.

        Both with the state that their devices must have, as learned from what was seen.
        """
        self._assumed.clear()
        found: dict[str, Endpoint] = {}
        changed: list[Endpoint] = []
        networks = {n.id: n for n in self.records.networks.all()}
        for endpoint in joined:
            network, room = networks.get(endpoint.network), rooms.get(endpoint.sandbox)
            if network is None or room is None:
                continue
            now = self.learn(network, endpoint, room)
            if now.learned and endpoint.learned is None:
                now = self._with_sysctls(now, now.learned)
            if now.learned and ipv6.lacks_secret(network, now):
                now = self._with_secret(network, now, now.learned)
            if now != endpoint:
                changed.append(now)
            if sandbox.failed_address(now, room):
                self.on_failed_address(now.id)
            if sandbox.repairs_allowed(network, now, room) and self.is_listed(now):
                found[now.id] = now
        return found, changed

    def is_listed(self, endpoint: Endpoint) -> bool:
        """Return whether Docker has an endpoint, as far as Docker was asked."""
        return not self.is_waiting and endpoint.id not in self.not_listed_by_docker

    def note(self, changed: Collection[Endpoint]) -> None:
        """Record endpoints that changed; raises RecordsUnwritable."""
        if changed:
            with self.records.transaction(durable=False):
                for endpoint in changed:
                    if self.records.endpoints.save_learned(endpoint):
                        note_from_routers(self.records, endpoint, self.clock())
                    self._keep_former(endpoint)

    def _keep_former(self, endpoint: Endpoint) -> None:
        """Record what an endpoint still has of earlier leases."""
        six = [a for a in endpoint.former if a.version == 6]
        if endpoint.ipv4:
            four = [a for a in endpoint.former if a.version == 4]
            self.records.dhcp_leases.keep_former(endpoint.id, four)
        # Also where a server's address was declined, so that there is none.
        self.records.dhcpv6_leases.keep_former(endpoint.id, six)

    def forget_all_but(self, joined: Collection[Endpoint]) -> None:
        """Forget since when the devices of all other endpoints are seen."""
        unknown = {e.id for e in joined if e.learned is None}
        seen = self._seen_since
        self._seen_since = {k: seen[k] for k in unknown & seen.keys()}

    def learn(
        self, network: Network, endpoint: Endpoint, room: Collection[Object]
    ) -> Endpoint:
        """Return an endpoint with its device's state, if Docker has finished with it.

        Docker has, some time after the device was first seen there, or was first found
        to be nowhere.
        """
        if endpoint.learned:
            return sandbox.learn_state(network, endpoint, room, given=False)
        owner, now = Owner(network.id, endpoint.id), self.monotonic()
        is_there = any(o.key == owner.mark for o in room)
        if not is_there and self.kernel.observe({owner.device}):
            self._seen_since.pop(endpoint.id, None)
            return endpoint
        was_there, since = self._seen_since.get(endpoint.id, (is_there, now))
        since = since if was_there == is_there else now
        self._seen_since[endpoint.id] = is_there, since
        waited = now - since
        if not is_there and waited >= LOST_SECONDS:
            return self._assume(network, endpoint, room)
        return sandbox.learn_state(
            network, endpoint, room, given=waited > GIVEN_SECONDS
        )

    def next_due(self) -> float | None:
        """Return the seconds until a device is known to be lost, None if none is."""
        now, seen = self.monotonic(), self._seen_since.values()
        ends = (since + LOST_SECONDS for is_there, since in seen if not is_there)
        return min((end - now for end in ends if end >= now), default=None)

    def _assume(
        self, network: Network, endpoint: Endpoint, room: Collection[Object]
    ) -> Endpoint:
        """Return an endpoint with an assumed state: no pass saw its device in time."""
        if not is_repaired(network, endpoint) or not self.is_listed(endpoint):
            return endpoint
        others = self.records.endpoints.joined_in({endpoint.sandbox})
        taken = {e.learned.device for e in others if e.learned}
        taken |= self._assumed.get(endpoint.sandbox, set())
        try:
            taken |= self.kernel.names_inside(endpoint.sandbox)
        except OSError:  # the sandbox is gone
            return endpoint
        prefix = answered_prefix(self.records, network, endpoint, others)
        found = sandbox.assume_state(network, endpoint, room, taken, prefix)
        if found.learned:
            self._assumed.setdefault(found.sandbox, set()).add(found.learned.device)
        return found

    def _with_sysctls(self, endpoint: Endpoint, known: LearnedState) -> Endpoint:
        """Return an endpoint with the sysctls of its device, as Docker set them."""
        try:
            found = self.kernel.sandbox_sysctls(endpoint.sandbox, known.device)
        except OSError:  # the sandbox is gone
            return endpoint
        # A device that is not there has those that Docker was asked to set.
        sysctls = found or known.sysctls
        return replace(endpoint, learned=replace(known, sysctls=sysctls))

    def _with_secret(
        self, network: Network, endpoint: Endpoint, known: LearnedState
    ) -> Endpoint:
        """Return an endpoint with the secret that its container makes addresses with.

        It is among the sysctls on record, so it stays when the container is renamed.
        Before Docker has told the name, there is none.
        """
        called = endpoint.options.get("identity") or name_of(endpoint.container)
        if not called:
            return endpoint
        host = self.records.host.known_identity(self.machine)
        if self._has_another_on(network.parent_label, endpoint):
            called = f"{called}/{network.id[:12]}"
        uplink = network.lasting_parent_label
        secret = derive_secret(host, uplink, called).exploded
        sysctls = (f"{IPV6_SECRET}{secret}", *known.sysctls)
        return replace(endpoint, learned=replace(known, sysctls=sysctls))

    def _has_another_on(self, uplink: str, endpoint: Endpoint) -> bool:
        """Return whether a container has an earlier network on the same parent.

        With one secret for both, they would make the same addresses.
        """
        others = self.records.endpoints.joined_in({endpoint.sandbox})
        earlier = {e.network for e in others if e.network < endpoint.network}
        known = (self.records.networks.get(network) for network in earlier)
        return any(
            n.parent_label == uplink and ipv6.is_asked(n.options) for n in known if n
        )
