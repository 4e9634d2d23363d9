"""Devices of ours in other namespaces, found by their marks and not by the records."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection
from contextlib import suppress

from underlay.kernel import ip, links, namespaces
from underlay.model import Address
from underlay.objects import MARK

log = logging.getLogger(__name__)
Found = dict[str, tuple[Address, ...]]


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
                found |= namespaces.inside(place, _here)
        except OSError as error:
            # Gone meanwhile, or a file where none was mounted.
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ESRCH):
                log.warning("no look", extra={"namespace": place, "error": error})
    return found


def _here() -> Found:
    return {
        raw.alias: tuple(interface.ip for interface in ip.usable_on(raw.index))
        for raw in links.our_links(links.KINDS_INSIDE)
        if raw.alias.startswith(MARK)
    }
