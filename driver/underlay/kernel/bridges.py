"""Bridges of other people, told by what they are: a name says nothing for certain."""

from __future__ import annotations

from underlay.kernel import ip, links

# What a container or a virtual machine has in a bridge, or what leads to others of
# theirs on another host; everything else is a wire, or stands on one.
_INNER = ("dummy", "geneve", "tun", "veth", "vxlan")


def inward() -> frozenset[str]:
    """Return the bridges behind which are containers or virtual machines only.

    Docker's, libvirt's, whoever's, also before they have a port; not ours. A bridge
    that the host's own way out is by leads out, whatever is in it.
    """
    outer = ip.ways_out()
    return frozenset(
        raw.name
        for raw in links.all_links("bridge")
        if not (raw.ours or raw.index in outer or _has_wire(raw.index))
    )


def _has_wire(bridge: int) -> bool:
    return any(port.kind not in _INNER for port in links.ports_of(bridge))


def names() -> frozenset[str]:
    """Return all bridges there are."""
    return frozenset(raw.name for raw in links.all_links("bridge"))
