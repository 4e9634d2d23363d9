"""The real kernel: raw netlink to look, pyroute2 to touch."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from underlay import model
from underlay.failures import KernelRefused
from underlay.kernel import (
    asking,
    carriers,
    ip,
    iptables,
    kinds,
    links,
    standing,
    sysctl,
)
from underlay.kernel.links import RawLink
from underlay.kernel.reasons import HINTS, reason
from underlay.model import Device, Family, Setting, Standing
from underlay.objects import (
    MARK,
    PREFIX,
    UNFINISHED_GROUP,
    Address,
    Held,
    Link,
    Neighbour,
    Object,
    Owner,
    Permit,
    Port,
    Route,
    Sysctl,
)
from underlay.steps import Amend, Create, Delete, Step

NAMESPACE = Path("/proc/self/ns/net")
_QUIET = ("ipv6/addr_gen_mode=1", "ipv6/accept_ra=0", "ipv4/arp_ignore=1")


class Netlink:
    """The namespace this process is in.

    Each touch opens a socket of its own: half a millisecond, and nothing to share, to
    leak (a long-lived IPRoute grows) or to be poisoned by an overflow.
    """

    def __init__(self) -> None:
        # Here and not where it is used: it is not safe while other threads write links.
        kinds.register()
        # Asking iptables takes two processes, so it is asked for leftovers only as long
        # as there may be any: at first, and after a rule was made.
        self._may_permit = True

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our objects: all of them, or the links of these names."""
        with _looking("ip link show"):
            return self._observe(names)

    def _observe(self, names: Collection[str] | None) -> frozenset[Object]:
        if names is None:
            return self._observe_all()
        found = (links.link_named(name) for name in names)
        ours = [raw for raw in found if raw and _is_ours(raw)]
        seen = (_ours(raw, _name_of) for raw in ours)
        return frozenset((*seen, *carriers.ports(ours)))

    def _observe_all(self) -> frozenset[Object]:
        seen = links.all_links()
        names = {raw.index: raw.name for raw in seen}
        ours = [raw for raw in seen if _is_ours(raw)]
        permits = frozenset(iptables.permits()) if self._may_permit else frozenset()
        self._may_permit = bool(permits)
        return frozenset(
            (
                *(_ours(raw, names.get) for raw in ours),
                *carriers.ports(ours),
                *ip.addresses({raw.index: raw.name for raw in ours}),
                *ip.routes(names),
                *ip.neighbours(names),
                *permits,
            )
        )

    def sysctls(self, settings: Collection[Sysctl]) -> frozenset[Object]:
        """Return what these settings are now, as far as the kernel has them."""
        return frozenset(sysctl.read(settings))

    def needed(self, reason: str) -> list[Setting]:
        """Return what is to be set for a reason, with how it is now."""
        return sysctl.needed(reason)

    def standing(self, device: str) -> tuple[Standing, ...]:
        """Return what somebody put on a device of the host: addresses and routes."""
        with _looking(f"ip addr show dev {device}"):
            return tuple(standing.on(device))

    def held(self, wanted: Collection[Held]) -> frozenset[Object]:
        """Return where these are now, on which of their two devices."""
        with _looking("ip route show table all"):
            return frozenset(standing.held(wanted))

    def answering(
        self, device: str, addresses: Collection[model.Address]
    ) -> frozenset[model.Address]:
        """Return which addresses answer on a device to ARP or neighbour discovery."""
        with _looking(f"ip neigh show dev {device}"):
            return asking.answering(_index_of(device), addresses)

    def is_wireless(self, device: str) -> bool:
        """Tell whether a device is Wi-Fi, which takes frames of one MAC only."""
        return Path(f"/sys/class/net/{device}/phy80211").exists()

    def settings_of(self, device: str) -> tuple[str, ...]:
        """Return the sysctls of a device that one in its place is to be born with."""
        return tuple(sysctl.of_device(device))

    def apply(self, step: Step) -> None:
        """Carry out one step."""
        try:
            match step:
                case Create(Link() as link):
                    _create(link)
                case Amend(Link() as seen, Link() as link):
                    _amend(seen, link)
                case Delete(Link() as link):
                    _delete(link)
                case Create(Sysctl() as setting) | Amend(_, Sysctl() as setting):
                    sysctl.write(setting)
                case Create(Permit() as permit):
                    self._may_permit = True
                    iptables.create(permit)
                case Delete(Permit() as permit):
                    iptables.delete(permit)
                case _:
                    _touch(step)
        except (NetlinkError, OSError) as error:
            code = getattr(error, "code", None) or getattr(error, "errno", None)
            hint = "" if isinstance(step, Delete) else HINTS.get(code or 0, "")
            raise KernelRefused(
                step=step, why=reason(error, code), hint=hint
            ) from error

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
        """Tell whether the kernel can make a kind of device, by a module if need be."""
        return links.kind_is_known(kind)

    def default_device(self) -> str | None:
        """Return the name of the device the default route leaves by."""
        index = ip.default_device_index()
        return _name_of(index) if index else None

    def drops_bridged(self, bridge: str, family: Family) -> str:
        """Return why frames of an IP family do not cross a bridge, "" if they do."""
        found = links.link_named(bridge)
        if sysctl.shows_bridged(family) or (found and family in found.filtered):
            return iptables.drops_bridged(bridge, family)
        return ""

    def has_chain(self, family: Family) -> bool:
        """Tell whether there is Docker's chain DOCKER-USER."""
        return iptables.has_chain(family)

    def is_own(self, address: model.Address) -> bool:
        """Tell whether an address is the host's own: whether its route is local."""
        return ip.route_is_local(address.packed)

    def carries(self, device: str) -> bool:
        """Tell whether something in another namespace stands on a device of ours."""
        carrier = links.link_named(device)
        return carrier is not None and carriers.bear_elsewhere(carrier)

    def sandbox_lives(self, path: str) -> bool:
        """Tell whether a namespace is mounted at the path, not just an empty file."""
        try:
            return Path(path).stat().st_dev == NAMESPACE.stat().st_dev
        except OSError:
            return False


