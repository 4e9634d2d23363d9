"""What a policy and `-p` mean for one container, as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underlay.model import Endpoint, Network
from underlay.model.ports import PORTS_OPTION, PublishedPort, of_option
from underlay.modes.port_policy import Policy, policy_of

Facts = dict[str, Any]


def of_endpoint(network: Network, endpoint: Endpoint) -> Facts:
    """Return the policy in force for a container, and the ports that -p names."""
    policy = policy_of(network, endpoint)
    ports = of_option(endpoint.options.get(PORTS_OPTION, ""))
    return {
        "policy": policy.inbound,
        "ports": [_port(port, policy) for port in ports],
        "allow_from": [str(found) for found in policy.allow_from],
        "egress": policy.egress,
        "ping": policy.ping,
        "strict": policy.strict,
    }


def is_guarded(facts: Mapping[str, Any]) -> bool:
    """Return whether there is more to say of an endpoint than that it is open."""
    default = facts["policy"], facts["egress"], facts["ping"]
    return default != ("open", "open", True) or bool(facts["ports"])


def _port(port: PublishedPort, policy: Policy) -> Facts:
    return {
        "protocol": port.protocol,
        "port": port.published,
        "leads_to": port.port,
        "ip_families": list(port.families),
        "host_only": port.for_host,
        "text": in_words(port, policy),
    }


def in_words(port: PublishedPort, policy: Policy) -> str:
    """Return what one -p means under a policy."""
    lead = f" leads to {port.port}" if port.port != port.published else ""
    family = f" (IPv{port.families[0]})" if len(port.families) == 1 else ""
    return f"{port.published}/{port.protocol}{lead}{family}: {_reached(port, policy)}"


def _reached(port: PublishedPort, policy: Policy) -> str:
    if policy.inbound == "closed":
        return "closed"
    if policy.inbound == "open":
        only = ", not only for this host" if port.for_host else ""
        return f"open as every port is{only}"
    if port.for_host:
        return "open to this host only"
    if policy.allow_from:
        return f"open to {' and '.join(map(str, policy.allow_from))}"
    return "open to all"
