"""Which ports of a container are reached, and from where: policy and sockets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from underlay.model import FAMILIES, Endpoint, IpAddress, IpInterface, Network
from underlay.model.listener import DeviceInside, Listener
from underlay.model.ports import PORTS_OPTION, Protocol, of_option
from underlay.modes import traits_of
from underlay.modes.child_device import is_isolated
from underlay.modes.port_policy import Policy, Port, policy_of, redirected

# `allowed`: from the networks of allow_from.
Reach = Literal["all", "allowed", "none"]
# A container may give itself any number of addresses: of a socket on all, no more than
# these are shown.
MOST_ADDRESSES = 16
_LIMITED_BROADCAST = "255.255.255.255"


@dataclass(frozen=True, slots=True)
class ExposedPort:
    """A port of a container, and from where its policy lets connections to it pass.

    They end at port `leads_to`, which is another one by -p 8080:80. `addresses` are
    those on which something listens there, none for a port that is published in vain.
    `containers` are others of this host.
    """

    protocol: Protocol
    port: int
    leads_to: int
    addresses: tuple[IpAddress, ...]
    lan: Reach
    host: Reach
    containers: Reach
    allow_from: tuple[str, ...] = ()


def exposed_ports(
    network: Network,
    endpoint: Endpoint,
    listeners: Iterable[Listener],
    device: DeviceInside,
) -> list[ExposedPort]:
    """Return the ports of a container on a network, by protocol and number.

    What listens elsewhere in the container only, as on 127.0.0.1, is left out. Of one
    port, addresses with different rules are apart.
    """
    policy = policy_of(network, endpoint)
    heard = _heard(listeners, device)
    ways = {(f, protocol, port): to for f, protocol, port, to in redirected(endpoint)}
    found: dict[ExposedPort, list[IpAddress]] = defaultdict(list)
    for key in (*(k for k in heard if k not in ways), *ways):
        family, protocol, port = key
        to = ways.get(key, port)
        if addresses := heard.get((family, protocol, to)):
            found[_judged(network, policy, key, to)] += addresses
    listening = {(row.protocol, row.port) for row in found}
    for row in _in_vain(network, endpoint, policy):
        if (row.protocol, row.port) not in listening:
            found.setdefault(row, [])
    rows = [
        replace(row, addresses=tuple(sorted(where, key=_order)))
        for row, where in found.items()
    ]
    return sorted(rows, key=lambda r: (r.protocol, r.port, *map(_order, r.addresses)))


def _order(address: IpAddress) -> tuple[int, bool, int]:
    return address.version, address.is_link_local, int(address)


def _heard(
    listeners: Iterable[Listener], device: DeviceInside
) -> dict[Port, set[IpAddress]]:
    """Return on which addresses of a device something listens, by port."""
    own = sorted({interface.ip for interface in device.addresses}, key=_order)
    every = {f: [a for a in own if a.version == f][:MOST_ADDRESSES] for f in FAMILIES}
    own_and_all = {*own, *(a for i in device.addresses for a in _broadcasts(i))}
    found: dict[Port, set[IpAddress]] = defaultdict(set)
    for one in listeners:
        if one.device not in (0, device.index):
            continue
        is_on = one.address in own_and_all or one.address.is_multicast
        for family in one.families:
            where = [one.address] if is_on else []
            if one.address.is_unspecified:
                where = every[family]
            if where:
                found[family, one.protocol, one.port].update(where)
    return found


def _broadcasts(interface: IpInterface) -> Iterator[IpAddress]:
    if interface.version == 4:
        yield interface.network.broadcast_address
        yield type(interface.ip)(_LIMITED_BROADCAST)


def _judged(network: Network, policy: Policy, key: Port, to: int) -> ExposedPort:
    """Return from where a port is reached; its addresses are left out."""
    family, protocol, port = key
    allowed = tuple(str(n) for n in policy.allow_from if n.version == family)
    reach: Reach = "none"
    if policy.inbound == "open" or (key in policy.published and not policy.allow_from):
        reach = "all"
    elif key in policy.published and allowed:
        reach = "allowed"
    host: Reach = "all" if key in policy.for_host else reach
    options = network.options
    is_alone = is_isolated(options) and not traits_of(options).host_prefix
    lan: Reach = "none" if is_alone else reach
    shown = allowed if reach == "allowed" else ()
    return ExposedPort(protocol, port, to, (), lan, host, reach, shown)


def _in_vain(
    network: Network, endpoint: Endpoint, policy: Policy
) -> Iterator[ExposedPort]:
    """Return the ports that -p names, as if nothing listened on them."""
    for port in of_option(endpoint.options.get(PORTS_OPTION, "")):
        key = port.families[0], port.protocol, port.published
        yield _judged(network, policy, key, port.port)
