"""Pools, the claims on them, and which of their addresses are free."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from underlay.model import Claim, IpAddress, IpNetwork, Pool, Source
from underlay.records.database import Database

_CLAIM = (
    "SELECT c.*, s.first AS low, s.last AS high, p.domain, p.subnet, p.holders"
    " FROM claim c JOIN slice s ON s.id = c.slice JOIN pool p ON p.id = c.pool"
)


class Pools:
    """The tables `pool`, `slice`, `claim`, `fresh` and `freed`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, domain: str, subnet: IpNetwork) -> Pool | None:
        """Return the pool of a subnet in a domain."""
        row = self._db.row(
            "SELECT * FROM pool WHERE domain = ? AND subnet = ?", domain, str(subnet)
        )
        return _pool(row) if row else None

    def having(self, domain: str, address: IpAddress) -> int:
        """Return the id of the pool that an address is in, 0 if there is none.

        What DHCP servers have is in none that addresses could be drawn from.
        """
        row = self._db.row(
            "SELECT id, last FROM pool WHERE domain = ? AND family = ? AND first <= ?"
            " AND subnet <> '0.0.0.0/0' ORDER BY first DESC LIMIT 1",
            domain,
            address.version,
            address.packed,
        )
        return row["id"] if row and row["last"] >= address.packed else 0

    def all(self) -> list[Pool]:
        """Return all pools, by domain and subnet."""
        rows = self._db.rows("SELECT * FROM pool ORDER BY domain, family, first")
        return [_pool(r) for r in rows]

    def overlapping(self, domain: str, subnet: IpNetwork) -> Pool | None:
        """Return a pool of the domain that shares an address with the subnet.

        Pools of a domain are disjoint, so only the last one that starts at or before
        the end of the subnet can reach into it.
        """
        row = self._db.row(
            "SELECT * FROM pool WHERE domain = ? AND family = ? AND first <= ?"
            " ORDER BY first DESC LIMIT 1",
            domain,
            subnet.version,
            subnet[-1].packed,
        )
        return _pool(row) if row and row["last"] >= subnet[0].packed else None

    def add(
        self, domain: str, subnet: IpNetwork, first: IpAddress, last: IpAddress
    ) -> Pool:
        """Record a pool; all its usable addresses are fresh."""
        self._db.run(
            "INSERT INTO pool (domain, subnet, family, first, last)"
            " VALUES (?, ?, ?, ?, ?)",
            domain,
            str(subnet),
            subnet.version,
            subnet[0].packed,
            subnet[-1].packed,
        )
        row = self._db.row("SELECT * FROM pool WHERE id = last_insert_rowid()")
        pool = Pool(row["id"] if row else 0, domain, subnet)
        self._add_fresh(pool.id, first, last)
        self._db.run(_ADD_SLICE, pool.id, first.packed, last.packed)
        return pool

    def name_holders(self, pool: int, names: Sequence[str]) -> None:
        """Record the names of the networks that use a pool, from Docker's API."""
        self._db.run(
            "UPDATE pool SET holders = ? WHERE id = ?", json.dumps(list(names)), pool
        )

    def add_claim(
        self,
        identity: str,
        pool: Pool,
        first: IpAddress,
        last: IpAddress,
        now: float,
        *,
        probe: bool = True,
        start: IpAddress | None = None,
        source: Source = "pool",
    ) -> None:
        """Record a claim on a pool that draws addresses from first to last.

        It begins at `start`. `probe`: its segment is asked whether they are free.
        """
        bounds = pool.id, first.packed, last.packed
        if self._db.run(_ADD_SLICE, *bounds):
            self._db.run(_MOVE_IN, *bounds, *bounds, *bounds)
        self._db.run(
            "INSERT INTO claim (id, pool, slice, since, probe, share, source)"
            " SELECT ?, pool, id, ?, ?, ?, ? FROM slice"
            " WHERE pool = ? AND first = ? AND last = ?",
            identity,
            now,
            int(probe),
            str(start or ""),
            source,
            *bounds,
        )

    def claim(self, identity: str) -> Claim | None:
        """Return a claim by its PoolID."""
        row = self._db.row(f"{_CLAIM} WHERE c.id = ?", identity)
        return _claim(row) if row else None

    def unbound_claims(self, subnet: IpNetwork) -> list[Claim]:
        """Return the claims on a subnet without a network yet, newest first."""
        rows = self._db.rows(
            f"{_CLAIM} WHERE p.subnet = ? AND c.network = '' ORDER BY c.since DESC",
            str(subnet),
        )
        return [_claim(r) for r in rows]

    def claims_on(self, pool: int) -> list[Claim]:
        """Return the claims on a pool, oldest first."""
        rows = self._db.rows(f"{_CLAIM} WHERE c.pool = ? ORDER BY c.since", pool)
        return [_claim(r) for r in rows]

    def claims_of(self, network: str) -> list[Claim]:
        """Return the claims made for a network."""
        if not network:
            return []
        rows = self._db.rows(f"{_CLAIM} WHERE c.network = ?", network)
        return [_claim(r) for r in rows]

    def bound_claims(self) -> list[Claim]:
        """Return the claims whose network is known."""
        return [_claim(r) for r in self._db.rows(f"{_CLAIM} WHERE c.network <> ''")]

    def bind(self, claim: str, network: str) -> None:
        """Record the network of a claim."""
        self._db.run("UPDATE claim SET network = ? WHERE id = ?", network, claim)

    def rename_claim(self, claim: str, identity: str) -> None:
        """Record the PoolID of a claim, also in its leases."""
        self._db.run("UPDATE claim SET id = ? WHERE id = ?", identity, claim)
        self._db.run(
            "UPDATE tenure SET claim = ? WHERE claim = ? AND until = 0", identity, claim
        )

    def remove_claim(self, claim: Claim) -> None:
        """Remove a claim, and its pool with the last claim."""
        self._db.run("DELETE FROM claim WHERE id = ?", claim.id)
        self._db.run(
            "DELETE FROM pool WHERE id = ?"
            " AND NOT EXISTS (SELECT 1 FROM claim WHERE pool = pool.id)",
            claim.pool.id,
        )

    # Free addresses

    def next_free(self, claim: Claim) -> IpAddress | None:
        """Return the next address of the claim's range: fresh ones first, in order.

        From its start on, then from its first. Then the one freed longest ago. All are
        index look-ups, however large the pool; only if nothing is left there may be one
        more in a range that this one overlaps.
        """
        bounds = claim.pool.id, claim.first.packed, claim.last.packed
        begun = claim.pool.id, (claim.start or claim.first).packed, claim.last.packed
        row = (
            self._db.row(_NEXT_FRESH, *begun)
            or self._db.row(_NEXT_FRESH, *bounds)
            or self._db.row(_NEXT_FREED, *bounds)
            or self._db.row(_ANY_FREED, *bounds)
        )
        return ip_address(row["address"]) if row else None

    def candidates(self, claim: Claim, most: int) -> list[IpAddress]:
        """Return the addresses that next_free() will return next, the first one first.

        As long as nothing is given back: those wait behind the last.
        """
        start = claim.start or claim.first
        found = self._fresh(claim, start, claim.last, most)
        if start > claim.first:  # type: ignore[operator]
            found += self._fresh(claim, claim.first, start - 1, most - len(found))
        if len(found) == most:
            return found
        bounds = claim.pool.id, claim.first.packed, claim.last.packed
        slices = self._db.rows(
            "SELECT id FROM slice WHERE pool = ? AND first >= ? AND last <= ?", *bounds
        )
        queue = "SELECT turn, address FROM freed WHERE slice = ? ORDER BY turn LIMIT ?"
        freed = sorted(
            (row["turn"], row["address"])
            for part in slices
            for row in self._db.rows(queue, part["id"], most)
        )
        found += [ip_address(address) for _, address in freed]
        return found[:most]

    def _fresh(
        self, claim: Claim, first: IpAddress, last: IpAddress, most: int
    ) -> list[IpAddress]:
        """Return the first fresh addresses between two."""
        rows = self._db.rows(
            "SELECT max(first, ?2) AS first, min(last, ?3) AS last FROM fresh"
            " WHERE pool = ?1 AND last >= ?2 AND first <= ?3 ORDER BY last LIMIT ?4",
            claim.pool.id,
            first.packed,
            last.packed,
            most,
        )
        found: list[IpAddress] = []
        for row in rows:
            low, high = ip_address(row["first"]), ip_address(row["last"])
            count = min(int(high) - int(low) + 1, most - len(found))
            found += [low + n for n in range(count)]
        return found

    def take(self, pool: int, address: IpAddress) -> None:
        """Take an address out of the free ones, fresh or freed."""
        if self._db.run(
            "DELETE FROM freed WHERE pool = ? AND address = ?", pool, address.packed
        ):
            return
        row = self._db.row(
            "SELECT first, last FROM fresh WHERE pool = ? AND last >= ?"
            " ORDER BY last LIMIT 1",
            pool,
            address.packed,
        )
        if row is None or row["first"] > address.packed:
            return
        self._db.run("DELETE FROM fresh WHERE pool = ? AND last = ?", pool, row["last"])
        first, last = ip_address(row["first"]), ip_address(row["last"])
        if int(first) < int(address):
            self._add_fresh(pool, first, address - 1)
        if int(address) < int(last):
            self._add_fresh(pool, address + 1, last)

    def give_back(self, pool: int, address: IpAddress) -> None:
        """Put an address without a lease at the back of the queue."""
        self._db.run(
            "INSERT INTO freed (pool, slice, address) SELECT pool, id, ?2 FROM slice"
            " WHERE pool = ?1 AND first <= ?2 AND last >= ?2"
            " ORDER BY first DESC, last LIMIT 1 ON CONFLICT DO NOTHING",
            pool,
            address.packed,
        )

    def _add_fresh(self, pool: int, first: IpAddress, last: IpAddress) -> None:
        self._db.run(
            "INSERT INTO fresh (pool, first, last) VALUES (?, ?, ?)",
            pool,
            first.packed,
            last.packed,
        )


