"""What a pass would do: observe the host and sandboxes, then plan. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from underlay.kernel import Kernel
from underlay.model import Endpoint, Network
from underlay.model.objects import (
    AltName,
    ForwardAccept,
    Link,
    Object,
    Owner,
    Sysctl,
)
from underlay.model.steps import Step
from underlay.modes import traits_of
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.planning import sandbox
from underlay.planning.comparison import Comparison, Observed
from underlay.planning.desired import (
    DesiredState,
    Needs,
    beside_objects,
    endpoint_objects,
    network_objects,
    sysctl_objects,
    total,
)
from underlay.planning.plan import hold_back_deletions, plan
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


@dataclass(frozen=True, slots=True)
class _Host:
    """What was seen in the host: its links, and the endpoints that have anything."""

    objects: frozenset[Object] = frozenset()
    links: Collection[Link] = ()
    endpoints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the records want in the host, by network and endpoint, as of a version.

    `endpoints`: those asked for because something of theirs was seen. `by_kernel`: what
    is wanted of sysctls and of the firewall, which the kernel is asked about; `names`
    are alternative names. `networks`: all of them, by id.
    """

    version: tuple[int, int]
    endpoints: frozenset[str]
    networks: Mapping[str, Network]
    parts: Mapping[str, DesiredState]
    by_kernel: frozenset[ForwardAccept | Sysctl]
    names: frozenset[AltName]


