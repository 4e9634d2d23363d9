"""Whether DHCP servers serve the segments of networks that have addresses of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from underlay.dhcp import sockets
from underlay.dhcp.client import Client
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.packets import client_id_of_mac, client_id_of_text
from underlay.doctor.examined import Examined, has_own_macs, labels
from underlay.doctor.finding import Finding
from underlay.ipam.dhcp_servers import shim_of
from underlay.ipam.subnets import derive_mac
from underlay.model import Device, Network
from underlay.modes.host_access import PROBE_MARK

# dnsmasq looks for three seconds whether an address is in use before it offers that,
# and may have missed the first message.
SECONDS = 6.0
_ONLY_ASKED = "not asked for: a check"


def servers(host: Examined) -> Iterator[Finding]:
    """Find segments with no DHCP server, or with several."""
    for name, networks in _segments(host).items():
        device = host.kernel.device(name)
        if device is None or device.link_fault:
            continue  # the check `parents` says so
        found = _offering(device, networks[0])
        if not found:
            yield _none(name, networks)
        elif len(found) > 1:
            yield _several(name, found)


def _segments(host: Examined) -> dict[str, list[Network]]:
    found: dict[str, list[Network]] = {}
    for network in host.networks:
        if network.uplink.parent and any(s.dhcp for s in network.subnets):
            found.setdefault(network.uplink.parent, []).append(network)
    return found


def _offering(device: Device, network: Network) -> list[str]:
    """Return the servers that offer an address, which is not taken.

    The client is the same each time: a server that keeps its offer for a while has one.
    """
    mac = derive_mac("doctor", device.name, device.mac)
    client = Client(mac, client_id_of_mac(mac))
    if not has_own_macs(network):
        client = Client(device.mac, client_id_of_text("underlay doctor"))
    exchange = Exchange.new(client, random.random, lambda _: _ONLY_ASKED)
    end = sockets.since_boot() + SECONDS
    shim = shim_of(network)
    sockets.run(exchange, device.name, end, shim=shim, mark=PROBE_MARK)
    return sorted(map(str, exchange.servers))


def _none(device: str, networks: list[Network]) -> Finding:
    return Finding(
        "failure",
        device,
        f"no DHCP server offered an address in {SECONDS:g} s",
        f"networks {labels(networks)}: containers without a lease cannot start (E-160)",
        "check that a server serves this segment and has addresses left, and that the"
        " switch lets through frames of other MACs than the host's",
    )


def _several(device: str, found: list[str]) -> Finding:
    return Finding(
        "warning",
        device,
        f"{len(found)} DHCP servers offer addresses: {', '.join(found)}",
        "the first to answer decides on the address and the router of a container",
        "if they are no pair that shares its leases, switch the wrong one off",
    )
