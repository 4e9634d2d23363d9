"""Which address is leased to whom, since when and until when."""

from __future__ import annotations

import sqlite3
from ipaddress import ip_address

from underlay.model import Claim, IpAddress, IpNetwork, Lease, Role
from underlay.records.database import Database
from underlay.records.pools import Pools


class Leases:
    """The table `tenure`. The last lease of an address frees it when it ends."""

    def __init__(self, database: Database, pools: Pools) -> None:
        self._db = database
        self._pools = pools

    def start(self, tenure: Lease) -> None:
        """Record a lease; its address is neither fresh nor freed any more."""
        if tenure.pool:
            self._pools.take(tenure.pool, tenure.address)
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
            self._pools.give_back(tenure.pool, tenure.address)

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


def _tenure(row: sqlite3.Row) -> Lease:
    facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
    return Lease(**{**facts, "address": ip_address(row["address"])})
