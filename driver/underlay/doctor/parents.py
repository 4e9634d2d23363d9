"""The parents of networks: present, up, and able to carry children."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.doctor.examined import Examined, has_own_macs, labels, needs_parent
from underlay.doctor.finding import Finding
from underlay.kernel import inspection
from underlay.model import Device, Network
from underlay.model.objects.common import word
from underlay.modes import mode_name
from underlay.modes.parent_sharing import CHILD_KINDS

# What /sys/class/dmi/id says in a virtual machine, by its vendor or product, and what
# the hypervisor must be told.
_HYPERVISORS = {
    "vmware": "allow forged transmits and promiscuous mode (or MAC learning) on the"
    " port group",
    "virtualbox": "set promiscuous mode of the adapter to allow all",
    "virtual machine": "switch on MAC address spoofing for the adapter (Hyper-V)",
    "qemu": "check that the host's bridge does not filter MACs (Proxmox: firewall=0 or"
    " its MAC filter off; libvirt: no filter clean-traffic)",
    "kvm": "check that the host's bridge does not filter MACs (libvirt: no filter"
    " clean-traffic)",
    "parallels": "use a bridged adapter",
}
_CLOUDS = {
    "amazon ec2": "Amazon EC2",
    "google compute engine": "Google Cloud",
    "digitalocean": "DigitalOcean",
    "hetzner": "Hetzner",
    "openstack": "OpenStack",
    "alibaba cloud": "Alibaba Cloud",
    "oraclecloud": "Oracle Cloud",
    "scaleway": "Scaleway",
    "vultr": "Vultr",
    "linode": "Linode",
    "akamai": "Linode",
    # The asset tag of every machine of Azure.
    "7783-7084-3265-9085-8269-3286-77": "Microsoft Azure",
}
_DMI = "sys_vendor", "product_name", "chassis_vendor", "chassis_asset_tag"


def states(host: Examined) -> Iterator[Finding]:
    """Find parents that are missing, renamed or down."""
    for network in host.networks:
        if needs_parent(network) and host.parent_of(network) is None:
            yield _missing(network)
    for name in host.asked_for:
        if host.kernel.device(name) is None:
            yield Finding(
                "failure", name, "this host has no such device",
                "it cannot be tested", "ip link shows the devices there are",
            )  # fmt: skip
    for name, (device, networks) in host.on_parents.items():
        if device.link_fault:
            yield _faulty(device, networks)
        yield from _renamed(name, networks)


def _missing(network: Network) -> Finding:
    name = network.uplink.base_identity.name
    mac = network.uplink.base_identity.permanent_mac or network.uplink.base_identity.mac
    return Finding(
        "failure",
        f"network {network.label}",
        f"its parent {name} ({mac or 'MAC unknown'}) is missing",
        "its containers are cut off; they get their devices back when it appears",
        "ip link shows whether it has another name and another MAC; then create the"
        " network again on it. Otherwise check driver, cable and hypervisor",
    )


def _faulty(device: Device, networks: list[Network]) -> Finding:
    is_down = device.link_fault == "down"
    used = f"networks {labels(networks)} are" if networks else "a network on it is"
    return Finding(
        "failure",
        device.name,
        "it is down" if is_down else "it has no carrier",
        f"{used} cut off from the LAN",
        f"ip link set {word(device.name)} up"
        if is_down
        else "check cable and switch port",
    )


def _renamed(name: str, networks: list[Network]) -> Iterator[Finding]:
    former = {n.uplink.base_name for n in networks if not n.uplink.base_device}
    former |= {n.uplink.base_device.name for n in networks if n.uplink.base_device}
    for old in sorted(former - {name}):
        yield Finding(
            "warning",
            name,
            f"networks {labels(networks)} were recorded on it as {old}",
            "the driver follows the device by its MAC; a script that names it does not",
            "start the service, which records the new name; to keep a name, use a"
            " systemd .link file with MACAddress=",
        )


def hold(host: Examined) -> Iterator[Finding]:
    """Find parents that are held by something that excludes children."""
    for name, (device, networks) in host.on_parents.items():
        kinds = {mode_name(n.options) for n in networks}
        master = host.kernel.device(device.master) if device.master else None
        children = kinds & {"macvlan", "ipvlan"} or not networks
        if master and not master.ours and children:
            yield _port(name, master, networks)
        yield from _other_children(name, networks)
        delay = inspection.spanning_tree_delay(name) if device.kind == "bridge" else 0.0
        if delay:
            yield Finding(
                "warning",
                name,
                f"spanning tree is on, with a delay of {delay:g} s",
                "a new port forwards only after twice this time: DHCP clients and"
                " health checks in new containers give up earlier",
                f"ip link set {word(name)} type bridge stp_state 0, or forward_delay 0,"
                " unless the bridge closes a loop",
            )


def _port(name: str, master: Device, networks: list[Network]) -> Finding:
    is_bridge = master.kind == "bridge"
    what = "port of the bridge" if is_bridge else f"member of the {master.kind}"
    use = f"-o bridge={master.name}" if is_bridge else f"-o parent={master.name}"
    return Finding(
        "failure",
        name,
        f"it is a {what} {master.name}",
        "the kernel refuses macvlan and ipvlan children on it (EBUSY)"
        + (f": networks {labels(networks)}" if networks else ""),
        f"create the network with {use}",
    )


def _other_children(name: str, networks: list[Network]) -> Iterator[Finding]:
    wanted = {mode_name(n.options) for n in networks} & set(CHILD_KINDS.values())
    if not wanted:
        return
    for child, place in inspection.children_on(name):
        kind = CHILD_KINDS[child.kind]
        if kind not in wanted:
            yield Finding(
                "failure",
                name,
                f"it carries the {kind} device {child.name} ({place})",
                "the kernel allows macvlan or ipvlan on one parent, not both: networks"
                f" {labels(networks)} get no new devices",
                f"remove {child.name}, or use another parent (a VLAN is one)",
            )


def wireless(host: Examined) -> Iterator[Finding]:
    """Find Wi-Fi parents of containers with MACs of their own."""
    for name, (_, networks) in host.on_parents.items():
        own = [n for n in networks if has_own_macs(n)]
        if host.kernel.is_wireless(name) and (own or not networks):
            yield Finding(
                "failure",
                name,
                "it is a Wi-Fi device",
                "an access point accepts frames of one MAC only: macvlan and bridge"
                f" cannot work{_named(own)}",
                "use mode=ipvlan (ipvlan_mode=l2) or mode=routed",
            )


def hardware(host: Examined) -> Iterator[Finding]:
    """Find virtual machines and clouds, whose networks filter MACs or addresses."""
    told = " ".join(inspection.first_line(host.places.dmi / key) for key in _DMI)
    told = told.lower()
    own = [n for n in host.networks if has_own_macs(n)]
    ipvlan = [n for n in host.networks if mode_name(n.options) == "ipvlan"]
    cloud = next((name for word, name in _CLOUDS.items() if word in told), "")
    if cloud:
        hit = _named([*own, *ipvlan])
        yield Finding(
            "warning",
            "host",
            f"it is a machine of {cloud}",
            "the network of a cloud drops frames of other MACs, and packets from"
            f" addresses that are not assigned to the machine{hit}",
            "use mode=routed with a route of the cloud to this host, or ipvlan_mode=l2"
            " with addresses that the cloud has assigned to this machine",
        )
        return
    advice = next((text for word, text in _HYPERVISORS.items() if word in told), "")
    if advice and (own or host.asked_for):
        yield Finding(
            "warning",
            "host",
            "it is a virtual machine",
            "virtual switches often drop frames of other MACs than the adapter's"
            f"{_named(own)}",
            f"{advice}; the check `uplink` says whether such frames pass. ipvlan and"
            " routed do not need this",
        )


def _named(networks: list[Network]) -> str:
    return f" (networks {labels(networks)})" if networks else ""
