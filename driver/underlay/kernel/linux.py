"""The real kernel, by netlink, /proc/sys, nft and iptables."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from underlay import model
from underlay.errors import KernelRefused
from underlay.kernel import (
    announce,
    conflict_probe,
    dependents,
    forward_chains,
    host_entries,
    ip,
    iptables,
    link_changes,
    links,
    namespaces,
    neighbours,
    nftables,
    route_lookup,
    sandboxes,
    sysctl,
)
from underlay.kernel.firewall import RULES, Firewall
from underlay.kernel.links import RawLink
from underlay.kernel.probe import ANSWER_SECONDS, answering
from underlay.model import Device, Family, HostEntry, LinkFault, SysctlBackup, Verdict
from underlay.model.cache import GenerationCache
from underlay.model.objects import (
    ADDRESS_SYSCTLS,
    PREFIX,
    Address,
    AltName,
    BridgePort,
    ForwardAccept,
    Link,
    MovedEntry,
    Neighbour,
    Object,
    Owner,
    Route,
    Sysctl,
    SysctlReason,
)
from underlay.model.ruleset import BaseChain
from underlay.model.steps import Amend, Create, Delete, Step

log = logging.getLogger(__name__)
T = TypeVar("T")

NAMESPACE = Path("/proc/self/ns/net")
BOOT = Path("/proc/sys/kernel/random/boot_id")


class LinuxKernel:
    """The namespace this process is in.

    Each step opens a socket of its own. That takes half a millisecond, and there is
    nothing to share, to leak (a long-lived IPRoute grows) or to overflow.
    """

    def __init__(self) -> None:
        self._firewall = Firewall()

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our objects: all of them, or the links of these names."""
        with _reading("ip link show"):
            return self._observe(names)

    def _observe(self, names: Collection[str] | None) -> frozenset[Object]:
        if names is None:
            return self._observe_all()
        found = (links.link_named(name) for name in names if links.is_there(name))
        ours = [raw for raw in found if raw and raw.ours]
        seen = (_ours(raw, _name_of) for raw in ours)
        return frozenset((*seen, *_names(ours), *dependents.ports(ours)))

    def _observe_all(self) -> frozenset[Object]:
        links.next_generation()
        ip.next_generation()
        neighbours.next_generation()
        _link.next_generation()
        _altnames.next_generation()
        ours = links.our_links()
        names = {raw.index: raw.name for raw in ours}
        shims = [raw.index for raw in ours if raw.owner and raw.owner.shared]
        return frozenset(
            (
                *(_ours(raw, _name_of) for raw in ours),
                *_names(ours),
                *dependents.ports(ours),
                *ip.addresses(names),
                *ip.routes(names),
                *neighbours.our_neighbours(names, shims),
                *self._firewall.observed(),
            )
        )

    def observe_sandboxes(
        self, paths: Collection[str]
    ) -> Mapping[str, frozenset[Object]]:
        """Return what is in sandboxes, by path; those that are gone are left out."""
        return {
            path: frozenset(_inside(path, *room))
            for path, room in sandboxes.look(paths).items()
        }

    def lacking_names(self, wanted: Collection[AltName]) -> frozenset[AltName]:
        """Return those of these names that cannot be given; see Kernel."""
        return frozenset(name for name in wanted if not self._can_give(name))

    def _can_give(self, name: AltName) -> bool:
        def look() -> bool:
            found = links.link_named(name.name)
            return found is None or found.owner == name.owner

        try:
            free = (
                namespaces.run_in(Path(name.sandbox), look) if name.sandbox else look()
            )
        except OSError:  # the sandbox is gone, and what is there with it
            return False
        return free and self._has_names

    @cached_property
    def _has_names(self) -> bool:
        """Whether the kernel knows alternative names (5.5)."""
        return links.names_are_known()

    def sysctls(self, settings: Collection[Sysctl]) -> frozenset[Object]:
        """Return the present values of these sysctls, as far as the kernel has them."""
        return frozenset(sysctl.read(settings))

    def forward_rules(self, wanted: Collection[ForwardAccept]) -> frozenset[Object]:
        """Return our rules, and the desired ones that this host does not need."""
        return frozenset(self._firewall.rules(wanted))

    def sysctls_for(self, reason: SysctlReason) -> list[SysctlBackup]:
        """Return what to set for a reason, with its present value."""
        return sysctl.needed(reason)

    def entries_on(self, device: str) -> tuple[HostEntry, ...]:
        """Return the addresses and routes that were put on a device of the host."""
        with _reading(f"ip addr show dev {device}"):
            return tuple(host_entries.entries_on(device))

    def locate_entries(self, wanted: Collection[MovedEntry]) -> frozenset[Object]:
        """Return where these are now, on which of their two devices."""
        with _reading("ip route show table all"):
            return frozenset(host_entries.locate(wanted))

    def probe(
        self, device: str, addresses: Collection[model.IpAddress]
    ) -> frozenset[model.IpAddress]:
        """Return which addresses answer on a device to ARP or neighbour discovery."""
        with _reading(f"ip neigh show dev {device}"):
            return answering(links.index_of(device), addresses)

    def ask(
        self,
        devices: Collection[str],
        addresses: Collection[model.IpAddress],
        is_ours: Callable[[str], bool],
    ) -> Verdict:
        """Ask whether machines on a segment have addresses; see Kernel."""
        return conflict_probe.ask(devices, addresses, is_ours)

    def announce(
        self,
        sandbox: str,
        device: str,
        addresses: Collection[model.IpAddress],
        gateways: Collection[model.IpAddress],
        seconds: float,
    ) -> frozenset[model.IpAddress]:
        """Announce the addresses of a device on its segment; see Kernel."""
        asked = addresses, gateways, seconds
        if not sandbox:
            return announce.what_is_answered(device, *asked)
        look = partial(announce.what_is_there, device, *asked)
        return namespaces.run_in(Path(sandbox), look)

    def is_wireless(self, device: str) -> bool:
        """Return whether a device is Wi-Fi, which accepts frames of one MAC only."""
        return Path(f"/sys/class/net/{device}/phy80211").exists()

    def forward_change_mark(self) -> object:
        """Return what differs after each change of the firewall's rules."""
        return forward_chains.change_mark(self._firewall.changes)

    def forward_chains(self) -> list[BaseChain]:
        """Return every chain on the hook forward, of any program; raises OSError."""
        return forward_chains.forward_chains()

    def device_sysctls(self, device: str) -> tuple[str, ...]:
        """Return the sysctls that a device which replaces this one is created with."""
        # Without the wait for others that have its addresses: they are this host's.
        return ("net/ipv6/conf/*/accept_dad=0", *sysctl.differing_from_default(device))

    def names_inside(self, sandbox: str) -> frozenset[str]:
        """Return the names of all devices in a sandbox; raises OSError."""
        found = namespaces.run_in(Path(sandbox), socket.if_nameindex)
        return frozenset(name for _, name in found)

    def sandbox_sysctls(self, sandbox: str, device: str) -> tuple[str, ...]:
        """Return the sysctls of a device in a sandbox that a new one would not have."""

        def look() -> tuple[str, ...]:
            found = links.link_named(device)
            return tuple(sysctl.differing_from_new(device, found.mtu)) if found else ()

        return namespaces.run_in(Path(sandbox), look)

    def apply(self, step: Step) -> None:
        """Apply one step."""
        try:
            if isinstance(step.object, Link | AltName | BridgePort):
                link_changes.apply(step)
            elif getattr(step.object, "sandbox", ""):
                sandboxes.apply(step)
            else:
                self._apply(step)
        except OSError as error:
            hint = "" if isinstance(step, Delete) else _HINTS.get(error.errno or 0, "")
            why = _reason(error)
            raise KernelRefused(step=step, why=why, hint=hint) from error

    def delete_links(self, doomed: Collection[Link]) -> None:
        """Delete links of the host at once; see Kernel."""
        try:
            link_changes.delete_together(doomed)
        except OSError as error:
            words = f"ip link del: {', '.join(link.name for link in doomed)}"
            raise KernelRefused(step=words, why=_reason(error), hint="") from error

    def _apply(self, step: Step) -> None:
        match step:
            case Create(Sysctl() as setting) | Amend(_, Sysctl() as setting):
                sysctl.write(setting)
            case Create(made) | Amend(_, made) if isinstance(made, RULES):
                self._firewall.create(made, getattr(step, "seen", None))
            case Delete(rules) if isinstance(rules, RULES):
                self._firewall.delete(rules)
            case Create(MovedEntry() as held) | Amend(_, MovedEntry() as held):
                host_entries.move(held)
            case Create(Address() | Route() | Neighbour() as thing):
                ip.create(thing)
            case Delete(Address() | Route() | Neighbour() as thing):
                ip.delete(thing)

    def device(self, name: str) -> Device | None:
        """Return any device by its name or alternative name."""
        raw = links.link_named(name)
        return _device(raw) if raw else None

    def devices(self, *kinds: str) -> tuple[Device, ...]:
        """Return every device, or those of these kinds."""
        return tuple(
            _device(raw) for kind in kinds or ("",) for raw in links.all_links(kind)
        )

    def has_kind(self, kind: str) -> bool:
        """Return whether the kernel can create a kind of device, also by a module."""
        return links.kind_is_known(kind)

    @cached_property
    def can_filter(self) -> bool:
        """Whether there is nft and a kernel that answers it; asked once.

        Also if it does not end: then it is there, and its later refusals are reported.
        """
        if nftables.is_there():
            return True
        log.warning(
            "nft or nftables in the kernel is missing: the host does not reach its"
            " macvlan containers. Install nftables and restart the service"
        )
        return False

    @property
    def can_guard(self) -> bool:
        """Whether there can be gates for containers; see Host."""
        return self._firewall.can_guard

    def default_device(self) -> str | None:
        """Return the name of the device the default route leaves by."""
        index = ip.default_device_index()
        return _name_of(index) if index else None

    def routers(self) -> tuple[tuple[str, model.IpAddress], ...]:
        """Return the next hops of default routes with their devices, best first."""
        with _reading("ip route show default"):
            return tuple((_name_of(index) or "", hop) for index, hop in ip.routers())

    def addresses_of(self, device: str) -> tuple[model.IpInterface, ...]:
        """Return the host's own addresses on a device, or on all of them ("")."""
        with _reading(f"ip addr show dev {device}"):
            try:
                return ip.usable_on(links.index_of(device) if device else 0)
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                return ()

    def bridge_firewall_drops(self, bridge: str, family: Family) -> str:
        """Return why frames of an IP family do not cross a bridge, "" if they do."""
        if self.filters_bridged(bridge, family):
            return iptables.bridge_firewall_drops(bridge, family)
        return ""

    def filters_bridged(self, bridge: str, family: Family) -> bool:
        """Return whether iptables and nft see the frames that cross a bridge."""
        found = links.link_named(bridge)
        of_its_own = found is not None and family in found.filtered
        return of_its_own or sysctl.filters_bridged(family)

    def is_in_use(self, address: model.IpAddress) -> bool:
        """Return whether a machine on a segment of this host answers for an address."""
        index = route_lookup.neighbouring(address.packed)
        return bool(index and answering(index, {address}, ANSWER_SECONDS))

    def is_own(self, address: model.IpAddress) -> bool:
        """Return whether an address is the host's own: whether its route is local."""
        return route_lookup.route_is_local(address.packed)

    def use_of(self, address: model.IpAddress) -> model.HostUse | None:
        """Return how the host's own routes and neighbours show an address in use."""
        return route_lookup.use_of(address)

    def container_bridges(self) -> frozenset[str]:
        """Return bridges, not ours, with containers or virtual machines only."""
        with _reading("ip link show type bridge"):
            return dependents.container_bridges()

    def has_dependents(self, device: str) -> bool:
        """Return whether something in another namespace stands on a device of ours."""
        carrier = links.link_named(device)
        return carrier is not None and dependents.has_dependents_elsewhere(carrier)

    def addresses_in_other_namespaces(
        self, besides: Collection[str]
    ) -> dict[str, tuple[model.IpAddress, ...]]:
        """Return the addresses of our devices in other namespaces, by their marks."""
        return namespaces.our_addresses_elsewhere(besides)

    def boot(self) -> str:
        """Return an id of this boot of the host, and of its namespace."""
        return f"{BOOT.read_text('ascii').strip()}/{namespaces.own_cookie()}"

    def inside(self, sandbox: str, run: Callable[[], T]) -> T:
        """Return what `run` returns in a sandbox; see Kernel."""
        return namespaces.run_in(Path(sandbox), run)

    def sandbox_exists(self, path: str) -> bool:
        """Return whether a namespace is mounted at the path, not just an empty file."""
        try:
            return Path(path).stat().st_dev == NAMESPACE.stat().st_dev
        except OSError:
            return False


