"""Bridges of ours in the place of a device: taken over, proven, and given back.

What stood on the device is on record before anything is touched, and the commit of the
network that needs the bridge is what makes it stay. Whatever ends before that, ends
with everything back on the device: by the verb that failed, or by the next pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from underlay.errors import GatewaySilent, NoTakeover, UnderlayError
from underlay.kernel import Kernel
from underlay.model import Address, Network, Standing, Takeover
from underlay.objects import Held, Object
from underlay.plan import plan
from underlay.records import Records
from underlay.steps import Step
from underlay.uplink import Uplink
from underlay.wanted import Wanted, of_takeover

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Takeovers:
    """Moves a host's addresses and routes to a bridge of ours and back."""

    records: Records
    kernel: Kernel

    def prepare(self, found: Uplink) -> frozenset[Address]:
        """Note what stands on a device before it is taken over, if that is not done.

        Returns the next hops that answer now. Raises NoTakeover.
        """
        parent = found.bridged
        if parent and self.records.takeovers.of(parent):
            self.settle()
        if not parent or self.records.takeovers.of(parent):
            return frozenset()
        facts = self.kernel.standing(parent)
        self._check(parent, facts)
        hops = {ip_address(fact.via) for fact in facts if fact.via}
        answering = self.kernel.answering(parent, hops)
        settings = self.kernel.settings_of(parent)
        with self.records.writing():
            self.records.takeovers.note(
                Takeover(parent, found.parent, "trying", facts, settings)
            )
        return answering

    def carry_out(self, found: Uplink, hops: frozenset[Address]) -> None:
        """Take a device over; part of the transaction that needs it.

        Raises KernelRefused, and GatewaySilent if one of the next hops that did answer
        does not any more.
        """
        if not found.bridged or self._stands(found.bridged):
            return
        noted = self.records.takeovers.of(found.bridged)
        if noted is None:  # a pass came in between
            raise GatewaySilent(parent=found.bridged, why="the host was busy")
        self._apply(replace(noted, state="on"))
        if silent := hops - self.kernel.answering(found.parent, hops):
            which = ", ".join(sorted(map(str, silent)))
            why = f"{which} did not answer behind the bridge, and had before"
            raise GatewaySilent(parent=found.bridged, why=why)
        self.records.takeovers.note(replace(noted, state="on", facts=()))
        log.info("taken over", extra={"parent": found.bridged, "bridge": found.parent})

    def settle(self) -> None:
        """Finish or undo what is under way, and give back what nobody needs."""
        for known in self.records.takeovers.all():
            try:
                with self.records.writing():
                    going = self._next(known.parent)
                if going:
                    with self.records.writing():
                        self._finish(known.parent)
            except UnderlayError as error:
                log.warning("not settled, trying on", extra={"error": error})

    def stand(self, network: Network) -> None:
        """Have the bridge of a network again if it is gone, as after a reboot."""
        known = self.records.takeovers.by(network.parent)
        if known and self.kernel.device(known.bridge) is None:
            self.settle()

    def wanted(self) -> tuple[Wanted, frozenset[Object]]:
        """Return what all of them want, and what of it that is no link is there."""
        want = sum((of_takeover(t) for t in self.records.takeovers.all()), Wanted())
        return want, self.kernel.held([o for o in want.objects if isinstance(o, Held)])

    def _next(self, parent: str) -> bool:
        """Note what is to be moved, before it is; tell whether there is anything."""
        known = self.records.takeovers.of(parent)
        if known is None or self.kernel.device(parent) is None:
            return False
        if known.state != "on":
            return True
        if self._is_needed(known):
            # Somebody may have configured the parent anew: after a reboot, say.
            strays = tuple(f for f in self.kernel.standing(parent) if not f.why)
            new = replace(known, facts=strays)
            if not strays and self._stands(parent):
                return False
        else:
            if self._others_on(known):
                return False
            facts = self.kernel.standing(known.bridge)
            new = replace(known, state="back", facts=facts)
        self.records.takeovers.note(new)
        return True

    def _finish(self, parent: str) -> None:
        known = self.records.takeovers.of(parent)
        if known is None:
            return
        self._apply(known)
        if known.state == "on":
            self.records.takeovers.note(replace(known, facts=()))
        else:
            self.records.takeovers.forget(parent)
            log.info("given back", extra={"parent": parent})

    def _apply(self, takeover: Takeover) -> None:
        for step in self._steps(takeover):
            log.info("step", extra={"step": str(step)})
            self.kernel.apply(step)

    def _steps(self, takeover: Takeover) -> tuple[Step, ...]:
        want = of_takeover(takeover)
        seen = self.kernel.observe({takeover.bridge})
        held = self.kernel.held([o for o in want.objects if isinstance(o, Held)])
        return plan(want, (*seen, *held))

    def _stands(self, parent: str) -> bool:
        """Tell whether a device is a port of its bridge, and that is on record."""
        known = self.records.takeovers.of(parent)
        device = self.kernel.device(parent)
        if known is None or known.state != "on" or device is None:
            return False
        return device.master == known.bridge

    def _is_needed(self, known: Takeover) -> bool:
        return bool(self.records.networks.on_parent(known.bridge))

    def _others_on(self, known: Takeover) -> bool:
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

    def _check(self, parent: str, facts: Iterable[Standing]) -> None:
        if why := self._hindrance(parent, facts):
            raise NoTakeover(parent=parent, why=why)

    def _hindrance(self, parent: str, facts: Iterable[Standing]) -> str:
        """Return why a device cannot be a port of a bridge of ours."""
        device = self.kernel.device(parent)
        if device and device.master:
            return f"it is a port of {device.master} already"
        if self.kernel.is_wireless(parent):
            return "it is wireless, and a wireless network takes frames of one MAC only"
        if networks := self.records.networks.on_parent(parent):
            return f"network {networks[0].label} is on it with devices of its own"
        children = self.kernel.devices("macvlan", "macvtap", "ipvlan", "ipvtap")
        for child in children:
            if child.parent == parent:
                return f"{child.name} ({child.kind}) is on it"
        for fact in facts:
            if fact.why:
                return f"of its {fact.what} {fact.words}, {fact.why}"
        return ""
