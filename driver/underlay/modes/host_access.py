"""host_access: a sibling of the containers in the host (the shim), for both directions.

The kernel keeps a parent and its children apart, but not children among themselves. The
shim has no address: the host sends through it from the address it has on the parent, by
one host route per container, and answers there when a container asks for that address.
Nothing of it may be seen on the LAN, where the parent answers for the host's address.
It exists as long as a network needs it: a container brings routes and neighbours only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue
from underlay.model import (
    Endpoint,
    Family,
    IpAddress,
    IpNetwork,
    Network,
    host_network,
)
from underlay.model.objects import (
    HOST_METRIC,
    SHIM_GROUP,
    Link,
    Neighbour,
    NftChain,
    Object,
    Owner,
    Route,
    SharedOwner,
    Sysctl,
)
from underlay.modes import masquerade
from underlay.modes.options import choice

# The shim answers ARP only from an address that the host would route back through it,
# and answers neighbour solicitations for its proxy entries without delay. It sends
# nothing by itself.
SETTINGS = (
    "net/ipv4/conf/*/arp_filter=1",
    "net/ipv6/conf/*/disable_ipv6=0",
    "net/ipv6/conf/*/addr_gen_mode=1",
    "net/ipv6/conf/*/accept_ra=0",
    "net/ipv6/conf/*/accept_dad=0",
    "net/ipv6/conf/*/proxy_ndp=1",
    "net/ipv6/conf/*/forwarding=1",
    "net/ipv6/neigh/*/proxy_delay=0",
)
_GROUP = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"
# arp_filter lets ARP probes without a sender address pass, and IPv6 has nothing like
# it. So the ingress chain drops what the host would not answer through the shim.
_HEARD = (
    "arp saddr ip 0.0.0.0 drop",
    f"{_GROUP} icmpv6 type nd-neighbor-solicit fib saddr . iif oif missing drop",
)
# What asks whether an address is in use, and what asks DHCP servers, has this mark: the
# siblings of the containers hear no other device of the host.
PROBE_MARK = 0x756C
_SAID = (f"meta mark {PROBE_MARK:#010x} accept", f"{_GROUP} drop")


def obstacle(option: str, value: str) -> str:
    """Return why there can be no shim with this value of an option, "" if there can."""
    if value == "bridge":
        return ""
    return f"{option}={value} keeps the host apart from its containers"


def check(options: Mapping[str, str], obstacle: str) -> None:
    """Raise if host access is asked for, and there is an obstacle."""
    asked = choice(options, "host_access", ("", "on", "off"))
    if asked == "on" and obstacle:
        need = f"only off is possible, because {obstacle}"
        raise BadValue(key="host_access", value="on", need=need, hint="")


def is_enabled(options: Mapping[str, str], obstacle: str) -> bool:
    """Return whether the host has a shim for a network."""
    return (
        not obstacle
        and bool(options.get("parent"))
        and (options.get("host_access") != "off")
    )


def optional_device(network: Network) -> str:
    """Return the shim whose absence fails no verb, "" if the user asked for it."""
    asked = network.options.get("host_access") == "on"
    return "" if asked else _shim_of(network).device


def network_objects(
    network: Network,
    kind: str,
    flavour: str,
    flag: str | None = None,
    *,
    on_segment: bool = True,
) -> Iterable[Object]:
    """Return the shim, which all networks on a parent share; `kind` as the children.

    With `on_segment` the host must have an address in a subnet of the network:
    containers ask for it by ARP or neighbour discovery.
    """
    subnets = (s.subnet for s in network.subnets)
    if not any(_source(network, s.version, s, on_segment=on_segment) for s in subnets):
        return
    owner = _shim_of(network)
    yield Link(
        owner.device,
        kind,
        owner,
        parent=network.uplink.parent,
        flavour=flavour,
        flag=flag,
        mtu=network.uplink.mtu or None,
        up=True,
        group=SHIM_GROUP,
        sysctls=SETTINGS,
        up_after_filters=kind == "macvlan",
    )
    if kind == "macvlan":
        yield from filters(owner)
        yield from masquerade.through(network, owner)
    known = [a.ip for a in network.uplink.host_addresses if a.version == 6]
    if on_segment and known:
        yield from (Neighbour(a, owner.device, owner=owner) for a in known)
        # `net.ipv6.conf.all.forwarding` sets that of this device too, and RTM_NEWLINK
        # does not report proxy_delay.
        for path, value in (("conf/{}/forwarding", "1"), ("neigh/{}/proxy_delay", "0")):
            yield Sysctl(f"net/ipv6/{path.format(owner.device)}", value, owner=owner)


def endpoint_objects(
    network: Network, endpoint: Endpoint, *, mac: str = "", on_segment: bool = True
) -> Iterable[Object]:
    """Return the host's routes to an endpoint by the shim, and its neighbour entries.

    `mac` is the endpoint's, "" if the host needs no neighbour entry.
    """
    owner = Owner(network.id, endpoint.id)
    for interface in endpoint.addresses:
        there, segment = interface.ip, network.subnet_of(interface.ip)
        subnet = segment.subnet if segment else None
        if segment and segment.dhcp:  # that of the network may be everything
            subnet = interface.network
        here = _source(network, there.version, subnet, on_segment=on_segment)
        if here is None:
            continue
        device, metric = _shim_of(network).device, HOST_METRIC[there.version]
        yield Route(host_network(there), device, metric, source=here, owner=owner)
        if mac:
            yield Neighbour(there, device, mac, owner=owner)


def _shim_of(network: Network) -> Owner:
    return SharedOwner("shim", network.uplink.parent).owner


def _source(
    network: Network, family: Family, subnet: IpNetwork | None, *, on_segment: bool
) -> IpAddress | None:
    """Return the host's address in a subnet, or any of its family."""
    for here in (a.ip for a in network.uplink.host_addresses):
        if here.version == family and (
            not on_segment or (subnet is not None and here in subnet)
        ):
            return here
    return None


def filters(owner: Owner) -> Iterable[NftChain]:
    """Return the chains that keep a shim from the LAN; without them it stays down."""
    device = owner.device
    for way, rules in (("ingress", _HEARD), ("egress", _SAID)):
        hook = f"filter hook {way} priority 0"
        yield NftChain("netdev", f"{way}-{device}", hook, rules, device, owner)
