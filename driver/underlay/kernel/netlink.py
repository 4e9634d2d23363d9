"""The real kernel: raw netlink to look, pyroute2 to touch."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink import nla
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from underlay import model
from underlay.failures import KernelRefused
from underlay.kernel import ip, iptables, links, namespaces, sysctl
from underlay.kernel.links import RawLink
from underlay.kernel.reasons import HINTS, reason
from underlay.model import Device, Family, Setting
from underlay.objects import (
    MARK,
    PREFIX,
    UNFINISHED_GROUP,
    Address,
    Link,
    Neighbour,
    Object,
    Owner,
    Permit,
    Route,
    Sysctl,
)
from underlay.steps import Amend, Create, Delete, Step

NAMESPACE = Path("/proc/self/ns/net")
# The kinds that others can put something on, in the host, before we delete them.
_CARRIERS = ("vlan", "dummy")
_QUIET = ("ipv6/addr_gen_mode=1", "ipv6/accept_ra=0", "ipv4/arp_ignore=1")
_ON_CARRIERS = (*links.MODES, "vlan")


class Netlink:
    """The namespace this process is in.

    Each touch opens a socket of its own: half a millisecond, and nothing to share, to
    leak (a long-lived IPRoute grows) or to be poisoned by an overflow.
    """

    def __init__(self) -> None:
        # Here and not where it is used: it is not safe while other threads write links.
        ifinfmsg.ifinfo.register_link_kind(module={"ipvlan": _IpvlanData})
        # Asking iptables takes two processes, so it is asked for leftovers only as long
        # as there may be any: at first, and after a rule was made.
        self._may_permit = True

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our objects: all of them, or the links of these names."""
        try:
            return self._observe(names)
        except OSError as error:
            why = reason(error, error.errno)
            raise KernelRefused(step="ip link show", why=why, hint="") from error

    def _observe(self, names: Collection[str] | None) -> frozenset[Object]:
        if names is None:
            return self._observe_all()
        found = (links.link_named(name) for name in names)
        return frozenset(_ours(raw, _name_of) for raw in found if raw and _is_ours(raw))

    def _observe_all(self) -> frozenset[Object]:
        seen = links.all_links()
        names = {raw.index: raw.name for raw in seen}
        ours = [raw for raw in seen if _is_ours(raw)]
        permits = frozenset(iptables.permits()) if self._may_permit else frozenset()
        self._may_permit = bool(permits)
        return frozenset(
            (
                *(_ours(raw, names.get) for raw in ours),
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
                case Create(Address() | Route() | Neighbour() as thing):
                    ip.create(thing)
                case Delete(Address() | Route() | Neighbour() as thing):
                    ip.delete(thing)
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

    def is_own(self, address: model.Address) -> bool:
        """Tell whether an address is the host's own: whether its route is local."""
        return ip.route_is_local(address.packed)

    def carries(self, device: str) -> bool:
        """Tell whether something in another namespace stands on a device of ours."""
        carrier = links.link_named(device)
        if carrier is None:
            return False
        for path in namespaces.others():
            try:
                if namespaces.inside(path, lambda: _from_here(carrier)):
                    return True
            except OSError as error:
                # Gone meanwhile, or a file where none was mounted. Not to be allowed
                # to look is no proof that nothing is there.
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ESRCH):
                    return True
        return False

    def sandbox_lives(self, path: str) -> bool:
        """Tell whether a namespace is mounted at the path, not just an empty file."""
        try:
            return Path(path).stat().st_dev == NAMESPACE.stat().st_dev
        except OSError:
            return False


class _IpvlanData(nla):  # type: ignore[misc]  # pyroute2 has no types
    """What IFLA_INFO_DATA of an ipvlan link carries: pyroute2 drops the flags."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_IPVLAN_UNSPEC", "none"),
        ("IFLA_IPVLAN_MODE", "uint16"),
        ("IFLA_IPVLAN_FLAGS", "uint16"),
    )


def _kind(link: Link) -> dict[str, Any]:
    """Return what the kind of a link takes, in pyroute2's words."""
    spec: dict[str, Any] = {"kind": link.kind}
    if link.vlan:
        spec["vlan_id"] = link.vlan
    if link.kind == "ipvlan":
        spec["ipvlan_mode"] = _code(links.MODES["ipvlan"], link.flavour)
        spec["ipvlan_flags"] = _code(links.IPVLAN_FLAGS, link.flag)
    elif link.flavour:
        spec[f"{link.kind}_mode"] = link.flavour
    return spec


def _code(names: dict[int, str], name: str | None) -> int:
    return next(code for code, known in names.items() if known == name)


def _create(link: Link) -> None:
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never made")
    owner, link = link.owner, _alike(link)
    spec = {**_named(link), **_kind(link)}
    if link.parent:
        spec["link"] = _index_of(link.parent)
    if link.peer:
        spec["peer"] = _named(link.peer)
    with IPRoute() as kernel:
        kernel.link("add", **spec)
        index = _index_of(link.name)
        if owner.vlan:
            # What people call it. A courtesy: the name may be taken, the kernel old.
            with suppress(NetlinkError):
                kernel.link("property_add", index=index, altname=owner.vlan)
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
    for setting in (*link.settings, *(_QUIET if link.kind in _CARRIERS else ())):
        name, value = setting.split("=")
        family, key = name.split("/")
        with suppress(FileNotFoundError):  # a kernel without IPv6
            (sysctl.SYSCTLS / f"net/{family}/conf/{link.name}/{key}").write_text(value)


def _alike(link: Link) -> Link:
    """Return a link with the MAC and MTU of the one it is like, where it says none.

    A bridge without a port has no MAC, unless somebody gave it one.
    """
    model = links.link_named(link.like) if link.like else None
    if model is None:
        return link
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
        change |= _kind(link)
    with IPRoute() as kernel:
        kernel.link("set", **change)


def _delete(link: Link) -> None:
    found = links.link_named(link.name)
    # Looked at again: the name may have gone to a stranger since it was planned.
    if found is None or not _is_ours(found):
        return
    if link.kind in _CARRIERS and (others := _what_stands_on(found)):
        raise OSError(errno.EBUSY, f"it would take with it what stands on it: {others}")
    try:
        with IPRoute() as kernel:
            kernel.link("del", index=found.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _what_stands_on(carrier: RawLink) -> str:
    """Return what is on a VLAN or dummy of ours in the host: devices, addresses.

    Of ours only what must not go is left: a plan deletes from the top.
    """
    if carrier.master:
        return f"{_name_of(carrier.master)}, of which it is a port"
    on_it = [raw for raw in links.all_links() if _stands_on(carrier, raw)]
    names = [raw.name for raw in on_it]
    return ", ".join([*names, *ip.addresses_given_to(carrier.index)])


def _stands_on(carrier: RawLink, raw: RawLink) -> bool:
    return raw.link == carrier.index and not raw.elsewhere


def _from_here(carrier: RawLink) -> bool:
    """Tell whether something in the namespace of this thread stands on the carrier."""
    return any(
        raw.link == carrier.index and raw.elsewhere
        for kind in _ON_CARRIERS
        for raw in links.all_links(kind)
    )


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
    )
