"""Sandboxes: observed and changed by threads that enter them and end there."""

from __future__ import annotations

import errno
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from underlay.kernel import gates, ip, links, namespaces, slaac
from underlay.kernel.clock import since_boot
from underlay.kernel.links import RawLink
from underlay.model.objects import Address, NftTable, Route, Slaac
from underlay.model.steps import Amend, Create, Delete, Step

Found = Address | Route | Slaac | NftTable
Room = tuple[tuple[RawLink, ...], tuple[Found, ...]]


def look(paths: Collection[str]) -> dict[str, Room]:
    """Return what is in sandboxes, by path; those that are gone are left out.

    Our links, the addresses on them, the routes by them, default routes by any device,
    how links make IPv6 addresses from router advertisements, and gates.
    """
    return namespaces.run_in_each(paths, _look) if paths else {}


def _look() -> Room:
    ours = links.our_links_inside()
    names = {link.index: link.name for link in ours}
    addresses = ip.addresses(names) if ours else ()
    routes, made = ip.routes_inside(names), slaac.of_links(ours)
    return ours, (*addresses, *routes, *made, *gates.tables())


def apply(step: Step) -> None:
    """Create, change or delete what is on a link in a sandbox; raises OSError."""
    sandbox = getattr(step.object, "sandbox", "")
    namespaces.run_in(Path(sandbox), lambda: _apply(step))


def _apply(step: Step) -> None:
    match step:
        case Create(Address() | Route() as thing):
            found = links.link_named(thing.device or "")
            if found is None or not found.ours_inside:
                raise OSError(errno.ENODEV, f"{thing.device} is gone")
            # Something was put there meanwhile: the next look sees it.
            with suppress(FileExistsError):
                _create(thing, found)
        case Amend(_, Address() as wanted):
            ip.change(wanted)
        case Delete(Address() | Route() as thing):
            ip.delete(thing)
        case Create(Slaac() as wanted) | Amend(_, Slaac() as wanted):
            slaac.apply(wanted)
        case Create(NftTable() as gate) | Amend(_, NftTable() as gate):
            gates.create(gate)
        case Delete(NftTable() as gate):
            with suppress(FileNotFoundError):
                gates.delete(gate)


def _create(thing: Address | Route, link: RawLink) -> None:
    ends = thing.lifetimes if isinstance(thing, Address) else None
    if ends and ends.left(since_boot()).valid < 1:
        return  # its lease ends just now
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
