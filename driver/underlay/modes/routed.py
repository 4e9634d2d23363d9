"""routed: a veth and a host route for each container; the host routes.

There is no bridge, no frame is flooded, and the network sees the host's MAC only. The
pool's gateway address is on the host's end of every veth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_interface

from underlay.errors import BadValue, NeedsUnderlayIpam, NotWithRouted
from underlay.model import FAMILIES, Endpoint, JoinAnswer, Network, host_network
from underlay.model.objects import (
    CONTAINER_GROUP,
    FORWARDED,
    HOST_METRIC,
    MAIN_TABLE,
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
from underlay.modes import gate, gateway, isolation, masquerade, veth
from underlay.modes.gate_rules import ROUTED
from underlay.modes.options import (
    NETWORK_KEYS,
    ROUTED_KEYS,
    Traits,
    always_on,
    check_ipv6_mtu,
    check_known,
    mtu,
    number,
)

TABLE_LEAST, TABLE_MOST = 1, 2**32 - 1
KERNELS_TABLES = (253, 255)
KIND = veth.KIND
OWN_KEYS = ROUTED_KEYS
# No duplicate address detection: a container sends at once, and is alone on the link.
HOST_END = (
    "net/ipv4/conf/*/rp_filter=2",
    "net/ipv6/conf/*/disable_ipv6=0",
    "net/ipv6/conf/*/accept_dad=0",
    "net/ipv6/conf/*/accept_ra=0",
)
_ROUTES_SAY = (
    "the routes of the host decide which device the traffic takes. Leave it out. To"
    " have the host answer ARP for the containers on a device, use -o proxy=<device>"
)
_NO_SEGMENT = (
    "a routed network has no segment of its own. With default_route=no its containers"
    " reach the subnets of the network only"
)
_NO_HOP = (
    "containers reach everything through the gateway, each other too. For containers"
    " without a default route, use default_route=no"
)


def check(network: Network) -> None:
    """Raise unless the options make sense."""
    options = network.options
    for key in ("parent", "vlan"):
        if options.get(key):
            raise NotWithRouted(option=f"{key}={options[key]}", why=_ROUTES_SAY)
    check_known(options, (*NETWORK_KEYS, *OWN_KEYS), "network")
    if network.internal:
        raise NotWithRouted(option="--internal", why=_NO_SEGMENT)
    always_on(options, "host_access", "the host is the router of its containers")
    gateway.check(network, isolated=False)
    for segment in network.subnets:
        if not segment.pooled:
            raise NeedsUnderlayIpam(subnet=segment.subnet)
    if None in gateway.of(network):
        raise NotWithRouted(option="gateway=none", why=_NO_HOP)
    masquerade.is_enabled(options)
    _table(options)
    check_ipv6_mtu(network, mtu(options))


def traits(options: Mapping[str, str]) -> Traits:
    """Return the traits of a routed network.

    The gateway is an address of the host's, so no container may have it, unless
    `gateway=` names another. With `proxy=` the host answers ARP for its containers.
    """
    return Traits(
        parent_use=None,
        host_objects=True,
        answers_arp=bool(options.get("proxy")),
        reserved_gateways=tuple(f for f in FAMILIES if f not in gateway.named(options)),
        nftables_option="masquerade" if masquerade.is_enabled(options) else "",
        host_prefix=True,
    )


def endpoint_mac(
    _network: Network, endpoint: Endpoint, _parent_mac: str, derived: str
) -> str:
    """Return the MAC asked for, else the derived one."""
    return endpoint.mac or derived


def sysctl_reasons(network: Network) -> Iterable[SysctlReason]:
    """Return that the host must forward, and with `proxy=` answer for containers."""
    for family in network.families:
        yield SysctlReason("forwarding", family=family)
        if network.proxy:
            yield SysctlReason("proxy", network.proxy, family)


def network_objects(network: Network) -> Iterable[Object]:
    """Return a blackhole route for the addresses of a pool that no container has."""
    table = _table(network.options)
    for segment in network.subnets:
        owner = SharedOwner("pool", table=table, subnet=segment.subnet).owner
        yield Route(segment.subnet, None, POOL_METRIC, table, owner=owner)
    yield from masquerade.objects(network)


def endpoint_objects(network: Network, endpoint: Endpoint) -> Iterable[Object]:
    """Return the veth, the gateway on the host's end, and the container's route."""
    owner = Owner(network.id, endpoint.id)
    device = owner.host_end.device
    proxy, table = network.proxy, _table(network.options)
    yield veth.links(network, endpoint, group=CONTAINER_GROUP, settings=HOST_END)
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
    yield from gate.of_host(network, endpoint, ROUTED, SharedOwner("gate"))
    yield from isolation.objects(network, endpoint)


def attachment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the container's end; its own pools are reached by the gateway anyway."""
    found = _beside(network, endpoint)
    families = gateway.default_families({**network.options, **endpoint.options})
    return replace(
        found,
        gateway4=found.gateway4 if 4 in families else None,
        gateway6=found.gateway6 if 6 in families else None,
    )


def _beside(network: Network, endpoint: Endpoint) -> JoinAnswer:
    device = Owner(network.id, endpoint.id).device
    found = gateway.attachment(device, network, endpoint, FAMILIES)
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


def _table(options: Mapping[str, str]) -> int:
    """Return the routing table that routes go to, by its number."""
    if not options.get("table"):
        return MAIN_TABLE
    found = number(options, "table", TABLE_LEAST, TABLE_MOST, "a routing table")
    if found in KERNELS_TABLES:
        need = f"a routing table; {found} is the kernel's own"
        raise BadValue(key="table", value=options["table"], need=need, hint="")
    return found
