"""macvlan: a child device on the parent for each container, with a MAC of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from underlay.errors import (
    BadMac,
    MacTaken,
    MtuTooBig,
    PassthruFull,
    PassthruTaken,
)
from underlay.model import Attachment, Device, Endpoint, Network
from underlay.modes import options as read
from underlay.objects import Link, Owner

FLAVOURS = ("bridge", "private", "vepa", "passthru")
NETWORK_KEYS = ("mode", "parent", "macvlan_mode", *read.MTU_KEYS)
ENDPOINT_KEYS = read.MTU_KEYS


@dataclass(frozen=True, slots=True)
class Options:
    """What a macvlan network was asked to be. `parent` empty: isolated."""

    parent: str
    flavour: str
    mtu: int | None

    @classmethod
    def parse(cls, raw: Mapping[str, str]) -> Options:
        """Read the options, or say precisely what is wrong with them."""
        return cls(
            parent=raw.get("parent", ""),
            flavour=read.choice(raw, "macvlan_mode", FLAVOURS),
            mtu=read.mtu(raw),
        )


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    read.check_known(network.options, NETWORK_KEYS, "network")
    read.check_ipv6_mtu(network, Options.parse(network.options).mtu)


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise unless the options of the endpoint make sense."""
    read.check_known(endpoint.options, ENDPOINT_KEYS, "endpoint")
    read.check_ipv6_mtu(network, read.mtu(endpoint.options))


def parent_of(options: Mapping[str, str]) -> str:
    """Return the parent as the user named it."""
    return options.get("parent", "")


def admit(network: Network, parent: Device, others: Iterable[Network]) -> None:
    """Raise unless the parent can carry the network beside the others."""
    asked = Options.parse(network.options)
    if asked.mtu and asked.mtu > parent.mtu:
        raise MtuTooBig(mtu=asked.mtu, most=parent.mtu, parent=parent.name)
    for other in others:
        theirs = Options.parse(other.options).flavour
        if "passthru" in (asked.flavour, theirs):
            how = " in mode passthru" if theirs == "passthru" else ""
            raise PassthruTaken(
                parent=parent.name, other=f"network {other.label}", how=how
            )


def admit_endpoint(
    network: Network, endpoint: Endpoint, parent: Device, neighbour: Endpoint | None
) -> None:
    """Raise unless the network has room for the endpoint beside a neighbour."""
    size = read.mtu(endpoint.options)
    if size and size > parent.mtu:
        raise MtuTooBig(mtu=size, most=parent.mtu, parent=parent.name)
    if Options.parse(network.options).flavour == "passthru" and neighbour:
        raise PassthruFull(
            network=network.label, endpoint=neighbour.container or neighbour.id[:12]
        )


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent: Device, derived: str
) -> str:
    """Return the MAC the child gets: the one asked for, else the derived one.

    A passthru child shares the parent's MAC in both directions: setting another one on
    the child would change the parent, which is not ours.
    """
    if Options.parse(network.options).flavour != "passthru":
        if endpoint.mac == parent.mac:
            holder = f"{parent.name} itself has it"
            raise MacTaken(mac=endpoint.mac, parent=parent.name, holder=holder)
        return endpoint.mac or derived
    if endpoint.mac not in ("", parent.mac):
        raise BadMac(
            mac=endpoint.mac,
            why=f"in passthru mode the container has the MAC of {parent.name},"
            f" {parent.mac}, and changing it would change the host's device",
        )
    return parent.mac


def needs_gateway(options: Mapping[str, str], internal: bool) -> bool:
    """Tell whether containers use the gateway: not in an internal network."""
    del options
    return not internal


def network_objects(network: Network) -> Iterable[Link]:
    """Return nothing: the parent is the host's."""
    del network
    return ()


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Link]:
    """Return the child device."""
    asked = Options.parse(network.options)
    owner = Owner(network.id, endpoint.id)
    yield Link(
        name=owner.device,
        kind="macvlan",
        owner=owner,
        parent=network.parent,
        flavour=asked.flavour,
        mac=endpoint.mac or None,
        mtu=read.mtu(endpoint.options) or asked.mtu,
    )


def attachment(network: Network, endpoint: Endpoint) -> Attachment:
    """Return the child device and the gateways of the endpoint's subnets."""
    device = Owner(network.id, endpoint.id).device
    if network.internal:
        return Attachment(device)
    gateways = [
        segment.gateway
        for address in endpoint.addresses
        if (segment := network.segment_of(address.ip)) is not None
    ]
    return Attachment(
        device,
        gateway4=next((g for g in gateways if isinstance(g, IPv4Address)), None),
        gateway6=next((g for g in gateways if isinstance(g, IPv6Address)), None),
    )
