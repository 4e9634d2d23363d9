"""macvlan: a child device on the parent for each container, with a MAC of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from underlay.errors import BadMac
from underlay.model import Endpoint, Network
from underlay.model.objects import Object, SharedOwner
from underlay.modes import child_device, gate, host_access
from underlay.modes.gate_rules import on_parent
from underlay.modes.options import Traits, choice, number
from underlay.modes.parent_sharing import ParentUse

KIND = "macvlan"
FLAVOURS = ("bridge", "private", "vepa", "passthru")
OWN_KEYS = ("macvlan_mode", "bcqueuelen")
QUEUE_MOST = 1_000_000

sysctl_reasons = child_device.sysctl_reasons
attachment = child_device.on_segment


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    child_device.check(network, OWN_KEYS)
    _queue(network.options)
    host_access.check(network.options, _obstacle(network.options))


def traits(options: Mapping[str, str]) -> Traits:
    """Return the traits of a macvlan network.

    The shim needs nftables, because nothing of it may be seen on the LAN.
    """
    has_shim = host_access.is_enabled(options, _obstacle(options))
    return Traits(
        ParentUse(KIND, exclusive=_flavour(options) == "passthru"),
        host_objects=has_shim,
        answers_arp=True,
        reserved_gateways=child_device.reserved_gateways(options),
        nftables_option="host_access" if has_shim else "",
        has_siblings=True,
    )


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return the MAC the child gets: the one asked for, else the derived one.

    A passthru child shares the parent's MAC in both directions: setting another one on
    the child would change the parent, which belongs to the host.
    """
    if _flavour(network.options) != "passthru":
        return child_device.endpoint_mac(network, endpoint, parent_mac, derived)
    if endpoint.mac not in ("", parent_mac):
        raise BadMac(
            mac=endpoint.mac,
            why=f"in passthru mode the container has the MAC of {network.parent_label},"
            f" {parent_mac}, and another would change that of the host. Leave"
            " --mac-address out",
        )
    return parent_mac


def network_objects(network: Network) -> Iterable[Object]:
    """Return the VLANs or the dummy of the network, and the shim."""
    yield from child_device.network_objects(network)
    if traits(network.options).host_objects:
        flavour = _flavour(network.options)
        yield from host_access.network_objects(network, KIND, flavour)


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the child device, and the host's routes to it."""
    flavour = _flavour(network.options)
    link = child_device.endpoint_link(network, endpoint, KIND, flavour, None)
    link = replace(link, queue=_queue(network.options))
    if flavour == "passthru":
        # A MAC set on the child would be set on the parent.
        link = replace(link, mac=None)
    yield link
    if traits(network.options).host_objects:
        yield from host_access.endpoint_objects(network, endpoint, mac=endpoint.mac)
    parent = network.uplink.parent
    owner = SharedOwner("gate", parent)
    yield from gate.of_host(network, endpoint, on_parent(parent), owner)


def _obstacle(options: Mapping[str, str]) -> str:
    return host_access.obstacle("macvlan_mode", _flavour(options))


def _flavour(options: Mapping[str, str]) -> str:
    return choice(options, "macvlan_mode", FLAVOURS)


def _queue(options: Mapping[str, str]) -> int | None:
    """Return how many broadcasts may wait for a container; None is the kernel's."""
    if not options.get("bcqueuelen"):
        return None
    return number(options, "bcqueuelen", 1, QUEUE_MOST, "a number of packets")
