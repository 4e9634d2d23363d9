"""ipvlan: a child device for each container, all of them behind the parent's MAC.

In l2 the containers are hosts of the parent's segment; in l3 and l3s the parent routes
for them, without ARP, broadcast or a gateway. l3s lets the host's netfilter see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from underlay.errors import BadMac, ConflictingOptions
from underlay.model import Endpoint, JoinAnswer, Network
from underlay.model.objects import Object, Owner, SysctlReason
from underlay.modes import child_device as child
from underlay.modes import gateway
from underlay.modes import host_access as shim
from underlay.modes import options as read
from underlay.modes.parent_sharing import ParentUse

KIND = "ipvlan"
HOST_PREFIX = False
FLAVOURS = ("l2", "l3", "l3s")
FLAGS = ("bridge", "private", "vepa")
OWN_KEYS = ("ipvlan_mode", "ipvlan_flag")
EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}

check_endpoint = child.check_endpoint
filters = child.filters
network_objects = child.network_objects


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    child.check(network, OWN_KEYS)
    flavour = _flavour(network.options)
    if flavour != "l2" and any(gateway.named(network.options).values()):
        # Whatever is sent goes to the parent as it is: there is nobody to ask.
        raise ConflictingOptions(
            first=f"ipvlan_mode={flavour}",
            second=f"gateway={network.options['gateway']}",
        )
    shim.check(network.options, _unable(network.options))


def seat(options: Mapping[str, str]) -> ParentUse:
    """Return how the network sits on its parent: mode and flag are the parent's."""
    setting = f"ipvlan_mode={_flavour(options)}", f"ipvlan_flag={_flag(options)}"
    return ParentUse(KIND, setting)


def check_capacity(network: Network, neighbour: Endpoint) -> None:
    """Raise never: there is room for any number of endpoints."""
    del network, neighbour


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return no MAC: the child has the parent's, and Docker must not set it again."""
    del derived
    if endpoint.mac:
        raise BadMac(
            mac=endpoint.mac,
            why=f"an ipvlan container has the MAC of {network.parent_label},"
            f" {parent_mac}, and the kernel gives it no other. Leave --mac-address"
            " out, or use mode=macvlan",
        )
    return ""


def answers_arp(network: Network) -> bool:
    """Tell whether neighbours ask for a container: in l3 the parent answers nobody."""
    return _flavour(network.options) == "l2"


def reserves_gateway(options: Mapping[str, str], family: int) -> bool:
    """Tell whether the gateway's address is somebody's: in l3 there is no segment."""
    return _flavour(options) == "l2" and child.reserves_gateway(options, family)


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the child device, and the host's way to it."""
    flavour, flag = _flavour(network.options), _flag(network.options)
    link = child.endpoint_link(network, endpoint, KIND, flavour, flag)
    yield link
    if has_host_objects(network.options):
        l2 = flavour == "l2"
        mac = network.mac if l2 else ""
        yield from shim.objects(network, endpoint, link, mac=mac, on_segment=l2)


def has_host_objects(options: Mapping[str, str]) -> bool:
    """Tell whether the host reaches the containers."""
    return shim.is_enabled(options, _unable(options))


def sysctl_reasons(network: Network) -> Iterable[SysctlReason]:
    """Return that in l2 the host must hear its containers on the parent.

    What they send to the parent's own MAC arrives there, while the way back is by the
    shim.
    """
    l2 = _flavour(network.options) == "l2"
    if l2 and network.host_addresses and has_host_objects(network.options):
        yield SysctlReason("loose", network.parent)


def _unable(options: Mapping[str, str]) -> str:
    flag = _flag(options)
    if flag == "bridge":
        return ""
    return f"with ipvlan_flag={flag} the host is kept apart as its containers are"


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the child device; in l3, whatever is sent goes to the parent as it is."""
    if _flavour(network.options) == "l2":
        return child.on_segment(network, endpoint)
    device = Owner(network.id, endpoint.id).device
    if not child.has_way_out(network, endpoint):
        return JoinAnswer(device)
    families = sorted({a.version for a in endpoint.addresses})
    return JoinAnswer(device, on_link=tuple(EVERYWHERE[f] for f in families))


def _flavour(options: Mapping[str, str]) -> str:
    return read.choice(options, "ipvlan_mode", FLAVOURS)


def _flag(options: Mapping[str, str]) -> str:
    return read.choice(options, "ipvlan_flag", FLAGS)
