"""Forwarding that the service switched on itself: for its containers, for nobody else.

A host that routed nothing must not become a router of its networks because a container
needs it. Docker shuts that door (it sets the policy of FORWARD to DROP) only where it
was Docker that switched forwarding on. So where it was us, a chain of ours drops what
is neither from nor to a container: made before forwarding is on, there until it is put
back.
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
    Owner,
    Sysctl,
)
from underlay.model.steps import Create, Delete, Step
from underlay.records import Records

log = logging.getLogger(__name__)

# From Join until Docker has made the sandbox, which until engine 28 comes after it.
JOIN_SECONDS = 30.0
_HOOK = "filter hook forward priority 0"
_WHAT = "forwarding/"
_DOOR = "door-"


def chain(
    family: Family, inward: Collection[str], bridges: Collection[str]
) -> NftChain:
    """Return the chain that lets containers pass, and nothing between other devices.

    What is from or to bridges of containers and virtual machines (`inward`) is for
    others to judge; what crosses a bridge is not forwarded, but may be shown here (by
    br_netfilter).
    """
    rules = [f"{way}group {CONTAINER_GROUP} accept" for way in ("iif", "oif")]
    named = sorted(name for name in inward if PLAIN_NAME.fullmatch(name))
    some = ", ".join(f'"{name}"' for name in named)
    rules += [f"{way}name {{ {some} }} accept" for way in ("iif", "oif") if some]
    for name in sorted({*bridges} - {*inward}):
        if PLAIN_NAME.fullmatch(name):
            rules.append(f'iifname "{name}" oifname "{name}" accept')
    owner = Owner(shared=f"{_WHAT}{family}")
    table: Literal["ip", "ip6"] = "ip" if family == 4 else "ip6"
    name = f"{_DOOR}{owner.device}"
    return NftChain(table, name, _HOOK, (*rules, "drop"), owner=owner)


def is_switched_on(setting: SysctlBackup) -> bool:
    """Tell whether a setting on record is forwarding that was off before."""
    by_us = (setting.before, setting.value) == ("0", "1")
    return setting.reason.startswith(_WHAT) and by_us


def is_door(found: Object) -> bool:
    """Tell whether something is such a chain."""
    return isinstance(found, NftChain) and found.name.startswith(_DOOR)


def _reason_of(door: Object) -> str:
    return f"{_WHAT}{6 if isinstance(door, NftChain) and door.family == 'ip6' else 4}"


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
    _asked: Counter[str] = field(default_factory=Counter)
    _joining: dict[str, float] = field(default_factory=dict)
    _shut: set[str] = field(default_factory=set)
    # Noted as off here, and not switched on since.
    _only_noted: set[str] = field(default_factory=set)
    _changes: int = 0

    @contextmanager
    def asking(self, reasons: Collection[str]) -> Iterator[None]:
        """Have nothing put back meanwhile that is being set for these reasons."""
        with self._lock:
            self._asked.update(reasons)
        try:
            yield
        finally:
            with self._lock:
                self._asked.subtract(reasons)
                self._asked = +self._asked

    @property
    def asked(self) -> set[str]:
        """Return the reasons for which something is being set just now."""
        with self._lock:
            return set(self._asked)

    def join(self, endpoint: str) -> None:
        """Note that an endpoint is to have a sandbox in a moment."""
        now = self.monotonic()
        with self._lock:
            known = self._joining.items()
            self._joining = {e: t for e, t in known if now - t < JOIN_SECONDS}
            self._joining[endpoint] = now

    def is_joining(self, endpoint: str) -> bool:
        """Tell whether its sandbox may not be there yet."""
        with self._lock:
            return self.monotonic() - self._joining.get(endpoint, -1e9) < JOIN_SECONDS

    def note(self, settings: Collection[SysctlBackup]) -> None:
        """Note which forwarding was found off, and is to be switched on next."""
        with self._lock:
            self._only_noted -= {s.reason for s in settings}
            self._only_noted |= {s.reason for s in settings if is_switched_on(s)}

    def is_by_others(self, reason: str) -> bool:
        """Tell whether somebody else switched it on since it was noted as off.

        What was noted by another process counts as switched on by that.
        """
        return reason in self._only_noted and self.is_on(reason)

    def is_by_us(self, reason: str) -> bool:
        """Tell whether it was off, is on now, and was switched on by us."""
        return reason not in self._only_noted and self.is_on(reason)

    def chains(self) -> tuple[NftChain, ...]:
        """Return the chains there must be: one where forwarding was switched on by us.

        That is on record before it is done, and until it is put back.
        """
        return tuple(self._made(self._noted()))

    def _made(self, reasons: Collection[str]) -> Iterator[NftChain]:
        inward = self.kernel.container_bridges() if reasons else ()
        bridges = {d.name for d in self.kernel.devices("bridge")} if reasons else ()
        for reason in sorted(reasons):
            yield chain(6 if reason.endswith("6") else 4, inward, bridges)

    @property
    def changes(self) -> int:
        """How often such a chain was made or deleted here."""
        return self._changes

    def update(self, seen: Collection[Object], since: int) -> None:
        """Note which of these chains are there; `since`: the changes before the look.

        A look that was overtaken tells nothing: a chain may be gone by now.
        """
        found = {_reason_of(o) for o in seen if is_door(o)}
        with self._lock:
            if since != self._changes:
                return
            # What a verb has just made may not have been there yet.
            self._shut = found | (self._shut & self._asked.keys())

    def shut(self, reasons: Collection[str]) -> None:
        """Shut the door for others where forwarding will be switched on by us.

        By a program: part of no transaction. Raises ForwardingUnfiltered, but not
        where forwarding is on by now: another container opens nothing then, and the
        next pass tries again.
        """
        with self._door:
            for made in self._made((self._noted() & set(reasons)) - self._shut):
                try:
                    self.kernel.apply(Create(made))
                except KernelRefused as error:
                    if self.is_on(_reason_of(made)):
                        log.warning("left to the next pass", extra={"error": error})
                        continue
                    why = str(error.facts.get("why", error))
                    raise self._refusal(Create(made), why) from error
                self._note(made, shut=True)

    def is_on(self, reason: str) -> bool:
        """Tell whether all that was noted as off for a reason is on now."""
        noted = [s for s in self.records.settings.all() if s.reason == reason]
        asked = [Sysctl(s.path, s.value) for s in noted if is_switched_on(s)]
        return self.kernel.sysctls(asked) == frozenset(asked)

    def open(self, reasons: Collection[str]) -> None:
        """Take away what shut the door, where forwarding has been put back."""
        shut = self._shut & set(reasons)  # mostly nothing, or needed by others
        for made in self._made(shut - self._noted() if shut else shut):
            self.remove(Delete(made))

    def remove(self, step: Step) -> None:
        """Delete a chain, unless somebody needs it by now; raises KernelRefused."""
        with self._door:
            reason = _reason_of(step.object)
            if reason not in self._noted() | self.asked:
                self._note(step.object, shut=False)
                self.kernel.apply(step)

    def _noted(self) -> set[str]:
        return {s.reason for s in self.records.settings.all() if is_switched_on(s)}

    def begin(self, step: Step) -> None:
        """Note that a step is taken now: what it sets is by us, even if it fails.

        Raises ForwardingUnfiltered if it would have the host route for others.
        """
        self._check(step)
        setting = step.object
        if isinstance(setting, Sysctl) and setting.owner:
            with self._lock:
                self._only_noted.discard(setting.owner.shared)

    def _check(self, step: Step) -> None:
        setting = step.object
        if not isinstance(setting, Sysctl) or setting.value != "1":
            return
        reason = setting.owner.shared if setting.owner else ""
        if not reason.startswith(_WHAT) or reason in self._shut:
            return
        noted = (s for s in self.records.settings.all() if s.path == setting.path)
        if any(map(is_switched_on, noted)):
            raise self._refusal(step, "that chain is not there yet")

    def taken(self, step: Step) -> None:
        """Note a step that was taken: a door may be shut by it."""
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
