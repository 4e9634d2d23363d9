"""Bridges of ours in the place of a device: taken over, proven, and given back.

What stood on the device is on record before anything is touched, and the commit of the
network that needs the bridge is what makes it stay. Whatever ends before that, ends
with everything back on the device: by the verb that failed, or by the next pass.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from underlay.errors import TakeoverFailed, TakeoverImpossible, UnderlayError
from underlay.kernel import Kernel
from underlay.model import BridgeTakeover, HostEntry, IpAddress, Network
from underlay.model.objects import MovedEntry, Object, Owner
from underlay.model.steps import Step
from underlay.networks.step_runner import apply_all
from underlay.planning.desired import DesiredState, takeover_objects
from underlay.planning.identity import is_same_nic
from underlay.planning.parent import Uplink
from underlay.planning.plan import plan
from underlay.records import Records

log = logging.getLogger(__name__)

_NOT_PUT_BACK = (
    "what an earlier network moved to a bridge is still to be put back, and the log"
    " says what is in the way"
)
Take = Callable[[Mapping[Owner, list[Step]]], None]


@dataclass(frozen=True, slots=True)
class BridgeTakeovers:
    """Moves a host's addresses and routes to a bridge of ours and back."""

    records: Records
    kernel: Kernel
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _tried: set[str] = field(default_factory=set)

    @contextmanager
    def attempt(self, found: Uplink) -> Iterator[frozenset[IpAddress]]:
        """Note what stands on a device before it is taken over, if that is not done.

        Gives the next hops that answer now. Until the end no pass of this process
        settles what is tried, and nobody else tries; if it ends in an error, what was
        done is undone. Raises TakeoverImpossible.
        """
        if not found.takes_over:
            yield frozenset()
            return
        with self._turn:
            if self.records.takeovers.of(found.takes_over):
                self.finish_pending()
            self._tried.add(found.takes_over)
            try:
                yield self._noted(found.takes_over, found.parent)
            except Exception:
                self._tried.clear()
                self.finish_pending()
                raise
            finally:
                self._tried.clear()

    def _noted(self, parent: str, bridge: str) -> frozenset[IpAddress]:
        if known := self.records.takeovers.of(parent):
            if known.state != "on":
                raise TakeoverImpossible(parent=parent, why=_NOT_PUT_BACK)
            return frozenset()
        facts = self.kernel.entries_on(parent)
        self._check(parent, facts)
        hops = {ip_address(fact.via) for fact in facts if fact.via}
        answering = self.kernel.probe(parent, hops)
        settings = self.kernel.device_sysctls(parent)
        with self.records.transaction():
            self.records.takeovers.note(
                BridgeTakeover(parent, bridge, "trying", facts, settings)
            )
        return answering

    def execute(self, found: Uplink) -> None:
        """Move what stands on a device that is tried; part of a transaction.

        It stays on record as tried, so whatever ends before `confirm` has it moved
        back. Raises KernelRefused, and TakeoverImpossible by what has come to the
        device since.
        """
        if self._stands(found.takes_over):
            return
        noted = self._noted_still(found)
        if noted.state == "trying":
            noted = self._still(noted)
            self.records.takeovers.note(noted)
        want = takeover_objects(replace(noted, state="on"))
        self._apply(self._planned(found.parent, want))

    def prove(self, found: Uplink, hops: frozenset[IpAddress]) -> None:
        """Raise TakeoverFailed if a next hop does not answer any more; for seconds."""
        if not hops:
            return
        if silent := hops - self.kernel.probe(found.parent, hops):
            which = ", ".join(sorted(map(str, silent)))
            why = f"{which} did not answer behind the bridge, and had before"
            raise TakeoverFailed(parent=found.takes_over, why=why)

    def confirm(self, found: Uplink) -> None:
        """Note that a device is taken over; part of the transaction that needs it.

        Raises TakeoverFailed if a pass of another process undid it meanwhile.
        """
        if not found.takes_over:
            return
        noted = self._noted_still(found)
        if noted.state == "on":
            return
        device = self.kernel.device(noted.parent)
        if device is None or device.master != noted.bridge:
            raise _undone(found)
        self.records.takeovers.note(replace(noted, state="on", entries=()))
        log.info(
            "taken over", extra={"parent": found.takes_over, "bridge": found.parent}
        )

    def _noted_still(self, found: Uplink) -> BridgeTakeover:
        noted = self.records.takeovers.of(found.takes_over)
        if noted is None:
            raise _undone(found)
        return noted

    def _still(self, noted: BridgeTakeover) -> BridgeTakeover:
        """Return one as noted, but for what has gone from the device since.

        What came since is not on record, so it is moved only when all else is done.
        """
        now = self.kernel.entries_on(noted.parent)
        self._check(noted.parent, now)
        there = {(f.what, f.words) for f in now}
        facts = (f for f in noted.entries if (f.what, f.words) in there)
        return replace(noted, entries=tuple(facts))

    def finish_pending(self) -> None:
        """Finish or undo what is under way, and give back what nobody needs.

        What is refused is left to the pass.
        """
        for owner in self.owners():
            try:
                self.finish(owner, self._take)
            except (UnderlayError, OSError) as error:
                log.warning("take-over not finished, retrying", extra={"error": error})

    def finish(self, owner: Owner, take: Take) -> None:
        """Settle one bridge.

        `take` takes the steps of an owner, planned again while nobody else writes.
        Raises KernelRefused, RecordsUnwritable.
        """
        if steps := self._begin(owner):
            take({owner: steps})
        self._end(owner)

    def owners(self) -> set[Owner]:
        """Return for whom there are bridges on record."""
        return {_owner(known) for known in self.records.takeovers.all()}

    def steps(self, owner: Owner) -> tuple[Step, ...]:
        """Return the steps for a bridge, by what is on record of it."""
        known = self.records.takeovers.of(owner.takes_over)
        want = self._wanted(known) if known else DesiredState()
        return self._planned(owner.device, want)

    def restore_bridge(self, network: Network) -> None:
        """Have the bridge of a network again if it is gone, as after a reboot."""
        known = self.records.takeovers.by(network.parent)
        if known and self.kernel.device(known.bridge) is None:
            self.finish_pending()

    def desired(self) -> tuple[DesiredState, frozenset[Object]]:
        """Return what all of them want, and what of it that is no link is there."""
        want = sum(map(self._wanted, self.records.takeovers.all()), DesiredState())
        return want, self.kernel.locate_entries(
            [o for o in want.objects if isinstance(o, MovedEntry)]
        )

    def _wanted(self, known: BridgeTakeover) -> DesiredState:
        """Return what one wants; while the device is missing, all is left as it is.

        But for a bridge that nobody needs: what stood on a device goes with it.
        """
        if self._is_there(known):
            return takeover_objects(known)
        left = {_owner(known).mark} if known.state == "on" else ()
        return DesiredState(in_docker_hands=frozenset(left))

    def _is_there(self, known: BridgeTakeover) -> bool:
        """Tell whether the device is there: no card of other networks by its name."""
        found = self.kernel.device(known.parent)
        if found is None:
            return False
        networks = [n for n in self.records.networks.all() if n.base_device]
        bases = [
            n.base_device
            for n in networks
            if n.parent == known.bridge and n.base_device
        ]
        others = [
            n.base_device
            for n in networks
            if n.parent != known.bridge and n.base_device
        ]
        mine = any(is_same_nic(base, found) for base in bases)
        return mine or not (bases and any(is_same_nic(base, found) for base in others))

    def _begin(self, owner: Owner) -> list[Step]:
        """Note what is to be moved, before it is; return the steps."""
        known = self.records.takeovers.of(owner.takes_over)
        if known and self._is_tried(known):
            return []
        if known and self._next(known) != known:
            # Survives this process; in a power cut goes what it is about as well.
            with self.records.transaction(durable=False):
                known = self.records.takeovers.of(owner.takes_over)
                known = known and self._next(known)
                if known:
                    self.records.takeovers.note(known)
        return list(self.steps(owner)) if known else []

    def _next(self, known: BridgeTakeover) -> BridgeTakeover:
        """Return what is to become of one, with what is to be moved."""
        if known.state != "on":
            return known
        if self._is_needed(known):
            if not self._is_there(known):
                return known
            # Somebody may have configured the parent anew: after a reboot, say.
            strays = [f for f in self.kernel.entries_on(known.parent) if not f.obstacle]
            return replace(known, entries=(*self._begun(known, strays), *strays))
        if self._others_on(known):
            return known
        facts = self.kernel.entries_on(known.bridge) if self._is_there(known) else ()
        return replace(known, state="back", entries=facts)

    def _begun(
        self, known: BridgeTakeover, strays: Collection[HostEntry]
    ) -> list[HostEntry]:
        """Return what was noted and is not on the parent any more, if it is moving.

        A route may have gone with the address it needs, which was moved before it.
        """
        noted = {(f.what, f.words): f for f in known.entries}
        here = self.kernel.entries_on(known.bridge) if noted else ()
        if not any((f.what, f.words) in noted for f in here):
            return []
        left = {(f.what, f.words) for f in strays}
        return [f for key, f in noted.items() if key not in left]

    def _end(self, owner: Owner) -> None:
        """Note that all is done, if it is."""
        known = self.records.takeovers.of(owner.takes_over)
        if known is None or (known.state == "on" and not known.entries):
            return
        if known.entries and not self._is_there(known):
            return
        with self.records.transaction(durable=known.state != "on"):
            known = self.records.takeovers.of(owner.takes_over)
            if known is None or self._is_tried(known) or self.steps(owner):
                return
            if known.state == "on":
                self.records.takeovers.note(replace(known, entries=()))
                return
            self.records.takeovers.forget(known.parent)
        log.info("given back", extra={"parent": known.parent})

    def _take(self, due: Mapping[Owner, list[Step]]) -> None:
        for owner in due:
            with self.records.exclusive():
                self._apply(self.steps(owner))

    def _apply(self, steps: Iterable[Step]) -> None:
        apply_all(steps, self.kernel.apply, level=logging.INFO)

    def _planned(self, bridge: str, want: DesiredState) -> tuple[Step, ...]:
        seen = self.kernel.observe({bridge})
        held = self.kernel.locate_entries(
            [o for o in want.objects if isinstance(o, MovedEntry)]
        )
        return plan(want, (*seen, *held))

    def _stands(self, parent: str) -> bool:
        """Tell whether a device is a port of its bridge, and that is on record.

        As far as it is there by the name on record: it may have been renamed since.
        """
        known = self.records.takeovers.of(parent)
        if known is None or known.state != "on":
            return False
        device = self.kernel.device(parent)
        return device is None or device.master == known.bridge

    def _is_tried(self, known: BridgeTakeover) -> bool:
        """Tell whether a verb is about this one, which said so before it was noted."""
        return known.state != "on" and known.parent in self._tried

    def _is_needed(self, known: BridgeTakeover) -> bool:
        tried = known.parent in self._tried
        return tried or bool(self.records.networks.on_parent(known.bridge))

    def _others_on(self, known: BridgeTakeover) -> bool:
        """Tell whether somebody else put something on the bridge; then it stays."""
        others = [
            d.name
            for d in self.kernel.devices()
            if known.bridge in (d.master, d.parent)
            and not d.ours
            and d.name != known.parent
        ]
        if others:
            log.warning(
                "bridge kept: others are on it", extra={"devices": ", ".join(others)}
            )
        return bool(others)

    def _check(self, parent: str, facts: Iterable[HostEntry]) -> None:
        if why := self._hindrance(parent, facts):
            raise TakeoverImpossible(parent=parent, why=why)

    def _hindrance(self, parent: str, facts: Iterable[HostEntry]) -> str:
        """Return why a device cannot be a port of a bridge of ours."""
        device = self.kernel.device(parent)
        if device and device.master:
            return f"it is a port of {device.master} already"
        if self.kernel.is_wireless(parent):
            return "it is wireless, and a wireless network takes frames of one MAC only"
        if networks := self.records.networks.on_parent(parent):
            return f"network {networks[0].label} is on it with devices of its own"
        for network in self.records.networks.all():
            if network.proxy == parent:
                return f"it answers for the containers of network {network.label}"
        children = self.kernel.devices("macvlan", "macvtap", "ipvlan", "ipvtap")
        for child in children:
            if child.parent == parent:
                return f"{child.name} ({child.kind}) is on it"
        for fact in facts:
            if fact.obstacle:
                return f"of its {fact.what} {fact.words}, {fact.obstacle}"
        return ""


def _undone(found: Uplink) -> TakeoverFailed:
    """Return the refusal for what a pass of another process undid meanwhile."""
    return TakeoverFailed(parent=found.takes_over, why="the host was busy")


def _owner(known: BridgeTakeover) -> Owner:
    return Owner(shared=f"bridge/{known.parent}")
