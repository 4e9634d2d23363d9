"""Endpoints, the sandboxes their devices are in, and devices left behind in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface
from math import inf

from underlay.model import (
    FAMILIES,
    Endpoint,
    Family,
    LearnedState,
    LeasedIpv6,
    LeftoverDevice,
)
from underlay.model.cache import GenerationCache
from underlay.model.lease_options import LeaseOptions
from underlay.model.ports import PORTS_OPTION
from underlay.records.database import Database
from underlay.records.dhcp_leases import DROPPED
from underlay.records.lease_table import former_of

_ENDPOINT = (
    "SELECT e.*, s.path AS sandbox, s.left, s.device, s.mtu, s.defaults,"
    " s.settings, s.without, s.beside, d.address AS leased, d.router, d.former,"
    " d.options AS said, x.address AS leased6, x.former AS former6, x.uptime AS since6,"
    " iif(x.preferred = 0, NULL, max(x.preferred - x.since, 0)) AS preferred6,"
    " iif(x.expires = 0, NULL, max(x.expires - x.since, 0)) AS valid6"
    " FROM endpoint e"
    " LEFT JOIN sandbox s ON s.endpoint = e.id"
    " LEFT JOIN dhcp_lease d ON d.endpoint = e.id"
    " LEFT JOIN dhcpv6_lease x ON x.endpoint = e.id"
)


class Endpoints:
    """The tables `endpoint`, `sandbox` and `remnant`.

    Statements write to `main.<table>`, and may read a view of it (endings.py).
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    @staticmethod
    def next_generation() -> None:
        """Drop rows that were not read since the last call; all are read next."""
        _endpoint.next_generation()

    def add(self, endpoint: Endpoint) -> None:
        """Record an endpoint."""
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

    def get(self, identity: str) -> Endpoint | None:
        """Return an endpoint by its id."""
        row = self._db.row(f"{_ENDPOINT} WHERE e.id = ?", identity)
        return _endpoint(row) if row else None

    def all(self) -> list[Endpoint]:
        """Return every endpoint, oldest first."""
        return self._where("true ORDER BY e.created, e.id")

    def of_network(self, network: str) -> list[Endpoint]:
        """Return the endpoints of a network, oldest first."""
        return self._where("e.network = ? ORDER BY e.created, e.id", network)

    def some_of(self, network: str, limit: int) -> list[Endpoint]:
        """Return at most so many endpoints of a network."""
        return self._where("e.network = ? LIMIT ?", network, limit)

    def not_joined(self) -> list[Endpoint]:
        """Return the endpoints whose devices Docker has not been given yet."""
        return self._where("s.path IS NULL")

    def joined(self) -> list[Endpoint]:
        """Return the endpoints whose devices are in sandboxes, and stay there."""
        return self._where("s.left = 0")

    def joined_in(self, sandboxes: Iterable[str]) -> list[Endpoint]:
        """Return the joined endpoints of some sandboxes."""
        paths = json.dumps(list(sandboxes))
        here = "s.path IN (SELECT value FROM json_each(?))"
        return self._where(f"s.left = 0 AND {here}", paths)

    def joined_at(self, sandbox: str) -> list[Endpoint]:
        """Return the joined endpoints of one sandbox."""
        return self._where("s.left = 0 AND s.path = ?", sandbox)

    def joined_several(self) -> list[Endpoint]:
        """Return the joined endpoints of sandboxes that have more than one."""
        several = "SELECT path FROM sandbox WHERE left = 0 GROUP BY path"
        several += " HAVING count(*) > 1"
        return self._where(f"s.left = 0 AND s.path IN ({several})")

    def leaving(self) -> list[Endpoint]:
        """Return the endpoints for which Leave came."""
        return self._where("s.left = 1")

    def not_learned(self) -> list[Endpoint]:
        """Return the newest joined endpoints whose sandbox was not yet observed."""
        newest = "ORDER BY e.created DESC LIMIT 500"
        return self._where(f"s.left = 0 AND s.device = '' {newest}")

    def joined_after(self, endpoint: str, limit: int) -> list[Endpoint]:
        """Return the next joined endpoints in the order of ids, at most `limit`."""
        where = "s.left = 0 AND s.endpoint > ? ORDER BY s.endpoint LIMIT ?"
        return self._where(where, endpoint, limit)

    def _where(self, where: str, *values: object) -> list[Endpoint]:
        rows = self._db.rows(f"{_ENDPOINT} WHERE {where}", *values)
        return [_endpoint(r) for r in rows]

    def named(self, endpoint: str = "") -> Iterator[tuple[str, str, str]]:
        """Return name, network and address of running containers, where known.

        Of one endpoint, or of all. An address is as on record, with its prefix length.
        Those from router advertisements are among them.
        """
        rows = self._db.rows(
            "SELECT e.container, e.network, s.beside,"
            f" CASE WHEN {DROPPED} THEN ''"
            " ELSE coalesce(nullif(d.address, ''), e.ipv4) END, e.ipv6,"
            f" CASE WHEN {DROPPED.replace('d.', 'x.')} THEN '' ELSE x.address END"
            " FROM endpoint e JOIN sandbox s ON s.endpoint = e.id"
            " LEFT JOIN dhcp_lease d ON d.endpoint = e.id"
            " LEFT JOIN dhcpv6_lease x ON x.endpoint = e.id"
            " WHERE s.left = 0 AND e.container <> ''"
            f"{' AND e.id = ?' if endpoint else ''}",
            *([endpoint] if endpoint else []),
        )
        for container, network, beside, *addresses in rows:
            more = (a for a in json.loads(beside) if not ip_interface(a).is_link_local)
            found = (text for text in (*addresses, *more) if text)
            yield from ((container, network, text) for text in found)

    def containers(self) -> dict[str, str]:
        """Return the container name of every endpoint id; "" if unknown."""
        return {r[0]: r[1] for r in self._db.rows("SELECT id, container FROM endpoint")}

    def any_of(self, network: str) -> Endpoint | None:
        """Return any one endpoint of a network."""
        row = self._db.row(f"{_ENDPOINT} WHERE e.network = ? LIMIT 1", network)
        return _endpoint(row) if row else None

    def with_mac(self, mac: str) -> list[Endpoint]:
        """Return the endpoints that have a MAC."""
        return self._where("e.mac = ?", mac)

    def with_option(self, key: str) -> list[Endpoint]:
        """Return the endpoints that have an option."""
        return self._where("json_extract(e.options, '$.' || ?) IS NOT NULL", key)

    def remove(self, network: str, identity: str) -> bool:
        """Remove an endpoint of a network; return whether it was recorded."""
        return bool(
            self._db.run(
                "DELETE FROM main.endpoint WHERE id = ? AND network = ?",
                identity,
                network,
            )
        )

    def add_leftover(self, leftover: LeftoverDevice) -> None:
        """Record that the device of an ended endpoint is still in a sandbox."""
        self._db.run(
            "INSERT OR REPLACE INTO remnant (endpoint, network, path) VALUES (?, ?, ?)",
            leftover.endpoint,
            leftover.network,
            leftover.sandbox,
        )

    def leftovers(self) -> list[LeftoverDevice]:
        """Return the devices of ended endpoints that may still be in sandboxes."""
        rows = self._db.rows("SELECT network, endpoint, path FROM remnant")
        return [LeftoverDevice(*row) for row in rows]

    def has_leftover(self, endpoint: str) -> bool:
        """Return whether the device of an ended endpoint may still be in a sandbox."""
        row = self._db.row("SELECT 1 FROM remnant WHERE endpoint = ?", endpoint)
        return row is not None

    def forget_leftover(self, endpoint: str) -> None:
        """Record that the device of an ended endpoint is gone."""
        self._db.run("DELETE FROM remnant WHERE endpoint = ?", endpoint)

    def name_container(self, endpoint: str, container: str) -> None:
        """Record the container of an endpoint, as Docker's API tells it."""
        self._db.run(
            "UPDATE main.endpoint SET container = ? WHERE id = ?", container, endpoint
        )

    def join(self, endpoint: str, path: str, ports: str = "") -> None:
        """Record the sandbox that Docker moves the device into.

        And the ports that `-p` names, if none are on record.
        """
        if ports:
            self._db.run(
                "UPDATE main.endpoint SET options = json_insert(options, ?, ?)"
                " WHERE id = ?",
                f'$."{PORTS_OPTION}"',
                ports,
                endpoint,
            )
        self._db.run(
            "INSERT INTO main.sandbox (endpoint, path) VALUES (?, ?)"
            " ON CONFLICT (endpoint)"
            " DO UPDATE SET path = excluded.path, left = 0, device = ''",
            endpoint,
            path,
        )

    def save_learned(self, endpoint: Endpoint) -> bool:
        """Record the learned state of a device, if it is still in that sandbox.

        Return whether it is.
        """
        learned = endpoint.learned
        if learned is None:
            return False
        changed = self._db.run(
            "UPDATE main.sandbox SET device = ?, mtu = ?, defaults = ?, settings = ?,"
            " without = ?, beside = ? WHERE endpoint = ? AND path = ?",
            learned.device,
            learned.mtu,
            "".join(map(str, learned.default_families)),
            json.dumps(learned.sysctls),
            "".join(map(str, learned.families_off)),
            json.dumps([str(a) for a in (*learned.link_local, *learned.from_routers)]),
            endpoint.id,
            endpoint.sandbox,
        )
        return changed > 0

    def cancel_leave(self, endpoint: str) -> None:
        """Record that the device stays in its sandbox after all."""
        self._db.run(
            "UPDATE main.sandbox SET left = 0, device = '' WHERE endpoint = ?", endpoint
        )

    def leave(self, endpoint: str) -> None:
        """Record that the device is about to leave its sandbox."""
        self._db.run("UPDATE main.sandbox SET left = 1 WHERE endpoint = ?", endpoint)


