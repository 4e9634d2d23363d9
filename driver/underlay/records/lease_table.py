"""What is on record of leases from DHCP servers, of either IP family."""

from __future__ import annotations

import sqlite3
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import fields
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    ip_interface,
)
from typing import Any, ClassVar, Generic, TypeVar

from underlay.model import (
    ClientKind,
    DhcpLease,
    Dhcpv6Lease,
    Former,
    IpInterface,
)
from underlay.records.database import Database

L = TypeVar("L", DhcpLease, Dhcpv6Lease)
_ROUTE = "route:"


class LeaseTable(Generic[L]):
    """A table with a row for each client of DHCP servers."""

    TABLE: ClassVar[str]
    KIND: ClassVar[type[Any]]
    """What a row is a record of."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._columns = [f.name for f in fields(self.KIND) if f.name != "id"]

    @abstractmethod
    def _read(self, row: sqlite3.Row) -> L: ...

    def get(self, uplink: str, kind: ClientKind, value: str) -> L | None:
        """Return the lease of a client on a parent."""
        return self._one("uplink = ? AND kind = ? AND value = ?", uplink, kind, value)

    def by_id(self, identity: int) -> L | None:
        """Return a lease by its id."""
        return self._one("id = ?", identity)

    def of_endpoint(self, endpoint: str) -> L | None:
        """Return the lease that an endpoint has."""
        return self._one("endpoint = ?", endpoint) if endpoint else None

    def having(self, uplink: str, address: IpInterface) -> list[L]:
        """Return the leases of an address on a parent."""
        return self._all("uplink = ? AND address = ?", uplink, str(address))

    def all(self) -> list[L]:
        """Return all of them, by parent and what the client is known by."""
        return self._all("true ORDER BY uplink, kind, value")

    def given(self) -> list[L]:
        """Return those with an address."""
        return self._all("address <> ''")

    def of_network(self, network: str) -> list[L]:
        """Return the leases that endpoints of a network have."""
        return self._all("network = ? AND endpoint <> '' AND address <> ''", network)

    def late(self, now: float) -> list[L]:
        """Return those of endpoints that any server should have renewed by now."""
        found = "endpoint <> '' AND address <> '' AND rebind > 0 AND rebind <= ?"
        return self._all(found, now)

    def asked_after(self, boot: str, uptime: float) -> list[L]:
        """Return those of endpoints that were asked for in a boot after a moment of it.

        In seconds since the boot.
        """
        found = "endpoint <> '' AND address <> '' AND boot = ? AND uptime > ?"
        return self._all(found, boot, uptime)

    def save(self, lease: L) -> L:
        """Record a lease as it is now; return it with its id."""
        values = [packed(getattr(lease, name)) for name in self._columns]
        marks = ", ".join("?" * len(self._columns))
        updates = ", ".join(f"{name} = excluded.{name}" for name in self._columns)
        self._db.run(
            f"INSERT INTO {self.TABLE} ({', '.join(self._columns)}) VALUES ({marks})"
            f" ON CONFLICT (uplink, kind, value) DO UPDATE SET {updates}",
            *values,
        )
        found = self.get(lease.uplink, lease.kind, lease.value)
        assert found  # noqa: S101 - it was written in this transaction
        return found

    def take_over(self, lease: L) -> None:
        """Record that those without an endpoint have the address of a lease no more."""
        self._db.run(
            f"UPDATE {self.TABLE} SET address = '', server = ''"
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
        table = self.TABLE
        for old in names:  # in between, they have names that no device has
            self._db.run(
                f"UPDATE {table} SET uplink = '/' || uplink WHERE uplink = ?", old
            )
        for old, new in names.items():
            self._db.run(
                f"UPDATE OR IGNORE {table} SET uplink = ? WHERE uplink = ?",
                new,
                f"/{old}",
            )
        self._db.run(
            f"UPDATE {table} SET uplink = substr(uplink, 2) WHERE uplink GLOB '/*'"
        )

    def assign(self, lease: int, endpoint: str) -> None:
        """Record which endpoint has a lease, "" for none."""
        where = "endpoint = ? WHERE id = ?"
        self._db.run(f"UPDATE {self.TABLE} SET {where}", endpoint, lease)

    def keep_former(self, endpoint: str, former: Collection[Former]) -> None:
        """Record what an endpoint still has of earlier leases.

        An address that was taken out of it stays among that.
        """
        known = self.of_endpoint(endpoint)
        if known and known.address and known.is_dropped:
            former = (*former, known.address)
        self._db.run(
            f"UPDATE {self.TABLE} SET former = ? WHERE endpoint = ?",
            packed(tuple(former)),
            endpoint,
        )

    def leave(self, endpoint: str, now: float) -> None:
        """Record that an endpoint has its lease no more; seconds since 1970.

        Whether a container without a known name is there still, nothing tells.
        """
        self._db.run(
            f"UPDATE {self.TABLE} SET endpoint = '', former = '',"
            " gone = CASE container WHEN '' THEN ? ELSE gone END WHERE endpoint = ?",
            now,
            endpoint,
        )

    def misjudged(self, names: Collection[str]) -> list[L]:
        """Return the leases of known containers that are listed or gone otherwise.

        `names` are those of the containers that Docker lists.
        """
        found = self._all("container <> ''")
        return [one for one in found if (one.container in names) == bool(one.gone)]

    def going(self) -> list[L]:
        """Return the leases of containers that Docker lists no more."""
        return self._all("gone > 0")

    def note_gone(self, lease: int, since: float) -> None:
        """Record since when Docker lists a container no more, 0 while it does."""
        self._db.run(f"UPDATE {self.TABLE} SET gone = ? WHERE id = ?", since, lease)

    def remove(self, lease: int) -> None:
        """Remove a lease."""
        self._db.run(f"DELETE FROM {self.TABLE} WHERE id = ?", lease)

    def _one(self, where: str, *values: object) -> L | None:
        row = self._db.row(f"SELECT * FROM {self.TABLE} WHERE {where}", *values)
        return self._read(row) if row else None

    def _all(self, where: str, *values: object) -> list[L]:
        rows = self._db.rows(f"SELECT * FROM {self.TABLE} WHERE {where}", *values)
        return [self._read(row) for row in rows]


def former_of(packed: str) -> tuple[Former, ...]:
    """Return the former addresses and routes of a row."""
    return tuple(
        IPv4Network(word.removeprefix(_ROUTE))
        if word.startswith(_ROUTE)
        else ip_interface(word)
        for word in packed.split()
    )


def packed(value: object) -> object:
    """Return a field as its column has it."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        routes = (_ROUTE * isinstance(one, IPv4Network) for one in value)
        return " ".join(map("{}{}".format, routes, value))
    addresses = IPv4Address | IPv4Interface | IPv6Address | IPv6Interface
    return str(value) if isinstance(value, addresses) else value
