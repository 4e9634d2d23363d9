"""Networks, and the VLANs of the service that they stand on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import astuple
from ipaddress import (
    ip_address,
    ip_interface,
    ip_network,
)

from underlay.model import (
    DeviceIdentity,
    Network,
    Subnet,
    Uplink,
)
from underlay.model.cache import GenerationCache
from underlay.records.database import Database

_NETWORK = (
    "SELECT n.*, (SELECT json_group_array(name) FROM (SELECT name FROM vlan"
    " WHERE network = n.id ORDER BY height)) AS vlans FROM network n"
)
_ON_VLAN = f"{_NETWORK} WHERE n.id IN (SELECT network FROM vlan WHERE name = ?)"


class Networks:
    """The tables `network` and `vlan`.

    Statements write to `main.<table>`, and read what may be a view of it (endings.py).
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @staticmethod
    def next_generation() -> None:
        """Drop rows that were not read since the last call; all are read next."""
        _network.next_generation()

    def add(self, network: Network) -> None:
        """Record a network."""
        self._db.run(
            "INSERT INTO main.network"
            " (id, options, internal, segments, parent, created)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            network.id,
            json.dumps(dict(network.options), sort_keys=True),
            int(network.internal),
            json.dumps([_pack(s) for s in network.subnets]),
            network.uplink.parent,
            network.created,
        )
        self.move(network)

    def options_of(self, identity: str) -> Mapping[str, str]:
        """Return the options of a network, none if it is not on record."""
        known = self.get(identity)
        return known.options if known else {}

    def move(self, network: Network) -> None:
        """Record the parent of a network as it is now, or why it is missing."""
        uplink = network.uplink
        self._db.run(
            "UPDATE main.network SET parent = ?, base = ?, absent = ?, halt = ?,"
            " here = ?,"
            " mac = ?, mtu = ?, inward = ? WHERE id = ?",
            uplink.parent,
            _packed_identity(uplink.base_device),
            uplink.parent_missing,
            uplink.link_fault,
            json.dumps([str(a) for a in uplink.host_addresses]),
            uplink.mac,
            uplink.mtu,
            json.dumps(uplink.container_bridges),
            network.id,
        )
        self._db.run("DELETE FROM main.vlan WHERE network = ?", network.id)
        for height, name in enumerate(uplink.vlans):
            self._db.run(
                "INSERT INTO main.vlan (network, height, name) VALUES (?, ?, ?)",
                network.id,
                height,
                name,
            )

    def get(self, identity: str) -> Network | None:
        """Return a network by its id."""
        row = self._db.row(f"{_NETWORK} WHERE n.id = ?", identity)
        return _network(row) if row else None

    def all(self) -> list[Network]:
        """Return every network, oldest first."""
        return [
            _network(r) for r in self._db.rows(f"{_NETWORK} ORDER BY n.created, n.id")
        ]

    def on_parent(self, parent: str) -> list[Network]:
        """Return the networks whose parent is a device."""
        rows = self._db.rows(f"{_NETWORK} WHERE n.parent = ?", parent)
        return [_network(r) for r in rows]

    def with_subnet(self, subnet: str) -> list[Network]:
        """Return the networks that have a claim on a pool of a subnet."""
        rows = self._db.rows(
            f"{_NETWORK} WHERE n.id IN (SELECT c.network FROM claim c"
            " JOIN pool p ON p.id = c.pool WHERE p.subnet = ?)",
            subnet,
        )
        return [_network(r) for r in rows]

    def active(self, mode: str) -> list[Network]:
        """Return the networks of a mode that have an endpoint."""
        rows = self._db.rows(
            f"{_NETWORK} WHERE json_extract(n.options, '$.mode') = ?"
            " AND EXISTS (SELECT 1 FROM endpoint e WHERE e.network = n.id)",
            mode,
        )
        return [_network(r) for r in rows]

    def on_vlan(self, name: str) -> list[Network]:
        """Return the networks that need a VLAN of the service, on it or above it."""
        return [_network(r) for r in self._db.rows(_ON_VLAN, name)]

    def any_on_vlan(self, name: str) -> Network | None:
        """Return any one of these networks, at a cost that does not grow with them."""
        row = self._db.row(f"{_ON_VLAN} LIMIT 1", name)
        return _network(row) if row else None

    def rename(self, identity: str, name: str) -> None:
        """Record the name of a network, as Docker's API tells it."""
        self._db.run("UPDATE main.network SET name = ? WHERE id = ?", name, identity)

    def remove(self, identity: str) -> None:
        """Remove a network, its endpoints and their sandboxes."""
        self._db.run("DELETE FROM main.network WHERE id = ?", identity)


def _packed_identity(found: DeviceIdentity | None) -> str:
    return json.dumps(list(astuple(found))) if found else ""


def _pack(segment: Subnet) -> list[object]:
    gateway = str(segment.gateway) if segment.gateway else None
    aux = [str(a) for a in segment.aux]
    flags = [segment.pooled, *([True] if segment.dhcp else [])]
    return [str(segment.subnet), gateway, aux, *flags]


def _uplink(row: sqlite3.Row) -> Uplink:
    return Uplink(
        parent=row["parent"],
        vlans=tuple(json.loads(row["vlans"])),
        mtu=row["mtu"],
        base_device=DeviceIdentity(*json.loads(row["base"])) if row["base"] else None,
        mac=row["mac"],
        host_addresses=tuple(ip_interface(a) for a in json.loads(row["here"])),
        container_bridges=tuple(json.loads(row["inward"])),
        parent_missing=row["absent"],
        link_fault=row["halt"],
    )


@GenerationCache
def _network(row: sqlite3.Row) -> Network:
    segments = tuple(
        Subnet(
            ip_network(subnet),
            ip_address(gateway) if gateway else None,
            tuple(ip_address(a) for a in aux),
            *flags,
        )
        for subnet, gateway, aux, *flags in json.loads(row["segments"])
    )
    return Network(
        id=row["id"],
        options=json.loads(row["options"]),
        internal=bool(row["internal"]),
        subnets=segments,
        uplink=_uplink(row),
        name=row["name"],
        created=row["created"],
    )