@dataclass
class Planner:
    """Observes the kernel and plans the steps that make it match the records."""

    records: Records
    kernel: Kernel
    builder: Builder
    takeovers: BridgeTakeovers
    leftovers: LeftoverDevices
    observer: SandboxObserver
    # The wanted alternative names that other devices have, as of the last plan.
    lacking_names: frozenset[AltName] = frozenset()
    # From one plan to the next, little changes in the records or in the host.
    _needs: Needs = field(default_factory=Needs)
    _recorded: _Recorded | None = None
    _host: _Host = field(default_factory=_Host)
    _missing: tuple[tuple[_Recorded, _Host], frozenset[AltName]] | None = None
    _comparison: Comparison = field(default_factory=Comparison)

    def observe(self, joined: Collection[Endpoint] | None = None) -> Snapshot:
        """Look at the host, and into the sandboxes of these endpoints, or of all."""
        if joined is None:
            joined = self.records.endpoints.joined()
        takeovers, entries = self.takeovers.desired()
        changes = self.builder.forwarding.changes
        objects = self.kernel.observe()
        if entries:
            objects |= entries
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
        host, rooms = self._in_host(snapshot.objects), snapshot.rooms
        # A device on its way back to the host is in Docker's hands.
        marks = {link.key for link in host.links}
        repairable = [
            e
            for e in snapshot.repairable.values()
            if Owner(e.network, e.id).mark not in marks
        ]
        recorded = self._by_records(host)
        there = self._there(recorded, repairable)
        parts = {
            **recorded.parts,
            "take-overs": snapshot.takeovers,
            "forwarding": DesiredState(self.builder.forwarding.chains()),
        }
        wanted = (o for part in there.values() for o in part.objects)
        inside = sandbox.relevant(wanted, rooms, repairable)
        inside |= self.leftovers.among(rooms, {e.id for e in snapshot.joined})
        lacking = self._lacking(self._missing_names(recorded, host))
        names = {name for name in _names(there.values()) if name.sandbox}
        inside |= (lacking_inside := self._lacking(names - inside))
        self.lacking_names = lacking | lacking_inside
        seen = host.objects | self._asked(recorded.by_kernel) | lacking
        if not self.kernel.can_guard:
            parts = {name: part.without_optional() for name, part in parts.items()}
            there = {name: part.without_optional() for name, part in there.items()}
        observed = Observed(seen, host.links, frozenset(inside))
        steps = self._comparison.plan(parts, there, observed, self._known())
        sysctls = self.builder.sysctls
        settings = sysctl_objects(self.records.host.sysctls(), sysctls.needed())
        return steps + sysctls.steps(settings)

    def _there(
        self, recorded: _Recorded, repairable: Iterable[Endpoint]
    ) -> dict[str, DesiredState]:
        """Return what endpoints want whose sandboxes were observed, by their ids.

        By the same records as all else. An endpoint may have ended since its sandbox
        was observed, or its container have got a name: what it wanted in the host
        before must not stand for what it wants now.
        """
        networks = recorded.networks
        has_rest = {
            n.id for n in networks.values() if traits_of(n.options).host_objects
        }
        current = (
            e for e in repairable if e.network not in has_rest or self._needs.are_of(e)
        )
        return _there(networks, current)

    def _in_host(self, objects: frozenset[Object]) -> _Host:
        if objects != self._host.objects:
            links = [o for o in objects if isinstance(o, Link)]
            owners = {o.owner.endpoint for o in objects if o.owner}
            self._host = _Host(objects, links, frozenset(owners - {""}))
        return self._host

    def _asked(self, wanted: Collection[ForwardAccept | Sysctl]) -> frozenset[Object]:
        """Return what the kernel has of these rules and sysctls, and all our rules."""
        accepts = {o for o in wanted if isinstance(o, ForwardAccept)}
        settings = {o for o in wanted if isinstance(o, Sysctl)}
        return self.kernel.forward_rules(accepts) | self.kernel.sysctls(settings)

    def _missing_names(self, recorded: _Recorded, host: _Host) -> frozenset[AltName]:
        """Return the names that are wanted and not there, in the host."""
        of = recorded, host
        if self._missing is None or any(
            was is not now for was, now in zip(self._missing[0], of, strict=True)
        ):
            self._missing = of, recorded.names - host.objects
        return self._missing[1]

    def _lacking(self, missing: Collection[AltName]) -> frozenset[AltName]:
        """Return the missing names that cannot be given.

        They count as seen: such a name is left out, and nothing waits for it. So the
        kernel is asked for missing names only.
        """
        return self.kernel.lacking_names(missing) if missing else frozenset()

    def plan_sandboxes(self, snapshot: Snapshot) -> tuple[Step, ...]:
        """Return the steps in the sandboxes, without a look at the host."""
        endpoints = snapshot.repairable.values()
        known = map(self.records.networks.get, {e.network for e in endpoints})
        networks = {n.id: n for n in known if n and self._has_parent(n)}
        want = total(_there(networks, endpoints).values())
        inner = [o for o in want.objects if getattr(o, "sandbox", "")]
        want = replace(want, objects=tuple(inner))
        seen = sandbox.relevant(inner, snapshot.rooms, endpoints)
        steps = plan(want, seen | self._lacking(_names([want]) - seen))
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

    def _by_records(self, host: _Host) -> _Recorded:
        """Return what must be in the host, derived again if the records have changed.

        Of the endpoints in sandboxes only those with something in the host count here:
        the cost of a pass follows what changes, not the thousands at rest.
        """
        records, version = self.records, self.records.change_counter()
        known = self._recorded
        if known and (known.version, known.endpoints) == (version, host.endpoints):
            return known
        records.next_generation()
        networks = {n.id: n for n in records.networks.all()}
        endpoints = {e.id: e for e in records.endpoints.not_joined()}
        for network in networks.values():
            if traits_of(network.options).host_objects:
                endpoints |= {e.id: e for e in records.endpoints.of_network(network.id)}
        for identity in host.endpoints - endpoints.keys():
            if joined := records.endpoints.get(identity):
                endpoints[identity] = joined
        parts = {
            **{n.id: network_objects(n) for n in networks.values()},
            **self._needs.of_all(networks, endpoints.values()),
        }
        several = beside_objects(networks, records.endpoints.joined_several())
        parts |= {f"{identity}/beside": found for identity, found in several.items()}
        asked = (ForwardAccept, Sysctl)
        by_kernel = {
            o for p in parts.values() for o in p.objects if isinstance(o, asked)
        }
        self._recorded = _Recorded(
            version,
            host.endpoints,
            networks,
            parts,
            frozenset(by_kernel),
            _names(parts.values()),
        )
        return self._recorded


def _names(parts: Iterable[DesiredState]) -> frozenset[AltName]:
    objects = (o for part in parts for o in part.objects)
    return frozenset(o for o in objects if isinstance(o, AltName))


def _there(
    networks: Mapping[str, Network], endpoints: Iterable[Endpoint]
) -> dict[str, DesiredState]:
    """Return what endpoints want whose sandboxes were observed, by their ids."""
    return {
        e.id: endpoint_objects(networks[e.network], e, there=True)
        for e in endpoints
        if e.network in networks
    }
