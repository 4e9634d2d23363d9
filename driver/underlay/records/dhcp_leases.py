"""What containers are to DHCP servers, and which addresses these gave them."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv4Address, IPv4Interface
from typing import NamedTuple

from underlay.model import DhcpLease
from underlay.records.lease_table import LeaseTable, former_of

# Whether the address of a lease was taken out of the running container.
DROPPED = "instr(' ' || d.former || ' ', ' ' || d.address || ' ')"
# An endpoint is recorded with the address that Docker was answered.
_GRANTED = (
    "SELECT d.endpoint, d.server, d.expires,"
    f" iif(e.ipv4 <> d.address AND NOT {DROPPED}, e.ipv4, '') AS answered,"
    " iif(e.ipv4 <> d.address, (SELECT max(t.since) FROM tenure t"
    "  WHERE t.endpoint = d.endpoint AND t.until = 0 AND t.role = 'endpoint'"
    "  AND instr(t.address, ':') = 0), NULL) AS changed"
    " FROM dhcp_lease d LEFT JOIN endpoint e ON e.id = d.endpoint"
    " WHERE d.endpoint <> '' AND d.address <> ''"
)


class Granted(NamedTuple):
    """The server of a lease, and when that ends (seconds since 1970; 0: never).

    `answered` is the address that Docker believes, "" if the endpoint has that or none;
    else it has the one of the lease since `changed`.
    """

    server: str
    expires: float
    answered: str
    changed: float | None


class DhcpLeases(LeaseTable[DhcpLease]):
    """The table `dhcp_lease`."""

    TABLE, KIND = "dhcp_lease", DhcpLease

    def unassigned(self, network: str, address: IPv4Interface) -> DhcpLease | None:
        """Return the lease of an address for an endpoint that was not created yet."""
        found = "network = ? AND address = ? AND endpoint = ''"
        return self._one(found, network, str(address))

    def granted(self, endpoint: str = "") -> dict[str, Granted]:
        """Return what an endpoint has of a server, by its id: of one, or of all."""
        where = " AND d.endpoint = ?" if endpoint else ""
        rows = self._db.rows(f"{_GRANTED}{where}", *([endpoint] if endpoint else []))
        return {row["endpoint"]: Granted(*tuple(row)[1:]) for row in rows}

    def places(self, uplink: str, network: str) -> set[str]:
        """Return the places of a network that are taken by an endpoint."""
        rows = self._db.rows(
            "SELECT value FROM dhcp_lease WHERE uplink = ? AND kind = 'place'"
            " AND network = ? AND endpoint <> ''",
            uplink,
            network,
        )
        return {row["value"] for row in rows}

    def has_mac(self, uplink: str, mac: str, *, besides: str) -> bool:
        """Return whether a client has a MAC; not the one known by `besides`."""
        found = "uplink = ? AND mac = ? AND value <> ?"
        return self._one(found, uplink, mac, besides) is not None

    def name(self, endpoint: str, container: str) -> None:
        """Record the name of a container; by that it is known instead of by its place.

        Unless another lease on the parent is of that name already.
        """
        self._db.run(
            "UPDATE dhcp_lease SET container = ? WHERE endpoint = ?",
            container,
            endpoint,
        )
        self._db.run(
            "UPDATE OR IGNORE dhcp_lease SET kind = 'name', value = ?"
            " WHERE endpoint = ? AND kind = 'place'",
            container,
            endpoint,
        )

    def _read(self, row: sqlite3.Row) -> DhcpLease:
        facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
        facts["address"] = IPv4Interface(row["address"]) if row["address"] else None
        facts["former"] = former_of(row["former"])
        for key in ("server", "router"):
            facts[key] = IPv4Address(row[key]) if row[key] else None
        return DhcpLease(**facts)
