"""Links of ours: made, changed and deleted; all but their birth through pyroute2."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from underlay.kernel import dependents as carriers
from underlay.kernel import host_entries as standing
from underlay.kernel import link_creation as births
from underlay.kernel import links, sandboxes, sysctl
from underlay.kernel import probe as asking
from underlay.model.objects import BridgePort, Link
from underlay.model.steps import Amend, Create, Delete, Step


def touch(step: Step) -> None:
    """Make, change or delete a link; raises NetlinkError, OSError."""
    match step:
        case Create(Link() as link):
            _create(link)
        case Amend(Link() as seen, Link() as link):
            _amend(seen, link)
        case Delete(Link() as link):
            _delete(link)
        case Create(BridgePort() as port) | Amend(_, BridgePort() as port):
            _plug(port, links.index_of(port.master))
            standing.forget_routers(links.index_of(port.name))
        case Delete(BridgePort() as port):
            _plug(port, 0)
            asking.ask_routers(port.name)


def _create(link: Link) -> None:
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never made")
    owner, link = link.owner, _alike(link)
    births.create_link(link)
    if link.sandbox:
        sandboxes.finish(link)
        return
    if owner.altname:
        _call(link.name, owner.altname)
    sysctl.give((*link.sysctls, *link.initial_sysctls), link.name)
    if link.peer and link.peer.sandbox:
        sandboxes.finish(link.peer)
    elif link.peer and link.peer.owner:
        births.mark_link(link.peer, link.peer.owner)
    births.mark_link(link, owner)


def _call(name: str, alias: str) -> None:
    """Give a link the name that people call it by.

    A courtesy: the name may be taken, the kernel old.
    """
    with IPRoute() as kernel, suppress(NetlinkError):
        kernel.link("property_add", index=links.index_of(name), altname=alias)


def _alike(link: Link) -> Link:
    """Return a link with the MAC and MTU of the one it is like, where it says none.

    A bridge without a port has no MAC, unless somebody gave it one.
    """
    if not link.copy_from:
        return link
    model = links.link_named(link.copy_from)
    if model is None:
        raise OSError(errno.ENODEV, f"no device {link.copy_from}")
    mac = link.mac or (model.mac if model.mac.strip("0:") else None)
    peer = _alike(link.peer) if link.peer else None
    return replace(link, mac=mac, mtu=link.mtu or model.mtu, peer=peer)


def _plug(port: BridgePort, bridge: int) -> None:
    with IPRoute() as kernel:
        kernel.link("set", index=links.index_of(port.name), master=bridge)


def _amend(seen: Link, link: Link) -> None:
    if link.master != seen.master:
        link = _alike(link)
    found = links.link_named(seen.name)
    if found is None or not found.ours:
        raise OSError(errno.ENODEV, f"{seen.name} is gone")
    try:
        sysctl.give(link.differing_sysctls(seen), seen.name)
    finally:
        if not link.attributes_match(seen):
            _change(found.index, seen, link)


def _change(index: int, seen: Link, link: Link) -> None:
    change: dict[str, Any] = {"index": index}
    if link.mac:
        change["address"] = link.mac
    if link.mtu or (link.room or 0) > (seen.mtu or 0):
        change["mtu"] = link.mtu or link.room
    if link.master:
        change["master"] = links.index_of(link.master)
    if link.group is not None:
        change["group"] = link.group
    if link.up:
        change["state"] = "up"
    if link.kind != "ipvlan" and link.flavour not in (None, seen.flavour):
        change |= {"kind": link.kind, f"{link.kind}_mode": link.flavour}
    with IPRoute() as kernel:
        kernel.link("set", **change)


def _delete(link: Link) -> None:
    found = links.link_named(link.name)
    # Looked at again: the name may have gone to a stranger since it was planned.
    if found is None or not found.ours:
        return
    if others := carriers.what_stands_on(found):
        raise OSError(errno.EBUSY, f"it would take with it what stands on it: {others}")
    try:
        with IPRoute() as kernel:
            kernel.link("del", index=found.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
