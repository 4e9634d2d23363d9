"""The health of each recorded object: ok, pending, repaired or failing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from underlay.ipam import conflicts, lease_states
from underlay.model import Endpoint, Failure, Network, Obstacle
from underlay.model.objects import Owner, SharedOwner
from underlay.planning.desired import endpoint_objects, network_objects
from underlay.records import Records

RECENT_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one object.

    `since` is when it began to fail, or was repaired, or was created. `error` is why it
    is failing or pending, else "".
    """

    health: Literal["ok", "pending", "repaired", "failing"]
    since: float
    error: str = ""


class HealthReport:
    """The health of all recorded objects, by the failures and repairs at one moment.

    `now` is in seconds since 1970.
    """

    def __init__(self, records: Records, now: float) -> None:
        self._neighbour = records.endpoints.any_of
        self._taken = {t.bridge: t.parent for t in records.host.takeovers()}
        self._obstacles = {o.network: o for o in records.host.obstacles()}
        failures = [
            *lease_states.failures(records, now),
            *conflicts.failures(records),
            *records.repairs.failures(),
        ]
        self._failures = {_whole(t.mark): t for t in failures}
        recent = now - RECENT_SECONDS
        last = sorted(records.repairs.last().items(), key=lambda found: found[1])
        self._repaired = {_whole(mark): at for mark, at in last if at >= recent}

    def failing_endpoints(self, network: str) -> list[str]:
        """Return the ids of a network's endpoints that are failing."""
        return [
            o.endpoint for o in self._failures if o.network == network and o.endpoint
        ]

    def of_endpoint(self, network: Network, endpoint: Endpoint) -> Health:
        """Return the health of an endpoint; one that has left needs no device."""
        missing = "" if endpoint.left else network.uplink.cut_off_reason
        mine = {Owner(network.id, endpoint.id)}
        cut_off = [] if endpoint.left else [network]
        return self._judge(mine, missing, endpoint.created, cut_off)

    def of_network(self, network: Network) -> Health:
        """Return the health of a network and of what it shares with others."""
        missing = network.uplink.cut_off_reason
        owners = self._owners(network)
        return self._judge(owners, missing, network.created, [network])

    def of_parent(self, networks: Sequence[Network]) -> Health:
        """Return the health of a parent: that of all the networks on it together."""
        owners = {owner for n in networks for owner in self._owners(n)}
        reasons = (n.uplink.cut_off_reason for n in networks)
        missing = next(filter(None, reasons), "")
        made = min(n.created for n in networks)
        return self._judge(owners, missing, made, networks)

    def _judge(
        self,
        owners: Collection[Owner],
        missing: str,
        made: float,
        networks: Collection[Network],
    ) -> Health:
        failures: list[Failure | Obstacle] = [
            *(self._failures[o] for o in owners if o in self._failures),
            *(self._obstacles[n.id] for n in networks if n.id in self._obstacles),
        ]
        if failures:
            first = min(failures, key=lambda t: t.since)
            return Health("failing", first.since, first.text)
        if missing:
            return Health("pending", made, missing)
        repaired = [self._repaired[o] for o in owners if o in self._repaired]
        if repaired:
            return Health("repaired", max(repaired))
        return Health("ok", made)

    def _owners(self, network: Network) -> set[Owner]:
        """Return the owners of what a network needs, without those of its endpoints.

        Any one endpoint shows what the endpoints share: all need the same.
        """
        want = network_objects(network)
        if neighbour := self._neighbour(network.id):
            want += endpoint_objects(network, neighbour)
        found = {Owner(network.id)} | want.shared
        found |= {reason.owner for reason in want.reasons}
        if network.uplink.parent in self._taken:
            found.add(SharedOwner("bridge", self._taken[network.uplink.parent]).owner)
        return found


def _whole(mark: str) -> Owner:
    return Owner.parse(mark).endpoint_owner
