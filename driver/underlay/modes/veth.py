"""What the modes have in common that connect a container by a pair of devices.

The container's end is what Docker moves; the host's end stays, and carries the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from underlay.model import Endpoint, Network
from underlay.model.objects import Link, Owner
from underlay.modes import gateway
from underlay.modes import options as read
from underlay.modes.parent_sharing import ParentUse

KIND = "veth"
NETWORK_KEYS = (
    "mode",
    "host_access",
    *gateway.KEYS,
    *read.MTU_KEYS,
    *read.REPAIR_KEYS,
)
ENDPOINT_KEYS = (*gateway.ENDPOINT_KEYS, *read.MTU_KEYS, *read.REPAIR_KEYS)


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise unless the options of an endpoint make sense."""
    read.check_known(endpoint.options, ENDPOINT_KEYS, "endpoint")
    gateway.check_endpoint(endpoint)
    read.check_ipv6_mtu(network, read.mtu(endpoint.options))


def seat(options: Mapping[str, str]) -> ParentUse | None:
    """Return nothing: the network takes no device for itself."""
    del options
    return None


def check_capacity(network: Network, neighbour: Endpoint) -> None:
    """Raise never: there is room for any number of endpoints."""
    del network, neighbour


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return the MAC asked for, else the derived one."""
    del network, parent_mac
    return endpoint.mac or derived


def has_host_objects(options: Mapping[str, str]) -> bool:
    """Tell that something of an endpoint stays in the host when it is joined."""
    del options
    return True


def answers_arp(network: Network) -> bool:
    """Tell whether neighbours ask the host for a container, where no bridge is."""
    return bool(network.proxy)


def placeholder(network: Network, endpoint: Endpoint) -> Link:
    """Return a pair that leads nowhere, for Docker to have a device to move.

    It has no carrier, for its host's end stays down. As soon as the device it stands
    for can be made, that takes its place; or it becomes that itself, if that is a pair,
    so it has the MTU that the parent had.
    """
    owner = Owner(network.id, endpoint.id)
    far = _far_end(network, endpoint)
    return Link(
        owner.host_end.device,
        KIND,
        owner.host_end,
        peer=replace(far, placeholder=True),
        placeholder=True,
    )


def _far_end(network: Network, endpoint: Endpoint, like: str | None = None) -> Link:
    owner = Owner(network.id, endpoint.id)
    mtu = read.mtu(endpoint.options) or read.mtu(network.options)
    if not like:
        mtu = mtu or network.mtu or None
    return Link(
        owner.device, KIND, owner, mac=endpoint.mac or None, mtu=mtu, copy_from=like
    )


def links(
    network: Network,
    endpoint: Endpoint,
    *,
    master: str | None = None,
    like: str | None = None,
    group: int | None = None,
    settings: tuple[str, ...] = (),
) -> Link:
    """Return the host's end, with the container's as its peer.

    `like` is a device that has the MTU, and the host's end its MAC as well. The MTU
    asked for is then the container's alone: a bridge takes the least one of its ports,
    so these have room for its MTU, and are never made smaller.
    """
    owner = Owner(network.id, endpoint.id)
    container = _far_end(network, endpoint, like)
    return Link(
        owner.host_end.device,
        KIND,
        owner.host_end,
        mtu=None if like else container.mtu,
        room=network.mtu or None if like else None,
        up=True,
        master=master,
        copy_from=like,
        peer=container,
        group=group,
        sysctls=settings,
    )
