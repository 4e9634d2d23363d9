"""What a pass would do: observe the host and sandboxes, then plan. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from underlay.kernel import Kernel
from underlay.model import Endpoint, Network
from underlay.model.objects import ForwardAccept, Link, Object, Owner, Sysctl
from underlay.model.steps import Step
from underlay.modes import traits_of
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.planning import sandbox
from underlay.planning.desired import DesiredState, Needs, desired_state, sysctl_objects
from underlay.planning.plan import (
    hold_back_deletions,
    plan,
    without_foreign_routes,
)
from underlay.reconcile.sandbox_state import Rooms, SandboxObserver
from underlay.records import Records


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen in the host and in the sandboxes of `joined` endpoints.

    `repairable`: the endpoints, by id, that may be repaired in their sandboxes, with
    the state their devices must have. `learned`: those whose state is new, to be
    recorded. `takeovers`: what bridges in the place of a device want.
    """

    joined: Collection[Endpoint]
    rooms: Rooms
    repairable: Mapping[str, Endpoint]
    learned: Collection[Endpoint]
    objects: frozenset[Object] = frozenset()
    takeovers: DesiredState = field(default_factory=DesiredState)


@dataclass
class Planner:
    """Observes the kernel and plans the steps that make it match the records."""

    records: Records
    kernel: Kernel
    builder: Builder
    takeovers: BridgeTakeovers
    leftovers: LeftoverDevices
    observer: SandboxObserver
    # What endpoints needed in the last plan: most have not changed since.
    needs: Needs = field(default_factory=Needs)

    def observe(self, joined: Collection[Endpoint] | None = None) -> Snapshot:
        """Look at the host, and into the sandboxes of these endpoints, or of all."""
        if joined is None:
            joined = self.records.endpoints.joined()
        takeovers, entries = self.takeovers.desired()
        changes = self.builder.forwarding.changes
        objects = frozenset(self.kernel.observe() | entries)
        sandboxes = self.observe_sandboxes(joined, self.leftovers.places())
        self.builder.forwarding.update(objects, changes)
        return replace(sandboxes, objects=objects, takeovers=takeovers)

    def observe_sandboxes(
        self, joined: Collection[Endpoint], more: Collection[str] = ()
    ) -> Snapshot:
        """Look into the sandboxes of these endpoints and `more`, not at the host."""
        rooms = self.kernel.observe_sandboxes({e.sandbox for e in joined}.union(more))
        repairable, learned = self.observer.look(joined, rooms)
        return Snapshot(joined, rooms, repairable, learned)

    def steps(self, joined: Collection[Endpoint] | None = None) -> tuple[Step, ...]:
        """Return the steps that a pass would take now, in order."""
        return self.plan(self.observe(joined))

    def plan(self, snapshot: Snapshot) -> tuple[Step, ...]:
        """Return the steps that make what was seen match the records, in order."""
        rooms, seen = snapshot.rooms, set(snapshot.objects)
        # A device on its way back to the host is in Docker's hands.
        marks = {o.key for o in seen if isinstance(o, Link)}
        repairable = {
            e.id: e
            for e in snapshot.repairable.values()
            if Owner(e.network, e.id).mark not in marks
        }
        want = self._desired(seen, repairable) + snapshot.takeovers
        want += DesiredState(self.builder.forwarding.chains())
        seen |= self.kernel.forward_rules(
            {o for o in want.objects if isinstance(o, ForwardAccept)}
        )
        seen |= self.kernel.sysctls({o for o in want.objects if isinstance(o, Sysctl)})
        seen |= sandbox.relevant(want.objects, rooms)
        seen |= self.leftovers.among(rooms, {e.id for e in snapshot.joined})
        sysctls = self.builder.sysctls
        settings = sysctl_objects(self.records.host.sysctls(), sysctls.needed())
        steps = plan(want, without_foreign_routes(seen, want))
        due = hold_back_deletions(steps, want, self._known())
        return due + sysctls.steps(settings)

    def plan_sandboxes(self, snapshot: Snapshot) -> tuple[Step, ...]:
        """Return the steps in the sandboxes, without a look at the host."""
        there = snapshot.repairable
        known = map(self.records.networks.get, {e.network for e in there.values()})
        networks = [n for n in known if n and self._has_parent(n)]
        want = desired_state(networks, there.values(), there)
        inner = [o for o in want.objects if getattr(o, "sandbox", "")]
        want = replace(want, objects=tuple(inner))
        steps = plan(want, sandbox.relevant(inner, snapshot.rooms))
        return hold_back_deletions(steps, want, self._known())

    def _has_parent(self, network: Network) -> bool:
        """Return whether the device that a network's devices need is there."""
        uplink = network.uplink
        ours = uplink.parent and (uplink.vlans or not uplink.base_device)
        there = not ours or self.kernel.device(uplink.parent)
        return bool(uplink.has_parent_now and there)

    def _known(self) -> Collection[str] | None:
        """Return the ids of the networks on record, None if no network is missing."""
        if not self.records.host.missing_networks():
            return None
        return {network.id for network in self.records.networks.all()}

    def _desired(
        self, seen: Iterable[Object], repairable: Mapping[str, Endpoint]
    ) -> DesiredState:
        """Return what must be in the host, and in the sandboxes looked at.

        Of the other endpoints only those with something in the host count here: the
        cost of a pass follows what changes, not the thousands of sandboxes at rest.
        """
        networks, records = self.records.networks.all(), self.records.endpoints
        endpoints = {e.id: e for e in records.not_joined()}
        for network in networks:
            if traits_of(network.options).host_objects:
                endpoints |= {e.id: e for e in records.of_network(network.id)}
        for found in seen:
            identity = found.owner.endpoint if found.owner else ""
            if identity and identity not in endpoints:
                joined = records.get(identity)
                endpoints |= {joined.id: joined} if joined else {}
        wanted = (endpoints | dict(repairable)).values()
        return desired_state(networks, wanted, repairable, self.needs)
