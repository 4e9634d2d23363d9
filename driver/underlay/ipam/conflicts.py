"""Conflicts: addresses that other machines have, kept out of the free ones.

A conflict is a lease with the role `conflict` and the MAC of the other machine. So its
address is not free, and the history shows which machine had it, and when. It ends when
the segment, asked again, is silent. One without a pool is about an address that a
container's kernel made from router advertisements (reconcile/duplicates.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from underlay.errors import AddressInUse
from underlay.ipam.identity import moment
from underlay.model import Claim, Failure, IpAddress, Lease
from underlay.model.objects import Owner
from underlay.records import Records

log = logging.getLogger(__name__)

# For how long an address is left alone before the segment is asked again: longer with
# each conflict it had, and with the time that this one lasts.
QUARANTINE_SECONDS, LONGEST_SECONDS = 600.0, 24 * 3600.0
_DOUBLINGS = 8


def start(
    records: Records, claim: Claim, address: IpAddress, mac: str, now: float
) -> None:
    """Record that another machine has an address; part of a transaction."""
    records.leases.start(
        Lease(
            id=0,
            address=address,
            role="conflict",
            pool=claim.pool.id or None,
            claim=claim.id,
            network=claim.network,
            mac=mac,
            since=now,
        )
    )


def of_address(
    records: Records, pool: int, address: IpAddress, network: str = ""
) -> Lease | None:
    """Return the conflict about an address of a pool, None if there is none.

    `network`: the id of the one that has the address if no pool does (0).
    """
    live = records.leases.live(pool, address)
    return next((t for t in live if t.role == "conflict" and _is_in(t, network)), None)


def holder_of(records: Records, conflict: Lease) -> Lease | None:
    """Return the lease of the container that has the address of a conflict too."""
    live = records.leases.live(conflict.pool or 0, conflict.address)
    network = conflict.network
    return next((t for t in live if t.role == "endpoint" and _is_in(t, network)), None)


def of_holder(records: Records, held: Lease) -> Lease | None:
    """Return the conflict about the address that a container has, None for none."""
    return of_address(records, held.pool or 0, held.address, held.network)


def _is_in(lease: Lease, network: str) -> bool:
    """Return whether a lease is of a pool, or else of a network."""
    return bool(lease.pool) or lease.network == network


def quarantine_seconds(records: Records, conflict: Lease, lasted: float) -> float:
    """Return how long after a conflict was heard of last it is asked about again.

    Ten minutes, twice as long for each earlier conflict, and never less than this one
    has `lasted`, in seconds; a day at most. For the address of a running container it
    is ten minutes.
    """
    if holder_of(records, conflict):
        return QUARANTINE_SECONDS
    earlier = records.leases.ended_conflicts(conflict.pool or 0, conflict.address)
    least = QUARANTINE_SECONDS * 2.0 ** min(earlier, _DOUBLINGS)
    return min(max(least, lasted), LONGEST_SECONDS)


def failures(records: Records) -> Iterator[Failure]:
    """Return the conflicts about addresses of containers, as failures of these."""
    for conflict in records.leases.conflicts():
        holder = conflict if conflict.endpoint else holder_of(records, conflict)
        if holder and holder.endpoint:
            mark = Owner(holder.network, holder.endpoint).mark
            yield Failure(mark, str(error_of(conflict)), conflict.since)


def check_endpoint(records: Records, endpoint: str) -> None:
    """Raise AddressInUse if a machine on the segment has an endpoint's address.

    Not one that a DHCP server gave: if the machine claims it again, the running
    container gets another one.
    """
    leased = records.dhcp_leases.of_endpoint(endpoint)
    given = leased.address.ip if leased and leased.address else None
    for lease in records.leases.live_of_endpoint(endpoint):
        if lease.address != given and (found := of_holder(records, lease)):
            raise error_of(found)


def error_of(conflict: Lease) -> AddressInUse:
    """Return the error that says which machine has an address, if that is known."""
    if not _is_of_router(conflict):
        return in_use(conflict.address, conflict.mac, conflict.since)
    return AddressInUse(
        address=conflict.address,
        holder="a machine that the kernel does not name",
        since=moment(conflict.since),
        way_out="The container cannot use it. Take it away from that machine (ping it"
        " from the host; ip -6 neigh has its MAC then), or give the container another"
        " suffix. Its kernel tries again with each advertisement of a router.",
    )


def in_use(address: IpAddress, mac: str, since: float) -> AddressInUse:
    """Return the error that says which machine has an address of a pool or a lease.

    `since`: when it was seen first, in seconds since 1970.
    """
    return AddressInUse(
        address=address,
        holder=f"the machine with the MAC {mac}",
        since=moment(since),
        way_out="Take it away from that machine, or choose another address. The"
        f" service asks again by itself; underlay conflict forget {address} frees it"
        " at once.",
    )


def of_routers(records: Records) -> Iterator[Lease]:
    """Return the conflicts about addresses that containers make from advertisements."""
    return filter(_is_of_router, records.leases.conflicts())


def _is_of_router(conflict: Lease) -> bool:
    """Return whether a kernel told of it, which names no machine."""
    return not conflict.mac


@dataclass
class Conflicts:
    """Begins and ends conflicts as segments tell; used by many threads.

    `clock` returns seconds since 1970, `monotonic` seconds since the host booted.
    """

    records: Records
    clock: Callable[[], float]
    monotonic: Callable[[], float]
    # When a conflict was first and last heard of by this process, by pool, or network
    # if there is none, and address.
    _heard: dict[tuple[int | str, IpAddress], tuple[float, float]] = field(
        default_factory=dict
    )

    def record(self, claim: Claim, used: Mapping[IpAddress, str]) -> None:
        """Record conflicts about addresses of a claim; part of a transaction."""
        for address, mac in used.items():
            self.note_heard(claim, address)
            if of_address(self.records, claim.pool.id, address, claim.network):
                continue
            start(self.records, claim, address, mac, self.clock())
            facts = {"address": address, "mac": mac, "network": claim.network[:12]}
            log.warning("address in use by another machine", extra=facts)

    def note_heard(self, claim: Claim, address: IpAddress) -> None:
        """Note that a conflict begins or goes on."""
        now, key = self.monotonic(), (claim.pool.id or claim.network, address)
        first, _ = self._heard.get(key, (now, now))
        self._heard[key] = first, now

    def settle(
        self,
        asked: Mapping[IpAddress, Claim],
        used: Mapping[IpAddress, str],
        began: float,
    ) -> None:
        """Record which conflicts there are, and which are over since they were asked.

        `began` is when that was: what was heard later is no longer silent.
        """
        if not (used or list(self._silent(asked, used, began))):
            return
        with self.records.transaction():
            for address, mac in used.items():
                if not self._is_reserved(asked[address], address):
                    self.record(asked[address], {address: mac})
            for conflict in self._silent(asked, used, began):
                self.end(conflict)

    def _silent(
        self,
        asked: Mapping[IpAddress, Claim],
        used: Collection[IpAddress],
        began: float,
    ) -> Iterator[Lease]:
        for address in asked.keys() - set(used):
            pool, network = asked[address].pool.id, asked[address].network
            _, last = self._heard.get((pool or network, address), (0.0, 0.0))
            found = of_address(self.records, pool, address, network)
            if found and last < began:
                yield found

    def end(self, conflict: Lease) -> None:
        """End a conflict; part of a transaction."""
        self.records.leases.end(conflict, self.clock())
        self._heard.pop(_key(conflict), None)
        facts = {"address": conflict.address, "mac": conflict.mac}
        log.info("address no longer in use by another machine", extra=facts)

    def _is_reserved(self, claim: Claim, address: IpAddress) -> bool:
        """Return whether an address was reserved as a gateway or aux meanwhile."""
        live = self.records.leases.live(claim.pool.id, address)
        return any(lease.role in ("gateway", "aux") for lease in live)

    def due(self) -> Iterator[Lease]:
        """Return the conflicts that may be over: their segments are asked again.

        Those of an earlier process at once.
        """
        now = self.monotonic()
        found = [c for c in self.records.leases.conflicts() if not _is_of_router(c)]
        for key in self._heard.keys() - set(map(_key, found)):
            # One that is heard of now may be about to be recorded.
            if now - self._heard.get(key, (now, now))[1] >= QUARANTINE_SECONDS:
                self._heard.pop(key, None)
        yield from (conflict for conflict in found if self._is_due(conflict, now))

    def _is_due(self, conflict: Lease, now: float) -> bool:
        heard = self._heard.get(_key(conflict))
        if heard is None:
            return True
        first, last = heard
        pause = quarantine_seconds(self.records, conflict, last - first)
        return now - last >= pause


def _key(conflict: Lease) -> tuple[int | str, IpAddress]:
    return conflict.pool or conflict.network, conflict.address
