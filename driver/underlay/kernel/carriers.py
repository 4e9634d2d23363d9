"""What stands on a device of ours, so that it must not be deleted."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator

from underlay.kernel import ip, links, namespaces
from underlay.kernel.links import RawLink
from underlay.objects import PREFIX, Port

# The kinds that others can put something on, in the host, before we delete them.
KINDS = ("vlan", "dummy")
_ON_CARRIERS = (*links.MODES, "vlan")


def ports(ours: Iterable[RawLink]) -> Iterator[Port]:
    """Return the parents of bridges of ours that are ports of them.

    Other ports are other people's.
    """
    for bridge in (raw for raw in ours if raw.kind == "bridge"):
        found = links.link_named(_parent(bridge))
        if found and found.master == bridge.index:
            yield Port(found.name, bridge.name, bridge.owner)


def _parent(bridge: RawLink) -> str:
    return bridge.owner.bridged if bridge.owner else ""


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
    of_others = not raw.name.startswith(PREFIX)
    return (raw.master == bridge.index and of_others) or _stands_on(bridge, raw)


def _stands_on(carrier: RawLink, raw: RawLink) -> bool:
    return raw.link == carrier.index and not raw.elsewhere


def bear_elsewhere(carrier: RawLink) -> bool:
    """Tell whether something in another namespace stands on the carrier.

    Of a pair of devices: whether the other end is there.
    """
    if carrier.kind == "veth":
        return carrier.elsewhere
    for path in namespaces.others():
        try:
            if namespaces.inside(path, lambda: _bears_here(carrier)):
                return True
        except OSError as error:
            # Gone meanwhile, or a file where none was mounted. Not to be allowed to
            # look is no proof that nothing is there.
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ESRCH):
                return True
    return False


def _bears_here(carrier: RawLink) -> bool:
    """Tell whether something in the namespace of this thread stands on the carrier."""
    return any(
        raw.link == carrier.index and raw.elsewhere
        for kind in _ON_CARRIERS
        for raw in links.all_links(kind)
    )
