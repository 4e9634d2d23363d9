"""Networks, endpoints and the sandboxes their devices are in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)

from underlay.model import (
    FAMILIES,
    DeviceIdentity,
    Endpoint,
    Family,
    LearnedState,
    LeftoverDevice,
    Network,
    Subnet,
)
from underlay.model.cache import GenerationCache
from underlay.records.database import Database

_NETWORK = (
    "SELECT n.*, (SELECT json_group_array(name) FROM (SELECT name FROM vlan"
    " WHERE network = n.id ORDER BY height)) AS vlans FROM network n"
)
_ON_VLAN = f"{_NETWORK} WHERE n.id IN (SELECT network FROM vlan WHERE name = ?)"
_ENDPOINT = (
    "SELECT e.*, s.path AS sandbox, s.left, s.device, s.mtu, s.defaults,"
    " s.settings, s.without, s.beside"
    " FROM endpoint e"
    " LEFT JOIN sandbox s ON s.endpoint = e.id"
)


class Networks:
    """The tables `network`, `vlan`, `endpoint`, `sandbox` and `remnant`.

    What is written goes to `main`: what is read may be a view of it (endings.py).
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @staticmethod
    def next_generation() -> None:
        """Say that all rows are about to be read: the rest need not be remembered."""
        _network.next_generation()
        _endpoint.next_generation()

    def add(self, network: Network) -> None:
        """Put a network on record."""
        self._db.run(
            "INSERT INTO main.network"
            " (id, options, internal, segments, parent, base, halt, mtu, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            network.id,
            json.dumps(dict(network.options), sort_keys=True),
            int(network.internal),
            json.dumps([_pack(s) for s in network.subnets]),
            network.parent,
            _packed_identity(network.base_device),
            network.link_fault,
            network.mtu,
            network.created,
        )
        self._add_vlans(network)

    def move(self, network: Network) -> None:
        """Note what a network stands on from now on, or why on nothing."""
        self._db.run(
            "UPDATE main.network SET parent = ?, base = ?, absent = ?, halt = ?,"
            " here = ?,"
            " mac = ?, mtu = ?, inward = ? WHERE id = ?",
            network.parent,
            _packed_identity(network.base_device),
            network.parent_missing,
            network.link_fault,
            json.dumps([str(a) for a in network.host_addresses]),
            network.mac,
            network.mtu,
            json.dumps(network.container_bridges),
            network.id,
        )
        self._db.run("DELETE FROM main.vlan WHERE network = ?", network.id)
        self._add_vlans(network)

    def _add_vlans(self, network: Network) -> None:
        for height, name in enumerate(network.vlans):
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
        """Return the networks whose children stand on a device."""
        rows = self._db.rows(f"{_NETWORK} WHERE n.parent = ?", parent)
        return [_network(r) for r in rows]

    def with_subnet(self, subnet: str) -> list[Network]:
        """Return the networks that have a pool of ours for a subnet."""
        rows = self._db.rows(
            f"{_NETWORK} WHERE n.id IN (SELECT c.network FROM claim c"
            " JOIN pool p ON p.id = c.pool WHERE p.subnet = ?)",
            subnet,
        )
        return [_network(r) for r in rows]

    def active(self, mode: str) -> list[Network]:
        """Return the networks of a mode, given by that name, that have an endpoint."""
        rows = self._db.rows(
            f"{_NETWORK} WHERE json_extract(n.options, '$.mode') = ?"
            " AND EXISTS (SELECT 1 FROM endpoint e WHERE e.network = n.id)",
            mode,
        )
        return [_network(r) for r in rows]

    def on_vlan(self, name: str) -> list[Network]:
        """Return the networks that need a VLAN of ours, on it or above it."""
        return [_network(r) for r in self._db.rows(_ON_VLAN, name)]

    def any_on_vlan(self, name: str) -> Network | None:
        """Return any one of them: whether it is needed must not cost their number."""
        row = self._db.row(f"{_ON_VLAN} LIMIT 1", name)
        return _network(row) if row else None

    def rename(self, identity: str, name: str) -> None:
        """Note the name Docker's API gave a network."""
        self._db.run("UPDATE main.network SET name = ? WHERE id = ?", name, identity)

    def remove(self, identity: str) -> None:
        """Take a network, its endpoints and their sandboxes off the record."""
        self._db.run("DELETE FROM main.network WHERE id = ?", identity)

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Put an endpoint on record."""
        self._db.run(
            "INSERT INTO main.endpoint"
            " (id, network, ipv4, ipv6, mac, options, container, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            endpoint.id,
            endpoint.network,
            str(endpoint.ipv4 or ""),
            str(endpoint.ipv6 or ""),
            endpoint.mac,
            json.dumps(dict(endpoint.options), sort_keys=True),
            endpoint.container,
            endpoint.created,
        )

    def endpoint(self, identity: str) -> Endpoint | None:
        """Return an endpoint by its id."""
        row = self._db.row(f"{_ENDPOINT} WHERE e.id = ?", identity)
        return _endpoint(row) if row else None

    def endpoints(self, network: str | None = None) -> list[Endpoint]:
        """Return the endpoints of one network, or of all, oldest first."""
        where = "" if network is None else " WHERE e.network = ?"
        given = () if network is None else (network,)
        rows = self._db.rows(f"{_ENDPOINT}{where} ORDER BY e.created, e.id", *given)
        return [_endpoint(r) for r in rows]

    def not_joined(self) -> list[Endpoint]:
        """Return the endpoints whose devices Docker has not been given yet."""
        return [
            _endpoint(r) for r in self._db.rows(f"{_ENDPOINT} WHERE s.path IS NULL")
        ]

    def joined(self) -> list[Endpoint]:
        """Return the endpoints whose devices are in sandboxes, and stay there."""
        return self._joined("s.left = 0")

    def joined_in(self, sandboxes: Iterable[str]) -> list[Endpoint]:
        """Return those of these sandboxes."""
        paths = json.dumps(list(sandboxes))
        here = "s.path IN (SELECT value FROM json_each(?))"
        return self._joined(f"s.left = 0 AND {here}", paths)

    def joined_at(self, sandbox: str) -> list[Endpoint]:
        """Return those of one sandbox."""
        return self._joined("s.left = 0 AND s.path = ?", sandbox)

    def leaving(self) -> list[Endpoint]:
        """Return those that Docker said are about to leave their sandboxes."""
        return self._joined("s.left = 1")

    def not_learned(self) -> list[Endpoint]:
        """Return those of which is not known yet how they are in their sandboxes."""
        newest = "ORDER BY e.created DESC LIMIT 500"
        return self._joined(f"s.left = 0 AND s.device = '' {newest}")

    def joined_after(self, endpoint: str, limit: int) -> list[Endpoint]:
        """Return those that come next in the order of their ids, so many at most."""
        where = "s.left = 0 AND s.endpoint > ? ORDER BY s.endpoint LIMIT ?"
        return self._joined(where, endpoint, limit)

    def _joined(self, where: str, *values: object) -> list[Endpoint]:
        rows = self._db.rows(f"{_ENDPOINT} WHERE {where}", *values)
        return [_endpoint(r) for r in rows]

    def containers(self) -> dict[str, str]:
        """Return the name of the container, or "", of every endpoint id."""
        return {r[0]: r[1] for r in self._db.rows("SELECT id, container FROM endpoint")}

    def any_endpoint(self, network: str, besides: str = "") -> Endpoint | None:
        """Return any one endpoint of a network, but one."""
        where = "WHERE e.network = ? AND e.id != ? LIMIT 1"
        row = self._db.row(f"{_ENDPOINT} {where}", network, besides)
        return _endpoint(row) if row else None

    def with_mac(self, mac: str) -> list[tuple[Endpoint, Network]]:
        """Return the endpoints that have a MAC, with their networks."""
        rows = self._db.rows(f"{_ENDPOINT} WHERE e.mac = ?", mac)
        return list(self._with_network(_endpoint(r) for r in rows))

    def _with_network(
        self, endpoints: Iterator[Endpoint]
    ) -> Iterator[tuple[Endpoint, Network]]:
        for endpoint in endpoints:
            network = self.get(endpoint.network)
            if network:
                yield endpoint, network

    def remove_endpoint(self, network: str, identity: str) -> bool:
        """Take an endpoint and its sandbox off the record, if the network has it."""
        return bool(
            self._db.run(
                "DELETE FROM main.endpoint WHERE id = ? AND network = ?",
                identity,
                network,
            )
        )

    def note_remnant(self, remnant: LeftoverDevice) -> None:
        """Note that an ended endpoint's device is still in a sandbox."""
        self._db.run(
            "INSERT OR REPLACE INTO remnant (endpoint, network, path) VALUES (?, ?, ?)",
            remnant.endpoint,
            remnant.network,
            remnant.sandbox,
        )

    def remnants(self) -> list[LeftoverDevice]:
        """Return the devices of ended endpoints that may still be in sandboxes."""
        rows = self._db.rows("SELECT network, endpoint, path FROM remnant")
        return [LeftoverDevice(*row) for row in rows]

    def has_remnant(self, endpoint: str) -> bool:
        """Tell whether the device of an ended endpoint may still be in a sandbox."""
        row = self._db.row("SELECT 1 FROM remnant WHERE endpoint = ?", endpoint)
        return row is not None

    def forget_remnant(self, endpoint: str) -> None:
        """Note that the device of an ended endpoint is gone."""
        self._db.run("DELETE FROM remnant WHERE endpoint = ?", endpoint)

    def name_container(self, endpoint: str, container: str) -> None:
        """Note the container an endpoint belongs to, as Docker's API told."""
        self._db.run(
            "UPDATE main.endpoint SET container = ? WHERE id = ?", container, endpoint
        )

    def join(self, endpoint: str, path: str) -> None:
        """Note the sandbox Docker moves the endpoint's device into."""
        self._db.run(
            "INSERT INTO main.sandbox (endpoint, path) VALUES (?, ?)"
            " ON CONFLICT (endpoint)"
            " DO UPDATE SET path = excluded.path, left = 0, device = ''",
            endpoint,
            path,
        )

    def save_learned(self, endpoint: Endpoint) -> None:
        """Note how a device is inside its sandbox, if that is still the one."""
        inside = endpoint.learned
        if inside is None:
            return
        self._db.run(
            "UPDATE main.sandbox SET device = ?, mtu = ?, defaults = ?, settings = ?,"
            " without = ?, beside = ? WHERE endpoint = ? AND path = ?",
            inside.device,
            inside.mtu,
            "".join(map(str, inside.default_families)),
            json.dumps(inside.sysctls),
            "".join(map(str, inside.families_off)),
            json.dumps([str(a) for a in inside.link_local]),
            endpoint.id,
            endpoint.sandbox,
        )

    def cancel_leave(self, endpoint: str) -> None:
        """Note that the device does not leave after all, as far as it is on record."""
        self._db.run(
            "UPDATE main.sandbox SET left = 0, device = '' WHERE endpoint = ?", endpoint
        )

    def leave(self, endpoint: str) -> None:
        """Note that the device is on its way out of the sandbox."""
        self._db.run("UPDATE main.sandbox SET left = 1 WHERE endpoint = ?", endpoint)


