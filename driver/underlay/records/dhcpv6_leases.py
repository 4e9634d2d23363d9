"""What containers are to DHCPv6 servers, and which addresses these gave them."""

from __future__ import annotations

import sqlite3
from ipaddress import IPv6Address, IPv6Interface

from underlay.model import Dhcpv6Lease
from underlay.records.lease_table import LeaseTable, former_of

# Running containers of networks with ipv6=dhcp whose devices were seen, and whose names
# are known, without a client on record.
_UNKNOWN = (
    # In this order (CROSS): such networks are few, and there may be many endpoints.
    "SELECT e.id FROM network n CROSS JOIN endpoint e ON e.network = n.id"
    " JOIN sandbox s ON s.endpoint = e.id"
    " WHERE json_extract(n.options, '$.ipv6') = 'dhcp'"
    " AND s.\"left\" = 0 AND s.device <> '' AND e.container <> ''"
    " AND NOT EXISTS (SELECT 1 FROM dhcpv6_lease d WHERE d.endpoint = e.id)"
    " ORDER BY e.created, e.id"
)


class Dhcpv6Leases(LeaseTable[Dhcpv6Lease]):
    """The table `dhcpv6_lease`."""

    TABLE, KIND = "dhcpv6_lease", Dhcpv6Lease

    def unknown(self) -> list[str]:
        """Return the ids of running endpoints that are no client yet, and are to be."""
        return [row["id"] for row in self._db.rows(_UNKNOWN)]

    def bound_to(self, network: str) -> list[Dhcpv6Lease]:
        """Return those of a network's endpoints, also those without an address yet."""
        return self._all("network = ? AND endpoint <> ''", network)

    def concerned(self) -> list[Dhcpv6Lease]:
        """Return those that are to be looked at: of endpoints, or with an address."""
        return self._all("endpoint <> '' OR address <> ''")

    def unserved(self) -> list[Dhcpv6Lease]:
        """Return those of endpoints that no server has given an address, when asked."""
        return self._all("endpoint <> '' AND address = '' AND silent > 0")

    def _read(self, row: sqlite3.Row) -> Dhcpv6Lease:
        facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
        facts["address"] = IPv6Interface(row["address"]) if row["address"] else None
        facts["server"] = IPv6Address(row["server"]) if row["server"] else None
        facts["former"] = former_of(row["former"])
        return Dhcpv6Lease(**facts)
