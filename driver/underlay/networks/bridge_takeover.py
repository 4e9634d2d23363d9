"""A bridge takes the place of a NIC, is proven, and gives the place back.

The entries of the NIC, its addresses and routes, are recorded before they are moved.
The COMMIT of the network that needs the bridge makes the take-over last. If the verb
or the service ends before that, the verb, or else the next pass, moves every entry
back.

    state    entries on record          what a pass does
    (none)   -                          nothing
    trying   to be moved back           moves them back, then forgets the take-over
    on       to be moved to the bridge  moves them, and those found on the NIC since
    back     to be moved back           moves them back, then forgets the take-over

    state    event      next state
    (none)   attempt    trying   what is on the NIC is recorded; nothing is changed yet
    trying   refresh    trying   what has left the NIC since is not moved
    trying   confirm    on       the next hops answer, and the network is recorded
    trying   restored   (none)   every entry is back on the NIC
    on       found      on       entries came to the NIC: after a reboot, for example
    on       moved      on       every entry is on the bridge
    on       unused     back     no network needs the bridge any more
    back     restored   (none)   every entry is back on the NIC
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Literal

from underlay.errors import TakeoverFailed, TakeoverImpossible, UnderlayError
from underlay.kernel import Kernel
from underlay.model import BridgeTakeover, HostEntry, IpAddress, Network, Uplink
from underlay.model.objects import MovedEntry, Object, Owner, SharedOwner
from underlay.model.steps import Step
from underlay.networks.step_runner import apply_all
from underlay.planning.desired import DesiredState, takeover_objects
from underlay.planning.device_lookup import is_same_nic
from underlay.planning.plan import plan
from underlay.records import Records

log = logging.getLogger(__name__)

State = Literal["trying", "on", "back"]
Event = Literal["attempt", "refresh", "confirm", "found", "moved", "unused", "restored"]
# None: there is no record.
TRANSITIONS: dict[tuple[State | None, Event], State | None] = {
    (None, "attempt"): "trying",
    ("trying", "refresh"): "trying",
    ("trying", "confirm"): "on",
    ("trying", "restored"): None,
    ("on", "found"): "on",
    ("on", "moved"): "on",
    ("on", "unused"): "back",
    ("back", "restored"): None,
}
_NOT_PUT_BACK = (
    "an earlier take-over of it is not undone yet, and the log of underlay gives the"
    " reason"
)
Take = Callable[[Mapping[Owner, list[Step]]], None]


@dataclass(frozen=True, slots=True)
class BridgeTakeovers:
    """Moves a host's addresses and routes to a bridge, and back."""

    records: Records
    kernel: Kernel
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _tried: set[str] = field(default_factory=set)

    def _transition(
        self, known: BridgeTakeover, event: Event, entries: Collection[HostEntry] = ()
    ) -> BridgeTakeover | None:
        """Record the next state of a take-over; return it, None if it is forgotten.

        The only place where the state changes. Part of a transaction.
        """
        recorded = self.records.host.takeover(known.parent)
        state = TRANSITIONS[recorded.state if recorded else None, event]
        if state is None:
            self.records.host.forget_takeover(known.parent)
            return None
        then = replace(known, state=state, entries=tuple(entries))
        self.records.host.note_takeover(then)
        return then

    @contextmanager
    def attempt(self, found: Uplink) -> Iterator[frozenset[IpAddress]]:
        """Record what is on a device before it is taken over, if no record exists.

        Yields the next hops that answer now. Until the end, the passes of this process
        leave the device alone, and other verbs wait. If the verb fails, everything is
        moved back. Raises TakeoverImpossible.
        """
        if not found.takes_over:
            yield frozenset()
            return
        with self._turn:
            if self.records.host.takeover(found.takes_over):
                self.finish_pending()
            self._tried.add(found.takes_over)
            try:
                yield self._noted(found)
            except Exception:
                self._tried.clear()
                self.finish_pending()
                raise
            finally:
                self._tried.clear()

    def _noted(self, found: Uplink) -> frozenset[IpAddress]:
        parent, bridge = found.takes_over, found.parent
        if known := self.records.host.takeover(parent):
            if known.state != "on":
                raise TakeoverImpossible(parent=parent, why=_NOT_PUT_BACK)
            return frozenset()
        facts = self.kernel.entries_on(parent)
        self._check(parent, facts)
        hops = {ip_address(fact.via) for fact in facts if fact.via}
        answering = self.kernel.probe(parent, hops)
        settings = self.kernel.device_sysctls(parent)
        new = BridgeTakeover(parent, bridge, "trying", sysctls=settings)
        with self.records.transaction():
            if self.records.host.takeover(parent):
                raise _undone(found)  # another process has begun it meanwhile
            self._transition(new, "attempt", facts)
        return answering

    def execute(self, found: Uplink) -> None:
        """Move the entries of a device that is tried; part of a transaction.

        The record still says `trying`: whatever ends before `confirm` is undone. Raises
        KernelRefused; raises TakeoverImpossible for an entry that cannot be moved.
        """
        if self._stands(found.takes_over):
            return
        noted = self._noted_still(found)
        if noted.state == "trying":
            self._transition(noted, "refresh", self._still_there(noted))
            noted = self._noted_still(found)
        want = takeover_objects(replace(noted, state="on"))
        self._apply(self._planned(found.parent, want))

    def prove(self, found: Uplink, hops: frozenset[IpAddress]) -> None:
        """Raise TakeoverFailed if a next hop does not answer any more; for seconds."""
        if not hops:
            return
        if silent := hops - self.kernel.probe(found.parent, hops):
            which = ", ".join(sorted(map(str, silent)))
            why = f"{which} did not answer behind the bridge, but had before"
            raise TakeoverFailed(parent=found.takes_over, why=why)

    def confirm(self, found: Uplink) -> None:
        """Record that a device is taken over; part of the network's transaction.

        Raises TakeoverFailed if a pass of another process has moved everything back.
        """
        if not found.takes_over:
            return
        noted = self._noted_still(found)
        if noted.state == "on":
            return
        device = self.kernel.device(noted.parent)
        if device is None or device.master != noted.bridge:
            raise _undone(found)
        self._transition(noted, "confirm")
        log.info(
            "a bridge took the place of a device",
            extra={"parent": found.takes_over, "bridge": found.parent},
        )

    def _noted_still(self, found: Uplink) -> BridgeTakeover:
        noted = self.records.host.takeover(found.takes_over)
        if noted is None:
            raise _undone(found)
        return noted

    def _still_there(self, noted: BridgeTakeover) -> list[HostEntry]:
        """Return the recorded entries that are still on the device.

        An entry that came since is not recorded: it is moved after the take-over.
        """
        now = self.kernel.entries_on(noted.parent)
        self._check(noted.parent, now)
        there = {(f.what, f.words) for f in now}
        return [f for f in noted.entries if (f.what, f.words) in there]

    def finish_pending(self) -> None:
        """Finish or undo every take-over under way, and give back unused places.

        What the kernel refuses is left to the pass.
        """
        for owner in self.owners():
            try:
                self.finish(owner, self._take)
            except (UnderlayError, OSError) as error:
                log.warning(
                    "bridge take-over incomplete, retrying", extra={"error": error}
                )

    def finish(self, owner: Owner, take: Take) -> None:
        """Finish what is due for one bridge.

        `take` applies the steps of an owner, planned again under the lock. Raises
        KernelRefused, RecordsUnwritable.
        """
        if steps := self._begin(owner):
            take({owner: steps})
        self._end(owner)

    def owners(self) -> set[Owner]:
        """Return the owners of the recorded bridges."""
        return {_owner(known) for known in self.records.host.takeovers()}

    def steps(self, owner: Owner) -> tuple[Step, ...]:
        """Return the steps for a bridge, as its record says."""
        known = self.records.host.takeover(owner.takes_over)
        want = self._wanted(known) if known else DesiredState()
        return self._planned(owner.device, want)

    def restore_bridge(self, network: Network) -> None:
        """Create the bridge of a network again if it is gone, as after a reboot."""
        known = self.records.host.takeover_by(network.uplink.parent)
        if known and self.kernel.device(known.bridge) is None:
            self.finish_pending()

    def desired(self) -> tuple[DesiredState, frozenset[Object]]:
        """Return what all bridges want, and which of those entries the kernel has."""
        want = sum(map(self._wanted, self.records.host.takeovers()), DesiredState())
        return want, self.kernel.locate_entries(
            [o for o in want.objects if isinstance(o, MovedEntry)]
        )

    def _wanted(self, known: BridgeTakeover) -> DesiredState:
        """Return what one bridge wants; while its device is missing, nothing changes.

        But an unused bridge is deleted: the entries went with the device.
        """
        if self._is_there(known):
            return takeover_objects(known)
        left = {_owner(known).mark} if known.state == "on" else ()
        return DesiredState(in_docker_hands=frozenset(left))

    def _is_there(self, known: BridgeTakeover) -> bool:
        """Return whether the device is there, and not another NIC with its name."""
        found = self.kernel.device(known.parent)
        if found is None:
            return False
        uplinks = [n.uplink for n in self.records.networks.all()]
        bases = [u.base_device for u in uplinks if u.parent == known.bridge]
        others = [u.base_device for u in uplinks if u.parent != known.bridge]
        mine = any(is_same_nic(base, found) for base in bases if base)
        theirs = any(is_same_nic(base, found) for base in others if base)
        return mine or not (any(bases) and theirs)

    def _begin(self, owner: Owner) -> list[Step]:
        """Record what is to be moved, before it is moved; return the steps."""
        known = self.records.host.takeover(owner.takes_over)
        if known and self._is_tried(known):
            return []
        if known and self._seen(known):
            # It survives a crash of the service. A power cut takes the bridge as well.
            with self.records.transaction(durable=False):
                known = self.records.host.takeover(owner.takes_over)
                if known and (seen := self._seen(known)):
                    self._transition(known, *seen)
        return list(self.steps(owner)) if known else []

    def _seen(
        self, known: BridgeTakeover
    ) -> tuple[Event, tuple[HostEntry, ...]] | None:
        """Return the event that the host and the records show, None if there is none.

        With the entries that are to be moved from then on.
        """
        if known.state != "on":
            return None
        if self._is_needed(known):
            if not self._is_there(known):
                return None
            # The administrator's tools may have configured the device again.
            strays = [f for f in self.kernel.entries_on(known.parent) if not f.obstacle]
            entries = (*self._begun(known, strays), *strays)
            return None if entries == known.entries else ("found", entries)
        if self._others_on(known):
            return None
        facts = self.kernel.entries_on(known.bridge) if self._is_there(known) else ()
        return "unused", facts

    def _begun(
        self, known: BridgeTakeover, strays: Collection[HostEntry]
    ) -> list[HostEntry]:
        """Return the entries that have left the parent, if moving them has begun.

        A route may have gone with the address it needs, which was moved before it.
        """
        noted = {(f.what, f.words): f for f in known.entries}
        here = self.kernel.entries_on(known.bridge) if noted else ()
        if not any((f.what, f.words) in noted for f in here):
            return []
        left = {(f.what, f.words) for f in strays}
        return [f for key, f in noted.items() if key not in left]

    def _end(self, owner: Owner) -> None:
        """Record that everything has been moved, if that is so."""
        known = self.records.host.takeover(owner.takes_over)
        if known is None or (known.state == "on" and not known.entries):
            return
        if known.entries and not self._is_there(known):
            return
        with self.records.transaction(durable=known.state != "on"):
            known = self.records.host.takeover(owner.takes_over)
            if known is None or self._is_tried(known) or self.steps(owner):
                return
            left = self._transition(
                known, "moved" if known.state == "on" else "restored"
            )
        if not left:
            log.info("a device has its place back", extra={"parent": known.parent})

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
        """Return whether a device is recorded as, and is, a port of its bridge.

        One that is missing by its recorded name counts: it may have been renamed.
        """
        known = self.records.host.takeover(parent)
        if known is None or known.state != "on":
            return False
        device = self.kernel.device(parent)
        return device is None or device.master == known.bridge

    def _is_tried(self, known: BridgeTakeover) -> bool:
        """Return whether a verb of this process is trying this take-over now."""
        return known.state != "on" and known.parent in self._tried

    def _is_needed(self, known: BridgeTakeover) -> bool:
        tried = known.parent in self._tried
        return tried or bool(self.records.networks.on_parent(known.bridge))

    def _others_on(self, known: BridgeTakeover) -> bool:
        """Return whether a foreign device is on the bridge; then the bridge stays."""
        others = [
            d.name
            for d in self.kernel.devices()
            if known.bridge in (d.master, d.parent)
            and not d.ours
            and d.name != known.parent
        ]
        if others:
            log.warning(
                "bridge kept: other devices are on it",
                extra={"devices": ", ".join(others)},
            )
        return bool(others)

    def _check(self, parent: str, facts: Iterable[HostEntry]) -> None:
        if why := self._hindrance(parent, facts):
            raise TakeoverImpossible(parent=parent, why=why)

    def _hindrance(self, parent: str, facts: Iterable[HostEntry]) -> str:
        """Return why a device cannot be a port of a bridge, "" if it can."""
        device = self.kernel.device(parent)
        if device and device.master:
            return f"it is a port of {device.master} already"
        if self.kernel.is_wireless(parent):
            return (
                "it is wireless, and a wireless network accepts frames of one MAC only"
            )
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
    """Return the error for a take-over that another process has undone meanwhile."""
    return TakeoverFailed(parent=found.takes_over, why="the host was busy")


def _owner(known: BridgeTakeover) -> Owner:
    return SharedOwner("bridge", known.parent).owner
