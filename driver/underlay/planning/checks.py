"""Checks before a network is created: kernel, sharing of the parent, gateways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.errors import BadParent, GatewayTaken, KernelLacks, RoutedSubnetOnHost
from underlay.model import Endpoint, Network
from underlay.model.host import Host
from underlay.modes import (
    MODES,
    gateway,
    mode_name,
    mode_of,
    port_policy,
    traits_of,
)
from underlay.modes.child_device import is_isolated
from underlay.modes.parent_sharing import CHILD_KINDS, parent_use_of
from underlay.planning.device_lookup import device_list


def check_kernel(network: Network, host: Host) -> None:
    """Raise KernelLacks if the kernel cannot make what the network needs."""
    kind = mode_of(network.options).KIND
    if not host.has_kind(kind):
        works = [name for name, mode in MODES.items() if host.has_kind(mode.KIND)]
        use = f"mode={works[0]} works here" if works else "no mode works here"
        raise KernelLacks(
            module=kind,
            what=f"mode {mode_name(network.options)}",
            instead=f"{use}, or load the module (modprobe {kind})",
        )
    check_guards(network, {}, host)
    needs = traits_of(network.options).nftables_option
    if needs in network.options and not host.can_filter:
        raise KernelLacks(
            module="nftables (or this host no nft)",
            what=f"{needs}={network.options[needs]}",
            instead=f"leave {needs} out, or install the package nftables",
        )
    use = f"mode={mode_name(network.options)} works here"
    if network.uplink.vlans and not host.has_kind("vlan"):
        raise KernelLacks(
            module="8021q",
            what=f"VLAN {network.parent_label}",
            instead=f"{use} on a device that the switch sends that VLAN to untagged"
            " (-o parent=<device>)",
        )
    isolated = is_isolated(network.options)
    if (
        isolated
        and traits_of(network.options).parent_use
        and not host.has_kind("dummy")
    ):
        raise KernelLacks(
            module="dummy",
            what="a network without a parent",
            instead=f"{use} on a device (-o parent=<device>, with --internal if"
            " no traffic is to leave)",
        )


def check_guards(network: Network, given: Mapping[str, str], host: Host) -> None:
    """Raise KernelLacks if options ask for a gate that this host cannot have.

    `given` are those of an endpoint, if it is about one.
    """
    said, known = {**network.options, **given}, (*port_policy.KEYS, port_policy.ISOLATE)
    keys = [key for key in known if key in said]
    if not keys or host.can_guard:
        return
    asked = Endpoint("", network.id, options=given)
    policy = port_policy.policy_of(network, asked)
    if policy.is_required or port_policy.is_isolated(network):
        raise KernelLacks(
            module="nftables with the hooks ingress and egress (5.16), or this host no"
            " libnftables",
            what=", ".join(f"{key}={said[key]}" for key in keys),
            instead="install the package nftables, or leave the option out: nothing is"
            " closed or checked then",
        )


def check_parent_sharing(
    network: Network, others: Iterable[Network], host: Host
) -> None:
    """Raise Conflict unless the parent can carry the network and the others.

    `others` are networks on the same parent. Of the children that other programs made,
    those moved into a namespace cannot be seen here.
    """
    mine, uplink = traits_of(network.options).parent_use, network.uplink
    if mine is None:
        return
    for other in others:
        if other.id == network.id:
            continue
        base, its_base = (u.base_identity.name for u in (uplink, other.uplink))
        apart = bool(uplink.vlans) and its_base != base
        if apart or other.uplink.vlans != uplink.vlans:
            why = f"network {other.label} has a VLAN of that name on another device"
            raise BadParent(
                parent=network.parent_label, why=why, known=device_list(host)
            )
        if theirs := traits_of(other.options).parent_use:
            mine.check_compatible(
                theirs, f"network {other.label}", network.parent_label
            )
    for child in host.devices(*CHILD_KINDS):
        if child.parent == uplink.parent and not child.ours:
            holder = f"device {child.name}, not of underlay"
            mine.check_compatible(parent_use_of(child), holder, network.parent_label)


def check_gateways(network: Network, routed: Iterable[Network], host: Host) -> None:
    """Raise GatewayTaken if another machine has an address that this host is to take.

    Raise RoutedSubnetOnHost if a pool is a whole segment of the host: what no container
    has of a pool leads nowhere.

    What `routed` networks have is the host's already, for the same purpose. It takes a
    second if a wire of the host's is where the address would be.
    """
    if not traits_of(network.options).host_prefix:
        return
    for segment in network.subnets:
        for address in host.addresses_of(""):
            own = address.network
            inside = own.version == segment.subnet.version and (
                own.subnet_of(segment.subnet)  # type: ignore[arg-type]
            )
            if inside and own.num_addresses > 1:
                raise RoutedSubnetOnHost(subnet=segment.subnet, address=address)
    known = {found for other in routed for found in gateway.of(other)}
    for found in gateway.of(network):
        if found in known:
            continue
        if found and host.is_own(found):
            holder = "the host has it already"
        elif found and host.is_in_use(found):
            holder = "a machine on the LAN answers for it"
        else:
            continue
        raise GatewayTaken(gateway=found, holder=holder)
