"""Reservations: which container an address is kept for while nothing has it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from ipaddress import ip_address

from underlay.model import Claim, IpAddress, IpNetwork, Reservation
from underlay.records.database import Database
from underlay.records.pools import Pools

# Others may draw these if a pool has nothing else. What a container asked for (--ip)
# stays its own while Docker lists the container, and what was reserved by hand always.
YIELDING = "idle = 1 AND (origin = 'drawn' OR (origin = 'fixed' AND gone > 0))"
_LISTED = "name IN (SELECT value FROM json_each(?1))"
_LEFT = f"gone = 0 AND idle = 1 AND NOT {_LISTED}"
_BACK = f"gone > 0 AND {_LISTED}"
_INSIDE = "domain = ?1 AND place BETWEEN ?2 AND ?3 AND length(place) = length(?2)"


class Reservations:
    """The table `reservation`. An idle one keeps its address out of the free ones.

    `idle` in a row tells that the address has no live lease.
    """

    def __init__(self, database: Database, pools: Pools) -> None:
        self._db = database
        self._pools = pools

    def get(self, domain: str, address: IpAddress) -> Reservation | None:
        """Return the reservation of an address."""
        found = self._where("domain = ? AND place = ?", domain, address.packed)
        return found[0] if found else None

    def of_name(self, domain: str, name: str) -> list[Reservation]:
        """Return the reservations for a container, the oldest first."""
        return self._where("domain = ? AND name = ? ORDER BY since", domain, name)

    def inside(self, domain: str, subnet: IpNetwork) -> list[Reservation]:
        """Return the reservations in a subnet, by address."""
        bounds = subnet[0].packed, subnet[-1].packed
        return self._where(f"{_INSIDE} ORDER BY place", domain, *bounds)

    def all(self) -> list[Reservation]:
        """Return all reservations, by domain and address."""
        return self._where("true ORDER BY domain, length(place), place")

    def idle_in(self, claim: Claim) -> list[Reservation]:
        """Return the reservations that keep addresses of a claim's range unused."""
        where = f"{_INSIDE} AND idle = 1 ORDER BY since"
        bounds = claim.first.packed, claim.last.packed
        return self._where(where, claim.pool.domain, *bounds)

    def listed_in(self, claim: Claim, most: int = -1) -> list[Reservation]:
        """Return those of containers that Docker lists, the oldest first.

        At most so many; -1 is all. Its cost does not grow with those of other
        containers, of which there may be a week's.
        """
        rows = self._db.rows(
            "SELECT * FROM reservation INDEXED BY reservation_gone"
            f" WHERE {_INSIDE} AND idle = 1 AND gone = 0 ORDER BY since LIMIT ?4",
            claim.pool.domain,
            claim.first.packed,
            claim.last.packed,
            most,
        )
        return [_reservation(row) for row in rows]

    def weakest(self, claim: Claim) -> Reservation | None:
        """Return the reservation that yields first in a claim's range, if one does.

        First those of containers that Docker lists no more, the longest gone first.
        """
        bounds = claim.pool.domain, claim.first.packed, claim.last.packed
        for order in ("gone > 0 ORDER BY gone", "gone = 0 ORDER BY since"):
            where = f"{_INSIDE} AND {YIELDING} AND {order} LIMIT 1"
            if found := self._where(where, *bounds):
                return found[0]
        return None

    def in_use_twice(self) -> list[Reservation]:
        """Return those in use for containers that use several in one IP family."""
        twice = (
            "SELECT domain, name, length(place) FROM reservation WHERE idle = 0"
            " GROUP BY 1, 2, 3 HAVING count(*) > 1"
        )
        where = f"idle = 0 AND (domain, name, length(place)) IN ({twice})"
        return self._where(f"{where} ORDER BY domain, name, place")

    def hold(self, kept: Reservation) -> None:
        """Record a reservation, in place of another one of the same address."""
        self._db.run(
            "INSERT INTO reservation"
            " (domain, place, address, name, origin, network, mac, since, gone, idle)"
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NOT EXISTS"
            " (SELECT 1 FROM pool JOIN tenure ON tenure.pool = pool.id"
            "  WHERE domain = ?1 AND address = ?3 AND until = 0))"
            " ON CONFLICT (domain, place) DO UPDATE SET name = excluded.name,"
            " origin = excluded.origin, network = excluded.network,"
            " mac = excluded.mac, since = excluded.since, gone = excluded.gone",
            kept.domain,
            kept.address.packed,
            str(kept.address),
            kept.name,
            kept.origin,
            kept.network,
            kept.mac,
            kept.since,
            kept.gone,
        )
        if pool := self._pools.having(kept.domain, kept.address):
            self._pools.take(pool, kept.address)

    def drop(self, kept: Reservation) -> None:
        """Delete a reservation; an address without a lease is free again."""
        place = kept.domain, kept.address.packed
        row = self._db.row(
            "DELETE FROM reservation WHERE domain = ? AND place = ? RETURNING idle",
            *place,
        )
        pool = self._pools.having(kept.domain, kept.address)
        if row and row["idle"] and pool:
            self._pools.give_back(pool, kept.address)

    def is_news(self, names: Collection[str]) -> bool:
        """Return whether `note_listed` would change anything."""
        found = f"SELECT 1 FROM reservation WHERE ({_LEFT}) OR ({_BACK}) LIMIT 1"
        return self._db.row(found, json.dumps(sorted(names))) is not None

    def note_listed(self, names: Collection[str], now: float) -> None:
        """Record which containers Docker lists, and since when it lists others no more.

        Only for addresses that nothing has.
        """
        listed = json.dumps(sorted(names))
        self._db.run(f"UPDATE reservation SET gone = ?2 WHERE {_LEFT}", listed, now)
        self._db.run(f"UPDATE reservation SET gone = 0 WHERE {_BACK}", listed)

    def gone_before(self, moment: float) -> list[Reservation]:
        """Return those of containers that Docker listed last before a moment."""
        where = "gone > 0 AND gone < ? AND idle = 1 AND origin <> 'reserved'"
        return self._where(where, moment)

    def _where(self, where: str, *values: object) -> list[Reservation]:
        rows = self._db.rows(f"SELECT * FROM reservation WHERE {where}", *values)
        return [_reservation(row) for row in rows]


def _reservation(row: sqlite3.Row) -> Reservation:
    return Reservation(
        domain=row["domain"],
        address=ip_address(row["address"]),
        name=row["name"],
        origin=row["origin"],
        network=row["network"],
        mac=row["mac"],
        since=row["since"],
        gone=row["gone"],
    )
