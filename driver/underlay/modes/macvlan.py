"""macvlan: a child device on the parent for each container, with a MAC of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from underlay.errors import BadMac, MacTaken, PassthruFull
from underlay.model import Endpoint, Network
from underlay.model.objects import Object
from underlay.modes import child_device as child
from underlay.modes import host_access as shim
from underlay.modes import options as read
from underlay.modes.parent_sharing import ParentUse

KIND = "macvlan"
HOST_PREFIX = False
FLAVOURS = ("bridge", "private", "vepa", "passthru")
OWN_KEYS = ("macvlan_mode",)

check_endpoint = child.check_endpoint
network_objects = child.network_objects
sysctl_reasons = child.sysctl_reasons
attachment = child.on_segment
reserves_gateway = child.reserves_gateway
answers_arp = child.answers_arp


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    child.check(network, OWN_KEYS)
    shim.check(network.options, _unable(network.options))


def seat(options: Mapping[str, str]) -> ParentUse:
    """Return how the network sits on its parent."""
    return ParentUse(KIND, exclusive=_flavour(options) == "passthru")


def check_capacity(network: Network, neighbour: Endpoint) -> None:
    """Raise unless the network has room for an endpoint beside a neighbour."""
    if _flavour(network.options) == "passthru":
        raise PassthruFull(
            network=network.label, endpoint=neighbour.container or neighbour.id[:12]
        )


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return the MAC the child gets: the one asked for, else the derived one.

    A passthru child shares the parent's MAC in both directions: setting another one on
    the child would change the parent, which is not ours.
    """
    if _flavour(network.options) != "passthru":
        if endpoint.mac == parent_mac:
            holder = f"{network.parent_label} itself has it"
            raise MacTaken(mac=endpoint.mac, parent=network.parent_label, holder=holder)
        return endpoint.mac or derived
    if endpoint.mac not in ("", parent_mac):
        raise BadMac(
            mac=endpoint.mac,
            why=f"in passthru mode the container has the MAC of {network.parent_label},"
            f" {parent_mac}, and changing it would change the host's device",
        )
    return parent_mac


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the child device, and the host's way to it."""
    flavour = _flavour(network.options)
    link = child.endpoint_link(network, endpoint, KIND, flavour, None)
    if flavour == "passthru":
        # Whatever the parent has by now: a MAC set here would be set there.
        link = replace(link, mac=None)
    yield link
    if has_host_objects(network.options):
        yield from shim.objects(network, endpoint, link, mac=endpoint.mac)


def has_host_objects(options: Mapping[str, str]) -> bool:
    """Tell whether the host reaches the containers."""
    return shim.is_enabled(options, _unable(options))


def filters(options: Mapping[str, str]) -> str:
    """Return the option that needs nftables: the shim must not be heard on the LAN."""
    return "host_access" if has_host_objects(options) else ""


def _unable(options: Mapping[str, str]) -> str:
    flavour = _flavour(options)
    if flavour == "bridge":
        return ""
    return f"with macvlan_mode={flavour} the host is kept apart as its containers are"


def _flavour(options: Mapping[str, str]) -> str:
    return read.choice(options, "macvlan_mode", FLAVOURS)
