"""Which MAC a new endpoint gets: no other endpoint on the same parent has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from underlay.errors import BadMac, MacTaken
from underlay.ipam import identity
from underlay.model import Endpoint, Network
from underlay.records import Records


@dataclass
class Macs:
    """Chooses MACs. `machine` identifies this host.

    `remove_dead_endpoint` removes an endpoint from the records if it is dead, and
    returns whether it was.
    """

    records: Records
    machine: str
    remove_dead_endpoint: Callable[[str], bool]

    @cached_property
    def _host(self) -> str:
        return self.records.host.identity(self.machine)

    def candidates(self, network: Network, asked: Endpoint) -> tuple[str, ...]:
        """Return the MACs for a new endpoint, the one of its container first."""
        return tuple(identity.macs(self.records, self._host, network, asked))

    def choose(self, candidates: Sequence[str], network: Network) -> str:
        """Return the first MAC that no other endpoint has; part of a transaction.

        The last candidate is derived from the endpoint alone, so no other one has it.
        """
        free = (mac for mac in candidates if not self._living(mac, network))
        return next(free, candidates[-1])

    def check(self, mac: str, network: Network) -> None:
        """Raise unless a MAC that Docker asks for can be given; in a transaction."""
        if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise BadMac(
                mac=mac,
                why="it is not a unicast address. Use one such as 02:00:00:00:00:01, or"
                " leave --mac-address out",
            )
        for endpoint, other in self._living(mac, network):
            name = endpoint.container or endpoint.id[:12]
            holder = f"container {name} of network {other.label} has it"
            raise MacTaken(mac=mac, parent=network.parent_label, holder=holder)

    def _living(self, mac: str, network: Network) -> list[tuple[Endpoint, Network]]:
        """Return the endpoints on the parent of a network that have a MAC.

        Dead ones among them are removed.
        """
        return [
            (endpoint, other)
            for endpoint in self.records.endpoints.with_mac(mac)
            if (other := self.records.networks.get(endpoint.network))
            and other.uplink.parent == network.uplink.parent
            and not self.remove_dead_endpoint(endpoint.id)
        ]
