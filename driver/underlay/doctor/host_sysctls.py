"""Sysctls of the host that decide whether containers are reached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from underlay.doctor.examined import Examined, is_routed, labels
from underlay.doctor.finding import Finding, Fix
from underlay.kernel import inspection, sysctl
from underlay.model import FAMILIES, Family
from underlay.model.objects import Sysctl
from underlay.model.steps import Create
from underlay.model.text import as_sysctl
from underlay.modes import mode_name

_FORWARDING: dict[Family, str] = {
    4: "net/ipv4/ip_forward",
    6: "net/ipv6/conf/all/forwarding",
}
_STRICT, _LOOSE = "1", "2"


def forwarding(host: Examined) -> Iterator[Finding]:
    """Find that this host does not forward for its routed networks."""
    for family in FAMILIES:
        users = [n for n in host.networks if is_routed(n) and n.speaks(family)]
        if users and host.sysctl(_FORWARDING[family]) == "0":
            name = as_sysctl(_FORWARDING[family])
            yield Finding(
                "failure",
                "host",
                f"{name} is 0",
                f"containers of the routed networks {labels(users)} reach nothing, and"
                " nothing reaches them",
                "start the service, which switches it on (underlay reconcile does it"
                " once). If it goes off again, a file in /etc/sysctl.d or another"
                f" program sets it: sysctl -w {name}=1",
            )


def reverse_path(host: Examined) -> Iterator[Finding]:
    """Find strict reverse path filters on several ways to a routed network."""
    users = [n for n in host.networks if is_routed(n) and n.speaks(4)]
    if not users:
        return
    everywhere = host.sysctl("net/ipv4/conf/all/rp_filter")
    strict = []
    for device in host.kernel.devices():
        if device.ours or device.loopback or not host.kernel.addresses_of(device.name):
            continue
        if device.name in host.kernel.container_bridges():
            continue
        values = {everywhere, host.sysctl(_filter_of(device.name))}
        if _STRICT in values and _LOOSE not in values:
            strict.append(device.name)
    if len(strict) > 1:
        yield Finding(
            "warning",
            ", ".join(strict),
            "the reverse path filter (rp_filter) is strict on several devices",
            f"a packet for the routed networks {labels(users)} is dropped if it comes"
            " by another device than the answer leaves by",
            "if routes are not symmetric: "
            + "; ".join(str(Create(Sysctl(_filter_of(d), _LOOSE))) for d in strict),
        )


def _filter_of(device: str) -> str:
    return f"net/ipv4/conf/{device}/rp_filter"


def router_advertisements(host: Examined) -> Iterator[Finding]:
    """Find devices that would lose their IPv6 routes because the host forwards."""
    names = {host.kernel.default_device() or "", *host.on_parents} - {""}
    for name in sorted(names):
        path = f"net/ipv6/conf/{name}/accept_ra"
        forwards = host.sysctl(f"net/ipv6/conf/{name}/forwarding") == "1"
        if not forwards or host.sysctl(path) != "1":
            continue
        learns = inspection.is_configured_by_routers(name)
        step, revert = (str(Create(Sysctl(path, value))) for value in ("2", "1"))
        yield Finding(
            "failure" if learns else "warning",
            name,
            "accept_ra is 1 and IPv6 forwarding is on: the kernel ignores router"
            " advertisements",
            "the host loses its IPv6 default route when that expires"
            if learns
            else "if routers are to configure this device, they no longer do",
            f"{step}; to keep it, write it to a file in /etc/sysctl.d",
            # Otherwise routers would begin to configure a device that none configures.
            Fix(step, revert, partial(sysctl.write, Sysctl(path, "2")))
            if learns
            else None,
        )


def bridge_filter(host: Examined) -> Iterator[Finding]:
    """Find bridges whose traffic the firewall drops (br_netfilter)."""
    for network in host.networks:
        if mode_name(network.options) != "bridge" or not network.uplink.parent:
            continue
        for family in network.families:
            why = host.kernel.bridge_firewall_drops(network.uplink.parent, family)
            if why:
                yield Finding(
                    "failure",
                    f"network {network.label}",
                    f"IPv{family} frames do not cross {network.uplink.parent}: {why}",
                    "its containers reach only each other's neighbours on this host,"
                    " and virtual machines on the bridge may be silent too",
                    f"sysctl -w net.bridge.bridge-nf-call-ip{'6' * (family == 6)}tables"
                    "=0, or accept the bridge's traffic in FORWARD",
                )