@GenerationCache
def _endpoint(row: sqlite3.Row) -> Endpoint:
    # A server may have given another address since Docker was told one.
    ipv4 = row["leased"] or row["ipv4"]
    own, former = IPv4Interface(ipv4) if ipv4 else None, former_of(row["former"] or "")
    leased6, former6 = _leased6(row), former_of(row["former6"] or "")
    own6 = leased6.address if leased6 else None
    return Endpoint(
        id=row["id"],
        network=row["network"],
        ipv4=own if own not in former else None,
        ipv6=IPv6Interface(row["ipv6"]) if row["ipv6"] else None,
        mac=row["mac"],
        options=json.loads(row["options"]),
        sandbox=row["sandbox"] or "",
        learned=_learned(row) if row["device"] else None,
        left=bool(row["left"]),
        container=row["container"],
        created=row["created"],
        router=IPv4Address(row["router"]) if row["router"] else None,
        former=tuple(one for one in (*former, *former6) if one not in (own, own6)),
        lost=own if own in former else None,
        leased=LeaseOptions.of_area(row["said"] or b""),
        leased6=leased6,
    )


def _leased6(row: sqlite3.Row) -> LeasedIpv6 | None:
    if not row["leased6"]:
        return None
    address = IPv6Interface(row["leased6"])
    ends = (row["preferred6"], row["valid6"])
    preferred, valid = (inf if end is None else end for end in ends)
    is_lost = address in former_of(row["former6"])
    return LeasedIpv6(address, row["since6"], preferred, valid, is_lost)


def _learned(row: sqlite3.Row) -> LearnedState:
    # In one column: no address from a router is link-local.
    beside = [ip_interface(a) for a in json.loads(row["beside"])]
    return LearnedState(
        device=row["device"],
        mtu=row["mtu"],
        default_families=_families(row["defaults"]),
        sysctls=tuple(json.loads(row["settings"])),
        families_off=_families(row["without"]),
        link_local=tuple(a for a in beside if a.is_link_local),
        from_routers=tuple(
            a for a in beside if isinstance(a, IPv6Interface) and not a.is_link_local
        ),
    )


def _families(packed: str) -> tuple[Family, ...]:
    return tuple(f for f in FAMILIES if str(f) in packed)
