"""Pools, who claims them, which addresses are free, and who had which from when on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from underlay.model import Claim, IpAddress, IpNetwork, Lease, Pool, Role
from underlay.records.database import Database

_CLAIM = (
    "SELECT c.*, s.first AS low, s.last AS high, p.domain, p.subnet, p.holders"
    " FROM claim c JOIN slice s ON s.id = c.slice JOIN pool p ON p.id = c.pool"
)


class Addresses:
    """The tables `pool`, `slice`, `claim`, `fresh`, `freed` and `tenure`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Pools and claims

    def pool(self, domain: str, subnet: IpNetwork) -> Pool | None:
        """Return the pool of a subnet in a domain."""
        row = self._db.row(
            "SELECT * FROM pool WHERE domain = ? AND subnet = ?", domain, str(subnet)
        )
        return _pool(row) if row else None

    def pools(self) -> list[Pool]:
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

    def add_pool(
        self, domain: str, subnet: IpNetwork, first: IpAddress, last: IpAddress
    ) -> Pool:
        """Put a pool on record with all its usable addresses fresh."""
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
        """Note the networks that use a pool, as Docker's API names them."""
        self._db.run(
            "UPDATE pool SET holders = ? WHERE id = ?", json.dumps(list(names)), pool
        )

    def add_claim(
        self, identity: str, pool: Pool, first: IpAddress, last: IpAddress, now: float
    ) -> None:
        """Put a claim on a pool on record, drawing from first to last."""
        bounds = pool.id, first.packed, last.packed
        if self._db.run(_ADD_SLICE, *bounds):
            self._db.run(_MOVE_IN, *bounds, *bounds, *bounds)
        self._db.run(
            "INSERT INTO claim (id, pool, slice, since) SELECT ?, pool, id, ?"
            " FROM slice WHERE pool = ? AND first = ? AND last = ?",
            identity,
            now,
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

    def bind(self, claim: str, network: str) -> None:
        """Note the network a claim was made for."""
        self._db.run("UPDATE claim SET network = ? WHERE id = ?", network, claim)

    def rename_claim(self, claim: str, identity: str) -> None:
        """Note the PoolID by which Docker knows a claim, and all it holds."""
        self._db.run("UPDATE claim SET id = ? WHERE id = ?", identity, claim)
        self._db.run(
            "UPDATE tenure SET claim = ? WHERE claim = ? AND until = 0", identity, claim
        )

    def remove_claim(self, claim: Claim) -> None:
        """Take a claim off the record, and its pool with the last one."""
        self._db.run("DELETE FROM claim WHERE id = ?", claim.id)
        self._db.run(
            "DELETE FROM pool WHERE id = ?"
            " AND NOT EXISTS (SELECT 1 FROM claim WHERE pool = pool.id)",
            claim.pool.id,
        )

    # Free addresses

    def next_free(self, claim: Claim) -> IpAddress | None:
        """Return the next address of the claim's slice: fresh ones first, in order.

        Then the one freed longest ago. Both are index look-ups, however large the pool.
        """
        bounds = claim.pool.id, claim.first.packed, claim.last.packed
        row = self._db.row(
            "SELECT max(first, ?2) AS address FROM (SELECT first FROM fresh"
            " WHERE pool = ?1 AND last >= ?2 ORDER BY last LIMIT 1) WHERE first <= ?3",
            *bounds,
        ) or self._db.row(
            "SELECT address FROM freed WHERE turn = (SELECT min("
            "  (SELECT min(turn) FROM freed WHERE slice = s.id)) FROM slice s"
            "  WHERE s.pool = ?1 AND s.first >= ?2 AND s.last <= ?3)",
            *bounds,
        )
        return ip_address(row["address"]) if row else None

    def take(self, pool: int, address: IpAddress) -> None:
        """Note that an address is in use: neither fresh nor freed any more."""
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
        """Put an address that nobody holds any more at the back of the queue."""
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

    # Who has what

    def start(self, tenure: Lease) -> None:
        """Put on record who has an address from now on."""
        self._db.run(
            "INSERT INTO tenure (address, role, pool, claim, network, endpoint, mac,"
            " container, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            str(tenure.address),
            tenure.role,
            tenure.pool,
            tenure.claim,
            tenure.network,
            tenure.endpoint,
            tenure.mac,
            tenure.container,
            tenure.since,
        )

    def move(self, tenure: Lease, claim: Claim) -> None:
        """Note that an address is held by another claim from now on."""
        self._db.run("UPDATE tenure SET claim = ? WHERE id = ?", claim.id, tenure.id)

    def note_returned(self, tenure: Lease) -> None:
        """Note that Docker gave an address back whose endpoint lives."""
        self._db.run("UPDATE tenure SET returned = 1 WHERE id = ?", tenure.id)

    def end(self, tenure: Lease, now: float) -> None:
        """Note that somebody no longer has an address; the last one frees it."""
        self._db.run("UPDATE tenure SET until = ? WHERE id = ?", now, tenure.id)
        if tenure.pool and not self.live(tenure.pool, tenure.address):
            self.give_back(tenure.pool, tenure.address)

    def live(self, pool: int, address: IpAddress) -> list[Lease]:
        """Return who has an address of a pool now."""
        return self._tenures("pool = ? AND address = ? AND until = 0", pool, address)

    def live_of_claim(self, claim: str) -> list[Lease]:
        """Return what a claim holds now."""
        return self._tenures("claim = ? AND until = 0", claim)

    def is_inhabited(self, claim: str) -> bool:
        """Tell whether an endpoint on record has an address that a claim holds."""
        row = self._db.row(
            "SELECT 1 FROM tenure t JOIN endpoint e ON e.id = t.endpoint"
            " WHERE t.claim = ? AND t.until = 0 LIMIT 1",
            claim,
        )
        return row is not None

    def live_of_endpoint(self, endpoint: str) -> list[Lease]:
        """Return what an endpoint has now."""
        return self._tenures("endpoint = ? AND until = 0", endpoint)

    def all_live(self) -> set[tuple[int, str]]:
        """Return every address of a pool that somebody has now, as text after the pool.

        Not as values: there are thousands, and hardly one is looked at.
        """
        rows = self._db.rows(
            "SELECT pool, address FROM tenure WHERE until = 0 AND pool IS NOT NULL"
        )
        return {(row["pool"], row["address"]) for row in rows}

    def live_in(self, pool: int) -> list[Lease]:
        """Return who has addresses of a pool now."""
        return self._tenures("pool = ? AND until = 0", pool)

    def held_by_role(self, claim: Claim, *, whole: bool) -> dict[Role, int]:
        """Return how many addresses are held in a claim's span, by role.

        `whole`: that is all of the pool.
        """
        rows = self._db.rows(
            "SELECT DISTINCT role, address FROM tenure WHERE pool = ? AND until = 0",
            claim.pool.id,
        )
        first, last = int(claim.first), int(claim.last)
        count: dict[Role, int] = {"endpoint": 0, "gateway": 0, "aux": 0}
        for role, address in rows:
            count[role] += whole or first <= int(ip_address(address)) <= last
        return count

    def gateway_of(self, pool: int) -> Lease | None:
        """Return who holds the gateway of a pool now, or the first of several."""
        found = self._tenures(
            "pool = ? AND until = 0 AND role = 'gateway' ORDER BY id LIMIT 1", pool
        )
        return found[0] if found else None

    def unassigned(
        self, address: IpAddress, subnet: IpNetwork, endpoint: str
    ) -> Lease | None:
        """Return an address of a subnet given out for an endpoint not made yet.

        It may be known already that it is for this one.
        """
        # In this order (CROSS), and not by the index of endpoints (+): an address may
        # have a long history, and '' is the endpoint of all that have none.
        row = self._db.row(
            "SELECT t.* FROM pool p CROSS JOIN tenure t ON t.pool = p.id"
            " WHERE p.subnet = ? AND t.address = ? AND t.until = 0"
            " AND t.role = 'endpoint' AND +t.endpoint IN ('', ?)"
            " ORDER BY t.id DESC LIMIT 1",
            str(subnet),
            str(address),
            endpoint,
        )
        return _tenure(row) if row else None

    def orphaned(self) -> list[Lease]:
        """Return the addresses given out for endpoints that are not on record."""
        return self._tenures(
            "until = 0 AND role = 'endpoint' AND pool IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM endpoint WHERE endpoint.id = tenure.endpoint)"
        )

    def assign(
        self,
        tenure: int,
        *,
        role: Role,
        network: str,
        endpoint: str = "",
        mac: str = "",
    ) -> None:
        """Note what became of an address that IPAM gave out."""
        self._db.run(
            "UPDATE tenure SET role = ?, network = ?, endpoint = ?, mac = ?"
            " WHERE id = ?",
            role,
            network,
            endpoint,
            mac,
            tenure,
        )

    def name_container(self, endpoint: str, container: str) -> None:
        """Note the container that has the addresses of an endpoint."""
        self._db.run(
            "UPDATE tenure SET container = ? WHERE endpoint = ? AND until = 0",
            container,
            endpoint,
        )

    def history(self, word: str, limit: int) -> list[Lease]:
        """Return who had an address, what a MAC or container had; newest first."""
        return self._tenures(
            "address = ?1 OR mac = ?1 OR container = ?1"
            " ORDER BY since DESC, id DESC LIMIT ?2",
            word,
            limit,
        )

    def forget_before(self, moment: float) -> int:
        """Drop the history that ended before a moment; return how much it was."""
        return self._db.run("DELETE FROM tenure WHERE until > 0 AND until < ?", moment)

    def _tenures(self, where: str, *values: object) -> list[Lease]:
        given = [str(v) if isinstance(v, IpAddress) else v for v in values]
        rows = self._db.rows(f"SELECT * FROM tenure WHERE {where}", *given)
        return [_tenure(r) for r in rows]


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
    )


def _tenure(row: sqlite3.Row) -> Lease:
    facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
    return Lease(**{**facts, "address": ip_address(row["address"])})
