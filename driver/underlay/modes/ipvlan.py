"""ipvlan: a child device for each container, all of them behind the parent's MAC.

In l2 the containers are hosts of the parent's segment; in l3 and l3s the parent routes
for them, without ARP, broadcast or a gateway. l3s shows their packets to the host's
netfilter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from underlay.errors import BadMac, ConflictingOptions
from underlay.model import Endpoint, JoinAnswer, Network
from underlay.model.objects import Object, Owner, SysctlReason
from underlay.modes import child_device, gateway, host_access
from underlay.modes.options import Traits, choice
from underlay.modes.parent_sharing import ParentUse

KIND = "ipvlan"
FLAVOURS = ("l2", "l3", "l3s")
FLAGS = ("bridge", "private", "vepa")
OWN_KEYS = ("ipvlan_mode", "ipvlan_flag")
EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    child_device.check(network, OWN_KEYS)
    flavour = _flavour(network.options)
    if flavour != "l2" and any(gateway.named(network.options).values()):
        # The parent sends the packets on as they are, and resolves no next hop.
        raise ConflictingOptions(
            first=f"ipvlan_mode={flavour}",
            second=f"gateway={network.options['gateway']}",
        )
    host_access.check(network.options, _obstacle(network.options))


def traits(options: Mapping[str, str]) -> Traits:
    """Return the traits of an ipvlan network.

    The kernel has one mode and one flag for all children of a parent. In l3 there is no
    segment: nothing answers ARP, and no address is kept for a gateway.
    """
    l2 = _flavour(options) == "l2"
    shared = f"ipvlan_mode={_flavour(options)}", f"ipvlan_flag={_flag(options)}"
    return Traits(
        ParentUse(KIND, shared),
        host_objects=host_access.is_enabled(options, _obstacle(options)),
        answers_arp=l2,
        reserved_gateways=child_device.reserved_gateways(options) if l2 else (),
    )


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, _derived: str
) -> str:
    """Return no MAC: the child has the parent's, and Docker must not set it again."""
    if endpoint.mac:
        raise BadMac(
            mac=endpoint.mac,
            why=f"an ipvlan container has the MAC of {network.parent_label},"
            f" {parent_mac}, and the kernel gives it no other. Leave --mac-address"
            " out, or use mode=macvlan",
        )
    return ""


def network_objects(network: Network) -> Iterable[Object]:
    """Return the VLANs or the dummy of the network, and the shim."""
    yield from child_device.network_objects(network)
    if traits(network.options).host_objects:
        flavour, flag = _flavour(network.options), _flag(network.options)
        l2 = flavour == "l2"
        yield from host_access.network_objects(
            network, KIND, flavour, flag, on_segment=l2
        )


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the child device, and the host's routes to it."""
    flavour, flag = _flavour(network.options), _flag(network.options)
    yield child_device.endpoint_link(network, endpoint, KIND, flavour, flag)
    if traits(network.options).host_objects:
        l2 = flavour == "l2"
        mac = network.uplink.mac if l2 else ""
        yield from host_access.endpoint_objects(
            network, endpoint, mac=mac, on_segment=l2
        )


def sysctl_reasons(network: Network) -> Iterable[SysctlReason]:
    """Return that in l2 the host must accept its containers' packets on the parent.

    Packets that a container sends to the parent's own MAC arrive there, while the
    host's route to the container is by the shim.
    """
    l2 = _flavour(network.options) == "l2"
    if l2 and network.uplink.host_addresses and traits(network.options).host_objects:
        yield SysctlReason("loose", network.uplink.parent)


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the child device; in l3 with on-link default routes, without next hop."""
    if _flavour(network.options) == "l2":
        return child_device.on_segment(network, endpoint)
    device = Owner(network.id, endpoint.id).device
    allowed = child_device.ways_out(network, endpoint)
    families = sorted({a.version for a in endpoint.addresses} & {*allowed})
    return JoinAnswer(device, on_link=tuple(EVERYWHERE[f] for f in families))


def _obstacle(options: Mapping[str, str]) -> str:
    return host_access.obstacle("ipvlan_flag", _flag(options))


def _flavour(options: Mapping[str, str]) -> str:
    return choice(options, "ipvlan_mode", FLAVOURS)


def _flag(options: Mapping[str, str]) -> str:
    return choice(options, "ipvlan_flag", FLAGS)
