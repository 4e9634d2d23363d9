"""IP forwarding that the service switched on: for its containers only.

A host that routed nothing must not become a router of its networks because a container
needs forwarding. Docker prevents that (it sets the policy of FORWARD to DROP) only if
Docker switched forwarding on. If the service did, a chain of the service drops what is
neither from nor to a container. The chain exists before forwarding is on, and until it
is off again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from underlay.errors import ForwardingUnfiltered, KernelRefused
from underlay.kernel import Kernel
from underlay.model import Family, SysctlBackup
from underlay.model.objects import (
    CONTAINER_GROUP,
    PLAIN_NAME,
    NftChain,
    Object,
    Sysctl,
    SysctlReason,
)
from underlay.model.steps import Create, Delete, Step
from underlay.records import Records

log = logging.getLogger(__name__)

# From Join until Docker has created the sandbox, which until engine 28 comes later.
JOIN_SECONDS = 30.0
_HOOK = "filter hook forward priority 0"
_DOOR = "door-"


def chain(
    family: Family, container_bridges: Collection[str], bridges: Collection[str]
) -> NftChain:
    """Return the chain that lets containers pass, and nothing between other devices.

    The programs that made the bridges of containers and virtual machines filter their
    traffic. Traffic within a bridge is not forwarded, but br_netfilter may show it
    here.
    """
    rules = [f"{way}group {CONTAINER_GROUP} accept" for way in ("iif", "oif")]
    named = sorted(name for name in container_bridges if PLAIN_NAME.fullmatch(name))
    some = ", ".join(f'"{name}"' for name in named)
    rules += [f"{way}name {{ {some} }} accept" for way in ("iif", "oif") if some]
    for name in sorted({*bridges} - {*container_bridges}):
        if PLAIN_NAME.fullmatch(name):
            rules.append(f'iifname "{name}" oifname "{name}" accept')
    owner = SysctlReason("forwarding", family=family).owner
    table: Literal["ip", "ip6"] = "ip" if family == 4 else "ip6"
    name = f"{_DOOR}{owner.device}"
    return NftChain(table, name, _HOOK, (*rules, "drop"), owner=owner)


def is_switched_on(setting: SysctlBackup) -> bool:
    """Return whether a recorded sysctl is forwarding that was off before."""
    by_us = (setting.before, setting.value) == ("0", "1")
    return setting.reason.kind == "forwarding" and by_us


def is_door(found: Object) -> bool:
    """Return whether an object is such a chain."""
    return isinstance(found, NftChain) and found.name.startswith(_DOOR)


def _reason_of(door: Object) -> SysctlReason:
    is_ipv6 = isinstance(door, NftChain) and door.family == "ip6"
    return SysctlReason("forwarding", family=6 if is_ipv6 else 4)


def _reason_to_set(setting: Sysctl) -> SysctlReason | None:
    reason = setting.owner.shared if setting.owner else None
    return reason if isinstance(reason, SysctlReason) else None


@dataclass
class Forwarding:
    """Keeps the host from routing for others, where it was not a router before.

    `monotonic` gives seconds.
    """

    records: Records
    kernel: Kernel
    monotonic: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _door: threading.Lock = field(default_factory=threading.Lock)
    _asked: Counter[SysctlReason] = field(default_factory=Counter)
    _joining: dict[str, float] = field(default_factory=dict)
    _shut: set[SysctlReason] = field(default_factory=set)
    # Noted as off here, and not switched on since.
    _only_noted: set[SysctlReason] = field(default_factory=set)
    _changes: int = 0

    @contextmanager
    def asking(self, reasons: Collection[SysctlReason]) -> Iterator[None]:
        """Keep the sysctls of these reasons from being restored meanwhile."""
        with self._lock:
            self._asked.update(reasons)
        try:
            yield
        finally:
            with self._lock:
                self._asked.subtract(reasons)
                self._asked = +self._asked

    @property
    def asked(self) -> set[SysctlReason]:
        """Return the reasons for which a verb is setting sysctls now."""
        with self._lock:
            return set(self._asked)

    def join(self, endpoint: str) -> None:
        """Note that Docker is about to create the sandbox of an endpoint."""
        now = self.monotonic()
        with self._lock:
            known = self._joining.items()
            self._joining = {e: t for e, t in known if now - t < JOIN_SECONDS}
            self._joining[endpoint] = now

    def is_joining(self, endpoint: str) -> bool:
        """Return whether its sandbox may not exist yet."""
        with self._lock:
            return self.monotonic() - self._joining.get(endpoint, -1e9) < JOIN_SECONDS

    def note(self, settings: Collection[SysctlBackup]) -> None:
        """Note which forwarding was found off, and will be switched on next."""
        with self._lock:
            self._only_noted -= {s.reason for s in settings}
            self._only_noted |= {s.reason for s in settings if is_switched_on(s)}

    def is_by_others(self, reason: SysctlReason) -> bool:
        """Return whether another program switched it on since it was recorded as off.

        What another process of this service recorded, that process switched on.
        """
        return reason in self._only_noted and self.is_on(reason)

    def is_by_us(self, reason: SysctlReason) -> bool:
        """Return whether it was off, is on now, and this service switched it on."""
        return reason not in self._only_noted and self.is_on(reason)

    def chains(self) -> tuple[NftChain, ...]:
        """Return the wanted chains: one per family that the service switches on.

        That is recorded before forwarding is on, and until it is off again.
        """
        return tuple(self._made(self._noted()))

    def _made(self, reasons: Collection[SysctlReason]) -> Iterator[NftChain]:
        container_bridges = self.kernel.container_bridges() if reasons else ()
        bridges = {d.name for d in self.kernel.devices("bridge")} if reasons else ()
        for reason in sorted(reasons):
            yield chain(reason.family, container_bridges, bridges)

    @property
    def changes(self) -> int:
        """How often this process created or deleted such a chain."""
        return self._changes

    def update(self, seen: Collection[Object], since: int) -> None:
        """Note which of these chains exist; `since`: the changes before the look.

        A change during the look makes it worthless: a chain may be gone by now.
        """
        chains = [o for o in seen if isinstance(o, NftChain)]
        found = {_reason_of(o) for o in chains if is_door(o)}
        with self._lock:
            if since != self._changes:
                return
            # The look may be older than a chain that a verb has just created.
            self._shut = found | (self._shut & self._asked.keys())

    def shut(self, reasons: Collection[SysctlReason]) -> None:
        """Create the chains of the forwarding that is about to be switched on.

        This runs nft: part of no transaction. Raises ForwardingUnfiltered, but not
        where forwarding is on by now: another container opens nothing then, and the
        next pass tries again.
        """
        with self._door:
            for made in self._made((self._noted() & set(reasons)) - self._shut):
                try:
                    self.kernel.apply(Create(made))
                except KernelRefused as error:
                    if self.is_on(_reason_of(made)):
                        log.warning(
                            "chain not created, retrying", extra={"error": error}
                        )
                        continue
                    why = str(error.facts.get("why", error))
                    raise self._refusal(Create(made), why) from error
                self._note(made, shut=True)

    def is_on(self, reason: SysctlReason) -> bool:
        """Return whether all that was recorded as off for a reason is on now."""
        noted = [s for s in self.records.host.sysctls() if s.reason == reason]
        asked = [Sysctl(s.path, s.value) for s in noted if is_switched_on(s)]
        return self.kernel.sysctls(asked) == frozenset(asked)

    def open(self, reasons: Collection[SysctlReason]) -> None:
        """Delete the chains of forwarding that is off again."""
        shut = self._shut & set(reasons)  # usually nothing, or still needed
        for made in self._made(shut - self._noted() if shut else shut):
            self.remove(Delete(made))

    def remove(self, step: Step) -> None:
        """Delete a chain, unless it is needed by now; raises KernelRefused."""
        with self._door:
            reason = _reason_of(step.object)
            if reason not in self._noted() | self.asked:
                self._note(step.object, shut=False)
                self.kernel.apply(step)

    def _noted(self) -> set[SysctlReason]:
        return {s.reason for s in self.records.host.sysctls() if is_switched_on(s)}

    def begin(self, step: Step) -> None:
        """Note that a step is applied now: this service sets it, even if it fails.

        Raises ForwardingUnfiltered if the host would then route for others.
        """
        self._check(step)
        setting = step.object
        if isinstance(setting, Sysctl) and (reason := _reason_to_set(setting)):
            with self._lock:
                self._only_noted.discard(reason)

    def _check(self, step: Step) -> None:
        setting = step.object
        if not isinstance(setting, Sysctl) or setting.value != "1":
            return
        reason = _reason_to_set(setting)
        if not reason or reason.kind != "forwarding" or reason in self._shut:
            return
        noted = (s for s in self.records.host.sysctls() if s.path == setting.path)
        if any(map(is_switched_on, noted)):
            raise self._refusal(step, "that chain is not there yet")

    def taken(self, step: Step) -> None:
        """Note an applied step: it may have created a chain."""
        if is_door(step.object):
            self._note(step.object, shut=True)

    def _note(self, made: Object, *, shut: bool) -> None:
        reason = {_reason_of(made)}
        with self._lock:
            self._changes += 1
            self._shut = self._shut | reason if shut else self._shut - reason

    def _refusal(self, step: Step, why: str) -> ForwardingUnfiltered:
        family = "IPv6" if " ip6 " in str(step) or "ipv6" in str(step) else "IPv4"
        path = {"IPv4": "net.ipv4.ip_forward", "IPv6": "net.ipv6.conf.all.forwarding"}
        return ForwardingUnfiltered(
            step=step, why=why, family=family, setting=path[family]
        )