@contextmanager
def _looking(words: str) -> Iterator[None]:
    """Say what was looked at, in iproute2's words, if the kernel refuses to tell."""
    try:
        yield
    except OSError as error:
        why = reason(error, error.errno)
        raise KernelRefused(step=words, why=why, hint="") from error


def _create(link: Link) -> None:
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never made")
    owner, link = link.owner, _alike(link)
    spec = {**_named(link), **kinds.spec(link)}
    if link.parent:
        spec["link"] = _index_of(link.parent)
    if link.peer:
        spec["peer"] = _named(link.peer)
    with IPRoute() as kernel:
        kernel.link("add", **spec)
        index = _index_of(link.name)
        if owner.alias:
            # What people call it. A courtesy: the name may be taken, the kernel old.
            with suppress(NetlinkError):
                kernel.link("property_add", index=index, altname=owner.alias)
        _set_up(link)
        if link.peer and link.peer.owner:
            _finish(kernel, link.peer, link.peer.owner)
        _finish(kernel, link, owner)


def _named(link: Link) -> dict[str, Any]:
    spec: dict[str, Any] = {"ifname": link.name, "group": UNFINISHED_GROUP}
    if link.mac:
        spec["address"] = link.mac
    return {**spec, "mtu": link.mtu} if link.mtu else spec


def _finish(kernel: IPRoute, link: Link, owner: Owner) -> None:
    change: dict[str, Any] = {"ifalias": owner.mark, "group": 0}
    if link.master:
        change["master"] = _index_of(link.master)
    if link.up:
        change["state"] = "up"
    kernel.link("set", index=_index_of(link.name), **change)