_NEXT_FRESH = (
    "SELECT max(first, ?2) AS address FROM (SELECT first FROM fresh"
    " WHERE pool = ?1 AND last >= ?2 ORDER BY last LIMIT 1) WHERE first <= ?3"
)
_NEXT_FREED = (
    "SELECT address FROM freed WHERE turn = (SELECT min("
    "  (SELECT min(turn) FROM freed WHERE slice = s.id)) FROM slice s"
    "  WHERE s.pool = ?1 AND s.first >= ?2 AND s.last <= ?3)"
)
_ANY_FREED = (
    "SELECT address FROM freed WHERE pool = ?1 AND address BETWEEN ?2 AND ?3"
    " ORDER BY turn LIMIT 1"
)
_ADD_SLICE = (
    "INSERT INTO slice (pool, first, last) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
)
# A new slice takes over the freed addresses that wait in a wider one around it.
_MOVE_IN = (
    "UPDATE freed SET slice ="
    " (SELECT id FROM slice WHERE pool = ? AND first = ? AND last = ?)"
    " WHERE pool = ? AND address BETWEEN ? AND ? AND slice IN"
    " (SELECT id FROM slice WHERE pool = ? AND first <= ? AND last >= ?)"
)


def _pool(row: sqlite3.Row) -> Pool:
    holders = tuple(json.loads(row["holders"]))
    return Pool(row["id"], row["domain"], ip_network(row["subnet"]), holders)


def _claim(row: sqlite3.Row) -> Claim:
    holders = tuple(json.loads(row["holders"]))
    pool = Pool(row["pool"], row["domain"], ip_network(row["subnet"]), holders)
    return Claim(
        id=row["id"],
        pool=pool,
        first=ip_address(row["low"]),
        last=ip_address(row["high"]),
        network=row["network"],
        since=row["since"],
        probe=bool(row["probe"]),
        start=ip_address(row["share"]) if row["share"] else None,
        source=row["source"],
    )
