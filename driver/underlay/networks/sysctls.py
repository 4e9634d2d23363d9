"""Sysctls of the host: recorded before they are set, and restored when unused."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from underlay.errors import KernelRefused
from underlay.kernel import Kernel
from underlay.model import Network
from underlay.model.objects import Sysctl, SysctlReason
from underlay.model.steps import Step
from underlay.modes import mode_of
from underlay.networks.desired_lookup import DesiredLookup
from underlay.networks.forwarding import Forwarding, is_switched_on
from underlay.networks.step_runner import apply_all
from underlay.planning.desired import DesiredState, sysctl_objects
from underlay.planning.plan import plan
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostSysctls:
    """Sets sysctls of the host for reasons (`forwarding/4`), and restores them."""

    records: Records
    kernel: Kernel
    forwarding: Forwarding
    lookup: DesiredLookup

    def note(self, reasons: Collection[SysctlReason]) -> set[SysctlReason]:
        """Record the values found, before they are changed; return the new reasons."""
        if not self._not_noted(reasons):
            return set()
        with self.records.transaction():
            return self.note_in_transaction(reasons)

    def note_in_transaction(
        self, reasons: Collection[SysctlReason]
    ) -> set[SysctlReason]:
        """Record as `note` does; part of a transaction."""
        fresh = self._not_noted(reasons)
        for reason in fresh:
            # Another program has changed the values since they were recorded.
            self.records.host.forget_sysctls(reason)
            found = self.kernel.sysctls_for(reason)
            self.records.host.note_sysctls(found)
            self.forwarding.note(found)
        return fresh

    def _not_noted(self, reasons: Collection[SysctlReason]) -> set[SysctlReason]:
        if not reasons:
            return set()
        noted = {s.reason for s in self.records.host.sysctls()}
        return {*reasons} - {r for r in noted if not self.forwarding.is_by_others(r)}

    def enforce(self, reasons: Collection[SysctlReason]) -> None:
        """Set the sysctls recorded for these reasons; raises KernelRefused."""
        self._apply(reasons, reasons)

    def _apply(
        self, reasons: Collection[SysctlReason], needed: Collection[SysctlReason]
    ) -> None:
        if reasons:
            noted = [s for s in self.records.host.sysctls() if s.reason in reasons]
            apply_all(self.steps(sysctl_objects(noted, needed)), self.apply)

    def apply(self, step: Step) -> None:
        """Apply the step of a sysctl; raises KernelRefused."""
        self.forwarding.begin(step)
        self.kernel.apply(step)

    def steps(self, want: DesiredState) -> tuple[Step, ...]:
        """Plan for the sysctls of the host that the kernel has."""
        asked = [o for o in want.objects if isinstance(o, Sysctl)]
        seen = self.kernel.sysctls(asked)
        there = {o.key for o in seen}
        return plan(DesiredState(tuple(o for o in asked if o.key in there)), seen)

    def needed(self) -> set[SysctlReason]:
        """Return the reasons for which sysctls are set, or stay as they are.

        A live endpoint needs them, or a verb is about to. Or the service switched
        forwarding on, and another network on this host routes by now: forwarding was on
        when that network was made, so its program neither switched it on nor added the
        firewall rules that it would have added then.
        """
        found = self._reasons(self.records.networks.all()) | self.forwarding.asked
        noted = [s for s in self.records.host.sysctls() if s.reason not in found]
        ours = {s.reason for s in noted if is_switched_on(s)}
        return found | {r for r in ours if self._stays_on(r)}

    def _reasons(self, networks: Iterable[Network]) -> set[SysctlReason]:
        return {
            reason
            for network in networks
            for reason in mode_of(network.options).sysctl_reasons(network)
            if self.lookup.live_endpoint(network)
        }

    def refresh(self, now: float) -> None:
        """Record needed sysctls whose record was lost; restore unneeded ones.

        What the kernel refuses is recorded as a failure, and stops nothing else.
        """
        needed = self.needed()
        self.note(needed)
        for reason in {s.reason for s in self.records.host.sysctls()} - needed:
            mark = reason.owner.mark
            with self.records.transaction():
                try:
                    self.restore(reason)
                    self.records.repairs.clear_failure(mark)
                except KernelRefused as error:
                    log.warning("sysctls not restored", extra={"error": error})
                    self.records.repairs.note_failure(mark, str(error), now)

    def restore(self, reason: SysctlReason, *, for_others: bool = True) -> None:
        """Restore the sysctls of a reason, unless it is still needed.

        Forwarding stays on while other networks of this host route. If the service
        switched it on, the record and the chain that drops other traffic stay until
        those networks are gone. `for_others=False` switches it off at once.
        """
        needed = self._reasons(self.lookup.users(reason.owner)) | self.forwarding.asked
        if reason in needed:
            return
        noted = (s for s in self.records.host.sysctls() if s.reason == reason)
        if not any(map(is_switched_on, noted)):
            is_theirs = reason.kind == "forwarding" and self._others_forward(reason)
        elif for_others and self._stays_on(reason):
            log.info(
                "leaving IP forwarding on: another network on this host routes",
                extra={"reason": str(reason)},
            )
            return
        else:
            is_theirs = self.forwarding.is_by_others(reason)
        if not is_theirs:
            self._apply({reason}, ())
        self.records.host.forget_sysctls(reason)

    def _stays_on(self, reason: SysctlReason) -> bool:
        """Return whether another network needs forwarding that the service switched on.

        False if it is off: it never was switched on, or another program switched it off
        again.
        """
        return self.forwarding.is_by_us(reason) and self._others_forward(reason)

    def _others_forward(self, reason: SysctlReason) -> bool:
        """Return whether another network routes for the family of a reason.

        A network of Docker, of virtual machines or of other containers, or a tunnel: it
        has a device with an address of that family.
        """
        tunnels = {d.name for d in self.kernel.devices("tun", "wireguard")}
        return any(
            address.version == reason.family
            for device in self.kernel.container_bridges() | tunnels
            for address in self.kernel.addresses_of(device)
        )
