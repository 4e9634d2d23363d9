"""Building and dropping what a few owners need: how the verbs change the kernel.

What a verb needs is built before its record is committed, and dropped after the record
is gone. If the service dies in between, the kernel has surplus objects, which a pass
removes; no record promises an object that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from underlay.errors import (
    DeviceInUse,
    KernelRefused,
    RecordsUnwritable,
    UnderlayError,
    WouldChangeIpvlanMode,
)
from underlay.kernel import Kernel
from underlay.model import Network
from underlay.model.objects import Link, NftChain, Object, Owner, SysctlReason
from underlay.model.steps import (
    Create,
    Delete,
    Step,
    is_by_program,
    is_naming,
    is_setting_up,
)
from underlay.modes.host_access import optional_device
from underlay.networks.desired_lookup import DesiredLookup
from underlay.networks.forwarding import Forwarding, is_door
from underlay.networks.shims import Shims
from underlay.networks.step_runner import apply_all, run_steps
from underlay.networks.sysctls import HostSysctls
from underlay.planning.desired import DesiredState, network_objects
from underlay.planning.plan import plan
from underlay.records import Records

log = logging.getLogger(__name__)

NOTHING = DesiredState()
# The kinds of link that a container in another namespace may stand on.
_CARRIERS = ("vlan", "dummy")


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the kernel match the records for a few owners, and looks at no others."""

    records: Records
    kernel: Kernel
    forwarding: Forwarding
    lookup: DesiredLookup
    shims: Shims
    sysctls: HostSysctls

    @contextmanager
    def preparing(self, network: Network, want: DesiredState) -> Iterator[None]:
        """Run the programs (nft, iptables) that the next transaction needs.

        Programs may hang, so this is part of no transaction. A refused rule that lets
        traffic pass is left to the next pass; a refused chain that protects the host
        stops the verb. Raises ForwardingUnfiltered.
        """
        fresh: set[SysctlReason] = set()
        laid = _shared_devices(want) if _guarded(want) else set()
        may_wait = optional_device(network)
        try:
            with self.forwarding.asking(want.reasons), self.shims.asking(laid):
                fresh = self.sysctls.note(want.reasons)
                self.forwarding.shut(want.reasons)
                self._prepare(want, self._lay(want, may_wait), may_wait)
                yield
        except UnderlayError:
            deletions = filter(is_by_program, map(Delete, want.objects))
            self._restore_sysctls(fresh)
            self.drop(laid, DesiredState(reasons=want.reasons))
            self._clear(deletions, want.reasons)
            raise

    def without_shim(self, network: Network) -> DesiredState:
        """Return what a network wants if its filtered shim is not up, else nothing."""
        want = network_objects(network)
        shim = _guarded(want)
        return NOTHING if shim is None or self._is_up(shim) else want

    def _restore_sysctls(self, fresh: Collection[SysctlReason]) -> None:
        """Restore sysctls that a refused verb was the first to need."""
        if not fresh:
            return
        try:
            with self.records.exclusive():
                for reason in fresh:
                    self.sysctls.restore(reason, for_others=False)
        except (KernelRefused, RecordsUnwritable) as error:
            log.warning("sysctls not restored", extra={"error": error})

    def _lay(self, want: DesiredState, may_wait: str) -> set[Owner]:
        """Create the shim, down; return its owner if it is there and up already."""
        if not (shim := _guarded(want)):
            return set()
        with self.records.exclusive():
            if self._is_up(shim):
                return {shim.owner or Owner()}
            # A shim may stand on a VLAN that this service makes.
            owners = _shared_devices(want)
            links = (o for o in want.objects if isinstance(o, Link))
            mine = tuple(o for o in links if o.owner in owners)
            steps = self.steps(owners, want=DesiredState(mine))
            self._take((s for s in steps if not is_setting_up(s)), may_wait)
        return set()

    def _prepare(self, want: DesiredState, kept: set[Owner], may_wait: str) -> None:
        steps = [step for step in map(Create, want.objects) if is_by_program(step)]
        shared = {o for step in steps if (o := step.object.owner) and o.shared}
        kept |= {o for o in shared if self.lookup.has_live_endpoint(o)}
        due = (step for step in steps if step.object.owner not in kept)
        for done in run_steps(
            due, self.apply, must_succeed=lambda step: _is_vital(step.object, may_wait)
        ):
            if done.refusal:
                return  # the others would wait for the same program

    @contextmanager
    def transaction(self, owner: Owner) -> Iterator[Callable[[DesiredState], None]]:
        """Change the record, build what it now wants, COMMIT; or leave nothing.

        The caller changes the record inside, and then calls what this yields with what
        the owner wants now. Raises KernelRefused, RecordsUnwritable.
        """
        owners, had = {owner}, DesiredState()

        def build(want: DesiredState) -> None:
            nonlocal had
            had = want
            if owner.endpoint:
                owners.update(o for o in want.shared if o.is_of_gate)
            else:
                owners.update(want.shared)
            network = self.records.networks.get(owner.network)
            may_wait = optional_device(network) if network else ""
            due = sum(map(want.of_owner, owners), NOTHING)
            self.sysctls.note_in_transaction(want.reasons)
            self._take(self.steps(owners, want=due), may_wait)
            self.sysctls.enforce(want.reasons)

        try:
            self.records.check_there()
            with self.records.transaction():
                yield build
        except UnderlayError:
            self.drop(owners, had)
            raise

    def _is_up(self, link: Link) -> bool:
        """Return whether a link is there and up: a pass repairs the rest of it."""
        seen = self.kernel.observe({link.name})
        return any(isinstance(o, Link) and o.up for o in seen)

    def build_devices(self, network: Network) -> bool:
        """Build the devices under the endpoints of a network, and what is on these.

        Returns whether any was missing or differed. Part of a transaction.
        """
        want = network_objects(network)
        owners = {o.owner for o in want.objects if o.owner}
        steps = self.steps(owners, want=want) if owners else ()
        changed = {s.object.owner for s in steps if isinstance(s.object, Link)}
        due = (step for step in steps if step.object.owner in changed)
        self._take(due, optional_device(network))
        return bool(changed)

    def build_beside(self, sandbox: str) -> None:
        """Let a container send from the addresses of all its networks.

        What is refused is left to the pass. Part of a transaction.
        """
        here = self.records.endpoints.joined_at(sandbox)
        parts = map(self.lookup.beside, here if len(here) > 1 else ())
        wanted = (o for part in parts for o in self._possible(part).objects)
        apply_all(map(Create, wanted), self.apply, may_wait=lambda _: True)

    def _take(self, steps: Iterable[Step], may_wait: str = "") -> None:
        """Apply steps; what is refused on a device that may wait is left to a pass.

        So are the names of devices for people: no container waits for one.
        """
        apply_all(
            (s for s in steps if not (is_by_program(s) or is_naming(s))),
            self.apply,
            may_wait=lambda step: bool(may_wait) and may_wait in _devices(step),
        )

    def drop(
        self,
        owners: Collection[Owner],
        had: DesiredState = NOTHING,
        want: DesiredState | None = None,
        *,
        in_sandboxes: Collection[Object] = (),
        writing: bool = False,
    ) -> None:
        """Delete what nothing wants any more; what is refused is left to the pass.

        `had` is what the owners wanted before: links are found by their names, but
        objects on devices of the administrator are not. `in_sandboxes`
        are objects of the owners that were seen there. `writing`: the caller holds the
        lock.
        """
        if writing:
            self._delete(owners, had, want, in_sandboxes)
            return
        late: list[Step] = []
        if had.reasons or any(owner.shared for owner in owners):
            # Another verb may be about to use a VLAN: its build holds the lock.
            try:
                with self.records.exclusive():
                    late = self._delete(owners, had, want, in_sandboxes)
            except RecordsUnwritable as error:
                log.warning("cannot record restored sysctls", extra={"error": error})
                own = {owner for owner in owners if not owner.shared}
                bare = replace(had, reasons=frozenset())
                late = self._delete(own, bare, want, in_sandboxes)
        else:
            late = self._delete(owners, had, want, in_sandboxes)
        self._clear(late, had.reasons)

    def _clear(self, steps: Iterable[Step], reasons: Collection[SysctlReason]) -> None:
        """Delete by programs what nothing wants any more; not in a transaction."""
        unwanted = (step for step in steps if not self._is_wanted(step.object))
        for done in run_steps(unwanted, self.shims.apply):
            if done.refusal:
                return
        try:
            self.forwarding.open(reasons)
        except KernelRefused as error:
            log.warning("step refused", extra={"error": error})

    def _is_wanted(self, found: Object) -> bool:
        owner = found.owner or Owner()
        if owner.shared in self.forwarding.asked:
            return True
        wanted = self.lookup.desired_of(owner).objects
        return any(o.key == found.key for o in wanted)

    def delete_links(self, owners: Collection[Owner]) -> None:
        """Delete the devices in the host that these owners do not want any more.

        All at once. What the kernel refuses so is left to `drop`, and so is what a
        container may stand on: `apply` looks for that.
        """
        deletions = (s for s in self.steps(owners) if isinstance(s, Delete))
        links = (s.object for s in deletions if isinstance(s.object, Link))
        doomed = [link for link in links if link.kind not in _CARRIERS]
        if not doomed:
            return
        log.debug("steps", extra={"step": "; ".join(map(str, map(Delete, doomed)))})
        try:
            self.kernel.delete_links(doomed)
        except KernelRefused as error:
            log.debug("step refused", extra={"error": error})

    def apply(self, step: Step, *, sweeping: bool = False) -> None:
        """Apply a step, unless it would cut a container off its network.

        `sweeping`: no verb asked for it, so a veth whose end is in a sandbox counts as
        used as well.
        """
        link = step.object
        carriers = (*_CARRIERS, "veth") if sweeping else _CARRIERS
        if (
            isinstance(step, Delete)
            and isinstance(link, Link)
            and link.kind in carriers
            and not link.sandbox
            and self.kernel.has_dependents(link.name)
        ):
            raise DeviceInUse(step=step, device=link.name)
        if sweeping and isinstance(step, Create) and isinstance(link, Link):
            self._check_mode(step, link)
        if is_door(link) and isinstance(step, Delete):
            self.forwarding.remove(step)
            return
        self.forwarding.begin(step)
        self.shims.apply(step)
        self.forwarding.taken(step)

    def _check_mode(self, step: Step, link: Link) -> None:
        """Raise if the kernel would switch the ipvlan children of others as well.

        The verbs check this before they build.
        """
        if link.kind != "ipvlan":
            return
        for child in self.kernel.devices("ipvlan", "ipvtap"):
            alike = (child.flavour, child.flag) == (link.flavour, link.flag)
            if child.parent == link.parent and not (child.ours or alike):
                mode = f"{child.flavour} {child.flag}"
                raise WouldChangeIpvlanMode(
                    step=step, parent=child.parent, child=child.name, mode=mode
                )

    def steps(
        self,
        owners: Collection[Owner],
        devices: Collection[str] = (),
        had: DesiredState = NOTHING,
        want: DesiredState | None = None,
        known: Collection[Object] = (),
    ) -> tuple[Step, ...]:
        """Plan for a few owners: look at the kernel first, read the records second.

        Only links of the host are looked at; what is `known` was seen already. All
        other wanted objects are created, which is no error if they exist.
        """
        names = {o.device for o in owners}
        names |= {o.host_end.device for o in owners if o.endpoint}
        seen = self.kernel.observe(names.union(devices) - {""})
        mine = [o for o in seen if o.owner is None or o.owner.endpoint_owner in owners]
        mine += known
        mine += [
            o
            for o in self._possible(had).objects
            if not isinstance(o, Link) and o.owner and o.owner.endpoint_owner in owners
        ]
        if want is None:
            parts = (self.lookup.desired_of(o).of_owner(o) for o in owners)
            want = sum(parts, DesiredState())
        want = self._possible(want)
        return tuple(s for s in plan(want, mine) if not self._is_spared(s, want))

    def _possible(self, wanted: DesiredState) -> DesiredState:
        return wanted if self.kernel.can_guard else wanted.without_optional()

    def _is_spared(self, step: Step, want: DesiredState) -> bool:
        """Return whether a step deletes what a verb has made and not yet recorded."""
        found = step.object
        if not isinstance(step, Delete) or found.owner not in self.shims.asked:
            return False
        return all(o.key != found.key for o in want.objects)

    def owners(self, network: str) -> set[Owner]:
        """Return the owners of a network's objects, and of what its endpoints share."""
        neighbour = self.records.endpoints.any_of(network)
        known = {Owner(network), Owner(network, neighbour.id if neighbour else "")}
        shared = (self.lookup.desired_of(owner).shared for owner in known)
        return {Owner(network)}.union(*shared)

    def _delete(
        self,
        owners: Collection[Owner],
        had: DesiredState,
        want: DesiredState | None,
        in_sandboxes: Collection[Object],
    ) -> list[Step]:
        """Delete what no program is needed for; return the steps that need one."""
        steps = self.steps(owners, had=had, want=want, known=in_sandboxes)
        deletions = [step for step in steps if isinstance(step, Delete)]
        for _ in run_steps(
            (step for step in deletions if not is_by_program(step)), self.apply
        ):
            pass
        for reason in had.reasons:
            try:
                self.sysctls.restore(reason)
            except (KernelRefused, RecordsUnwritable) as error:
                log.warning("sysctls not restored", extra={"error": error})
        return [step for step in deletions if is_by_program(step)]


def _devices(step: Step) -> set[str | None]:
    """Return the device of a step, and the one of its owner."""
    return {step.object.device, (step.object.owner or Owner()).device}


def _is_vital(found: Object, may_wait: str) -> bool:
    """Return whether a verb is refused if it cannot have an object: a chain."""
    if not isinstance(found, NftChain):
        return False
    if found.device:
        return found.device != may_wait
    return bool(found.owner and not found.owner.shared)


def _guarded(want: DesiredState) -> Link | None:
    """Return the shim that may be up only with its filters, if there is one."""
    links = (o for o in want.objects if isinstance(o, Link))
    return next((o for o in links if o.up_after_filters), None)


def _shared_devices(want: DesiredState) -> set[Owner]:
    """Return the owners of the devices that several networks may use."""
    links = (o for o in want.objects if isinstance(o, Link))
    return {o.owner for o in links if o.owner and o.owner.shared}
