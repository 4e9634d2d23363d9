"""What stands on a device, so that it must not be deleted; what a bridge leads to."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from underlay.kernel import ip, links, namespaces, route_lookup
from underlay.kernel.links import RawLink
from underlay.model.objects import BridgePort

# The kinds of ours that administrators can put something on, in the host, before the
# service deletes them.
KINDS = ("vlan", "dummy")
_CHILD_KINDS = (*links.MODES, "vlan")
# What a container or a virtual machine has in a bridge, or what leads to others of
# theirs on another host; everything else is a wire, or stands on one.
INNER_KINDS = ("dummy", "geneve", "tun", "veth", "vxlan")


def ports(ours: Iterable[RawLink]) -> Iterator[BridgePort]:
    """Return the parents of our bridges that are ports of them.

    Other ports belong to the administrator.
    """
    for bridge in (link for link in ours if link.kind == "bridge"):
        found = links.link_named(_parent(bridge))
        if found and found.master == bridge.index:
            yield BridgePort(found.name, bridge.name, bridge.owner)


def container_bridges() -> frozenset[str]:
    """Return the bridges, not ours, with containers or virtual machines only.

    Of Docker, libvirt and others, also before they have a port: a name proves nothing.
    A bridge with a route to far networks leads out, even with containers only.
    """
    outer = route_lookup.ways_out()
    return frozenset(
        link.name
        for link in links.all_links("bridge")
        if not (link.ours or link.index in outer or _has_wire(link.index))
    )


def _has_wire(bridge: int) -> bool:
    return any(port.kind not in INNER_KINDS for port in links.ports_of(bridge))


def _parent(bridge: RawLink) -> str:
    return bridge.owner.takes_over if bridge.owner else ""


def dependents_of(carrier: RawLink) -> str:
    """Return what is on a VLAN, dummy or bridge of ours in the host, as text.

    Devices and addresses. Ours count only where they must not go: a plan deletes from
    the top. The parent of a bridge is no hindrance.
    """
    if carrier.kind not in (*KINDS, "bridge"):
        return ""
    if carrier.kind == "bridge":
        parent = _parent(carrier)
        on_it = [link for link in links.all_links() if _is_on_bridge(carrier, link)]
        return ", ".join(link.name for link in on_it if link.name != parent)
    if carrier.master:
        return f"{socket.if_indextoname(carrier.master)}, of which it is a port"
    on_it = [link for link in links.all_links() if _stands_on(carrier, link)]
    names = [link.name for link in on_it]
    return ", ".join([*names, *ip.addresses_given_to(carrier.index)])


def _is_on_bridge(bridge: RawLink, link: RawLink) -> bool:
    is_port = link.master == bridge.index and not link.ours
    return is_port or _stands_on(bridge, link)


def _stands_on(carrier: RawLink, link: RawLink) -> bool:
    return link.link == carrier.index and not link.elsewhere


def has_dependents_elsewhere(carrier: RawLink) -> bool:
    """Return whether something in another namespace stands on a device.

    Of a veth: whether its peer is there.
    """
    if carrier.kind == "veth":
        return carrier.elsewhere
    with namespaces.opened(namespaces.OWN) as host:
        others = namespaces.others()
        return any(_has_dependents_in(path, carrier, host) for path in others)


def _has_dependents_in(path: Path, carrier: RawLink, host: int) -> bool:
    try:
        return namespaces.run_in(path, lambda: _has_dependents_here(carrier, host))
    except OSError as error:
        # A namespace that may not be entered is no proof that nothing is there.
        return not namespaces.is_gone(error)


def _has_dependents_here(carrier: RawLink, host: int) -> bool:
    """Return whether something in this thread's namespace stands on a host device.

    An index alone says nothing: each namespace counts its devices from one.
    """
    found = {
        link.netnsid
        for kind in _CHILD_KINDS
        for link in links.all_links(kind)
        if link.link == carrier.index and link.elsewhere
    }
    # Asked after the look, which gives the host a number here if it had none.
    numbers = {namespaces.nsid_of(host), namespaces.NO_NSID} if found else set()
    return bool(found & numbers)
