"""How many MACs a parent carries: more than the switch, or the NIC, has room for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from underlay.doctor.examined import Examined, has_own_macs, labels
from underlay.doctor.finding import Finding
from underlay.kernel import inspection
from underlay.model import Network
from underlay.modes import mode_name, traits_of
from underlay.modes.options import mac_budget

# These are promiscuous for reasons of their own, and cost nothing by it.
_VIRTUAL = ("veth", "bridge")


def carried(host: Examined) -> dict[str, tuple[int, list[Network]]]:
    """Return how many MACs each lowest device carries, its own included.

    Those of containers, of all VLANs on it together, and one for each device by which
    the host reaches its macvlan containers. With the networks they are of.
    """
    found: dict[str, tuple[set[str], list[Network]]] = {}
    by_network = defaultdict(set)
    for endpoint in host.endpoints:
        by_network[endpoint.network].add(endpoint.mac)
    for network in host.networks:
        if not has_own_macs(network) or not network.uplink.parent:
            continue
        base = network.uplink.base_identity.name
        macs, networks = found.setdefault(base, ({base}, []))
        macs |= by_network[network.id] - {""}
        networks.append(network)
        if mode_name(network.options) == "macvlan" and (
            traits_of(network.options).host_objects
        ):
            macs.add(f"shim/{network.uplink.parent}")
    return {base: (len(macs), networks) for base, (macs, networks) in found.items()}


def budget(host: Examined) -> Iterator[Finding]:
    """Find parents with more MACs than `mac_budget` allows.

    Of the setting and the options of the networks there, the least counts.
    """
    for name, (count, networks) in carried(host).items():
        given = (host.mac_budget, *(mac_budget(n.options) for n in networks))
        most = min((budget for budget in given if budget), default=0)
        if most and count > most:
            yield Finding(
                "warning",
                name,
                f"it carries {count} MACs, and mac_budget is {most}"
                f" (networks {labels(networks)})",
                "a switch with a limit drops the frames of the newest containers, or"
                " shuts the port",
                "use ipvlan_mode=l2 or mode=routed for a part of them, spread them over"
                " several parents, or have the limit raised, and mac_budget with it",
            )


def promiscuous(host: Examined) -> Iterator[Finding]:
    """Find parents that receive every frame because they have too many MACs."""
    for name, (device, networks) in host.on_parents.items():
        if device.kind in _VIRTUAL or device.master:
            continue
        if inspection.is_promiscuous(name):
            yield Finding(
                "warning",
                name,
                "the kernel has made it promiscuous: its filter has no room for the"
                " MACs on it, or a capture program runs",
                "the processor handles every frame of the segment, those for others"
                " too",
                "use ipvlan_mode=l2 or mode=routed for a part of the networks"
                f" {labels(networks)}, or a NIC with a larger filter"
                if networks
                else "stop the capture program",
            )
