"""Docker's own options that change nothing: they are let through, and named."""

from __future__ import annotations

from underlay.model import Endpoint, Network
from underlay.modes.options import DOCKERS, ENDPOINT_KEYS

# Docker itself acts on these, or adds them.
_OF_NETWORK = (
    "com.docker.network.advertise_addr_ms",
    "com.docker.network.advertise_addr_nmsgs",
    "com.docker.network.enable_ipv4",
    "com.docker.network.enable_ipv6",
    "com.docker.network.internal",
)
_OF_ENDPOINT = (
    "com.docker.network.endpoint.dnsservers",
    "com.docker.network.endpoint.exposedports",
    "com.docker.network.endpoint.macaddress",
    "com.docker.network.endpoint.sysctls",
    "com.docker.network.portmap",
)


def without_effect(asked: Network | Endpoint) -> list[str]:
    """Return the keys under com.docker. that neither this driver nor Docker acts on."""
    by_docker = _OF_NETWORK if isinstance(asked, Network) else _OF_ENDPOINT
    # What this driver knows of Docker's keys, it knows of a network and an endpoint.
    heeded = (*ENDPOINT_KEYS, *by_docker)
    return sorted(
        key for key in asked.options if key.startswith(DOCKERS) and key not in heeded
    )
