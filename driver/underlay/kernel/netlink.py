"""The real kernel: raw netlink to look, pyroute2 to touch."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from underlay.errors import KernelRefused
from underlay.kernel import links
from underlay.kernel.links import RawLink
from underlay.model import Address, Device
from underlay.objects import MARK, PREFIX, UNFINISHED_GROUP, Link, Object, Owner
from underlay.steps import Amend, Create, Delete, Step

NAMESPACE = Path("/proc/self/ns/net")


class Netlink:
    """The namespace this process is in.

    Each touch opens a socket of its own: half a millisecond, and nothing to share, to
    leak (a long-lived IPRoute grows) or to be poisoned by an overflow.
    """

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Return our links: all of them, or those of these names."""
        try:
            return self._observe(names)
        except OSError as error:
            reason = _reason(error, error.errno)
            raise KernelRefused(step="ip link show", why=reason, hint="") from error

    def _observe(self, names: Collection[str] | None) -> frozenset[Object]:
        if names is None:
            seen = links.all_links()
            by_index = {link.index: link.name for link in seen}
            return frozenset(
                _ours(raw, by_index.get(raw.link)) for raw in seen if _is_ours(raw)
            )
        found = (links.link_named(name) for name in names)
        return frozenset(
            _ours(raw, _name_of(raw.link)) for raw in found if raw and _is_ours(raw)
        )

    def apply(self, step: Step) -> None:
        """Carry out one step."""
        try:
            match step:
                case Create(link):
                    _create(link)
                case Amend(seen, link):
                    _amend(seen, link)
                case Delete(link):
                    _delete(link)
        except (NetlinkError, OSError) as error:
            code = getattr(error, "code", None) or getattr(error, "errno", None)
            raise KernelRefused(
                step=step, why=_reason(error, code), hint=_HINTS.get(code or 0, "")
            ) from error

    def device(self, name: str) -> Device | None:
        """Return any device by its name or alternative name."""
        raw = links.link_named(name)
        return _device(raw) if raw else None

    def devices(self) -> tuple[Device, ...]:
        """Return every device."""
        return tuple(_device(raw) for raw in links.all_links())

    def default_device(self) -> str | None:
        """Return the name of the device the default route leaves by."""
        index = links.default_device_index()
        return _name_of(index) if index else None

    def is_own(self, address: Address) -> bool:
        """Tell whether an address is the host's own: whether its route is local."""
        return links.route_is_local(address.packed)

    def sandbox_lives(self, path: str) -> bool:
        """Tell whether a namespace is mounted at the path, not just an empty file."""
        try:
            return Path(path).stat().st_dev == NAMESPACE.stat().st_dev
        except OSError:
            return False


_HINTS = {
    errno.EBUSY: " Another driver may hold the parent: a device carries macvlan or"
    " ipvlan children or is in a bridge or bond, not two of these.",
    errno.EOPNOTSUPP: " This kernel may lack the kind of device: try `modprobe"
    " macvlan` on the host.",
    errno.EPERM: " The service needs CAP_NET_ADMIN in the host's network namespace.",
    errno.EADDRINUSE: " Another child of the parent has that MAC.",
}


def _reason(error: Exception, code: int | None) -> str:
    text = error.args[1] if len(error.args) > 1 else str(error)
    name = errno.errorcode.get(code or 0, "")
    return f"{text} ({name})" if name else str(text)


def _create(link: Link) -> None:
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never made")
    spec: dict[str, Any] = {"ifname": link.name, "kind": link.kind}
    if link.parent:
        spec["link"] = _index_of(link.parent)
    if link.flavour:
        spec[f"{link.kind}_mode"] = link.flavour
    if link.mac:
        spec["address"] = link.mac
    if link.mtu:
        spec["mtu"] = link.mtu
    with IPRoute() as kernel:
        kernel.link("add", **spec, group=UNFINISHED_GROUP)
        kernel.link("set", index=_index_of(link.name), ifalias=link.owner.mark, group=0)


def _amend(seen: Link, link: Link) -> None:
    found = links.link_named(seen.name)
    if found is None or not _is_ours(found):
        raise OSError(errno.ENODEV, f"{seen.name} is gone")
    change: dict[str, Any] = {"index": found.index}
    if link.mac:
        change["address"] = link.mac
    if link.mtu:
        change["mtu"] = link.mtu
    if link.flavour not in (None, seen.flavour):
        change |= {"kind": link.kind, f"{link.kind}_mode": link.flavour}
    with IPRoute() as kernel:
        kernel.link("set", **change)


def _delete(link: Link) -> None:
    found = links.link_named(link.name)
    # Looked at again: the name may have gone to a stranger since it was planned.
    if found is None or not _is_ours(found):
        return
    try:
        with IPRoute() as kernel:
            kernel.link("del", index=found.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


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


def _ours(raw: RawLink, parent: str | None) -> Link:
    marked = raw.alias.startswith(MARK)
    return Link(
        name=raw.name,
        kind=raw.kind,
        owner=Owner.parse(raw.alias) if marked else None,
        parent=parent,
        flavour=raw.macvlan_mode or None,
        mac=raw.mac,
        mtu=raw.mtu,
    )


def _device(raw: RawLink) -> Device:
    return Device(
        name=raw.name,
        kind=raw.kind,
        mac=raw.mac,
        mtu=raw.mtu,
        loopback=raw.loopback,
        permanent_mac=raw.permanent_mac,
    )
