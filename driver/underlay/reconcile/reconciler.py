"""A pass: look at everything, compare it with the records, put right what differs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from underlay.kernel import Kernel
from underlay.model import Endpoint, IpAddress, Network
from underlay.model.objects import ForwardAccept, Link, Object, Owner, Sysctl
from underlay.model.steps import Delete, Step
from underlay.modes import mode_of, traits_of
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentTracker
from underlay.planning import sandbox as inside
from underlay.planning.desired import DesiredState, Needs, desired_state, sysctl_objects
from underlay.planning.plan import (
    hold_back_deletions,
    plan,
    without_foreign_routes,
)
from underlay.reconcile.announcer import Announcer
from underlay.reconcile.executor import Executor
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import Rooms, SandboxObserver
from underlay.reconcile.scheduling import Backoff, SandboxRotation, deferral
from underlay.records import Records


@dataclass
class Reconciler:
    """Puts right what differs from the records.

    `clock`: seconds since 1970; `monotonic`: seconds since the host booted.
    """

    records: Records
    kernel: Kernel
    builder: Builder
    takeovers: BridgeTakeovers
    parents: ParentTracker
    remnants: LeftoverDevices
    announcer: Announcer
    observer: SandboxObserver
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    _once: LogOnce = field(default_factory=LogOnce)
    _missing: dict[Hashable, float] = field(default_factory=dict)
    _again: float | None = None
    _not_due: set[Owner] = field(default_factory=set)
    _to_announce: dict[str, Endpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patience = Backoff(self.monotonic)
        self._rounds = SandboxRotation(self.records)
        self._ledger = RepairLog(self.records, self.clock, self.monotonic)
        self._remembered = Needs()
        self._executor = Executor(
            self.records,
            self.kernel,
            self.builder,
            self.takeovers,
            self.parents,
            self.remnants,
            self.observer,
            self._patience,
            self._ledger,
            self._to_announce,
            lambda: self.plan_all(()),
            self._once,
        )

    def run_pass(
        self,
        stirred: Collection[str] | None,
        noticed: float,
        watch: Callable[[str], None],
    ) -> float | None:
        """Look where something `stirred`: paths of sandboxes, "" is the host.

        None: it may have been anywhere. `noticed` is when, in seconds
        since the host booted; `watch` has the stirring of a sandbox heard, from before
        the look into it. Returns the seconds until there is something to do again, None
        if that is not known yet. Who failed lately is left alone.
        """
        self._ledger.noticed = noticed
        if stirred is None or "" in stirred:
            self._patience.shorten()
        self._again = None
        waiting = self._patience.due_now() | self._not_due
        joined = self._rounds.next(stirred, waiting)
        for sandbox in {e.sandbox for e in joined}:
            with suppress(OSError):  # it is gone, or not there yet
                watch(sandbox)
        first = [e for e in joined if e.sandbox in (stirred or ())]
        self.reconcile(joined=joined, first=first, patient=True)
        # Those that it was time for, and that needed nothing.
        self._patience.forget(waiting & self._patience.due_now())
        pauses = [0.0] if self._rounds.is_hurried else []
        due = self._patience.next_due(), self.observer.next_due(), self._again
        pauses += [pause for pause in due if pause is not None]
        return min(pauses, default=None)

    def reconcile(
        self,
        only: str | None = None,
        joined: Collection[Endpoint] | None = None,
        *,
        first: Collection[Endpoint] = (),
        patient: bool = False,
    ) -> list[Step]:
        """Put right what differs; return the steps that failed.

        `joined` are the endpoints into whose sandboxes to look, all by default; `first`
        do not wait for the look at the host. That only finds who is concerned: each is
        then settled as a verb would, alone, under the lock, by what is there then.
        """
        if not patient:
            self._ledger.noticed = self.monotonic()
        self.records.next_generation()
        with self._once.trying("what Docker ended"):
            self.records.endings.write()
        failed = self._settle_takeovers(patient=patient)
        self._follow_host()
        at_once = self._sandbox_repairs(first)
        self._executor.apply_each(at_once, patient=patient)
        self._announce()
        fresh = {e.id: self.records.endpoints.get(e.id) for e in first}
        if joined is not None:
            joined = [e for e in (fresh.get(j.id, j) for j in joined) if e]
        stirred = self._differing_by_owner(only, joined)
        ripe = self._due(stirred, patient=patient)
        failed += self._executor.apply_each(ripe, patient=patient)
        self._announce()
        with self._once.trying("what was left in sandboxes"):
            self.remnants.forget_gone()
        with self._once.trying("the ledger"):
            self._ledger.write()
        with self._once.trying("failures that are over"):
            self._clear_resolved_failures(stirred | at_once, only, joined)
        return failed

    def reconcile_now(self, only: str | None = None) -> list[Step]:
        """Put right what differs and announce it; return the steps that failed."""
        failed = self.reconcile(only)
        self.announcer.send_due()
        return failed

    def _follow_host(self) -> None:
        """Note how parents are now, and what the host must be set to."""
        with self._once.trying("parents"):
            self.parents.follow_all()
        with self._once.trying("settings of the host"):
            self.builder.sysctls.refresh(self.clock())
        self._handle_parent_changes()

    def _due(
        self, stirred: Mapping[Owner, list[Step]], *, patient: bool
    ) -> dict[Owner, list[Step]]:
        """Return whose steps it is time for; a bridge's have been taken already."""
        early = {f[0] for steps in stirred.values() if (f := deferral(steps))}
        self._missing = {k: self._missing.get(k, self.monotonic()) for k in early}
        unripe = (o for o, s in stirred.items() if not self._is_due(s))
        self._not_due = set(unripe) if patient else set()
        apart = self._not_due | self.takeovers.owners()
        return {o: s for o, s in stirred.items() if o not in apart}

    def _settle_takeovers(self, *, patient: bool) -> list[Step]:
        """Settle bridges of ours before all else: others stand on them."""
        failed: list[Step] = []

        def take(due: Mapping[Owner, list[Step]]) -> None:
            failed.extend(self._executor.apply_each(due, patient=patient))

        for owner in self.takeovers.owners():
            if patient and not self._patience.is_due(owner):
                continue
            done = False
            with self._once.trying(
                f"bridge {owner.takes_over}"
            ):  # even to look or note
                self.takeovers.finish(owner, take)
                done = True
            if not done:
                self._patience.note(owner, failed=True, repaired=False)
        return failed

    def _sandbox_repairs(self, joined: Collection[Endpoint]) -> dict[Owner, list[Step]]:
        """Return what is to be done at once in sandboxes, whatever the host is like.

        Not what needs a second look, a parent that is yet to be made, or the other end
        of a pair: with that goes more in the host.
        """
        rooms = self.kernel.observe_sandboxes({e.sandbox for e in joined})
        there = self._learnt(joined, rooms, learning=True)
        known = map(self.records.networks.get, {e.network for e in there.values()})
        networks = [n for n in known if n and self._stands(n)]
        want = desired_state(networks, there.values(), there)
        inner = [o for o in want.objects if getattr(o, "sandbox", "")]
        want = replace(want, objects=tuple(inner))
        steps = plan(want, inside.relevant(inner, rooms))
        found: dict[Owner, list[Step]] = {}
        for step in hold_back_deletions(steps, want, self._known()):
            found.setdefault((step.object.owner or Owner()).endpoint_owner, []).append(
                step
            )
        return {o: s for o, s in found.items() if o.endpoint and _is_simple(s)}

    def _stands(self, network: Network) -> bool:
        """Tell whether a network has what its devices stand on."""
        ours = network.parent and (network.vlans or not network.base_device)
        there = not ours or self.kernel.device(network.parent)
        return bool(network.has_parent_now and there)

    def _handle_parent_changes(self) -> None:
        """Have those announced who are found at a device's MAC, if that is another.

        And all on a device that came up: another port of a switch may lead there now.
        And have it entered which parents moved.
        """
        while self.parents.moved:
            self._ledger.parent_moved(*self.parents.moved.pop(0))
        while self.parents.with_new_mac:
            network = self.parents.with_new_mac.pop()
            seat = traits_of(network.options).parent_use
            for endpoint in self.records.endpoints.of_network(network.id):
                follows = not endpoint.mac or network.proxy or (seat and seat.exclusive)
                if follows and endpoint.learned:
                    self._to_announce[endpoint.id] = endpoint
        while self.parents.set_going:
            network = self.parents.set_going.pop()
            found = self.records.endpoints.of_network(network.id)
            self._to_announce |= {e.id: e for e in found if e.learned}

    def _announce(self) -> None:
        """Tell the segments of those that are new on them, or have new devices."""
        for endpoint in self._to_announce.values():
            network = self.records.networks.get(endpoint.network)
            # A missing proxy device is no device to announce by.
            found = network and (network.parent or network.proxy)
            if network and found and traits_of(network.options).answers_arp:
                self.announcer.schedule(endpoint, *_heard_by(network, endpoint))
        self._to_announce.clear()

    def _is_due(self, steps: Collection[Step]) -> bool:
        """Tell whether it is time for steps, of which some need a second look."""
        found = deferral(steps)
        if found is None:
            return True
        key, least = found
        pause = least - (self.monotonic() - self._missing.get(key, 0.0))
        if pause <= 0:
            return True
        self._again = min(pause, self._again or pause)
        return False

    def plan_all(
        self, joined: Collection[Endpoint] | None = None, *, learning: bool = False
    ) -> tuple[Step, ...]:
        """Return the steps a pass would take now, in order.

        `learning`: what is seen for the first time in sandboxes is noted.
        """
        if joined is None:
            joined = self.records.endpoints.joined()
        taken, held = self.takeovers.desired()
        changes = self.builder.forwarding.changes
        seen = self.kernel.observe() | held
        places = {e.sandbox for e in joined} | self.remnants.places()
        rooms = self.kernel.observe_sandboxes(places)
        there = self._learnt(joined, rooms, learning=learning)
        if learning:
            self.observer.forget_all_but(joined)
        # What is on its way back to the host is Docker's.
        marks = {o.key for o in seen if isinstance(o, Link)}
        there = {
            e.id: e for e in there.values() if Owner(e.network, e.id).mark not in marks
        }
        self.builder.forwarding.update(seen, changes)
        want = self._wanted_beside(seen, there) + taken
        want += DesiredState(self.builder.forwarding.chains())
        seen |= self.kernel.forward_rules(
            {o for o in want.objects if isinstance(o, ForwardAccept)}
        )
        seen |= self.kernel.sysctls({o for o in want.objects if isinstance(o, Sysctl)})
        seen |= inside.relevant(want.objects, rooms)
        seen |= self.remnants.among(rooms, {e.id for e in joined})
        sysctls = self.builder.sysctls
        settings = sysctl_objects(self.records.host.sysctls(), sysctls.needed())
        steps = plan(want, without_foreign_routes(seen, want))
        due = hold_back_deletions(steps, want, self._known())
        return due + sysctls.steps(settings)

    def _known(self) -> Collection[str] | None:
        """Return the ids of the networks on record, None if no network is missing."""
        if not self.records.host.missing_networks():
            return None
        return {network.id for network in self.records.networks.all()}

    def _learnt(
        self, joined: Collection[Endpoint], rooms: Rooms, *, learning: bool
    ) -> dict[str, Endpoint]:
        """Return the endpoints that are to be put right in their sandboxes, by id."""
        found, changed = self.observer.look(joined, rooms)
        if learning:
            with self._once.trying("how devices are in sandboxes"):
                self.observer.note(changed)
            known = {e.id for e in joined if e.learned}
            self._to_announce |= {e.id: e for e in changed if e.id not in known}
        return found

    def _wanted_beside(
        self, seen: Iterable[Object], there: Mapping[str, Endpoint]
    ) -> DesiredState:
        """Return what must be in the host, and in the sandboxes looked at.

        Of the other endpoints only those that have something in the host count here: a
        pass costs what moves, not what is at rest in thousands of sandboxes.
        """
        networks = self.records.networks.all()
        endpoints = {e.id: e for e in self.records.endpoints.not_joined()}
        for network in networks:
            if traits_of(network.options).host_objects:
                endpoints |= {
                    e.id: e for e in self.records.endpoints.of_network(network.id)
                }
        for found in seen:
            identity = found.owner.endpoint if found.owner else ""
            if identity and identity not in endpoints:
                joined = self.records.endpoints.get(identity)
                endpoints |= {joined.id: joined} if joined else {}
        everybody = (endpoints | dict(there)).values()
        return desired_state(networks, everybody, there, self._remembered)

    def _differing_by_owner(
        self, only: str | None, joined: Collection[Endpoint] | None
    ) -> dict[Owner, list[Step]]:
        """Return whose objects differ with the steps, in the plan's order.

        Who has something replaced comes when what it stands on is there.
        """
        found: dict[Owner, list[Step]] = {}
        turns: dict[Owner, int] = {}
        concerned = self.builder.all_owners(only) if only else set()
        for turn, step in enumerate(self._differing(joined)):
            owner = (step.object.owner or Owner()).endpoint_owner
            if only in (None, owner.network) or owner in concerned:
                steps = found.setdefault(owner, [])
                if not steps or isinstance(steps[-1], Delete):
                    turns[owner] = turn
                steps.append(step)
        return {owner: found[owner] for owner in sorted(found, key=turns.__getitem__)}

    def _differing(self, joined: Collection[Endpoint] | None) -> list[Step]:
        """Return the steps to take: what a verb built or dropped meanwhile is none.

        The look comes before the reading: what changed in between differs once only.
        """
        version = self.records.change_counter()
        steps = self.plan_all(joined, learning=True)
        if not steps or self.records.change_counter() == version:
            return list(steps)
        keys = {step.object.key for step in steps}
        return [step for step in self.plan_all(joined) if step.object.key in keys]

    def _clear_resolved_failures(
        self,
        stirred: Collection[Owner],
        only: str | None,
        joined: Collection[Endpoint] | None,
    ) -> None:
        """Clear the failures of what was looked at and has come right by itself."""
        looked_at = None if joined is None else {e.id for e in joined}
        for trouble in self.records.repairs.failures():
            owner = Owner.parse(trouble.mark)
            if owner in stirred or only not in (None, owner.network):
                continue
            if self._patience.is_limited(owner):
                continue
            endpoint = self.records.endpoints.get(owner.endpoint)
            away = endpoint and endpoint.sandbox and not endpoint.left
            if looked_at is None or not away or owner.endpoint in looked_at:
                self.records.repairs.clear_failure(trouble.mark)


def _heard_by(
    network: Network, endpoint: Endpoint
) -> tuple[str, Collection[IpAddress]]:
    """Return the device that answers for an endpoint, if any, and its gateways.

    The gateway of who is answered for is this host.
    """
    if network.proxy:
        return network.proxy, ()
    found = mode_of(network.options).attachment(network, endpoint)
    return "", [g for g in (found.gateway4, found.gateway6) if g]


def _is_simple(steps: Collection[Step]) -> bool:
    """Tell whether steps concern one sandbox only, and can be taken at once."""
    links = (s.object for s in steps if isinstance(s.object, Link))
    return deferral(steps) is None and all(o.kind != "veth" for o in links)
