"""What macvlan, ipvlan and bridge have in common: containers on a parent's segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue, MacTaken, MtuTooBig
from underlay.model import FAMILIES, Endpoint, Family, JoinAnswer, Network
from underlay.model.objects import Link, Owner, SharedOwner, SysctlReason
from underlay.modes import gateway, leased
from underlay.modes.options import (
    NETWORK_KEYS,
    PARENT_KEYS,
    check_ipv6_mtu,
    check_known,
    mtu,
    number,
)

VLAN_LEAST, VLAN_MOST = 1, 4094
# Without these the host takes part in a VLAN by itself: it has a link-local address
# there, takes an address and a default route from router advertisements, and answers
# ARP for all its addresses.
QUIET = (
    "net/ipv6/conf/*/addr_gen_mode=1",
    "net/ipv6/conf/*/accept_ra=0",
    "net/ipv4/conf/*/arp_ignore=1",
)


def check(network: Network, keys: Iterable[str]) -> None:
    """Raise unless the options of a network, `keys` of its mode's own, make sense."""
    check_known(network.options, (*NETWORK_KEYS, *PARENT_KEYS, *keys), "network")
    if vlan(network.options) and is_isolated(network.options):
        tag = network.options["vlan"]
        need = "a VLAN needs a parent. Add -o parent=<device>"
        raise BadValue(key="vlan", value=tag, need=need, hint="")
    if network.options.get("parent") == "":
        need = "expected a device. Leave it out for a network without a parent"
        raise BadValue(key="parent", value="", need=need, hint="")
    gateway.check(network, isolated=is_isolated(network.options))
    check_ipv6_mtu(network, mtu(network.options))


def check_mtu(options: Mapping[str, str], most: int, parent: str) -> None:
    """Raise if the MTU asked for does not fit through the parent."""
    asked = mtu(options)
    if asked and asked > most:
        raise MtuTooBig(mtu=asked, most=most, parent=parent)


def vlan(options: Mapping[str, str]) -> int | None:
    """Return the VLAN tag asked for by `vlan=`."""
    if not options.get("vlan"):
        return None
    return number(options, "vlan", VLAN_LEAST, VLAN_MOST, "a number")


def is_isolated(options: Mapping[str, str]) -> bool:
    """Return whether the network has no parent, hence leads nowhere."""
    return not (options.get("parent") or options.get("bridge"))


def ways_out(network: Network, endpoint: Endpoint) -> tuple[Family, ...]:
    """Return the IP families of default routes that the container may have by it."""
    if network.internal or is_isolated(network.options):
        return ()
    return gateway.default_families({**network.options, **endpoint.options})


def reserved_gateways(options: Mapping[str, str]) -> tuple[Family, ...]:
    """Return the IP families whose gateway has an address of the pool, on a segment."""
    if is_isolated(options):
        return ()
    return tuple(f for f in FAMILIES if f not in gateway.named(options))


def endpoint_mac(
    network: Network, endpoint: Endpoint, parent_mac: str, derived: str
) -> str:
    """Return the MAC asked for, else the derived one; raises MacTaken."""
    if endpoint.mac == parent_mac:
        holder = f"{network.parent_label} itself has it"
        raise MacTaken(mac=endpoint.mac, parent=network.parent_label, holder=holder)
    return endpoint.mac or derived


def sysctl_reasons(_network: Network) -> Iterable[SysctlReason]:
    """Return no reason: the endpoints need no sysctl of the host."""
    return ()


def network_objects(network: Network) -> Iterable[Link]:
    """Return the dummy or the VLANs that the network's devices stand on."""
    if is_isolated(network.options):
        owner = Owner(network.id)
        size = mtu(network.options)
        yield Link(owner.device, "dummy", owner, mtu=size, up=True, sysctls=QUIET)
    # The device under the VLANs may have been renamed since.
    below = network.uplink.base_identity.name
    for name in network.uplink.vlans:
        owner = SharedOwner("vlan", name).owner
        tag = name.rpartition(".")[2]
        yield Link(
            owner.device,
            "vlan",
            owner,
            parent=below,
            vlan=int(tag),
            mtu=network.uplink.mtu or None,
            # The kernel refuses to set a VLAN up on a device that is down, and sets
            # the VLANs of a device up when that comes up.
            up=None if network.uplink.link_fault == "down" else True,
            sysctls=QUIET,
        )
        below = owner.device


def endpoint_link(
    network: Network, endpoint: Endpoint, kind: str, flavour: str, flag: str | None
) -> Link:
    """Return the child device of an endpoint."""
    owner = Owner(network.id, endpoint.id)
    size = mtu(endpoint.options) or mtu(network.options)
    return Link(
        name=owner.device,
        kind=kind,
        owner=owner,
        parent=network.uplink.parent,
        flavour=flavour,
        flag=flag,
        mac=endpoint.mac or None,
        mtu=size or leased.mtu(network, endpoint),
    )


def on_segment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the child device and the gateways of the endpoint's subnets."""
    device = Owner(network.id, endpoint.id).device
    return gateway.attachment(device, network, endpoint, ways_out(network, endpoint))