def _set_up(link: Link) -> None:
    """Write a link's own settings before it is up.

    On what others stand on, the host would else take part in the VLAN by itself: with a
    link-local address, with one and a default route by router advertisement, and with
    answers to ARP for all it has.
    """
    for setting in (*link.settings, *(_QUIET if link.kind in carriers.KINDS else ())):
        name, value = setting.split("=")
        family, key = name.split("/")
        with suppress(FileNotFoundError):  # a kernel without IPv6
            (sysctl.SYSCTLS / f"net/{family}/conf/{link.name}/{key}").write_text(value)


def _alike(link: Link) -> Link:
    """Return a link with the MAC and MTU of the one it is like, where it says none.

    A bridge without a port has no MAC, unless somebody gave it one.
    """
    if not link.like:
        return link
    model = links.link_named(link.like)
    if model is None:
        raise OSError(errno.ENODEV, f"no device {link.like}")
    mac = link.mac or (model.mac if model.mac.strip("0:") else None)
    peer = _alike(link.peer) if link.peer else None
    return replace(link, mac=mac, mtu=link.mtu or model.mtu, peer=peer)


def _amend(seen: Link, link: Link) -> None:
    if link.master != seen.master:
        link = _alike(link)
    found = links.link_named(seen.name)
    if found is None or not _is_ours(found):
        raise OSError(errno.ENODEV, f"{seen.name} is gone")
    change: dict[str, Any] = {"index": found.index}
    if link.mac:
        change["address"] = link.mac
    if link.mtu:
        change["mtu"] = link.mtu
    if link.master:
        change["master"] = _index_of(link.master)
    if link.up:
        change["state"] = "up"
    if link.kind != "ipvlan" and link.flavour not in (None, seen.flavour):
        change |= kinds.spec(link)
    with IPRoute() as kernel:
        kernel.link("set", **change)


def _delete(link: Link) -> None:
    found = links.link_named(link.name)
    # Looked at again: the name may have gone to a stranger since it was planned.
    if found is None or not _is_ours(found):
        return
    if others := carriers.what_stands_on(found):
        raise OSError(errno.EBUSY, f"it would take with it what stands on it: {others}")
    try:
        with IPRoute() as kernel:
            kernel.link("del", index=found.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _touch(step: Step) -> None:
    match step:
        case Create(Port() as port) | Amend(_, Port() as port):
            _plug(port, _index_of(port.master))
            standing.forget_routers(_index_of(port.name))
        case Delete(Port() as port):
            _plug(port, 0)
            asking.ask_routers(port.name)
        case Create(Held() as held) | Amend(_, Held() as held):
            standing.move(held)
        case Create(Address() | Route() | Neighbour() as thing):
            ip.create(thing)
        case Delete(Address() | Route() | Neighbour() as thing):
            ip.delete(thing)


def _plug(port: Port, bridge: int) -> None:
    with IPRoute() as kernel:
        kernel.link("set", index=_index_of(port.name), master=bridge)


def _index_of(name: str) -> int:
    found = links.link_named(name)
    if found is None:
        raise OSError(errno.ENODEV, f"no device {name}")
    return found.index


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def _is_ours(raw: RawLink) -> bool:
    return raw.alias.startswith(MARK) or (
        raw.name.startswith(PREFIX) and raw.group == UNFINISHED_GROUP
    )


def _ours(raw: RawLink, name_of: Callable[[int], str | None]) -> Link:
    marked = raw.alias.startswith(MARK)
    below = raw.kind != "veth" and not raw.elsewhere
    return Link(
        name=raw.name,
        kind=raw.kind,
        owner=Owner.parse(raw.alias) if marked else None,
        parent=name_of(raw.link) if below and raw.link else None,
        flavour=raw.flavour or None,
        flag=raw.flag or None,
        vlan=raw.vlan or None,
        mac=raw.mac,
        mtu=raw.mtu,
        up=raw.up,
        master=name_of(raw.master) if raw.master else None,
    )


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
        ours=_is_ours(raw),
        master=(_name_of(raw.master) or "") if raw.master else "",
    )
