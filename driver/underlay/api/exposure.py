"""What listens in running containers, and what reaches it, as JSON.

Read from the kernel by the process that asks, which must be root in the host's network
namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from underlay.errors import NotAllowed
from underlay.kernel import listeners
from underlay.kernel.namespaces import is_gone
from underlay.model import Endpoint
from underlay.model.listener import Listening
from underlay.model.owner import Owner
from underlay.modes.exposure import exposed_ports
from underlay.modes.port_policy import policy_of
from underlay.records import Records

Facts = dict[str, Any]
Look = Callable[[str], Listening]


def exposure(records: Records, look: Look = listeners.look) -> list[Facts]:
    """Return the ports of all running containers, by container and network.

    A container that is gone meanwhile is left out. `look` returns what listens in a
    sandbox. Raises NotAllowed if the kernel refuses that.
    """
    rooms: dict[str, list[Endpoint]] = defaultdict(list)
    for endpoint in records.endpoints.joined():
        rooms[endpoint.sandbox].append(endpoint)
    found = [
        row
        for sandbox, endpoints in rooms.items()
        if (seen := _seen(look, sandbox))
        for endpoint in endpoints
        for row in _rows(records, endpoint, seen)
    ]
    found.sort(key=lambda row: (row["container"], row["network"]))
    return found


def _seen(look: Look, sandbox: str) -> Listening | None:
    """Return what listens in a sandbox, None if that is gone; raises NotAllowed."""
    try:
        return look(sandbox)
    except OSError as error:
        if is_gone(error):
            return None
        raise NotAllowed(what=f"looking into {sandbox}", why=error) from error


def _rows(records: Records, endpoint: Endpoint, seen: Listening) -> Iterator[Facts]:
    network = records.networks.get(endpoint.network)
    device = seen.devices.get(Owner(endpoint.network, endpoint.id).mark)
    if network is None or device is None:
        return
    policy = policy_of(network, endpoint)
    for port in exposed_ports(network, endpoint, seen.listeners, device):
        yield {
            "container": endpoint.container or endpoint.id[:12],
            "network": network.label,
            "policy": policy.inbound,
            **asdict(port),
            "addresses": [str(address) for address in port.addresses],
            "allow_from": list(port.allow_from),
            "listens": bool(port.addresses),
        }
