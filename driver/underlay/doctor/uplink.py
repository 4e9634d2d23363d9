"""Whether the segment of a parent answers MACs that are not the host's."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from underlay.doctor.examined import Examined, has_own_macs, labels
from underlay.doctor.finding import Finding
from underlay.kernel.uplink_probe import ask_uplink
from underlay.model import IpAddress, Network
from underlay.modes import gateway


def second_mac(host: Examined) -> Iterator[Finding]:
    """Find parents whose segment does not answer a second MAC.

    Only of networks whose containers have MACs of their own, which send from these
    anyway, and of devices that were asked for: a switch with port security may shut a
    port on which it sees a second MAC.
    """
    for device, networks in _tested(host).items():
        gateways = _gateways(host, device, networks)
        if not gateways:
            yield _untested(
                device, "it has no gateway to ask", "add a default route by the device"
            )
            continue
        try:
            found = ask_uplink(device, gateways)
        except OSError as error:
            why = f"the kernel refuses a macvlan on it ({error.strerror or error})"
            yield _untested(device, why, "use mode=ipvlan or mode=routed")
            continue
        if not found.own:
            names = ", ".join(map(str, sorted(gateways, key=str)))
            why = f"{names} does not answer the host either"
            yield _untested(device, why, "check cable, VLAN and the gateway's address")
        elif silent := found.own - found.second:
            yield _filtered(device, networks, silent)


def _tested(host: Examined) -> dict[str, list[Network]]:
    found: dict[str, list[Network]] = {name: [] for name in host.asked_for}
    for network in host.networks:
        if has_own_macs(network) and network.uplink.parent:
            found.setdefault(network.uplink.parent, []).append(network)
    there = (host.kernel.device(name) for name in found)
    up = {device.name for device in there if device and not device.link_fault}
    return {name: networks for name, networks in found.items() if name in up}


def _gateways(host: Examined, device: str, networks: list[Network]) -> set[IpAddress]:
    known = {found for n in networks for found in gateway.of(n) if found}
    if known:
        return {a for a in known if not host.kernel.is_own(a)}
    entries = host.kernel.entries_on(device)
    return {
        ip_address(entry.via)
        for entry in entries
        if entry.via and entry.words.startswith(("0.0.0.0/0 ", "::/0 "))
    }


def _untested(device: str, why: str, remedy: str) -> Finding:
    return Finding(
        "warning",
        device,
        f"not tested: {why}",
        "whether frames of containers with MACs of their own are answered there is not"
        " known",
        remedy,
    )


def _filtered(
    device: str, networks: list[Network], silent: frozenset[IpAddress]
) -> Finding:
    hit = f": networks {labels(networks)} reach nothing there" if networks else ""
    names = ", ".join(map(str, sorted(silent, key=str)))
    return Finding(
        "failure",
        device,
        f"{names} answers the host, but no frame from a second MAC",
        "a switch (port security, 802.1X), a virtual switch, a cloud or an access point"
        f" drops what other MACs send. mode=macvlan and mode=bridge: no{hit}",
        "mode=ipvlan (ipvlan_mode=l2) and mode=routed: yes, their frames have the MAC"
        " of the host. Or have the other end of the cable accept more MACs",
    )
