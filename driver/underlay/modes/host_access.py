"""host_access: a sibling of the containers in the host (the shim), for both directions.

The kernel keeps a parent and its children apart, but not children among themselves. The
shim has no address: the host sends through it from the address it has on the parent, by
one host route per container, and answers there when a container asks for that address.
Nothing of it may be seen on the LAN, where the parent answers for the host's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue
from underlay.model import Endpoint, IpAddress, Network, host_network
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
_SAID = (f"{_GROUP} drop",)


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


def objects(
    network: Network,
    endpoint: Endpoint,
    child: Link,
    *,
    mac: str = "",
    on_segment: bool = True,
) -> Iterable[Object]:
    """Return the shim and the host routes to one endpoint, whose device is `child`.

    `mac` is the endpoint's, "" if the host needs no neighbour entry. With `on_segment`
    the host must have an address in the endpoint's subnet: the container asks for it by
    ARP or neighbour discovery.
    """
    ways = list(_ways(network, endpoint, on_segment=on_segment))
    if not ways:
        return
    owner = SharedOwner("shim", network.uplink.parent).owner
    yield from _shim(network, child, owner, on_segment=on_segment)
    mine = Owner(network.id, endpoint.id)
    for there, here in ways:
        metric = HOST_METRIC[there.version]
        yield Route(host_network(there), owner.device, metric, source=here, owner=mine)
        if mac:
            yield Neighbour(there, owner.device, mac, owner=mine)


def _shim(
    network: Network, child: Link, owner: Owner, *, on_segment: bool
) -> Iterable[Object]:
    """Return what all endpoints on a parent share."""
    yield Link(
        owner.device,
        child.kind,
        owner,
        parent=network.uplink.parent,
        flavour=child.flavour,
        flag=child.flag,
        mtu=network.uplink.mtu or None,
        up=True,
        group=SHIM_GROUP,
        sysctls=SETTINGS,
        up_after_filters=child.kind == "macvlan",
    )
    if child.kind == "macvlan":
        yield from filters(owner)
        yield from masquerade.through(network, owner)
    known = [a.ip for a in network.uplink.host_addresses if a.version == 6]
    if on_segment and known:
        yield from (Neighbour(a, owner.device, owner=owner) for a in known)
        # `net.ipv6.conf.all.forwarding` sets that of this device too, and RTM_NEWLINK
        # does not report proxy_delay.
        for path, value in (("conf/{}/forwarding", "1"), ("neigh/{}/proxy_delay", "0")):
            yield Sysctl(f"net/ipv6/{path.format(owner.device)}", value, owner=owner)


def _ways(
    network: Network, endpoint: Endpoint, *, on_segment: bool
) -> Iterable[tuple[IpAddress, IpAddress]]:
    """Return the endpoint's addresses, each with the host's address in its subnet."""
    for address in (a.ip for a in endpoint.addresses):
        segment = network.subnet_of(address)
        known = network.uplink.host_addresses
        for here in (a.ip for a in known if a.version == address.version):
            if not on_segment or (segment and here in segment.subnet):
                yield address, here
                break


def filters(owner: Owner) -> Iterable[NftChain]:
    """Return the chains that keep a shim from the LAN; without them it stays down."""
    device = owner.device
    for way, rules in (("ingress", _HEARD), ("egress", _SAID)):
        hook = f"filter hook {way} priority 0"
        yield NftChain("netdev", f"{way}-{device}", hook, rules, device, owner)
