"""A kernel in memory that refuses or dies on demand. Never the only proof."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from underlay.errors import KernelRefused
from underlay.ipam.driver import IpamDriver
from underlay.kernel import Kernel
from underlay.model import (
    Device,
    HostEntry,
    HostUse,
    IpAddress,
    IpInterface,
    SysctlBackup,
    Verdict,
)
from underlay.model.objects import (
    ADDRESS_SYSCTLS,
    AltName,
    BridgePort,
    ForwardAccept,
    Link,
    MovedEntry,
    Neighbour,
    Object,
    Sysctl,
)
from underlay.model.owner import SysctlReason
from underlay.model.ruleset import BaseChain
from underlay.model.steps import Amend, Create, Delete, Step
from underlay.records import Records
from underlay.service.settings import Settings
from underlay.service.wiring import Host, Parts, assemble

ETH0 = Device("eth0", "", "52:54:00:00:00:01", 1500)
BR0 = Device("br0", "bridge", "52:54:00:00:00:0b", 1500)
LO = Device("lo", "", "00:00:00:00:00:00", 65536, loopback=True)


class Death(BaseException):
    """The process is gone: nothing catches this, nothing cleans up."""


class FakeKernel:
    """Links by name, other objects by key; a sysctl is 0 until it is set.

    Steps are counted; the n-th may be refused or the last one.
    """

    def __init__(self, *devices: Device, default: str | None = "eth0") -> None:
        self.links: dict[str, Link] = {}
        self.announced: list[tuple[str, str, frozenset[IpAddress]]] = []
        self.rooms: dict[str, dict[str, Link]] = {}
        self.others: dict[str, Object] = {}
        self.settings: dict[str, str] = {}
        self.strangers = {d.name: d for d in (devices or (LO, ETH0))}
        self.default = default
        self.default_routers: list[tuple[str, IpAddress]] = []
        self.has_nft = self.can_guard = True
        self._is_nft_asked = False
        self.booted = "boot-1"
        self.sandboxes: set[str] = set()
        self.lacks: set[str] = set()
        self.taken_names: set[str] = set()
        self.carrying: set[str] = set()
        self.other_namespaces: dict[str, tuple[IpAddress, ...]] = {}
        self.own: set[str] = set()
        # MACs by address; "" for a route of another program.
        self.neighbours: dict[str, str] = {}
        self.answered: set[str] = set()
        # The MACs of machines on the LAN, by address; every question for them.
        self.foreign: dict[str, str] = {}
        # What other hosts ask for at the same time, so often: their MACs.
        self.rivals: dict[str, list[str]] = {}
        self.asked: list[tuple[tuple[str, ...], frozenset[str]]] = []
        self.on_devices: dict[str, list[HostEntry]] = {}
        self.silent: set[str] = set()
        self.wireless: set[str] = set()
        self.unusual: dict[tuple[str, str], tuple[str, ...]] = {}
        self.forwarding: list[BaseChain] = []
        self.dropping: dict[tuple[str, int], str] = {}
        self.host_addresses: dict[str, tuple[IpInterface, ...]] = {}
        self.steps = 0
        self.refuse_at: int | None = None
        self.refuse_after: int | None = None
        self.die_before: int | None = None
        self.die_half_way: int | None = None
        self.die_after: int | None = None
        # Whether this thread keeps the others from the records.
        self.is_locked: Callable[[], bool] = lambda: False

    def assert_may_wait(self) -> None:
        """Fail where the caller waits for the outside while others wait for it."""
        assert not self.is_locked(), "a wait under the write lock"

    @property
    def can_filter(self) -> bool:
        if not self._is_nft_asked:
            self.assert_may_wait()
        self._is_nft_asked = True
        return self.has_nft

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        seen = {
            replace(link, peer=None, copy_from=None, initial_sysctls=())
            for name, link in self.links.items()
            if names is None or name in names
        }
        others = [
            o
            for o in self.others.values()
            if not getattr(o, "sandbox", "")
            and not (isinstance(o, BridgePort) and self._is_unplugged(o))
            and (
                (names is None and not isinstance(o, ForwardAccept))
                or (isinstance(o, BridgePort) and o.master in (names or ()))
                or (isinstance(o, AltName) and o.device in (names or ()))
            )
        ]
        unmarked = {
            o if isinstance(o, BridgePort | AltName) else replace(o, owner=None)
            for o in others
        }
        return frozenset(seen | unmarked)

    def observe_sandboxes(
        self, paths: Collection[str]
    ) -> Mapping[str, frozenset[Object]]:
        return {
            path: frozenset(
                (
                    *(_as_shown(link) for link in self.rooms.get(path, {}).values()),
                    *(
                        o if isinstance(o, AltName) else replace(o, owner=None)
                        for o in self.others.values()
                        if getattr(o, "sandbox", "") == path
                    ),
                )
            )
            for path in paths
            if path in self.sandboxes
        }

    def dock(self, name: str, sandbox: str, called: str, *given: Object) -> None:
        """Do as Docker does with a device it was given, and then some."""
        self.sandboxes.add(sandbox)
        link = replace(self.links.pop(name), name=called, sandbox=sandbox, up=True)
        under = self.device(link.parent) if link.parent else None
        link = replace(link, mtu=link.mtu or (under.mtu if under else 1500))
        self.rooms.setdefault(sandbox, {})[called] = link
        for o in given:
            self.others[replace(o, sandbox=sandbox).key] = replace(o, sandbox=sandbox)

    def lose(self, sandbox: str, device: str) -> None:
        """Have a device in a sandbox disappear, with all that stands on it."""
        self.rooms[sandbox].pop(device)
        self.others = {
            k: o
            for k, o in self.others.items()
            if (getattr(o, "sandbox", ""), o.device) != (sandbox, device)
        }

    def lacking_names(self, wanted: Collection[AltName]) -> frozenset[AltName]:
        return frozenset(name for name in wanted if name.name in self.taken_names)

    def sysctls(self, settings: Collection[Sysctl]) -> frozenset[Object]:
        return frozenset(
            replace(s, value=self.settings.get(s.path, "0")) for s in settings
        )

    def forward_rules(self, wanted: Collection[ForwardAccept]) -> frozenset[Object]:
        del wanted  # Docker's chain is always there
        found = {o for o in self.others.values() if isinstance(o, ForwardAccept)}
        return frozenset(replace(o, owner=None) for o in found)

    def sysctls_for(self, reason: SysctlReason) -> list[SysctlBackup]:
        path = f"net/{reason}"
        return [SysctlBackup(reason, path, self.settings.get(path, "0"), "1")]

    def apply(self, step: Step) -> None:
        self._count(step, step)

    def delete_links(self, doomed: Collection[Link]) -> None:
        self._count("ip link del", *map(Delete, doomed))

    def _count(self, step: Step | str, *parts: Step) -> None:
        self.steps += 1
        if self.steps == self.die_before:
            raise Death
        if self.steps == self.refuse_at:
            raise KernelRefused(step=step, why="Device or resource busy", hint="")
        for part in parts:
            self._carry_out(part)
        if self.steps == self.refuse_after:
            raise KernelRefused(step=step, why="Numerical result out of range", hint="")
        if self.steps == self.die_after:
            raise Death

    def _carry_out(self, step: Step) -> None:
        match step:
            case Create(Sysctl() as setting) | Amend(_, Sysctl() as setting):
                self.settings[setting.path] = setting.value
            case Create(Link() as link):
                self._create(step, link)
            case Amend(Link() as seen, Link() as link):
                self._check_base_up(step, link)
                size = link.mtu or max(link.room or 0, seen.mtu or 0) or None
                self._room(link)[seen.name] = replace(link, name=seen.name, mtu=size)
            case Delete(Link() as link):
                self._delete(step, link)
            case Create(MovedEntry() | BridgePort()) | Amend(
                _, MovedEntry() | BridgePort()
            ):
                self._take_over(step)
            case Create(other) | Amend(_, other) if not isinstance(other, Link):
                if other.device and not self._has_device(other):
                    why = f"no device {other.device} ({errno.errorcode[19]})"
                    raise KernelRefused(step=step, why=why, hint="")
                self.others[other.key] = other
            case Delete(BridgePort() as port):
                self._unplug(port)
            case Delete(other):
                self.others.pop(other.key, None)

    def _create(self, step: Step, link: Link) -> None:
        if link.name in self._room(link) or self._vlan_twin(link):
            raise KernelRefused(step=step, why=errno.errorcode[17], hint="")
        if link.parent and not self.device(link.parent):
            why = f"no device {link.parent} ({errno.errorcode[19]})"
            raise KernelRefused(step=step, why=why, hint="")
        if link.master and not self.device(link.master):
            why = f"no device {link.master} ({errno.errorcode[19]})"
            raise KernelRefused(step=step, why=why, hint="")
        if self._others_on(link) - {link.kind, "vlan"}:
            raise KernelRefused(step=step, why=errno.errorcode[16], hint="")
        self._check_base_up(step, link)
        if self.steps == self.die_half_way:
            self.links[link.name] = Link(link.name, link.kind, None)
            raise Death
        under = self.device(link.parent) if link.parent else None
        if under:
            if (link.mtu or 0) > under.mtu:
                raise KernelRefused(step=step, why=errno.errorcode[22], hint="")
            link = replace(link, mtu=link.mtu or under.mtu)
        if link.up_after_filters:
            link = replace(link, up=False)  # until its filters are there
        self._room(link)[link.name] = self._sized(link)
        if link.peer:
            self._room(link.peer)[link.peer.name] = self._sized(link.peer)

    def _sized(self, link: Link) -> Link:
        model = self.device(link.copy_from) if link.copy_from else None
        return replace(link, mtu=link.mtu or (model.mtu if model else None))

    def _check_base_up(self, step: Step, link: Link) -> None:
        base = self.device(link.parent) if link.parent else None
        if link.kind == "vlan" and link.up and base and base.link_fault == "down":
            why = f"Network is down ({errno.errorcode[100]})"
            raise KernelRefused(step=step, why=why, hint="")

    def _room(self, link: Link) -> dict[str, Link]:
        if not link.sandbox:
            return self.links
        return self.rooms.setdefault(link.sandbox, {})

    def _has_device(self, other: Object) -> bool:
        sandbox = getattr(other, "sandbox", "")
        if sandbox:
            return other.device in self.rooms.get(sandbox, {})
        return self.device(other.device or "") is not None

    def _lose_pair(self, end: Link) -> None:
        for name, link in list(self.links.items()):
            if link.peer and link.peer.key == end.key:
                self.links.pop(name)
                self.others = {
                    k: o
                    for k, o in self.others.items()
                    if getattr(o, "sandbox", "") or o.device != name
                }

    def _take_over(self, step: Step) -> None:
        if isinstance(step.object, MovedEntry):
            self._move(step, step.object)
        else:
            self._plug(step, step.object)

    def _is_unplugged(self, port: BridgePort) -> bool:
        """Tell whether one of the two devices is gone, or was and is another one."""
        device = self.strangers.get(port.name)
        there = device and device.master == port.master
        return not (there and port.master in self.links)

    def _unplug(self, port: BridgePort) -> None:
        self.others.pop(port.key, None)
        device = self.strangers[port.name]
        self.strangers[port.name] = replace(device, master="")

    def _move(self, step: Step, held: MovedEntry) -> None:
        if not self.device(held.device):
            why = f"no device {held.device} ({errno.errorcode[19]})"
            raise KernelRefused(step=step, why=why, hint="")
        for device in (held.apart, held.device):
            had = self.on_devices.setdefault(device, [])
            had[:] = [s for s in had if s.words != held.entry.words]
        self.on_devices[held.device].append(held.entry)

    def _plug(self, step: Step, port: BridgePort) -> None:
        if port.name not in self.strangers or port.master not in self.links:
            raise KernelRefused(step=step, why=errno.errorcode[19], hint="")
        self.others[port.key] = port
        device = self.strangers[port.name]
        self.strangers[port.name] = replace(device, master=port.master)

    def entries_on(self, device: str) -> tuple[HostEntry, ...]:
        return tuple(self.on_devices.get(device, ()))

    def locate_entries(self, wanted: Collection[MovedEntry]) -> frozenset[Object]:
        found = set()
        for h in wanted:
            for device in (h.apart, h.device):
                if h.entry in self.entries_on(device):
                    found.add(replace(h, device=device))
                    break
        return frozenset(found)

    def probe(
        self, device: str, addresses: Collection[IpAddress]
    ) -> frozenset[IpAddress]:
        self.assert_may_wait()
        return frozenset(a for a in addresses if device not in self.silent)

    def ask(
        self,
        devices: Collection[str],
        addresses: Collection[IpAddress],
        is_ours: Callable[[str], bool],
    ) -> Verdict:
        self.assert_may_wait()
        parent = self.device(next(iter(devices)))
        if parent is None or parent.link_fault:
            return Verdict(unasked=f"{next(iter(devices))} is down")
        self.asked.append((tuple(devices), frozenset(map(str, addresses))))
        there = {a: self.foreign[str(a)] for a in addresses if str(a) in self.foreign}
        used = {a: mac for a, mac in there.items() if not is_ours(mac)}
        rivals = {
            a: r for a in {*addresses} - used.keys() if (r := self.rivals.get(str(a)))
        }
        return Verdict(used, {a: left.pop() for a, left in rivals.items()})

    def announce(
        self,
        sandbox: str,
        device: str,
        addresses: Collection[IpAddress],
        gateways: Collection[IpAddress],
        seconds: float,
    ) -> frozenset[IpAddress]:
        self.assert_may_wait()
        there = self.rooms.get(sandbox, {}) if sandbox else self.strangers
        if device not in there:
            raise OSError(errno.ENODEV, device)
        told = frozenset(addresses)
        if not sandbox:
            told &= self.answered_by(device)
        if told:
            self.announced.append((sandbox, device, told))
        # A gateway that is not heard in that time has not answered.
        heard = {g.version for g in gateways if str(g) in self.answered and seconds}
        return frozenset(a for a in told if a.version in heard)

    def answered_by(self, device: str) -> frozenset[IpAddress]:
        entries = (o for o in self.others.values() if isinstance(o, Neighbour))
        return frozenset(o.address for o in entries if o.device == device)

    def is_wireless(self, device: str) -> bool:
        return device in self.wireless

    def names_inside(self, sandbox: str) -> frozenset[str]:
        return frozenset(self.rooms.get(sandbox, {}))

    def sandbox_sysctls(self, sandbox: str, device: str) -> tuple[str, ...]:
        return self.unusual.get((sandbox, device), ())

    def device_sysctls(self, device: str) -> tuple[str, ...]:
        return () if device in self.strangers else ("ipv4/rp_filter=1",)

    def _delete(self, step: Step, link: Link) -> None:
        if link.sandbox:
            if link.name in self._room(link):
                self._lose_pair(self._room(link)[link.name])
                self.lose(link.sandbox, link.name)
            return
        if any(d.parent == link.name for d in self.devices()):
            raise KernelRefused(step=step, why=errno.errorcode[16], hint="")
        had = self.links.pop(link.name, None)
        ends = {link.name, *([had.peer.name] if had and had.peer else ())}
        ends |= {o.name for o in self.links.values() if o.peer and o.peer.name in ends}
        for name in ends:
            self.links.pop(name, None)
            self.on_devices.pop(name, None)
            for plugged in [d for d in self.strangers.values() if d.master == name]:
                self.strangers[plugged.name] = replace(plugged, master="")
        self.others = {k: o for k, o in self.others.items() if o.device not in ends}
        self.settings = {
            k: v for k, v in self.settings.items() if not ends & set(k.split("/"))
        }

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
            label=link.owner.vlan or link.owner.takes_over if link.owner else "",
            link_fault=under.link_fault if under else "",
        )

    def has_kind(self, kind: str) -> bool:
        return kind not in self.lacks

    def default_device(self) -> str | None:
        return self.default

    def routers(self) -> tuple[tuple[str, IpAddress], ...]:
        return tuple(self.default_routers)

    def forward_change_mark(self) -> object:
        return tuple(self.forwarding)

    def forward_chains(self) -> list[BaseChain]:
        return list(self.forwarding)

    def filters_bridged(self, bridge: str, family: int) -> bool:
        return (bridge, family) in self.dropping

    def bridge_firewall_drops(self, bridge: str, family: int) -> str:
        self.assert_may_wait()
        return self.dropping.get((bridge, family), "")

    def addresses_of(self, device: str) -> tuple[IpInterface, ...]:
        found = (
            self.host_addresses
            if not device
            else {device: self.host_addresses.get(device, ())}
        )
        return tuple(a for addresses in found.values() for a in addresses)

    def is_in_use(self, address: IpAddress) -> bool:
        self.assert_may_wait()
        return str(address) in self.answered

    def is_own(self, address: IpAddress) -> bool:
        return str(address) in self.own

    def use_of(self, address: IpAddress) -> HostUse | None:
        mac = "" if str(address) in self.own else self.neighbours.get(str(address))
        return None if mac is None else HostUse(mac)

    def container_bridges(self) -> frozenset[str]:
        ports = {d.master for d in self.strangers.values() if d.kind != "veth"}
        outer = ports | {self.default}
        bridges = {d.name for d in self.strangers.values() if d.kind == "bridge"}
        return frozenset(bridges - outer)

    def has_dependents(self, device: str) -> bool:
        return device in self.carrying

    def addresses_in_other_namespaces(
        self, besides: Collection[str]
    ) -> dict[str, tuple[IpAddress, ...]]:
        del besides
        return self.other_namespaces

    def boot(self) -> str:
        return self.booted

    def inside(self, sandbox: str, run: Callable[[], Any]) -> Any:
        if sandbox not in self.sandboxes:
            raise OSError(errno.ENOENT, "no such namespace")
        return run()

    def sandbox_exists(self, path: str) -> bool:
        return path in self.sandboxes

    def calm(self) -> None:
        """Be a kernel that does what it is asked from now on."""
        self.refuse_at = self.refuse_after = None
        self.die_before = self.die_half_way = self.die_after = None


def _as_shown(link: Link) -> Link:
    """Return a link in a sandbox as it is seen."""
    set_there = (*link.sysctls, *link.initial_sysctls)
    kept = tuple(s for s in set_there if s.startswith(ADDRESS_SYSCTLS))
    return replace(link, sysctls=kept, copy_from=None, initial_sysctls=())


class Clock:
    """Time that goes on when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Engine:
    """The network driver of one host, and a pass at hand, as wiring makes them."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.reconciler = parts, parts.reconciler
        self.reconcile = parts.reconciler.reconcile_now
        self.preview = parts.reconciler.planner.steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parts.engine, name)


def engine_on(
    records: Records,
    kernel: Kernel,
    clock: Callable[[], float] | None = None,
    boot: Callable[[], float] | None = None,
) -> Engine:
    """An engine; durations go by another clock than what is shown, if that is given."""
    clock = clock or Clock()
    kernel.is_locked = records._database._lock._is_owned
    host = Host("machine-1", clock, boot or clock)
    parts = assemble(records, kernel, Settings(), host)
    # Ranges begin at their first address, so that tests can name addresses.
    object.__setattr__(parts.ipam, "machine", "")
    return Engine(parts)


def ipam_on(
    records: Records,
    clock: Clock | None = None,
    kernel: FakeKernel | None = None,
    boot: Clock | None = None,
) -> IpamDriver:
    kernel = kernel or FakeKernel()
    engine = engine_on(records, kernel, clock, boot)
    clock = clock or Clock()
    own = kernel.is_own
    return IpamDriver(
        records,
        clock,
        engine.remove_dead_endpoint,
        own,
        engine.live_endpoints,
        boot or clock,
        wire=engine.parts.ipam.wire,
    )
