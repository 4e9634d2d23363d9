"""Settling owners one by one: each alone, by what is on record and there just then."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from underlay.errors import RepairReverted
from underlay.kernel import Kernel
from underlay.model import Endpoint
from underlay.model.objects import ForwardAccept, Link, Object, Owner, Sysctl
from underlay.model.steps import (
    Delete,
    Step,
    is_by_program,
    needs_announcement,
)
from underlay.networks.bridge_takeover import BridgeTakeovers
from underlay.networks.builder import Builder
from underlay.networks.leftover_devices import LeftoverDevices
from underlay.networks.parents import ParentTracker
from underlay.networks.step_runner import run_steps
from underlay.planning import sandbox as inside
from underlay.planning.desired import DesiredState, endpoint_objects, sysctl_objects
from underlay.reconcile.log_once import LogOnce
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import SandboxObserver
from underlay.reconcile.scheduling import REPAIRS, Backoff
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """The steps that were refused, why the first was, and those that were taken."""

    refused: list[Step] = field(default_factory=list)
    taken: list[Step] = field(default_factory=list)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Executor:
    """Takes the steps of a pass, as verbs take theirs: a verb waits for one owner.

    `to_tell` gets the endpoints, by id, that are to be announced. `preview` returns the
    steps a pass would take now in the host.
    """

    records: Records
    kernel: Kernel
    builder: Builder
    takeovers: BridgeTakeovers
    parents: ParentTracker
    remnants: LeftoverDevices
    learning: SandboxObserver
    patience: Backoff
    ledger: RepairLog
    to_tell: dict[str, Endpoint]
    preview: Callable[[], tuple[Step, ...]]
    once: LogOnce

    def apply_each(
        self, stirred: Mapping[Owner, list[Step]], *, patient: bool
    ) -> list[Step]:
        """Put right who stirred; return the steps that were refused.

        `patient`: who failed lately is left alone.
        """
        failed: list[Step] = []
        for owner, found in stirred.items():
            if patient and not self.patience.is_due(owner):
                continue
            # Of a bridge in a device's place each step rests on the one before.
            by_step = patient and not owner.takes_over
            if by_step:
                found = self.patience.ready(owner, found)
                if not found:
                    continue
            outcome = Outcome()
            if not self._settle_alone(owner, found, outcome, patient=by_step):
                # Somebody may need it by now: it is looked at again.
                self.patience.note(owner, failed=True, repaired=False)
                continue
            refused, taken = outcome.refused, outcome.taken
            # What waits to be tried again is refused still.
            self.ledger.finish(owner, outcome.why or self.patience.refusal(owner))
            failing = bool(refused and owner.takes_over)
            tries = {"failed": failing, "repaired": bool(taken)}
            if self.patience.note(owner, **tries) and not refused:
                fight = RepairReverted(step=taken[-1], times=REPAIRS)
                log.warning("repair keeps being undone", extra={"error": fight})
                self.ledger.finish(owner, str(fight))
            failed += refused
        return failed

    def _settle_alone(
        self, owner: Owner, found: list[Step], outcome: Outcome, *, patient: bool
    ) -> bool:
        """Take the steps for one owner while nobody else writes; add to the outcome.

        What takes programs, which may hang, is done in its turn, while nobody waits.
        Tells whether all was by what is on record: False if the records have changed.
        """
        steps, version = self._confirmed(owner, found)
        for by_program, run in groupby(steps, is_by_program):
            if self._is_stale(version):
                return False
            if by_program:
                due = filter(self._is_due, run)
                self._take(owner, due, outcome, patient=patient)
                continue
            is_done = False
            # What is noted of it may not be written in the end.
            with (
                self.once.trying("what is noted with a repair"),
                self.records.exclusive(),
            ):
                if not self._is_stale(version):
                    self._settle(owner, list(run), outcome, patient=patient)
                    is_done = True
            if not is_done:
                return False
        return True

    def _is_due(self, step: Step) -> bool:
        """Tell whether a step by a program is to be taken still.

        A verb may be at it just now, or may have done it since the look.
        """
        made, builder = step.object, self.builder
        if isinstance(step, Delete) and builder.forwarding.asked:
            return False  # by a verb that is not on record yet
        if not isinstance(step, Delete):
            wanted = builder.lookup.desired_of(made.owner or Owner()).objects
            return made.key in {o.key for o in wanted + builder.forwarding.chains()}
        kernel = self.kernel
        is_permit = isinstance(made, ForwardAccept)
        seen = kernel.forward_rules(()) if is_permit else kernel.observe()
        return made.key in {o.key for o in seen}

    def _is_stale(self, version: tuple[int, int] | None) -> bool:
        return version is not None and version != self.records.change_counter()

    def _confirmed(
        self, owner: Owner, steps: list[Step]
    ) -> tuple[list[Step], tuple[int, int] | None]:
        """Return which steps hold still, and for which version of the records.

        What carries no owner in the kernel (a route, say) and nobody wanted is compared
        with everything once more before it is deleted: not under the lock, for that
        takes as long as a pass. All other steps are planned again there.
        """
        if not _is_unowned(owner, steps):
            return steps, None
        version = self.records.change_counter()
        again = set(self.preview())
        return [step for step in steps if step in again], version

    def _settle(
        self, owner: Owner, stirred: list[Step], outcome: Outcome, *, patient: bool
    ) -> None:
        """Take the steps for one owner, planned once more."""
        with self.once.trying(f"parent of {owner.vlan}"):
            for network in self.records.networks.on_vlan(owner.vlan):
                self.parents.record(network, self.parents.resolve(network))
        self._take(owner, self._steps_again(owner, stirred), outcome, patient=patient)

    def _take(
        self,
        owner: Owner,
        steps: Iterable[Step],
        outcome: Outcome,
        *,
        patient: bool,
    ) -> None:
        """Take steps; add those that were refused, and taken, to the outcome."""
        made = False
        due = self.patience.ready(owner, steps) if patient else steps
        apply = partial(self.builder.apply, sweeping=True)
        for done in run_steps(
            due, apply, refused_before=outcome.refused, level=logging.INFO
        ):
            step, refused = done.step, str(done.refusal or "")
            if done.refusal:
                outcome.refused.append(step)
                outcome.why = outcome.why or refused
                if not owner.takes_over:
                    self.patience.refuse(owner, step, refused)
            else:
                outcome.taken.append(step)
                self.patience.take(owner, step)
            self.ledger.add(owner, step, refused)
            made |= needs_announcement(step)
        endpoint = self.records.endpoints.get(owner.endpoint) if made else None
        if endpoint:
            self.to_tell[endpoint.id] = endpoint

    def _steps_again(self, owner: Owner, stirred: list[Step]) -> Iterable[Step]:
        """Plan once more for one owner, now that nobody else is writing."""
        if owner.takes_over:
            return self.takeovers.steps(owner)
        if _is_unowned(owner, stirred):
            return stirred
        keys = {step.object.key for step in stirred}
        devices = {step.object.device or "" for step in stirred}
        want, room = self._inside_again(owner, stirred)
        steps = self.builder.steps({owner}, devices, want=want, beside=room)
        if any(isinstance(s.object, Sysctl) for s in stirred):
            others = (s for s in steps if not isinstance(s.object, Sysctl))
            steps = (*others, *self._settings_again(owner))
        due = (s for s in steps if isinstance(s.object, Link) or s.object.key in keys)
        return self.builder.shims.without_programs(due)

    def _settings_again(self, owner: Owner) -> Iterable[Step]:
        """Plan once more for the settings of the host that somebody needs."""
        known, needed = self.records.host.sysctls(), self.builder.sysctls.needed()
        want = self.builder.lookup.desired_of(owner) + sysctl_objects(known, needed)
        return self.builder.sysctls.steps(want.of_owner(owner))

    def _inside_again(
        self, owner: Owner, stirred: Iterable[Step]
    ) -> tuple[DesiredState | None, Collection[Object]]:
        """Return what an endpoint wants in its sandbox, and what is there, if it may.

        Nothing if Docker has taken the device away since, or is about to. Of one that
        ended, what it left where that was seen.
        """
        endpoint = self.records.endpoints.get(owner.endpoint)
        network = self.records.networks.get(owner.network)
        if endpoint is None and owner.endpoint:
            places = {getattr(step.object, "sandbox", "") for step in stirred} - {""}
            return None, self.remnants.of(owner, places)
        if not (endpoint and network and endpoint.learned) or endpoint.left:
            return None, ()
        if not self.learning.is_listed(endpoint):
            return None, ()
        if self.kernel.observe({owner.device}):
            return None, ()
        room = self.kernel.observe_sandboxes({endpoint.sandbox}).get(endpoint.sandbox)
        if room is None or not inside.repairs_allowed(network, endpoint, room):
            return None, ()
        known = self.learning.learn(network, endpoint, room)
        want = endpoint_objects(network, known, there=True).of_owner(owner)
        return want, inside.relevant(want.objects, {endpoint.sandbox: room})


def _is_unowned(owner: Owner, steps: Iterable[Step]) -> bool:
    return owner == Owner() and any(not isinstance(s.object, Link) for s in steps)
