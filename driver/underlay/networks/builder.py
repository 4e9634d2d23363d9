"""Building and dropping what a few owners need: the verbs' way to touch the kernel.

What is built is built before the record is committed, what is dropped is dropped after
it: death at any point leaves surplus in the kernel, which a pass removes, and never a
promise that nothing stands behind.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
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
from underlay.model.objects import Link, NftChain, Object, Owner, Sysctl
from underlay.model.steps import (
    Create,
    Delete,
    Step,
    depends_on,
    is_by_program,
    is_setting_up,
)
from underlay.modes import mode_of
from underlay.networks.forwarding import Forwarding, is_door, is_switched_on
from underlay.networks.sharing import Sharing
from underlay.networks.shims import Shims
from underlay.planning.desired import DesiredState, network_objects, sysctl_objects
from underlay.planning.plan import plan
from underlay.records import Records

log = logging.getLogger(__name__)

NOTHING = DesiredState()


@dataclass(frozen=True, slots=True)
class Builder:
    """Makes the kernel match the records for a few owners, at a cost of just these."""

    records: Records
    kernel: Kernel
    forwarding: Forwarding
    sharing: Sharing
    shims: Shims

    @contextmanager
    def preparing(self, owner: Owner, want: DesiredState) -> Iterator[None]:
        """Do what takes programs for what is about to be built: part of no transaction.

        What lets traffic pass is left to the pass if that is refused; what shuts the
        door of the host for others is not. Raises ForwardingUnfiltered.
        """
        fresh: set[str] = set()
        shims = {o.owner for o in want.objects if _is_guarded(o) and o.owner}
        try:
            with self.forwarding.asking(want.reasons), self.shims.asking(shims):
                fresh = self.note_sysctls(want.reasons)
                self.forwarding.shut(want.reasons)
                self._prepare(owner, want, self._lay(owner, want))
                yield
        except UnderlayError:
            deletions = filter(is_by_program, map(Delete, want.objects))
            self._take_back(fresh)
            self.drop(shims, DesiredState(reasons=want.reasons))
            self._clear(deletions, want.reasons)
            raise

    def _take_back(self, fresh: Collection[str]) -> None:
        """Put back what a refused verb was the first to need: others did without."""
        if not fresh:
            return
        try:
            with self.records.exclusive():
                for reason in fresh:
                    self.restore(reason, for_others=False)
        except (KernelRefused, RecordsUnwritable) as error:
            log.warning("step refused", extra={"error": error})

    def _lay(self, owner: Owner, want: DesiredState) -> set[Owner]:
        """Have the shims there, if only down; return those that others look after."""
        kept: set[Owner] = set()
        for link in filter(_is_guarded, want.objects):
            shim = link.owner or Owner()
            with self.records.exclusive():
                if self._is_kept(shim, owner):
                    kept.add(shim)
                    continue
                self.build(self.owners(owner.network))  # it may stand on a VLAN of ours
                steps = self.steps({shim}, want=want.of_owner(shim))
                links = (s for s in steps if isinstance(s.object, Link))
                first = (s for s in links if not is_setting_up(s))
                self._take(first, self._may_wait(owner, want))
        return kept

    def _prepare(self, owner: Owner, want: DesiredState, kept: set[Owner]) -> None:
        steps = [step for step in map(Create, want.objects) if is_by_program(step)]
        shared = {o for step in steps if (o := step.object.owner) and o.shared}
        others = {o for o in shared if not o.shared.startswith("shim/")}
        kept |= {o for o in others if self.sharing.has_living(o)}
        for step in steps:
            made = step.object
            if made.owner in kept:
                continue
            try:
                self.apply(step)
            except KernelRefused as error:
                if isinstance(made, NftChain) and self._is_vital(made, owner, want):
                    raise
                log.warning("left to the next pass", extra={"error": error})
                return

    def _is_vital(self, chain: NftChain, owner: Owner, want: DesiredState) -> bool:
        """Tell whether a verb is refused if it cannot have a chain."""
        if chain.device:
            return chain.device not in self._may_wait(owner, want)
        return bool(chain.owner and not chain.owner.shared)

    @contextmanager
    def transaction(self, owner: Owner) -> Iterator[None]:
        """Change the record, build what it now wants, COMMIT; or leave nothing.

        The caller changes the record inside; raises KernelRefused, RecordsUnwritable.
        """
        owners, had = {owner}, DesiredState()
        try:
            self.records.check_there()
            with self.records.transaction():
                yield
                had = self.sharing.desired_of(owner)
                owners |= {o for o in had.shared if not self._is_kept(o, owner)}
                self._note(had.reasons)
                self.build(owners, self._may_wait(owner, had))
                self._take(self._setting_steps(had.reasons, had.reasons))
        except UnderlayError:
            self.drop(owners, had)
            raise

    def note_sysctls(self, reasons: Collection[str]) -> set[str]:
        """Note how the host is set, before that is changed; return the new reasons."""
        if not self._not_noted(reasons):
            return set()
        with self.records.transaction():
            return self._note(reasons)

    def _note(self, reasons: Collection[str]) -> set[str]:
        fresh = self._not_noted(reasons)
        for reason in fresh:
            self.records.settings.forget(reason)  # as it was before others set it
            found = self.kernel.sysctls_for(reason)
            self.records.settings.note(found)
            self.forwarding.note(found)
        return fresh

    def _not_noted(self, reasons: Collection[str]) -> set[str]:
        if not reasons:
            return set()
        noted = {s.reason for s in self.records.settings.all()}
        return {*reasons} - {r for r in noted if not self.forwarding.is_by_others(r)}

    def build(self, owners: Collection[Owner], may_wait: Collection[str] = ()) -> None:
        """Bring about what the records want for owners; part of a transaction.

        What the kernel refuses on devices that may wait is left to the pass.
        """
        self._take(self.steps(owners), may_wait)

    def _may_wait(self, owner: Owner, had: DesiredState) -> set[str]:
        """Return the shims, unless host access was asked for by name.

        A container is not to miss its start for what nobody asked for.
        """
        network = self.records.networks.get(owner.network)
        if network and network.options.get("host_access") == "on":
            return set()
        return {o.device for o in had.shared if o.shared.startswith("shim/")}

    def drop(
        self,
        owners: Collection[Owner],
        had: DesiredState = NOTHING,
        want: DesiredState | None = None,
        *,
        beside: Collection[Object] = (),
        writing: bool = False,
    ) -> None:
        """Delete what nothing wants any more; what is refused is left to the pass.

        `had` is what the owners wanted before: links are found by their names, what
        stands on other people's devices is not. `beside` is what of theirs was seen
        elsewhere. `writing`: the caller holds the lock.
        """
        if writing:
            self._delete(owners, had, want, beside)
            return
        late: list[Step] = []
        if had.reasons or any(owner.shared for owner in owners):
            # Others may be about to stand on a VLAN: their builds hold the lock.
            try:
                with self.records.exclusive():
                    late = self._delete(owners, had, want, beside)
            except RecordsUnwritable as error:
                log.warning("cannot record a removal", extra={"error": error})
                own = {owner for owner in owners if not owner.shared}
                bare = replace(had, reasons=frozenset())
                late = self._delete(own, bare, want, beside)
        else:
            late = self._delete(owners, had, want, beside)
        self._clear(late, had.reasons)

    def _clear(self, steps: Iterable[Step], reasons: Collection[str]) -> None:
        """Delete by programs what nothing wants any more; not in a transaction."""
        try:
            for step in steps:
                owner = step.object.owner or Owner()
                if owner.shared not in self.forwarding.asked and not any(
                    o.key == step.object.key
                    for o in self.sharing.desired_of(owner).objects
                ):
                    self.shims.apply(step)
            self.forwarding.open(reasons)
        except KernelRefused as error:
            log.warning("step refused", extra={"error": error})

    def apply(self, step: Step, *, sweeping: bool = False) -> None:
        """Take a step, unless it would cost a container its network.

        `sweeping`: nobody asked for it, so the end of a pair in a sandbox counts too.
        """
        link = step.object
        carriers = ("vlan", "dummy", "veth") if sweeping else ("vlan", "dummy")
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
        """Raise if the kernel would switch other people's ipvlan children as well.

        The verbs look at who is there before they build.
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
        beside: Collection[Object] = (),
    ) -> tuple[Step, ...]:
        """Plan for a few owners: look first, read second.

        Only links are looked at, in the host; `beside` is what else was seen. Whatever
        else is wanted is made, which is no error if it is there.
        """
        names = {o.device for o in owners}
        names |= {o.host_end.device for o in owners if o.endpoint}
        seen = self.kernel.observe(names.union(devices) - {""})
        mine = [o for o in seen if o.owner is None or o.owner.endpoint_owner in owners]
        mine += beside
        mine += [
            o
            for o in had.objects
            if not isinstance(o, Link) and o.owner and o.owner.endpoint_owner in owners
        ]
        if want is None:
            want = sum(
                (self.sharing.desired_of(o).of_owner(o) for o in owners), DesiredState()
            )
        return tuple(s for s in plan(want, mine) if not self._is_spared(s, want))

    def _is_spared(self, step: Step, want: DesiredState) -> bool:
        """Tell whether a verb that is not on record yet has made what would go."""
        found = step.object
        if not isinstance(step, Delete) or found.owner not in self.shims.asked:
            return False
        return all(o.key != found.key for o in want.objects)

    def owners(self, network: str) -> set[Owner]:
        """Return for whom a network's own objects exist: itself, what it shares."""
        known = self.records.networks.get(network)
        objects = network_objects(known).objects if known else ()
        return {o.owner for o in objects if o.owner}

    def all_owners(self, network: str) -> set[Owner]:
        """Return for whom objects of a network exist, what its endpoints share too."""
        neighbour = self.records.networks.any_endpoint(network)
        owner = Owner(network, neighbour.id if neighbour else "")
        return self.owners(network) | self.sharing.desired_of(owner).shared

    def needed(self) -> set[str]:
        """Return the reasons for which the host is set, or stays as it is.

        Some endpoint that lives needs it, or is about to; or forwarding was switched on
        by us, and others route by now: it was on when they looked, so they did not
        switch it on themselves, nor shut the door as they would have.
        """
        found = self._reasons(self.records.networks.all()) | self.forwarding.asked
        noted = [s for s in self.records.settings.all() if s.reason not in found]
        ours = {s.reason for s in noted if is_switched_on(s)}
        return found | {r for r in ours if self._stays_on(r)}

    def _reasons(self, networks: Iterable[Network]) -> set[str]:
        return {
            reason
            for network in networks
            for reason in mode_of(network.options).reasons(network)
            if self.sharing.living(network)
        }

    def settle_sysctls(self, now: float) -> None:
        """Note settings that are needed and were lost; put back those nobody needs.

        What the kernel refuses is noted as a trouble, and stops nothing else.
        """
        needed = self.needed()
        self.note_sysctls(needed)
        for reason in {s.reason for s in self.records.settings.all()} - needed:
            mark = Owner(shared=reason).mark
            with self.records.transaction():
                try:
                    self.restore(reason)
                    self.records.notes.clear_failure(mark)
                except KernelRefused as error:
                    log.warning("step refused", extra={"error": error})
                    self.records.notes.note_trouble(mark, str(error), now)

    def restore(self, reason: str, *, for_others: bool = True) -> None:
        """Set the host as it was, if nobody needs it otherwise any more.

        Forwarding stays on while others route. If we switched it on, that stays noted,
        and the door shut, until they are gone; not if it is `for_others` to do without.
        """
        needed = self._reasons(self.sharing.users(reason)) | self.forwarding.asked
        if reason in needed:
            return
        noted = (s for s in self.records.settings.all() if s.reason == reason)
        if not any(map(is_switched_on, noted)):
            is_theirs = "forwarding/" in reason and self._others_forward(reason)
        elif for_others and self._stays_on(reason):
            log.info("forwarding not changed: others need it", extra={"reason": reason})
            return
        else:
            is_theirs = self.forwarding.is_by_others(reason)
        if not is_theirs:
            self._take(self._setting_steps({reason}, ()))
        self.records.settings.forget(reason)

    def _stays_on(self, reason: str) -> bool:
        """Tell whether others forward by now what was switched on by us.

        Not if it is off, whether it never was on or somebody has seen to that since.
        """
        return self.forwarding.is_by_us(reason) and self._others_forward(reason)

    def _others_forward(self, reason: str) -> bool:
        """Tell whether somebody else routes for the IP family of `forwarding/<family>`.

        Docker, a virtual machine's or another container's network, a tunnel: by a
        device of theirs with an address of that family.
        """
        tunnels = {d.name for d in self.kernel.devices("tun", "wireguard")}
        return any(
            str(address.version) == reason[-1]
            for device in self.kernel.container_bridges() | tunnels
            for address in self.kernel.addresses_of(device)
        )

    def _setting_steps(
        self, reasons: Collection[str], needed: Collection[str]
    ) -> tuple[Step, ...]:
        if not reasons:
            return ()
        noted = [s for s in self.records.settings.all() if s.reason in reasons]
        return self.sysctl_steps(sysctl_objects(noted, needed))

    def sysctl_steps(self, settings: DesiredState) -> tuple[Step, ...]:
        """Plan for settings of the host, as far as the kernel has them."""
        asked = [o for o in settings.objects if isinstance(o, Sysctl)]
        seen = self.kernel.sysctls(asked)
        there = {o.key for o in seen}
        return plan(DesiredState(tuple(o for o in asked if o.key in there)), seen)

    def _is_kept(self, shared: Owner, owner: Owner) -> bool:
        """Tell whether another endpoint has it already: then a pass looks after it."""
        if not owner.endpoint or shared.vlan:
            return False
        found = self.sharing.wanted_shared(shared, besides=owner.endpoint)
        names = {o.name for o in found.objects if isinstance(o, Link)}
        seen = self.kernel.observe(names) if names else ()
        return bool(found) and (not names or any(getattr(o, "up", 0) for o in seen))

    def _take(self, steps: Iterable[Step], may_wait: Collection[str] = ()) -> None:
        waiting: list[Step] = []
        for step in steps:
            if is_by_program(step) or any(depends_on(step, w) for w in waiting):
                continue
            log.debug("step", extra={"step": str(step)})
            try:
                self.apply(step)
            except KernelRefused as error:
                owner = step.object.owner or Owner()
                if not {step.object.device, owner.device} & set(may_wait):
                    raise
                waiting.append(step)
                log.warning("left to the next pass", extra={"error": error})

    def _delete(
        self,
        owners: Collection[Owner],
        had: DesiredState,
        want: DesiredState | None,
        beside: Collection[Object],
    ) -> list[Step]:
        """Delete what no program is needed for; return the steps that need one."""
        late: list[Step] = []
        for step in self.steps(owners, had=had, want=want, beside=beside):
            if not isinstance(step, Delete):
                continue
            if is_by_program(step):
                late.append(step)
                continue
            log.debug("step", extra={"step": str(step)})
            try:
                self.apply(step)
            except KernelRefused as error:
                log.warning("step refused", extra={"error": error})
        for reason in had.reasons:
            try:
                self.restore(reason)
            except (KernelRefused, RecordsUnwritable) as error:
                log.warning("step refused", extra={"error": error})
        return late


def _is_guarded(found: Object) -> bool:
    return isinstance(found, Link) and found.up_after_filters
