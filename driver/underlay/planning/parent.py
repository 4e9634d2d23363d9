"""The uplink of a network: a device, and the VLANs or the bridge the service adds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from underlay.errors import (
    BadBridge,
    BadParent,
    BridgeFiltered,
    NoParent,
    did_you_mean,
)
from underlay.model import Device, DeviceIdentity, LinkFault, Network, Uplink
from underlay.model.host import Host
from underlay.model.objects import IPTABLES, PLAIN_NAME, Owner, SharedOwner
from underlay.modes import ipv6, mode_name, traits_of
from underlay.modes.child_device import is_isolated, vlan
from underlay.modes.options import IPV6_LEAST_MTU, MTU_MOST
from underlay.planning.device_lookup import (
    check_usable,
    default_device,
    device_list,
    device_replaced_by,
    find_device,
    identity_of,
    is_same_nic,
    no_such_device,
    select_device,
)

LONGEST_WISH = 256
TAG_BYTES = 4
# What Docker calls its bridges, unless told otherwise.
DOCKERS_BRIDGE = re.compile(r"docker0|docker_gwbridge|br-[0-9a-f]{12}")
NF_SETTING = {f: f"net.bridge.bridge-nf-call-{tool}" for f, tool in IPTABLES.items()}


def resolve_parent(network: Network, host: Host, *, again: bool = False) -> Uplink:
    """Return what the options of a network put it on.

    `parent=` is a name, `auto` or `mac:<address>`; each `.<tag>` behind it, and
    `vlan=`, is a VLAN on that. Raises NoParent, BadParent, NoDefaultRoute. `again`:
    the firewall, which takes programs to ask, was found to let frames pass.
    """
    if traits_of(network.options).parent_use is None:
        return Uplink("", (), MTU_MOST, base_device=_proxy(network, host))
    if bridge := network.options.get("bridge"):
        found = _bridge(bridge, host)
        if not again:
            _check_crossing(found.parent, network, host)
        return found
    if is_isolated(network.options):
        return Uplink(Owner(network.id).device, (), MTU_MOST)
    wish = network.options["parent"]
    if len(wish) > LONGEST_WISH:
        raise BadParent(
            parent=wish, why="the name of a device has at most 15 characters", known="-"
        )
    if mode_name(network.options) == "bridge":
        return _bridged(wish, network, host)
    base, tags = select_device(wish, wish, host)
    master = host.device(base.master) if base.master else None
    if master and master.ours:
        why = (
            "it is a port of a bridge of underlay. To share that bridge, use"
            " mode=bridge and takeover=yes with the same parent"
        )
        raise BadParent(parent=wish, why=why, known=device_list(host))
    tag = vlan(network.options)
    return vlan_stack(base, [*tags, tag] if tag else tags, host)


def vlan_stack(
    base: Device, tags: Sequence[int], host: Host, known_as: str = ""
) -> Uplink:
    """Return VLAN on VLAN on a device: those of other people as they are, else ours.

    A VLAN of ours is called after what it stands on, as that was `known_as` when it was
    made: it keeps its name when that is renamed.
    """
    existing = host.devices("vlan") if tags else ()
    name, parent, mtu = known_as or base.name, base.name, base.mtu
    ours: list[str] = []
    for tag in tags:
        there = [d for d in existing if (d.parent, d.vlan) == (parent, tag)]
        if there and not there[0].ours:
            base = there[0]
            name, parent, mtu = base.name, base.name, base.mtu
            ours = []
        else:
            known = there[0].label if there else ""
            if base.kind == "macsec" and parent == base.name:
                mtu -= TAG_BYTES  # as the kernel does, for this kind alone
            name = known or f"{name}.{tag}"
            parent = SharedOwner("vlan", name).owner.device
            ours.append(name)
    return Uplink(parent, tuple(ours), mtu, base_device=identity_of(base))


def follow_parent(network: Network, host: Host) -> Uplink | None:
    """Return what a network on record stands on as things are now; None if on nothing.

    A device may have been renamed or exchanged. The administrator may have replaced our
    VLAN by his own, or removed his so that the next network made ours.
    """
    last = network.uplink
    if is_isolated(network.options):
        return last
    if _takes_over(network):
        return _in_its_place(last, host)
    if not last.vlans and (found := host.device(last.parent)) and found.ours:
        # Our VLAN has replaced his, under the name of his.
        return resolve_parent(network, host)
    base = find_device(last.base_identity, host.device, host.devices)
    if base is None:
        return None
    tags = [int(name.rpartition(".")[2]) for name in last.vlans]
    return vlan_stack(base, tags, host, known_as=last.base_name if tags else "")


def missing_reason(network: Network, host: Host) -> str:
    """Return in words that a network has nothing to stand on."""
    known = network.uplink.base_identity
    if _takes_over(network) and host.device(known.name):
        return f"there is no bridge in the place of {known.name} now; waiting for it"
    mac = known.permanent_mac or known.mac
    which = f"{known.name} ({mac})" if mac else known.name
    device = "device" if network.uplink.parent else "proxy device"
    return f"{device} {which} is missing; waiting for it to appear"


def link_fault_of(base: DeviceIdentity | None, host: Host) -> LinkFault:
    """Return why nothing passes the device at the bottom, "" if there is none."""
    found = host.device(base.name) if base else None
    return found.link_fault if found else ""


def mtu_of_pairs(network: Network, base: DeviceIdentity | None, host: Host) -> int:
    """Return the MTU of a routed network's devices, in bytes; 0: as the kernel likes.

    That of `base`, which answers for them, else of the device of the default route.
    """
    if traits_of(network.options).parent_use:
        return 0
    name = base.name if base else host.default_device()
    found = host.device(name) if name else None
    if found is None:
        return 0
    # With less, the kernel would switch IPv6 off.
    return max(found.mtu, IPV6_LEAST_MTU if network.speaks(6) else 0)


def _takes_over(network: Network) -> bool:
    return mode_name(network.options) == "bridge" and "parent" in network.options


def _in_its_place(last: Uplink, host: Host) -> Uplink | None:
    """Return a bridge of ours, if that and what it is in the place of are there."""
    bridge, known = host.device(last.parent), last.base_device
    if bridge is None:
        return None
    base = host.device(known.name) if known else None
    if base is None and (found := device_replaced_by(last.parent, host.devices())):
        base = host.device(found.name)
    if base:
        # The bridge has the least MTU of its ports, of which ours follow.
        return Uplink(bridge.name, (), base.mtu, base_device=identity_of(base))
    # One that was renamed is its port still, under the name on record.
    ports = [d for d in host.devices() if d.master == bridge.name and not d.ours]
    if known and any(is_same_nic(known, port) for port in ports):
        return Uplink(bridge.name, (), bridge.mtu, base_device=known)
    return None


def missing_parent(network: Network, host: Host) -> NoParent:
    """Return the refusal for want of something to stand on."""
    known = network.uplink.base_device or DeviceIdentity(network.parent_label)
    return no_such_device(known.name, host)


def _proxy(network: Network, host: Host) -> DeviceIdentity | None:
    wish = network.options.get("proxy")
    if not wish:
        return None
    if not (found := host.device(wish)):
        raise no_such_device(wish, host)
    if check_usable(found, wish, host).name != wish:
        why = f"it is another name of {found.name}. Use proxy={found.name}"
        raise BadParent(parent=wish, why=why, known=device_list(host))
    master = host.device(found.master) if found.master else None
    if master and master.kind == "bridge":
        use = "" if master.ours else f". Use proxy={master.name}"
        why = f"it is a port of {master.name}, which answers in its place{use}"
        raise BadParent(parent=wish, why=why, known=device_list(host))
    return identity_of(found)


def _bridge(wish: str, host: Host) -> Uplink:
    found = host.device(wish) if len(wish) <= LONGEST_WISH else None
    bridges = [
        d.name
        for d in host.devices("bridge")
        if not (d.ours or DOCKERS_BRIDGE.fullmatch(d.name))
    ]
    none = "none; mode=bridge with parent= and takeover=yes makes one of a NIC"
    known = ", ".join(sorted(bridges)) or none
    if found is None:
        why, hint = "this host has no device of that name", did_you_mean(wish, bridges)
    elif found.kind != "bridge":
        why = f"it is a {found.kind} device" if found.kind else "it is not a bridge"
        hint = " To put containers on it without a bridge, use -o parent= instead."
    elif found.ours:
        why, hint = "it belongs to a network of underlay", ""
    elif found.name not in bridges:
        why, hint = "Docker made it, and sets its addresses and firewall", ""
    elif not PLAIN_NAME.fullmatch(found.name):
        # To iptables, br+ is every bridge whose name begins with br.
        why, hint = "iptables reads its name as more than a name", " Rename it."
    else:
        return Uplink(found.name, (), found.mtu, base_device=identity_of(found))
    raise BadBridge(bridge=wish, why=why, hint=hint, known=known)


def _bridged(wish: str, network: Network, host: Host) -> Uplink:
    """Return a bridge of ours in the place of the device that a wish names."""
    if wish == "auto":
        way = default_device(host)
        if way.ours and way.kind == "bridge":
            base = host.device(way.label)
            known = identity_of(base) if base else None
            return Uplink(way.name, (), way.mtu, known, takes_over=way.label)
    base, tags = select_device(wish, wish, host)
    tag = vlan(network.options)
    found = vlan_stack(base, [*tags, tag] if tag else tags, host)
    why = ""
    if found.vlans:
        why = f"there is no VLAN {found.vlans[-1]}, and mode bridge makes none"
    elif base.kind == "bridge" and found.parent == base.name:
        why = f"it is a bridge itself. Use -o bridge={base.name}"
    if why:
        raise BadParent(parent=wish, why=why, known=device_list(host))
    bridge = SharedOwner("bridge", found.parent).owner.device
    return replace(found, parent=bridge, takes_over=found.parent)


def _check_crossing(bridge: str, network: Network, host: Host) -> None:
    for family in ipv6.families(network):
        if why := host.bridge_firewall_drops(bridge, family):
            tool, setting = IPTABLES[family], NF_SETTING[family]
            raise BridgeFiltered(bridge=bridge, why=why, tool=tool, setting=setting)
