"""What the modes that put a child device on a parent have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadValue, MtuTooBig
from underlay.model import Endpoint, JoinAnswer, Network
from underlay.model.objects import Link, Owner, SharedOwner, SysctlReason
from underlay.modes import gateway
from underlay.modes import host_access as shim
from underlay.modes import options as read

NETWORK_KEYS = (
    "mode",
    "parent",
    "vlan",
    *shim.KEYS,
    *gateway.KEYS,
    *read.MTU_KEYS,
    *read.REPAIR_KEYS,
)
# The host would else take part in a VLAN by itself: with a link-local address, with one
# and a default route by router advertisement, and with answers to ARP for all it has.
QUIET = (
    "net/ipv6/conf/*/addr_gen_mode=1",
    "net/ipv6/conf/*/accept_ra=0",
    "net/ipv4/conf/*/arp_ignore=1",
)
ENDPOINT_KEYS = (*gateway.ENDPOINT_KEYS, *read.MTU_KEYS, *read.REPAIR_KEYS)


def check(network: Network, keys: Iterable[str]) -> None:
    """Raise unless the options of a network, `keys` of its mode's own, make sense."""
    read.check_known(network.options, (*NETWORK_KEYS, *keys), "network")
    if read.vlan(network.options) and is_isolated(network.options):
        tag = network.options["vlan"]
        need = "a VLAN is on a device, add -o parent=<device>"
        raise BadValue(key="vlan", value=tag, need=need, hint="")
    if network.options.get("parent") == "":
        need = "a device; leave it out for a network that leads nowhere"
        raise BadValue(key="parent", value="", need=need, hint="")
    gateway.check(network, isolated=is_isolated(network.options))
    read.check_ipv6_mtu(network, read.mtu(network.options))


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise unless the options of an endpoint make sense."""
    read.check_known(endpoint.options, ENDPOINT_KEYS, "endpoint")
    gateway.check_endpoint(endpoint)
    read.check_ipv6_mtu(network, read.mtu(endpoint.options))


def check_mtu(options: Mapping[str, str], most: int, parent: str) -> None:
    """Raise if the MTU asked for does not fit through the parent."""
    asked = read.mtu(options)
    if asked and asked > most:
        raise MtuTooBig(mtu=asked, most=most, parent=parent)


def is_isolated(options: Mapping[str, str]) -> bool:
    """Tell whether the network has no parent, hence leads nowhere."""
    return not (options.get("parent") or options.get("bridge"))


def has_way_out(network: Network, endpoint: Endpoint) -> bool:
    """Tell whether the container may have a default route by this network."""
    leads_nowhere = network.internal or is_isolated(network.options)
    return not leads_nowhere and gateway.gives_default_route(network, endpoint)


def reserves_gateway(options: Mapping[str, str], family: int) -> bool:
    """Tell whether the gateway has an address of the subnet, on a segment."""
    return not is_isolated(options) and family not in gateway.named(options)


def answers_arp(network: Network) -> bool:
    """Tell that neighbours find a container by ARP and neighbour discovery."""
    del network
    return True


def filters(options: Mapping[str, str]) -> str:
    """Return the option that needs nftables: none."""
    del options
    return ""


def sysctl_reasons(network: Network) -> Iterable[SysctlReason]:
    """Return for what its endpoints need settings of the host: nothing."""
    del network
    return ()


def network_objects(network: Network) -> Iterable[Link]:
    """Return what the children stand on, as far as it is ours to make."""
    if is_isolated(network.options):
        owner = Owner(network.id)
        size = read.mtu(network.options)
        yield Link(owner.device, "dummy", owner, mtu=size, up=True, sysctls=QUIET)
    below = ""
    for name in network.vlans:
        owner = SharedOwner("vlan", name).owner
        base, _, tag = name.rpartition(".")
        # What it stands on may have another name by now.
        base = network.base_device.name if network.base_device else base
        yield Link(
            owner.device,
            "vlan",
            owner,
            parent=below or base,
            vlan=int(tag),
            mtu=network.mtu or None,
            # The kernel sets no VLAN up on what is down, and those there by itself.
            up=None if network.link_fault == "down" else True,
            sysctls=QUIET,
        )
        below = owner.device


def endpoint_link(
    network: Network, endpoint: Endpoint, kind: str, flavour: str, flag: str | None
) -> Link:
    """Return the child device of an endpoint."""
    owner = Owner(network.id, endpoint.id)
    return Link(
        name=owner.device,
        kind=kind,
        owner=owner,
        parent=network.parent,
        flavour=flavour,
        flag=flag,
        mac=endpoint.mac or None,
        mtu=read.mtu(endpoint.options) or read.mtu(network.options),
    )


def on_segment(network: Network, endpoint: Endpoint) -> JoinAnswer:
    """Return the child device and the gateways of the endpoint's subnets."""
    device = Owner(network.id, endpoint.id).device
    if not has_way_out(network, endpoint):
        return JoinAnswer(device)
    return gateway.attachment(device, network, endpoint)
