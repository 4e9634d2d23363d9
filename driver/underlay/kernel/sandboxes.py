"""Inside sandboxes: looked at and touched by threads that enter them and end there."""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from underlay.kernel import ip, links, namespaces, sysctl
from underlay.kernel import link_creation as births
from underlay.kernel import rtnetlink as raw
from underlay.kernel.links import RawLink
from underlay.model.objects import Address, Link, Route
from underlay.model.steps import Amend, Create, Delete, Step

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_NUMBER = struct.Struct("=I")
_DELLINK = 17

Room = tuple[tuple[RawLink, ...], tuple[Address, ...], tuple[Route, ...]]


def look(paths: Collection[str]) -> dict[str, Room]:
    """Return what is in sandboxes, by path; those that are gone are left out.

    Links of ours, the addresses on them, and routes by them, as are default routes by
    any device.
    """
    return namespaces.run_in_each(paths, _look) if paths else {}


def _look() -> Room:
    ours = links.our_links_inside()
    names = {link.index: link.name for link in ours}
    addresses = ip.addresses(names) if ours else ()
    return ours, tuple(addresses), tuple(ip.routes_inside(names))


def finish(link: Link) -> None:
    """Give a device that was born in its sandbox its name and mark; raises OSError."""
    if link.owner is None:
        raise OSError(errno.EINVAL, "a link without an owner is never made")
    born, mark = link.owner.device, link.owner.mark

    def run() -> None:
        sysctl.give(link.sysctls, born)
        sysctl.give_back(link.initial_sysctls, born)
        index = links.index_of(born)
        births.change_link(
            index,
            raw.attribute(births.IFNAME, link.name.encode() + b"\0"),
            raw.attribute(births.ALIAS, mark.encode()),
            up=link.up,
        )
        # Apart: it is set first, and stays so when the name is refused.
        births.change_link(index, raw.attribute(births.GROUP, _NUMBER.pack(0)), up=None)

    namespaces.run_in(Path(link.sandbox), run)


def touch(step: Step) -> None:
    """Change what is in a sandbox; raises OSError. Devices are born elsewhere."""
    sandbox = getattr(step.object, "sandbox", "")
    namespaces.run_in(Path(sandbox), lambda: _touch(step))


def _touch(step: Step) -> None:
    match step:
        case Amend(Link() as seen, Link() as link):
            _amend(seen, link)
        case Delete(Link() as link):
            found = links.link_named(link.name)
            # Looked at again: the name may have gone to a stranger since.
            if found and found.ours_inside:
                raw.request(_DELLINK, 0, _IFINFO.pack(0, 0, found.index, 0, 0))
        case Create(Address() | Route() as thing):
            found = links.link_named(thing.device or "")
            if found is None or not found.ours_inside:
                raise OSError(errno.ENODEV, f"{thing.device} is gone")
            # What somebody put there meanwhile is the next look's business.
            with suppress(FileExistsError):
                _create(thing, found)
        case Delete(Address() | Route() as thing):
            ip.delete(thing)


def _create(thing: Address | Route, link: RawLink) -> None:
    try:
        ip.create(thing)
    except FileExistsError:
        if isinstance(thing, Address) or thing.destination.version == 4:
            raise
        # A router's, which is not looked at, has the same metric and may stay.
        seen = ip.routes_inside({link.index: link.name})
        if replace(thing, sandbox="").key in {way.key for way in seen}:
            raise
        ip.create(thing, beside=True)


def _amend(seen: Link, link: Link) -> None:
    found = links.link_named(seen.name)
    if found is None or not found.ours_inside:
        raise OSError(errno.ENODEV, f"{seen.name} is gone")
    change = []
    if link.mac not in (None, seen.mac):
        mac = bytes.fromhex((link.mac or "").replace(":", ""))
        change.append(raw.attribute(births.ADDRESS, mac))
    if link.mtu not in (None, seen.mtu):
        change.append(raw.attribute(births.MTU, _NUMBER.pack(link.mtu or 0)))
    births.change_link(found.index, *change, up=link.up)
