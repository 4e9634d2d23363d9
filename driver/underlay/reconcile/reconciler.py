"""A pass: observe everything, compare it with the records, repair what differs.

Theory of operation
-------------------
The records say what must exist in the kernel. A pass asks the kernel what exists, plans
the difference, and applies it. One pass after the other runs in one thread; Docker's
verbs run in other threads meanwhile.

1. What Docker ended while the records could not be written is written first.
2. Bridges in the place of a device come next, because other objects depend on them.
3. Then the parents: a NIC may have been renamed, exchanged, unplugged, or be back.
4. Sandboxes with a kernel event are observed and repaired at once, before the host is
   observed: a container should not wait for a look at a thousand devices.
5. Then everything is observed and planned (`Planner`). This plan only finds out which
   owners differ. It is made without the lock, so it may be outdated already.
6. Each owner is repaired alone (`Executor`), as a verb would do it: take the write
   lock, observe its devices again, plan again, apply. So a verb waits for one owner,
   never for a pass, and a pass undoes nothing that a verb has just done.
7. A step that the kernel refuses is tried again later each time, and holds up only what
   depends on it (`Backoff`). An owner whose repairs are reverted again and again is
   rate limited. Both are forgotten when the process ends: then all is tried at once.
8. Repairs and failures are written to the repair log together, at the end. What cannot
   be written is lost; the repairs are made all the same.

A pass looks into few sandboxes: those with an event, those whose turn it is
(`SandboxRotation`), and those that wait for another try. What a device must look like
in its sandbox is learned there (`SandboxObserver`).

The parts do not know the reconciler. They return values (`Snapshot`, `Outcome`,
`ParentChange`), and it decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from underlay.model import Endpoint, IpAddress, LearnedState, Network
from underlay.model.objects import Link, Owner
from underlay.model.steps import Delete, Step, repairs_nothing
from underlay.modes import mode_of, traits_of
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.dropper import Dropper
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentChange, ParentTracker
from underlay.reconcile.announcer import Announcer
from underlay.reconcile.duplicates import Duplicates
from underlay.reconcile.executor import Executor
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.name_log import NameLog
from underlay.reconcile.planner import Planner, Snapshot
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.reconcile.scheduling import Backoff, SandboxRotation, deferral
from underlay.records import Records


@dataclass
class Reconciler:
    """Makes the kernel match the records.

    `clock`: seconds since 1970; `monotonic`: seconds since the host booted.
    """

    records: Records
    builder: Builder
    takeovers: BridgeTakeovers
    parents: ParentTracker
    leftovers: LeftoverDevices
    dropper: Dropper
    observer: SandboxObserver
    planner: Planner
    executor: Executor
    rotation: SandboxRotation
    backoff: Backoff
    repair_log: RepairLog
    announcer: Announcer
    name_log: NameLog
    duplicates: Duplicates
    once: LogOnce
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    # Called with the steps of each owner that differs; must not fail or wait.
    on_drift: Callable[[Collection[Step]], None] = lambda _steps: None
    # Called with the id of a network whose parent is back, or another one.
    on_parent_back: Callable[[str], None] = lambda _network: None
    # Called when containers have other IPv6 addresses from routers than on record.
    on_addresses: Callable[[], None] = lambda: None
    # When something that needs a second look was first found missing, by its key.
    _missing: dict[Hashable, float] = field(default_factory=dict)
    # The owners that need a second look, which the next pass must take.
    _not_due: set[Owner] = field(default_factory=set)
    # The seconds until the first of them is due, None if there is none.
    _again: float | None = None
    # Endpoints to announce, by id. Kept here because a pass may end early (the records
    # are busy) after it has applied steps: the next one announces them.
    _to_announce: dict[str, Endpoint] = field(default_factory=dict)

    def run_pass(
        self,
        changed: Collection[str] | None,
        noticed: float,
        watch: Callable[[str], None],
    ) -> float | None:
        """Look where the kernel reported changes: paths of sandboxes, "" is the host.

        None: they may be anywhere. `noticed` is when they were reported, in seconds
        since the host booted; `watch` subscribes to the events of a sandbox, before the
        look into it. Returns the seconds until there is something to do again, None if
        that is not known yet. Owners that failed lately are left alone.
        """
        self.repair_log.noticed = noticed
        if changed is None or "" in changed:
            self.backoff.shorten()
        self._again = None
        waiting = self.backoff.due_now() | self._not_due
        joined = self.rotation.next(changed, waiting)
        for sandbox in {e.sandbox for e in joined}:
            with suppress(OSError):  # it is gone, or not there yet
                watch(sandbox)
        first = [e for e in joined if e.sandbox in (changed or ())]
        self.reconcile(joined=joined, first=first, patient=True)
        # Those that were due, and needed nothing.
        self.backoff.forget(waiting & self.backoff.due_now())
        pauses = [0.0] if self.rotation.is_hurried else []
        due = self.backoff.next_due(), self.observer.next_due(), self._again
        pauses += [pause for pause in due if pause is not None]
        return min(pauses, default=None)

    def reconcile_now(self, only: str | None = None) -> list[Step]:
        """Repair what differs and announce it; return the steps that failed."""
        failed = self.reconcile(only)
        self.announcer.send_due()
        return failed

    def reconcile(
        self,
        only: str | None = None,
        joined: Collection[Endpoint] | None = None,
        *,
        first: Collection[Endpoint] = (),
        patient: bool = False,
    ) -> list[Step]:
        """Repair what differs; return the steps that failed.

        `only`: one network. `joined`: the endpoints whose sandboxes to observe, all
        by default; `first` do not wait for the look at the host. `patient`: owners that
        failed lately are left alone.
        """
        if not patient:
            self.repair_log.noticed = self.monotonic()
        with self.once.trying("what Docker ended"):
            self.records.endings.write()
        failed = self._finish_takeovers(patient=patient)
        self._follow_host()
        at_once = self._sandbox_repairs(first)
        self._apply(at_once, patient=patient)
        self._announce()
        fresh = {e.id: self.records.endpoints.get(e.id) for e in first}
        if joined is not None:
            joined = [e for e in (fresh.get(j.id, j) for j in joined) if e]
        differing = self._differing_by_owner(only, joined)
        failed += self._apply(self._due(differing, patient=patient), patient=patient)
        self._announce()
        with self.once.trying("what was left in sandboxes"):
            self.leftovers.forget_gone()
        with self.once.trying("the repair log"):
            self.repair_log.write()
        with self.once.trying("failures that are over"):
            self._clear_resolved_failures(differing | at_once, only, joined)
        return failed

    def _apply(
        self, differing: Mapping[Owner, list[Step]], *, patient: bool
    ) -> list[Step]:
        """Repair owners one by one; return the steps that failed."""
        failed: list[Step] = []
        for steps in differing.values():
            self.on_drift([step for step in steps if self._is_drift(step)])
        for outcome in self.executor.apply_each(differing, patient=patient):
            failed += outcome.refused
            if outcome.to_announce:
                self._add_to_announce([outcome.to_announce])
        return failed

    def _is_drift(self, step: Step) -> bool:
        return not (repairs_nothing(step) or self.parents.is_following(step))

    def _follow_host(self) -> None:
        """Record how parents are now, and what the host must be set to."""
        with self.once.trying("parents"):
            self.parents.follow_all()
        with self.once.trying("settings of the host"):
            self.builder.sysctls.refresh(self.clock())
        for change in self.parents.take_changes():
            if change.has_moved:
                self.repair_log.parent_moved(change.before, change.after)
            self._add_to_announce(self._concerned(change))
            if change.has_moved or change.may_carry_again:
                self.on_parent_back(change.after.id)

    def _concerned(self, change: ParentChange) -> Iterable[Endpoint]:
        """Return the endpoints to announce after a change of their parent.

        Those with the MAC of the parent, if that is another. All, if another port of a
        switch may lead to them now.
        """
        network = change.after
        found = self.records.endpoints.of_network(network.id)
        if change.may_carry_again:
            return [e for e in found if e.learned]
        if not change.has_new_mac:
            return []
        use = traits_of(network.options).parent_use
        all_follow = network.proxy or (use and use.exclusive)
        return [e for e in found if e.learned and (all_follow or not e.mac)]

    def _due(
        self, differing: Mapping[Owner, list[Step]], *, patient: bool
    ) -> dict[Owner, list[Step]]:
        """Return the owners that are due; those of a bridge were repaired before."""
        early = {f[0] for steps in differing.values() if (f := deferral(steps))}
        self._missing = {k: self._missing.get(k, self.monotonic()) for k in early}
        not_due = (o for o, s in differing.items() if not self._is_due(s))
        self._not_due = set(not_due) if patient else set()
        apart = self._not_due | self.takeovers.owners() | self.dropper.owners
        return {o: s for o, s in differing.items() if o not in apart}

    def _is_due(self, steps: Collection[Step]) -> bool:
        """Return whether steps are due, of which some need a second look."""
        found = deferral(steps)
        if found is None:
            return True
        key, least = found
        pause = least - (self.monotonic() - self._missing.get(key, 0.0))
        if pause <= 0:
            return True
        self._again = min(pause, self._again or pause)
        return False

    def _finish_takeovers(self, *, patient: bool) -> list[Step]:
        """Repair bridges in the place of a device before all else."""
        failed: list[Step] = []

        def take(due: Mapping[Owner, list[Step]]) -> None:
            failed.extend(self._apply(due, patient=patient))

        for owner in self.takeovers.owners():
            if patient and not self.backoff.is_due(owner):
                continue
            done = False
            # Even to look, or to record what was seen, may fail.
            with self.once.trying(f"bridge {owner.takes_over}"):
                self.takeovers.finish(owner, take)
                done = True
            if not done:
                self.backoff.note(owner, failed=True, repaired=False)
        return failed

    def _sandbox_repairs(self, joined: Collection[Endpoint]) -> dict[Owner, list[Step]]:
        """Return the repairs in sandboxes that need no look at the host.

        Not those that need a second look, or a parent that is yet to be made, or a
        veth: with its other end more is missing in the host.
        """
        snapshot = self.planner.observe_sandboxes(joined)
        self._learn(snapshot)
        found: dict[Owner, list[Step]] = {}
        for step in self.planner.plan_sandboxes(snapshot):
            owner = (step.object.owner or Owner()).endpoint_owner
            found.setdefault(owner, []).append(step)
        return {o: s for o, s in found.items() if o.endpoint and _is_simple(s)}

    def _learn(self, snapshot: Snapshot) -> None:
        """Record what was learned in sandboxes; announce what is new there."""
        with self.once.trying("how devices are in sandboxes"):
            self.observer.note(snapshot.learned)
        with self.once.trying("addresses that are in use"):
            self.duplicates.record()
        known = {e.id: e.learned for e in snapshot.joined if e.learned}
        fresh = [e for e in snapshot.learned if e.id not in known]
        if any(_has_other_addresses(e, known) for e in snapshot.learned):
            self.on_addresses()
        for endpoint in fresh:
            self.name_log.learned(endpoint)
        self._add_to_announce(fresh)

    def _add_to_announce(self, endpoints: Iterable[Endpoint]) -> None:
        self._to_announce |= {e.id: e for e in endpoints}

    def _announce(self) -> None:
        """Announce endpoints that are new on their segments, or have new devices."""
        for endpoint in self._to_announce.values():
            network = self.records.networks.get(endpoint.network)
            # A missing proxy device is no device to announce by.
            found = network and (network.uplink.parent or network.proxy)
            if network and found and traits_of(network.options).answers_arp:
                self.announcer.schedule(endpoint, *_announced_by(network, endpoint))
        self._to_announce.clear()

    def _differing_by_owner(
        self, only: str | None, joined: Collection[Endpoint] | None
    ) -> dict[Owner, list[Step]]:
        """Return the owners whose objects differ, with their steps, in plan order.

        An owner with a replaced object comes after the objects that it depends on.
        """
        found: dict[Owner, list[Step]] = {}
        places: dict[Owner, int] = {}
        concerned = self.builder.owners(only) if only else set()
        for place, step in enumerate(self._differing(joined)):
            owner = (step.object.owner or Owner()).endpoint_owner
            if only in (None, owner.network) or owner in concerned:
                steps = found.setdefault(owner, [])
                if not steps or isinstance(steps[-1], Delete):
                    places[owner] = place
                steps.append(step)
        return {owner: found[owner] for owner in sorted(found, key=places.__getitem__)}

    def _differing(self, joined: Collection[Endpoint] | None) -> list[Step]:
        """Return the steps to apply, without what a verb built or dropped meanwhile.

        The kernel is observed before the records are read: what changed in between
        differs in the first of two plans only.
        """
        version = self.records.change_counter()
        snapshot = self.planner.observe(joined)
        self._learn(snapshot)
        self.observer.forget_all_but(snapshot.joined)
        steps = self.planner.plan(snapshot)
        self.name_log.lacking(self.planner.lacking_names)
        if not steps or self.records.change_counter() == version:
            return list(steps)
        keys = {step.object.key for step in steps}
        return [s for s in self.planner.steps(joined) if s.object.key in keys]

    def _clear_resolved_failures(
        self,
        differing: Collection[Owner],
        only: str | None,
        joined: Collection[Endpoint] | None,
    ) -> None:
        """Clear the failures of owners that were looked at and need nothing now."""
        looked_at = None if joined is None else {e.id for e in joined}
        for failure in self.records.repairs.failures():
            owner = Owner.parse(failure.mark)
            if owner in differing or only not in (None, owner.network):
                continue
            if not owner.is_in_kernel:
                continue
            if self.backoff.is_limited(owner):
                continue
            endpoint = self.records.endpoints.get(owner.endpoint)
            away = endpoint and endpoint.sandbox and not endpoint.left
            if looked_at is None or not away or owner.endpoint in looked_at:
                self.records.repairs.clear_failure(failure.mark)


def _announced_by(
    network: Network, endpoint: Endpoint
) -> tuple[str, Collection[IpAddress]]:
    """Return the proxy that announces an endpoint, if any, and the gateways to ask.

    The gateway of an endpoint behind a proxy is this host.
    """
    if network.proxy:
        return network.proxy, ()
    found = mode_of(network.options).attachment(network, endpoint)
    return "", [g for g in (found.gateway4, found.gateway6) if g]


def _has_other_addresses(endpoint: Endpoint, known: Mapping[str, LearnedState]) -> bool:
    """Return whether a container has other addresses from routers than before."""
    before, now = known.get(endpoint.id), endpoint.learned
    return (now.from_routers if now else ()) != (before.from_routers if before else ())


def _is_simple(steps: Collection[Step]) -> bool:
    """Return whether steps concern one sandbox only, and can be applied at once."""
    links = (s.object for s in steps if isinstance(s.object, Link))
    return deferral(steps) is None and all(o.kind != "veth" for o in links)
