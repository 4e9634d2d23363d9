"""What stands on a device of ours, so that it must not be deleted."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from underlay.kernel import ip, links, namespaces, nsids
from underlay.kernel.links import RawLink
from underlay.model.objects import BridgePort

# The kinds that others can put something on, in the host, before we delete them.
KINDS = ("vlan", "dummy")
_ON_CARRIERS = (*links.MODES, "vlan")


def ports(ours: Iterable[RawLink]) -> Iterator[BridgePort]:
    """Return the parents of bridges of ours that are ports of them.

    Other ports are other people's.
    """
    for bridge in (raw for raw in ours if raw.kind == "bridge"):
        found = links.link_named(_parent(bridge))
        if found and found.master == bridge.index:
            yield BridgePort(found.name, bridge.name, bridge.owner)


def _parent(bridge: RawLink) -> str:
    return bridge.owner.takes_over if bridge.owner else ""


def what_stands_on(carrier: RawLink) -> str:
    """Return what is on a VLAN or dummy of ours in the host: devices, addresses.

    Of ours only what must not go is left: a plan deletes from the top. The parent of a
    bridge is no hindrance.
    """
    if carrier.kind not in (*KINDS, "bridge"):
        return ""
    if carrier.kind == "bridge":
        parent = _parent(carrier)
        on_it = [raw for raw in links.all_links() if _is_on_bridge(carrier, raw)]
        return ", ".join(raw.name for raw in on_it if raw.name != parent)
    if carrier.master:
        return f"{socket.if_indextoname(carrier.master)}, of which it is a port"
    on_it = [raw for raw in links.all_links() if _stands_on(carrier, raw)]
    names = [raw.name for raw in on_it]
    return ", ".join([*names, *ip.addresses_given_to(carrier.index)])


def _is_on_bridge(bridge: RawLink, raw: RawLink) -> bool:
    return (raw.master == bridge.index and not raw.ours) or _stands_on(bridge, raw)


def _stands_on(carrier: RawLink, raw: RawLink) -> bool:
    return raw.link == carrier.index and not raw.elsewhere


def has_dependents_elsewhere(carrier: RawLink) -> bool:
    """Tell whether something in another namespace stands on the carrier.

    Of a pair of devices: whether the other end is there.
    """
    if carrier.kind == "veth":
        return carrier.elsewhere
    host = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return any(_bear_in(path, carrier, host) for path in namespaces.others())
    finally:
        os.close(host)


def _bear_in(path: Path, carrier: RawLink, host: int) -> bool:
    try:
        return namespaces.run_in(path, lambda: _bear_here(carrier, host))
    except OSError as error:
        # Gone meanwhile, or a file where none was mounted. Not to be allowed to look is
        # no proof that nothing is there.
        return error.errno not in (errno.ENOENT, errno.EINVAL, errno.ESRCH)


def _bear_here(carrier: RawLink, host: int) -> bool:
    """Tell whether something in this thread's namespace stands on one of the host's.

    An index alone says nothing: each namespace counts its devices from one.
    """
    found = {
        raw.netnsid
        for kind in _ON_CARRIERS
        for raw in links.all_links(kind)
        if raw.link == carrier.index and raw.elsewhere
    }
    # Asked after the look, which gives the host a number here if it had none.
    return bool(found & {nsids.of(host), nsids.NONE} if found else ())
