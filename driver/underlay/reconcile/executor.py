"""Apply the steps of one owner after the other, planned again under the lock."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from underlay.errors import RepairReverted
from underlay.kernel import Kernel
from underlay.model import Endpoint
from underlay.model.objects import (
    ForwardAccept,
    Link,
    NftElements,
    Object,
    Owner,
    Sysctl,
)
from underlay.model.steps import (
    Amend,
    Delete,
    Step,
    is_by_program,
    needs_announcement,
    repairs_nothing,
)
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentTracker
from underlay.networks.step_runner import run_steps
from underlay.planning import sandbox
from underlay.planning.desired import DesiredState, endpoint_objects, sysctl_objects
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.planner import Planner
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.reconcile.scheduling import REPAIRS, Backoff
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What became of one owner's steps. It grows while the steps are applied.

    `why`: why the first step was refused. `to_announce`: the endpoint whose device is
    new on the segment.
    """

    owner: Owner
    refused: list[Step] = field(default_factory=list)
    applied: list[Step] = field(default_factory=list)
    why: str = ""
    to_announce: Endpoint | None = None


@dataclass(frozen=True, slots=True)
class Executor:
    """Applies the steps of a pass as a verb would: a verb waits for one owner only."""

    records: Records
    kernel: Kernel
    builder: Builder
    takeovers: BridgeTakeovers
    parents: ParentTracker
    leftovers: LeftoverDevices
    observer: SandboxObserver
    planner: Planner
    backoff: Backoff
    repair_log: RepairLog
    once: LogOnce

    def apply_each(
        self, differing: Mapping[Owner, list[Step]], *, patient: bool
    ) -> Iterator[Outcome]:
        """Apply the steps owner by owner, and give the outcome of each.

        `patient`: an owner whose steps failed lately is left alone.
        """
        for owner, steps in differing.items():
            if patient and not self.backoff.is_due(owner):
                continue
            # In a bridge take-over, each step depends on the one before.
            by_step = patient and not owner.takes_over
            due = self.backoff.ready(owner, steps) if by_step else steps
            if due or not by_step:
                outcome = Outcome(owner)
                try:
                    is_done = self._apply_alone(due, outcome, patient=by_step)
                    self._note(outcome, is_done=is_done)
                finally:  # also of a pass that ends early: it has applied steps
                    yield outcome

    def _note(self, outcome: Outcome, *, is_done: bool) -> None:
        """Note when to try again what failed, and record the failure."""
        owner, refused, applied = outcome.owner, outcome.refused, outcome.applied
        if not is_done:
            # The records have changed: the owner is looked at again.
            self.backoff.note(owner, failed=True, repaired=False)
            return
        # A step that waits for its next try is refused still.
        self.repair_log.finish(owner, outcome.why or self.backoff.refusal(owner))
        failing = bool(refused and owner.takes_over)
        too_many = self.backoff.note(owner, failed=failing, repaired=bool(applied))
        if too_many and not refused:
            reverted = RepairReverted(step=applied[-1], times=REPAIRS)
            log.warning(
                "repair keeps being reverted, rate limited", extra={"error": reverted}
            )
            self.repair_log.finish(owner, str(reverted))

    def _apply_alone(
        self, found: list[Step], outcome: Outcome, *, patient: bool
    ) -> bool:
        """Apply one owner's steps while nothing else writes; add to the outcome.

        Steps by programs, which may hang, are applied in order too, without the lock.
        Returns whether all was done by what is on record: False if that has changed.
        """
        steps, version = self._confirmed(outcome.owner, found)
        for by_program, run in groupby(steps, is_by_program):
            if self._is_stale(version):
                return False
            if by_program:
                due = filter(self._is_due, run)
                self._apply(due, outcome, patient=patient)
                continue
            is_done = False
            # The commit of what is recorded with a repair may fail.
            with (
                self.once.trying("what is noted with a repair"),
                self.records.exclusive(),
            ):
                if not self._is_stale(version):
                    self._apply_again(list(run), outcome, patient=patient)
                    is_done = True
            if not is_done:
                return False
        return True

    def _is_due(self, step: Step) -> bool:
        """Return whether a step by a program is still to be applied.

        A verb may be applying it just now, or have done so since the pass looked.
        """
        made, builder = step.object, self.builder
        if isinstance(step, Delete) and builder.forwarding.asked:
            return False  # by a verb that is not on record yet
        if not isinstance(step, Delete):
            wanted = builder.lookup.desired_of(made.owner or Owner()).objects
            return made.key in {o.key for o in wanted + builder.forwarding.chains()}
        kernel = self.kernel
        is_accept = isinstance(made, ForwardAccept)
        seen = kernel.forward_rules(()) if is_accept else kernel.observe()
        return made.key in {o.key for o in seen}

    def _is_stale(self, version: tuple[int, int] | None) -> bool:
        return version is not None and version != self.records.change_counter()

    def _confirmed(
        self, owner: Owner, steps: list[Step]
    ) -> tuple[list[Step], tuple[int, int] | None]:
        """Return the steps that still hold, and for which version of the records.

        An object without an owner in the kernel (a route, say) that no record wants is
        compared with everything once more before it is deleted. That takes as long as
        a pass, so it is not done under the lock. Other steps are planned again there.
        """
        if not _is_unowned(owner, steps):
            return steps, None
        version = self.records.change_counter()
        again = set(self.planner.steps(()))
        return [step for step in steps if step in again], version

    def _apply_again(
        self, found: list[Step], outcome: Outcome, *, patient: bool
    ) -> None:
        """Apply one owner's steps, planned once more; part of a transaction."""
        owner = outcome.owner
        with self.once.trying(f"parent of {owner.vlan}"):
            for network in self.records.networks.on_vlan(owner.vlan):
                self.parents.record(network, self.parents.resolve(network))
        self._apply(self._steps_again(owner, found), outcome, patient=patient)

    def _apply(self, steps: Iterable[Step], outcome: Outcome, *, patient: bool) -> None:
        """Apply steps; add those that were refused, and applied, to the outcome."""
        owner, made = outcome.owner, False
        due = self.backoff.ready(owner, steps) if patient else steps
        apply = partial(self.builder.apply, sweeping=True)
        for done in run_steps(
            due, apply, refused_before=outcome.refused, level=logging.INFO
        ):
            step, refused = done.step, str(done.refusal or "")
            if done.refusal:
                outcome.refused.append(step)
                outcome.why = outcome.why or refused
                if not owner.takes_over:
                    self.backoff.refuse(owner, step, refused)
            else:
                self.backoff.take(owner, step)
                if self.parents.is_following(step):
                    continue
                outcome.applied.append(step)
            # Of what a new device gets so, only a refusal is worth an entry.
            if refused or not repairs_nothing(step):
                self.repair_log.add(owner, step, refused)
            made |= needs_announcement(step)
        if made:
            outcome.to_announce = self.records.endpoints.get(owner.endpoint)

    def _steps_again(self, owner: Owner, found: list[Step]) -> Iterable[Step]:
        """Plan once more for one owner, now that nothing else writes."""
        if owner.takes_over:
            return self.takeovers.steps(owner)
        if _is_unowned(owner, found):
            return found
        keys = {step.object.key for step in found}
        devices = {step.object.device or "" for step in found}
        want, room = self._sandbox_again(owner, found)
        amended = (step.seen for step in found if isinstance(step, Amend))
        known = [*room, *(o for o in amended if isinstance(o, NftElements))]
        steps = self.builder.steps({owner}, devices, want=want, known=known)
        if any(isinstance(s.object, Sysctl) for s in found):
            others = (s for s in steps if not isinstance(s.object, Sysctl))
            steps = (*others, *self._sysctls_again(owner))
        due = (s for s in steps if isinstance(s.object, Link) or s.object.key in keys)
        return self.builder.shims.without_programs(due)

    def _sysctls_again(self, owner: Owner) -> Iterable[Step]:
        """Plan once more for the sysctls of the host."""
        known, needed = self.records.host.sysctls(), self.builder.sysctls.needed()
        want = self.builder.lookup.desired_of(owner) + sysctl_objects(known, needed)
        return self.builder.sysctls.steps(want.of_owner(owner))

    def _sandbox_again(
        self, owner: Owner, found: Iterable[Step]
    ) -> tuple[DesiredState | None, Collection[Object]]:
        """Return what an endpoint must have in its sandbox, and what is there.

        Nothing if Docker has taken the device away since, or is about to. For an
        endpoint that ended: what Docker left where it was seen.
        """
        endpoint = self.records.endpoints.get(owner.endpoint)
        network = self.records.networks.get(owner.network)
        if endpoint is None and owner.endpoint:
            places = {getattr(step.object, "sandbox", "") for step in found} - {""}
            return None, self.leftovers.of(owner, places)
        if not (endpoint and network and endpoint.learned) or endpoint.left:
            return None, ()
        if not self.observer.is_listed(endpoint):
            return None, ()
        if self.kernel.observe({owner.device}):
            return None, ()
        room = self.kernel.observe_sandboxes({endpoint.sandbox}).get(endpoint.sandbox)
        if room is None or not sandbox.repairs_allowed(network, endpoint, room):
            return None, ()
        known = self.observer.learn(network, endpoint, room)
        want = endpoint_objects(network, known, there=True)
        want = (want + self.builder.lookup.beside(known)).of_owner(owner)
        rooms = {endpoint.sandbox: room}
        return want, sandbox.relevant(want.objects, rooms, [endpoint])


def _is_unowned(owner: Owner, steps: Iterable[Step]) -> bool:
    return owner == Owner() and any(not isinstance(s.object, Link) for s in steps)