def _packed_identity(found: DeviceIdentity | None) -> str:
    return json.dumps(list(astuple(found))) if found else ""


def _pack(segment: Subnet) -> list[object]:
    gateway = str(segment.gateway) if segment.gateway else None
    aux = [str(a) for a in segment.aux]
    return [str(segment.subnet), gateway, aux, segment.pooled]


@GenerationCache
def _network(row: sqlite3.Row) -> Network:
    segments = tuple(
        Subnet(
            ip_network(subnet),
            ip_address(gateway) if gateway else None,
            tuple(ip_address(a) for a in aux),
            pooled,
        )
        for subnet, gateway, aux, pooled in json.loads(row["segments"])
    )
    return Network(
        id=row["id"],
        options=json.loads(row["options"]),
        internal=bool(row["internal"]),
        subnets=segments,
        parent=row["parent"],
        vlans=tuple(json.loads(row["vlans"])),
        host_addresses=tuple(ip_interface(a) for a in json.loads(row["here"])),
        mac=row["mac"],
        mtu=row["mtu"],
        base_device=DeviceIdentity(*json.loads(row["base"])) if row["base"] else None,
        parent_missing=row["absent"],
        link_fault=row["halt"],
        container_bridges=tuple(json.loads(row["inward"])),
        name=row["name"],
        created=row["created"],
    )


@GenerationCache
def _endpoint(row: sqlite3.Row) -> Endpoint:
    return Endpoint(
        id=row["id"],
        network=row["network"],
        ipv4=IPv4Interface(row["ipv4"]) if row["ipv4"] else None,
        ipv6=IPv6Interface(row["ipv6"]) if row["ipv6"] else None,
        mac=row["mac"],
        options=json.loads(row["options"]),
        sandbox=row["sandbox"] or "",
        learned=_inside(row) if row["device"] else None,
        left=bool(row["left"]),
        container=row["container"],
        created=row["created"],
    )


def _inside(row: sqlite3.Row) -> LearnedState:
    return LearnedState(
        device=row["device"],
        mtu=row["mtu"],
        default_families=_families(row["defaults"]),
        sysctls=tuple(json.loads(row["settings"])),
        families_off=_families(row["without"]),
        link_local=tuple(ip_interface(a) for a in json.loads(row["beside"])),
    )


def _families(packed: str) -> tuple[Family, ...]:
    return tuple(f for f in FAMILIES if str(f) in packed)
