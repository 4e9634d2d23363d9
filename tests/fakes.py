"""A kernel in memory that refuses or dies on demand. Never the only proof."""

from __future__ import annotations

import errno
from collections.abc import Collection

from underlay.engine import Engine
from underlay.errors import KernelRefused
from underlay.ipam import Ipam
from underlay.model import Address, Device
from underlay.objects import Link
from underlay.records import Records
from underlay.steps import Amend, Create, Delete, Step

ETH0 = Device("eth0", "", "52:54:00:00:00:01", 1500)
LO = Device("lo", "", "00:00:00:00:00:00", 65536, loopback=True)


class Death(BaseException):
    """The process is gone: nobody catches this, nobody cleans up."""


class FakeKernel:
    """Links by name. Steps are counted; the n-th may be refused or the last one."""

    def __init__(self, *devices: Device, default: str | None = "eth0") -> None:
        self.links: dict[str, Link] = {}
        self.strangers = {d.name: d for d in (devices or (LO, ETH0))}
        self.default = default
        self.sandboxes: set[str] = set()
        self.lacks: set[str] = set()
        self.carrying: set[str] = set()
        self.own: set[str] = set()
        self.steps = 0
        self.refuse_at: int | None = None
        self.refuse_after: int | None = None
        self.die_before: int | None = None
        self.die_half_way: int | None = None
        self.die_after: int | None = None

    def observe(self, names: Collection[str] | None = None) -> frozenset[Link]:
        return frozenset(
            link for name, link in self.links.items() if names is None or name in names
        )

    def apply(self, step: Step) -> None:
        self.steps += 1
        if self.steps == self.die_before:
            raise Death
        if self.steps == self.refuse_at:
            raise KernelRefused(step=step, why="Device or resource busy", hint="")
        self._carry_out(step)
        if self.steps == self.refuse_after:
            raise KernelRefused(step=step, why="Numerical result out of range", hint="")
        if self.steps == self.die_after:
            raise Death

    def _carry_out(self, step: Step) -> None:
        match step:
            case Create(link):
                if link.name in self.links or self._vlan_twin(link):
                    raise KernelRefused(step=step, why=errno.errorcode[17], hint="")
                if link.parent and not self.device(link.parent):
                    why = f"no device {link.parent} ({errno.errorcode[19]})"
                    raise KernelRefused(step=step, why=why, hint="")
                if self._others_on(link) - {link.kind, "vlan"}:
                    raise KernelRefused(step=step, why=errno.errorcode[16], hint="")
                if self.steps == self.die_half_way:
                    self.links[link.name] = Link(link.name, link.kind, None)
                    raise Death
                self.links[link.name] = link
            case Amend(seen, link):
                self.links[seen.name] = link
            case Delete(link):
                self._delete(step, link)

    def _delete(self, step: Step, link: Link) -> None:
        if any(d.parent == link.name for d in self.devices()):
            raise KernelRefused(step=step, why=errno.errorcode[16], hint="")
        self.links.pop(link.name, None)

    def _vlan_twin(self, link: Link) -> bool:
        place = (link.parent, link.vlan)
        return bool(link.vlan) and any(
            (d.parent, d.vlan) == place for d in self.devices("vlan")
        )

    def _others_on(self, link: Link) -> set[str]:
        if link.kind not in ("macvlan", "ipvlan"):
            return set()
        return {d.kind for d in self.devices() if d.parent == link.parent}

    def device(self, name: str) -> Device | None:
        called = {o.owner.vlan: o for o in self.links.values() if o.owner}
        link = self.links.get(name) or called.get(name)
        return self.strangers.get(name) or (self._as_device(link) if link else None)

    def devices(self, *kinds: str) -> tuple[Device, ...]:
        ours = [self._as_device(link) for link in self.links.values()]
        everything = (*self.strangers.values(), *ours)
        return tuple(d for d in everything if not kinds or d.kind in kinds)

    def _as_device(self, link: Link) -> Device:
        under = self.device(link.parent) if link.parent else None
        return Device(
            name=link.name,
            kind=link.kind,
            mac=link.mac or (under.mac if under else "52:54:00:00:00:99"),
            mtu=link.mtu or (under.mtu if under else 1500),
            parent=link.parent or "",
            flavour=link.flavour or "",
            flag=link.flag or "",
            vlan=link.vlan or 0,
            ours=True,
        )

    def has_kind(self, kind: str) -> bool:
        return kind not in self.lacks

    def default_device(self) -> str | None:
        return self.default

    def is_own(self, address: Address) -> bool:
        return str(address) in self.own

    def carries(self, device: str) -> bool:
        return device in self.carrying

    def sandbox_lives(self, path: str) -> bool:
        return path in self.sandboxes

    def calm(self) -> None:
        """Be a kernel that does what it is asked from now on."""
        self.refuse_at = self.refuse_after = None
        self.die_before = self.die_half_way = self.die_after = None


class Clock:
    """Time that goes on when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def engine_on(
    records: Records, kernel: FakeKernel, clock: Clock | None = None
) -> Engine:
    return Engine(records, kernel, "machine-1", clock or Clock())


def ipam_on(
    records: Records, clock: Clock | None = None, kernel: FakeKernel | None = None
) -> Ipam:
    kernel = kernel or FakeKernel()
    engine = engine_on(records, kernel, clock)
    return Ipam(records, clock or Clock(), engine.reap, kernel.is_own)