@contextmanager
def _reading(words: str) -> Iterator[None]:
    """Raise KernelRefused with the command for a look that the kernel refuses."""
    try:
        yield
    except OSError as error:
        why = _reason(error)
        raise KernelRefused(step=words, why=why, hint="") from error


_HINTS = {
    errno.EBUSY: " Another driver may hold the parent: a device has macvlan or"
    " ipvlan children, or is a port of a bridge or bond, but not two of these.",
    errno.EOPNOTSUPP: " The kernel may not support this device type, or its parent"
    " may not allow it.",
    errno.EPERM: " The service needs CAP_NET_ADMIN in the host's network namespace.",
    errno.EADDRINUSE: " Another child of the parent has that MAC.",
    errno.ENETDOWN: " A VLAN can be up only if its parent is: set the parent up.",
}


def _reason(error: OSError) -> str:
    text = error.args[1] if len(error.args) > 1 else str(error)
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{text} ({name})" if name else str(text)


def _ours(
    raw: RawLink, name_of: Callable[[int], str | None], *, inside: bool = False
) -> Link:
    """Return a link of ours; the parent of one `inside` a sandbox is in the host.

    An index means another device in every namespace.
    """
    below = raw.kind != "veth" and raw.elsewhere == inside
    return _link(
        raw,
        name_of(raw.link) if below and raw.link else None,
        name_of(raw.master) if raw.master else None,
    )


