"""Devices of ours in other namespaces, found by their marks and not by the records."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection, Iterator
from contextlib import suppress

from underlay.kernel import ip, links, namespaces
from underlay.kernel.links import RawLink
from underlay.model import IpAddress

log = logging.getLogger(__name__)

# Whoever has CAP_NET_ADMIN in a container can make devices with marks like ours there,
# and give them any addresses: of one namespace, no more is believed.
MOST_DEVICES, MOST_ADDRESSES = 8, 2
Found = dict[str, tuple[IpAddress, ...]]


def find(besides: Collection[str]) -> Found:
    """Return marks and addresses in every other namespace but those at these paths."""
    known = set()
    for path in besides:
        with suppress(OSError):
            known.add(namespaces.file_of(path))
    found: Found = {}
    for place in namespaces.others():
        try:
            if namespaces.file_of(place) not in known:
                # A mark may be in several: none hides what another one has.
                for mark, addresses in namespaces.run_in(place, _here).items():
                    found[mark] = found.get(mark, ()) + addresses
        except OSError as error:
            # Gone meanwhile, or a file where none was mounted.
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ESRCH):
                facts = {"namespace": place, "error": error}
                log.warning("cannot inspect a network namespace", extra=facts)
    return found


def _here() -> Found:
    """Return what is in the namespace of this thread, within what is believed of it."""
    ours = [raw for raw in links.our_links_inside() if raw.owner]
    return {raw.alias: tuple(_given(raw)) for raw in ours[:MOST_DEVICES]}


def _given(link: RawLink) -> Iterator[IpAddress]:
    """Return the addresses that a device has had for longest, of each IP family.

    Those were Docker's to give. The kernel lists IPv4 oldest first, IPv6 newest first.
    """
    found = [interface.ip for interface in ip.usable_on(link.index)]
    yield from [a for a in found if a.version == 4][:MOST_ADDRESSES]
    yield from [a for a in found if a.version == 6][-MOST_ADDRESSES:]
