"""Addresses that are kept for containers: for which one, and when others get them."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from underlay.errors import AddressTaken
from underlay.ipam.identity import (
    kept_in_words,
    name_of,
    or_give_up,
    own_reservations,
)
from underlay.ipam.idle_containers import IdleContainers
from underlay.model import Claim, IpAddress, Reservation
from underlay.records import Records

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptAddresses:
    """What the records keep for containers that do not run."""

    records: Records
    idle: IdleContainers
    reserve_days: float

    def of(self, claim: Claim, container: str) -> list[Reservation]:
        """Return what is kept for the container that asks, the most fitting one first.

        `container` is its name, "" if Docker does not tell.
        """
        name = name_of(container) if container else self._likely_name(claim)
        return own_reservations(self.records, claim, name) if name else []

    def _likely_name(self, claim: Claim) -> str:
        """Return the only container that may be asking, "" if there are several.

        While dockerd boots it tells nothing, and starts what it listed before.
        """
        network = self.records.networks.get(claim.network)
        if network is None:
            return ""
        if self.idle.is_known:
            return self.idle.only_one(network)
        kept = [
            one.name
            for one in self.records.reservations.listed_in(claim)
            if one.origin == "drawn" and one.network == network.id
        ]
        return kept[0] if len(kept) == 1 else ""

    def check(self, claim: Claim, address: IpAddress, name: str = "") -> None:
        """Raise AddressTaken if an address without a lease is kept for another one."""
        kept = self.records.reservations.get(claim.pool.domain, address)
        is_live = self.records.leases.live(claim.pool.id, address)
        if kept and kept.name != name and not is_live:
            raise AddressTaken(
                address=address,
                holder=kept_in_words(kept, self.reserve_days),
                or_free=or_give_up(kept),
            )

    def take_from_gone(self, claim: Claim, address: IpAddress) -> None:
        """Keep an address no longer.

        Raises AddressTaken if Docker lists its container, or it was reserved by hand.
        """
        if kept := self.records.reservations.get(claim.pool.domain, address):
            if not kept.lapses:
                self.check(claim, address)
            self.records.reservations.drop(kept)

    def yielded(self, claim: Claim) -> IpAddress | None:
        """Free the address that its container is to give up first, and return it."""
        kept = self.records.reservations.weakest(claim)
        if kept is None:
            return None
        self.records.reservations.drop(kept)
        facts = {"address": kept.address, "container": kept.name}
        log.warning("kept address given to another container: pool full", extra=facts)
        return kept.address
