"""Whether DHCP servers serve the segments of networks that have addresses of them."""

from __future__ import annotations

from collections.abc import Iterator

from underlay.doctor.examined import Examined, labels
from underlay.doctor.finding import Finding
from underlay.ipam.server_checks import SECONDS, offers
from underlay.model import Network


def servers(host: Examined) -> Iterator[Finding]:
    """Find segments with no DHCP server, or with several."""
    for name, networks in _segments(host).items():
        device = host.kernel.device(name)
        if device is None or device.link_fault:
            continue  # the check `parents` says so
        found = sorted(map(str, offers(device, networks[0]).found))
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
