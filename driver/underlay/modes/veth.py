"""veth: what the modes have in common that connect a container by a veth.

Docker moves the container's end; the host's end stays, and carries the rest.
"""

from __future__ import annotations

from dataclasses import replace

from underlay.model import Endpoint, Network
from underlay.model.objects import Link, Owner
from underlay.modes import leased
from underlay.modes.options import mtu

KIND = "veth"


def placeholder(network: Network, endpoint: Endpoint) -> Link:
    """Return a veth that leads nowhere, so that Docker has a device to move.

    Its host's end stays down, so it has no carrier. As soon as the endpoint's own
    device can be made, that takes its place. Where the own device is a veth, the
    placeholder becomes it, and so has the MTU that the parent had.
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
    size = mtu(endpoint.options) or mtu(network.options)
    size = size or leased.mtu(network, endpoint)
    if not like:
        size = size or network.uplink.mtu or None
    return Link(
        owner.device, KIND, owner, mac=endpoint.mac or None, mtu=size, copy_from=like
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

    Both ends have the MTU of the device `like`, and the host's end has its MAC as well.
    The MTU asked for is then the container's alone: a bridge takes the least MTU of its
    ports, so the host's ends have room for its MTU, and are never made smaller.
    """
    owner = Owner(network.id, endpoint.id)
    container = _far_end(network, endpoint, like)
    return Link(
        owner.host_end.device,
        KIND,
        owner.host_end,
        mtu=None if like else container.mtu,
        room=network.uplink.mtu or None if like else None,
        up=True,
        master=master,
        copy_from=like,
        peer=container,
        group=group,
        sysctls=settings,
    )
