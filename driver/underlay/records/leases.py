"""Leases: which endpoint has, or had, an address, and when."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from ipaddress import ip_address
from typing import get_args

from underlay.model import Claim, IpAddress, IpNetwork, Lease, Role
from underlay.records.database import Database
from underlay.records.pools import Pools


class Leases:
    """The table `tenure`. The last lease of an address frees it when it ends."""

    def __init__(self, database: Database, pools: Pools) -> None:
        self._db = database
        self._pools = pools
        # Called with each lease that ends; must not fail or wait.
        self.on_end: Callable[[Lease], None] = lambda _lease: None

    def start(self, lease: Lease) -> None:
        """Record a lease; its address is neither fresh nor freed any more."""
        if lease.pool:
            self._pools.take(lease.pool, lease.address)
            self._is_reserved(lease, idle=False)
        self._db.run(
            "INSERT INTO tenure (address, role, pool, claim, network, endpoint, mac,"
            " container, since, fixed, fixed_mac)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            str(lease.address),
            lease.role,
            lease.pool,
            lease.claim,
            lease.network,
            lease.endpoint,
            lease.mac,
            lease.container,
            lease.since,
            lease.fixed,
            lease.fixed_mac,
        )

    def move(self, lease: Lease, claim: Claim) -> None:
        """Move a lease to another claim."""
        self._db.run("UPDATE tenure SET claim = ? WHERE id = ?", claim.id, lease.id)

    def note_returned(self, lease: Lease) -> None:
        """Record that Docker released an address whose endpoint is alive."""
        self._db.run("UPDATE tenure SET returned = 1 WHERE id = ?", lease.id)

    def end(self, lease: Lease, now: float) -> None:
        """End a lease; the last one of an address frees it, unless it is reserved."""
        self._db.run("UPDATE tenure SET until = ? WHERE id = ?", now, lease.id)
        self.on_end(lease)
        if not lease.pool or self.live(lease.pool, lease.address):
            return
        if not self._is_reserved(lease, idle=True):
            self._pools.give_back(lease.pool, lease.address)

    def _is_reserved(self, lease: Lease, *, idle: bool) -> bool:
        """Return whether an address is reserved; record whether it has no lease now."""
        changed = self._db.run(
            "UPDATE reservation SET idle = ? WHERE place = ? AND domain ="
            " (SELECT domain FROM pool WHERE id = ?)",
            int(idle),
            lease.address.packed,
            lease.pool,
        )
        return changed > 0

    def live(self, pool: int, address: IpAddress) -> list[Lease]:
        """Return the live leases of an address of a pool; 0: of no pool."""
        if not pool:
            return self._leases("pool IS NULL AND address = ? AND until = 0", address)
        return self._leases("pool = ? AND address = ? AND until = 0", pool, address)

    def having(self, address: IpAddress) -> list[Lease]:
        """Return the live leases of an address, in all pools, to containers."""
        return self._leases("address = ? AND until = 0 AND role = 'endpoint'", address)

    def live_of_claim(self, claim: str) -> list[Lease]:
        """Return the live leases of a claim."""
        return self._leases("claim = ? AND until = 0", claim)

    def is_inhabited(self, claim: str) -> bool:
        """Return whether a recorded endpoint has a lease of a claim."""
        row = self._db.row(
            "SELECT 1 FROM tenure t JOIN endpoint e ON e.id = t.endpoint"
            " WHERE t.claim = ? AND t.until = 0 LIMIT 1",
            claim,
        )
        return row is not None

    def live_of_endpoint(self, endpoint: str) -> list[Lease]:
        """Return the live leases of an endpoint."""
        return self._leases("endpoint = ? AND until = 0", endpoint)

    def all_live(self) -> set[tuple[int, str]]:
        """Return the pool and the address, as text, of every live lease of a pool.

        As text, because there are thousands and few are looked at.
        """
        rows = self._db.rows(
            "SELECT pool, address FROM tenure WHERE until = 0 AND pool IS NOT NULL"
        )
        return {(row["pool"], row["address"]) for row in rows}

    def live_in(self, pool: int) -> list[Lease]:
        """Return the live leases of a pool."""
        return self._leases("pool = ? AND until = 0", pool)

    def held_by_role(self, claim: Claim, *, whole: bool) -> dict[Role, int]:
        """Return how many addresses of a claim's span are leased, by role.

        `whole`: the span is the whole pool.
        """
        rows = self._db.rows(
            "SELECT DISTINCT role, address FROM tenure WHERE pool = ? AND until = 0",
            claim.pool.id,
        )
        first, last = int(claim.first), int(claim.last)
        count: dict[Role, int] = dict.fromkeys(get_args(Role), 0)
        used = {address for role, address in rows if role == "endpoint"}
        for role, address in rows:
            if role == "conflict" and address in used:
                continue  # counted already
            count[role] += whole or first <= int(ip_address(address)) <= last
        return count

    def conflicts(self) -> list[Lease]:
        """Return the conflicts: addresses that other machines have, by address."""
        return self._leases("role = 'conflict' AND until = 0 ORDER BY since, id")

    def ended_conflicts(self, pool: int, address: IpAddress) -> int:
        """Return how many conflicts about an address have ended."""
        return len(
            self._leases(
                "address = ?2 AND pool = ?1 AND role = 'conflict' AND until > 0",
                pool,
                address,
            )
        )

    def gateway_of(self, pool: int) -> Lease | None:
        """Return the live lease of a pool's gateway, the first of several."""
        found = self._leases(
            "pool = ? AND until = 0 AND role = 'gateway' ORDER BY id LIMIT 1", pool
        )
        return found[0] if found else None

    def unassigned(
        self, address: IpAddress, subnet: IpNetwork, endpoint: str, network: str
    ) -> Lease | None:
        """Return the lease of an address for an endpoint that was not created yet.

        The lease may already be assigned to this endpoint. If domains have the same
        subnet, the lease of this network comes first.
        """
        # In this order (CROSS), and not by the index of endpoints (+): an address may
        # have a long history, and '' is the endpoint of all leases without one.
        row = self._db.row(
            "SELECT t.* FROM pool p CROSS JOIN tenure t ON t.pool = p.id"
            " WHERE p.subnet = ? AND t.address = ? AND t.until = 0"
            " AND t.role = 'endpoint' AND +t.endpoint IN ('', ?)"
            " ORDER BY t.network = ? DESC, t.id DESC LIMIT 1",
            str(subnet),
            str(address),
            endpoint,
            network,
        )
        return _lease(row) if row else None

    def orphaned(self) -> list[Lease]:
        """Return the live leases for endpoints that are not recorded."""
        return self._leases(
            "until = 0 AND role = 'endpoint' AND pool IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM endpoint WHERE endpoint.id = tenure.endpoint)"
        )

    def assign(
        self,
        lease: int,
        *,
        role: Role,
        network: str,
        endpoint: str = "",
        mac: str = "",
        fixed_mac: bool = False,
    ) -> None:
        """Record which network and endpoint a lease belongs to."""
        self._db.run(
            "UPDATE tenure SET role = ?, network = ?, endpoint = ?, mac = ?,"
            " fixed_mac = ? WHERE id = ?",
            role,
            network,
            endpoint,
            mac,
            int(fixed_mac),
            lease,
        )

    def name_container(self, endpoint: str, container: str) -> None:
        """Record the container of an endpoint in its live leases."""
        self._db.run(
            "UPDATE tenure SET container = ? WHERE endpoint = ? AND until = 0",
            container,
            endpoint,
        )

    def history(self, word: str, limit: int) -> list[Lease]:
        """Return the leases of an address, a MAC or a container; newest first."""
        return self._leases(
            "address = ?1 OR mac = ?1 OR container = ?1"
            " ORDER BY since DESC, id DESC LIMIT ?2",
            word,
            limit,
        )

    def forget_before(self, moment: float) -> int:
        """Delete the leases that ended before a moment; return how many."""
        return self._db.run("DELETE FROM tenure WHERE until > 0 AND until < ?", moment)

    def _leases(self, where: str, *values: object) -> list[Lease]:
        given = [str(v) if isinstance(v, IpAddress) else v for v in values]
        rows = self._db.rows(f"SELECT * FROM tenure WHERE {where}", *given)
        return [_lease(r) for r in rows]


def _lease(row: sqlite3.Row) -> Lease:
    facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
    return Lease(**{**facts, "address": ip_address(row["address"])})
