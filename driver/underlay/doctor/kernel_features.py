"""What the kernel can make: device types for each mode, and nftables."""

from __future__ import annotations

import os
from collections.abc import Iterator

from underlay.doctor.examined import Examined, labels
from underlay.doctor.finding import Finding
from underlay.model import Network
from underlay.modes import MODES, mode_name, mode_of, traits_of
from underlay.modes.child_device import is_isolated

# The kinds of device, what needs them, and their modules.
_NEEDED_BY = {
    "macvlan": ("mode=macvlan", "macvlan"),
    "ipvlan": ("mode=ipvlan", "ipvlan"),
    "veth": ("mode=routed and mode=bridge", "veth"),
    "bridge": ("mode=bridge with takeover=yes", "bridge"),
    "vlan": ("a VLAN made on demand (parent=eth0.50)", "8021q"),
    "dummy": ("a network without a parent", "dummy"),
}
# What does without a device type; for the others it is another mode.
_INSTEAD = {
    "vlan": "a VLAN that the switch sends untagged to a device of its own",
    "dummy": "a parent, with --internal if no traffic is to leave",
}
_PACKAGES = (
    "if there is no such module, install the package with the kernel's extra modules"
    " (linux-modules-extra-$(uname -r) on Ubuntu, kernel-modules-extra on Fedora)"
)


def device_types(host: Examined) -> Iterator[Finding]:
    """Find the device types that this kernel cannot make."""
    lacking = [kind for kind in _NEEDED_BY if not host.kernel.has_kind(kind)]
    works = [f"mode={m}" for m, mode in MODES.items() if mode.KIND not in lacking]
    for kind in lacking:
        purpose, module = _NEEDED_BY[kind]
        users = [n for n in host.networks if kind in _kinds_of(n)]
        hit = f"; networks {labels(users)} cannot work" if users else ""
        other = _INSTEAD.get(kind) or " or ".join(works)
        instead = f"; until then use {other}" if other else ""
        yield Finding(
            "failure" if users else "warning",
            "kernel",
            f"it has no device type {kind}",
            f"{purpose} cannot work{hit}",
            f"modprobe {module}; {_PACKAGES}{instead}",
        )


def _kinds_of(network: Network) -> Iterator[str]:
    yield mode_of(network.options).KIND
    if network.uplink.vlans:
        yield "vlan"
    if network.options.get("takeover") == "yes":
        yield "bridge"
    if is_isolated(network.options) and traits_of(network.options).parent_use:
        yield "dummy"


def nftables(host: Examined) -> Iterator[Finding]:
    """Find that the host lacks nftables, or what policies need of it."""
    if host.kernel.can_filter:
        yield from _gates(host)
        return
    if os.geteuid() != 0:
        why = "without root, nft answers nothing"
        yield Finding("warning", "host", "nft was not asked", why, "run it with sudo")
        return
    users = [n for n in host.networks if traits_of(n.options).nftables_option]
    hit = f" (networks {labels(users)})" if users else ""
    yield Finding(
        "failure" if users else "warning",
        "host",
        "the program nft is missing, or the kernel has no nftables",
        "the host does not reach its macvlan containers, masquerade cannot work, and"
        f" the driver does not switch IP forwarding on{hit}",
        "install the package nftables and restart the service",
    )


def _gates(host: Examined) -> Iterator[Finding]:
    if os.geteuid() != 0 or host.kernel.can_guard:
        return
    users = [n for n in host.networks if mode_name(n.options) in ("bridge", "routed")]
    hit = f"; networks {labels(users)} are as with strict=off" if users else ""
    yield Finding(
        "warning",
        "host",
        "the library libnftables, or a hook of nftables, is missing",
        f"policy, egress, ping=off, strict=on and isolate=on are refused{hit}",
        "install the package nftables (libnftables1 on Debian), on Linux 5.16 or newer,"
        " and restart the service",
    )
