"""routed: a pair of devices and a host route for each container; the host routes.

No bridge, nothing flooded, no MAC but the host's towards the network. The pool's
gateway stands on the host's end of every pair: each container finds it next to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_interface

from underlay.errors import NeedsUnderlayIpam, NotWithRouted
from underlay.model import Endpoint, JoinAnswer, Network, host_network
from underlay.model.objects import (
    CONTAINER_GROUP,
    FORWARDED,
    HOST_METRIC,
    POOL_METRIC,
    Address,
    ForwardAccept,
    Neighbour,
    Object,
    Owner,
    Route,
    SharedOwner,
    SysctlReason,
)
from underlay.modes import gateway, masquerade
from underlay.modes import options as read
from underlay.modes import veth as pair

KIND = pair.KIND
HOST_PREFIX = True
OWN_KEYS = read.ROUTED_KEYS
# No duplicate detection: a container speaks at once, and nobody else is on the link.
HOST_END = (
    "net/ipv4/conf/*/rp_filter=2",
    "net/ipv6/conf/*/disable_ipv6=0",
    "net/ipv6/conf/*/accept_dad=0",
    "net/ipv6/conf/*/accept_ra=0",
)
_ROUTES_SAY = (
    "the host's own routes say which device traffic takes. Leave it out; to be found by"
    " ARP on a device, use -o proxy=<device>"
)
_NO_SEGMENT = (
    "there is no segment that containers could stay on. With default_route=no they"
    " reach their own pools only"
)
_NO_HOP = (
    "containers reach everything by the gateway, each other too. To give no default"
    " route, use default_route=no"
)

check_endpoint = pair.check_endpoint
check_capacity = pair.check_capacity
seat = pair.seat
endpoint_mac = pair.endpoint_mac
has_host_objects = pair.has_host_objects
answers_arp = pair.answers_arp


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    options = network.options
    for key in ("parent", "vlan"):
        if options.get(key):
            raise NotWithRouted(option=f"{key}={options[key]}", why=_ROUTES_SAY)
    read.check_known(options, (*pair.NETWORK_KEYS, *OWN_KEYS), "network")
    if network.internal:
        raise NotWithRouted(option="--internal", why=_NO_SEGMENT)
    read.always_on(options, "host_access", "the host is the router of its containers")
    gateway.check(network, isolated=False)
    for segment in network.subnets:
        if not segment.pooled:
            raise NeedsUnderlayIpam(subnet=segment.subnet)
    if None in gateway.of(network):
        raise NotWithRouted(option="gateway=none", why=_NO_HOP)
    masquerade.is_enabled(options)
    read.table(options)
    read.check_ipv6_mtu(network, read.mtu(options))


def filters(options: Mapping[str, str]) -> str:
    """Return the option that needs nftables."""
    return "masquerade" if masquerade.is_enabled(options) else ""


def reserves_gateway(options: Mapping[str, str], family: int) -> bool:
    """Tell whether the gateway has an address of the subnet: ours to answer for."""
    return family not in gateway.named(options)


def sysctl_reasons(network: Network) -> Iterable[SysctlReason]:
    """Return what the host must be set to do."""
    for family in network.families:
        yield SysctlReason("forwarding", family=family)
        if network.proxy:
            yield SysctlReason("proxy", network.proxy, family)


def network_objects(network: Network) -> Iterable[Object]:
    """Return the end of whatever is sent to an address of a pool that nobody has."""
    table = read.table(network.options)
    for segment in network.subnets:
        owner = SharedOwner("pool", table=table, subnet=segment.subnet).owner
        yield Route(segment.subnet, None, POOL_METRIC, table, owner=owner)
    yield from masquerade.objects(network)


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the pair, the gateway on the host's end, and the way to the container."""
    owner = Owner(network.id, endpoint.id)
    device = owner.host_end.device
    proxy, table = network.proxy, read.table(network.options)
    yield pair.links(network, endpoint, group=CONTAINER_GROUP, settings=HOST_END)
    for found in _beside(network, endpoint).on_link:
        yield Address(
            ip_interface((found.network_address.packed, found.prefixlen)), device, owner
        )
    for address in endpoint.addresses:
        metric = HOST_METRIC[address.version]
        yield Route(host_network(address.ip), device, metric, table, owner=owner)
        if proxy:
            yield Neighbour(address.ip, proxy, owner=owner)
    for family in network.families:
        reason = SysctlReason("forwarding", family=family)
        for match in FORWARDED:
            yield ForwardAccept(family, match, reason.owner)


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the container's end; its own pools are behind the gateway in any case."""
    found = _beside(network, endpoint)
    if gateway.gives_default_route(network, endpoint):
        return found
    return JoinAnswer(found.device, on_link=found.on_link, via=found.via)


def _beside(network: Network, endpoint: Endpoint) -> JoinAnswer:
    device = Owner(network.id, endpoint.id).device
    found = gateway.attachment(device, network, endpoint)
    gateways = {g.version: g for g in (found.gateway4, found.gateway6) if g}
    return JoinAnswer(
        device,
        found.gateway4,
        found.gateway6,
        on_link=tuple(host_network(g) for g in gateways.values()),
        via=tuple(
            (segment.subnet, gateways[address.version])
            for address in endpoint.addresses
            if (segment := network.subnet_of(address.ip))
        ),
    )
