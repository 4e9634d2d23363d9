"""How what is on record is: well, without its device, lately repaired, or failing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from underlay.model import Endpoint, Network
from underlay.model.objects import Owner, SharedOwner
from underlay.planning.desired import endpoint_objects, network_objects
from underlay.records import Records

LATELY_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Health:
    """One verdict. `since` is when it began to fail or was repaired, else was made.

    `error` is why it is failing or pending, "" if it is neither.
    """

    health: Literal["ok", "pending", "repaired", "failing"]
    since: float
    error: str = ""


class HealthReport:
    """The verdicts on what is on record, by the failures and repairs of one moment.

    `now` in seconds since 1970.
    """

    def __init__(self, records: Records, now: float) -> None:
        self._neighbour = records.endpoints.any_of
        self._taken = {t.bridge: t.parent for t in records.host.takeovers()}
        self._troubles = {_whole(t.mark): t for t in records.repairs.failures()}
        lately = now - LATELY_SECONDS
        last = sorted(records.repairs.last().items(), key=lambda found: found[1])
        self._repaired = {_whole(mark): at for mark, at in last if at >= lately}

    def of_endpoint(self, network: Network, endpoint: Endpoint) -> Health:
        """Return how an endpoint is; one that has left needs no device any more."""
        absent = "" if endpoint.left else network.cut_off_reason
        mine = {Owner(network.id, endpoint.id)}
        return self._verdict(mine, absent, endpoint.created)

    def of_network(self, network: Network) -> Health:
        """Return how a network is: its own part, and what it shares with others."""
        return self._verdict(
            self._owners(network), network.cut_off_reason, network.created
        )

    def of_parent(self, networks: Sequence[Network]) -> Health:
        """Return how a parent is, given the networks on it: as they are together."""
        owners = {owner for n in networks for owner in self._owners(n)}
        absent = next((n.cut_off_reason for n in networks if n.cut_off_reason), "")
        return self._verdict(owners, absent, min(n.created for n in networks))

    def _verdict(self, owners: Collection[Owner], absent: str, made: float) -> Health:
        failures = [self._troubles[o] for o in owners if o in self._troubles]
        if failures:
            first = min(failures, key=lambda t: t.since)
            return Health("failing", first.since, first.text)
        if absent:
            return Health("pending", made, absent)
        repaired = [self._repaired[o] for o in owners if o in self._repaired]
        if repaired:
            return Health("repaired", max(repaired))
        return Health("ok", made)

    def _owners(self, network: Network) -> set[Owner]:
        """Return for whom there is what a network needs, its endpoints' own left out.

        Of what they share, any one of them is asked: they need the same.
        """
        want = network_objects(network)
        if neighbour := self._neighbour(network.id):
            want += endpoint_objects(network, neighbour)
        found = {Owner(network.id)} | want.shared
        found |= {reason.owner for reason in want.reasons}
        if network.parent in self._taken:
            found.add(SharedOwner("bridge", self._taken[network.parent]).owner)
        return found


def _whole(mark: str) -> Owner:
    return Owner.parse(mark).endpoint_owner