@GenerationCache
def _link(raw: RawLink, parent: str | None, master: str | None) -> Link:
    return Link(
        name=raw.name,
        kind=raw.kind,
        owner=raw.owner,
        parent=parent,
        flavour=raw.flavour or None,
        flag=raw.flag or None,
        queue=raw.queue,
        vlan=raw.vlan or None,
        mac=raw.mac,
        mtu=raw.mtu,
        up=raw.up,
        master=master,
        sysctls=raw.settings,
        group=raw.group,
    )


def _inside(
    path: str,
    ours: Collection[RawLink],
    others: Iterable[sandboxes.Found],
) -> Iterator[Object]:
    for link in ours:
        seen = _ours(link, _name_of, inside=True)
        # Sysctls in a sandbox are the container's to change. These decide which
        # addresses the device can have.
        kept = tuple(s for s in seen.sysctls if s.startswith(ADDRESS_SYSCTLS))
        yield replace(seen, sandbox=path, sysctls=kept)
    named = (raw for raw in ours if raw.altnames)
    for name in (name for raw in named for name in _altnames(raw)):
        yield replace(name, sandbox=path)
    for found in others:
        yield replace(found, sandbox=path)


def _names(ours: Iterable[RawLink]) -> Iterator[AltName]:
    """Return the alternative names of links in the host that the service gave.

    VLANs and bridges got theirs when they were made.
    """
    named = (raw for raw in ours if raw.altnames and raw.owner and raw.owner.endpoint)
    found = (name for raw in named for name in _altnames(raw))
    return (name for name in found if name.name.startswith(PREFIX))


@GenerationCache
def _altnames(raw: RawLink) -> tuple[AltName, ...]:
    owner = raw.owner or Owner()
    return tuple(AltName(name, raw.name, owner) for name in raw.altnames)


def _device(raw: RawLink) -> Device:
    return Device(
        name=raw.name,
        kind=raw.kind,
        mac=raw.mac,
        mtu=raw.mtu,
        loopback=raw.loopback,
        permanent_mac=raw.permanent_mac,
        parent="" if raw.elsewhere else _name_of(raw.link) or "",
        flavour=raw.flavour,
        flag=raw.flag,
        vlan=raw.vlan,
        ours=raw.ours,
        label=raw.owner.vlan or raw.owner.takes_over if raw.owner else "",
        master=(_name_of(raw.master) or "") if raw.master else "",
        active_port=(_name_of(raw.active) or "") if raw.active else "",
        link_fault=_link_fault(raw),
    )


def _link_fault(raw: RawLink) -> LinkFault:
    """Return why nothing passes a device; a bridge without a port is no fault."""
    if not raw.up:
        return "down"
    return "" if raw.carrier or raw.kind == "bridge" else "no carrier"


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None
