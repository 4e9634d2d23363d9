"""What containers are to DHCP servers, and which addresses these gave them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import fields
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import NamedTuple

from underlay.model import ClientKind, DhcpLease, Former
from underlay.records.database import Database

_ROUTE = "route:"
_COLUMNS = [field.name for field in fields(DhcpLease) if field.name != "id"]

# Whether the address of a lease was taken out of the running container.
DROPPED = "instr(' ' || d.former || ' ', ' ' || d.address || ' ')"
# An endpoint is recorded with the address that Docker was answered.
_GRANTED = (
    "SELECT d.endpoint, d.server, d.expires,"
    f" iif(e.ipv4 <> d.address AND NOT {DROPPED}, e.ipv4, '') AS answered,"
    " iif(e.ipv4 <> d.address, (SELECT max(t.since) FROM tenure t"
    "  WHERE t.endpoint = d.endpoint AND t.until = 0 AND t.role = 'endpoint'), NULL)"
    " AS changed"
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


class DhcpLeases:
    """The table `dhcp_lease`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, uplink: str, kind: ClientKind, value: str) -> DhcpLease | None:
        """Return the lease of a client on a parent."""
        return self._one("uplink = ? AND kind = ? AND value = ?", uplink, kind, value)

    def by_id(self, identity: int) -> DhcpLease | None:
        """Return a lease by its id."""
        return self._one("id = ?", identity)

    def of_endpoint(self, endpoint: str) -> DhcpLease | None:
        """Return the lease that an endpoint has."""
        return self._one("endpoint = ?", endpoint) if endpoint else None

    def unassigned(self, network: str, address: IPv4Interface) -> DhcpLease | None:
        """Return the lease of an address for an endpoint that was not created yet."""
        found = "network = ? AND address = ? AND endpoint = ''"
        return self._one(found, network, str(address))

    def having(self, uplink: str, address: IPv4Interface) -> list[DhcpLease]:
        """Return the leases of an address on a parent."""
        return self._all("uplink = ? AND address = ?", uplink, str(address))

    def all(self) -> list[DhcpLease]:
        """Return all of them, by parent and what the client is known by."""
        return self._all("true ORDER BY uplink, kind, value")

    def given(self) -> list[DhcpLease]:
        """Return those with an address."""
        return self._all("address <> ''")

    def of_network(self, network: str) -> list[DhcpLease]:
        """Return the leases that endpoints of a network have."""
        return self._all("network = ? AND endpoint <> '' AND address <> ''", network)

    def granted(self, endpoint: str = "") -> dict[str, Granted]:
        """Return what an endpoint has of a server, by its id: of one, or of all."""
        where = " AND d.endpoint = ?" if endpoint else ""
        rows = self._db.rows(f"{_GRANTED}{where}", *([endpoint] if endpoint else []))
        return {row["endpoint"]: Granted(*tuple(row)[1:]) for row in rows}

    def late(self, now: float) -> list[DhcpLease]:
        """Return those of endpoints that any server should have renewed by now."""
        found = "endpoint <> '' AND address <> '' AND rebind > 0 AND rebind <= ?"
        return self._all(found, now)

    def asked_after(self, boot: str, uptime: float) -> list[DhcpLease]:
        """Return those of endpoints that were asked for in a boot after a moment of it.

        In seconds since the boot.
        """
        found = "endpoint <> '' AND address <> '' AND boot = ? AND uptime > ?"
        return self._all(found, boot, uptime)

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

    def save(self, lease: DhcpLease) -> DhcpLease:
        """Record a lease as it is now; return it with its id."""
        values = [_packed(getattr(lease, name)) for name in _COLUMNS]
        marks = ", ".join("?" * len(_COLUMNS))
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
        self._db.run(
            f"INSERT INTO dhcp_lease ({', '.join(_COLUMNS)}) VALUES ({marks})"
            f" ON CONFLICT (uplink, kind, value) DO UPDATE SET {updates}",
            *values,
        )
        found = self.get(lease.uplink, lease.kind, lease.value)
        assert found  # noqa: S101 - it was written in this transaction
        return found

    def take_over(self, lease: DhcpLease) -> None:
        """Record that those without an endpoint have the address of a lease no more."""
        self._db.run(
            "UPDATE dhcp_lease SET address = '', server = ''"
            " WHERE uplink = ? AND address = ? AND endpoint = '' AND id <> ?",
            lease.uplink,
            str(lease.address),
            lease.id,
        )

    def rename_uplinks(self, names: Mapping[str, str]) -> None:
        """Record the new names of parents, by their old names, all together.

        Two devices may have swapped their names. A client whose namesake is known on
        another device of the new name keeps the old name.
        """
        for old in names:  # in between, they have names that no device has
            self._db.run(
                "UPDATE dhcp_lease SET uplink = '/' || uplink WHERE uplink = ?", old
            )
        for old, new in names.items():
            self._db.run(
                "UPDATE OR IGNORE dhcp_lease SET uplink = ? WHERE uplink = ?",
                new,
                f"/{old}",
            )
        self._db.run(
            "UPDATE dhcp_lease SET uplink = substr(uplink, 2) WHERE uplink GLOB '/*'"
        )

    def assign(self, lease: int, endpoint: str) -> None:
        """Record which endpoint has a lease, "" for none."""
        self._db.run("UPDATE dhcp_lease SET endpoint = ? WHERE id = ?", endpoint, lease)

    def keep_former(self, endpoint: str, former: Collection[Former]) -> None:
        """Record what an endpoint still has of earlier leases.

        An address that was taken out of it stays among that.
        """
        known = self.of_endpoint(endpoint)
        if known and known.address and known.is_dropped:
            former = (*former, known.address)
        self._db.run(
            "UPDATE dhcp_lease SET former = ? WHERE endpoint = ?",
            _packed(tuple(former)),
            endpoint,
        )

    def leave(self, endpoint: str, now: float) -> None:
        """Record that an endpoint has its lease no more; seconds since 1970.

        Whether a container without a known name is there still, nothing tells.
        """
        self._db.run(
            "UPDATE dhcp_lease SET endpoint = '', former = '',"
            " gone = CASE container WHEN '' THEN ? ELSE gone END WHERE endpoint = ?",
            now,
            endpoint,
        )

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

    def misjudged(self, names: Collection[str]) -> list[DhcpLease]:
        """Return the leases of known containers that are listed or gone otherwise.

        `names` are those of the containers that Docker lists.
        """
        found = self._all("container <> ''")
        return [one for one in found if (one.container in names) == bool(one.gone)]

    def going(self) -> list[DhcpLease]:
        """Return the leases of containers that Docker lists no more."""
        return self._all("gone > 0")

    def note_gone(self, lease: int, since: float) -> None:
        """Record since when Docker lists a container no more, 0 while it does."""
        self._db.run("UPDATE dhcp_lease SET gone = ? WHERE id = ?", since, lease)

    def remove(self, lease: int) -> None:
        """Remove a lease."""
        self._db.run("DELETE FROM dhcp_lease WHERE id = ?", lease)

    def _one(self, where: str, *values: object) -> DhcpLease | None:
        row = self._db.row(f"SELECT * FROM dhcp_lease WHERE {where}", *values)
        return _lease(row) if row else None

    def _all(self, where: str, *values: object) -> list[DhcpLease]:
        rows = self._db.rows(f"SELECT * FROM dhcp_lease WHERE {where}", *values)
        return [_lease(row) for row in rows]


def former_of(packed: str) -> tuple[Former, ...]:
    """Return the former addresses and routes of a row."""
    return tuple(
        IPv4Network(word.removeprefix(_ROUTE))
        if word.startswith(_ROUTE)
        else IPv4Interface(word)
        for word in packed.split()
    )


def _packed(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, tuple):
        routes = (_ROUTE * isinstance(one, IPv4Network) for one in value)
        return " ".join(map("{}{}".format, routes, value))
    return str(value) if isinstance(value, IPv4Address | IPv4Interface) else value


def _lease(row: sqlite3.Row) -> DhcpLease:
    facts = {key: row[key] for key in row.keys()}  # noqa: SIM118 - a Row is no mapping
    facts["address"] = IPv4Interface(row["address"]) if row["address"] else None
    facts["former"] = former_of(row["former"])
    for key in ("server", "router"):
        facts[key] = IPv4Address(row[key]) if row[key] else None
    return DhcpLease(**facts)
