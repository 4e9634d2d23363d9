"""How much is on record, for metrics: a few queries, however much that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from underlay.records.database import Database
from underlay.records.dhcp_leases import DROPPED
from underlay.records.reservations import YIELDING

_ENDPOINTS = (
    "SELECT e.network, CASE WHEN s.path IS NULL THEN 'created'"
    " WHEN s.\"left\" THEN 'left' ELSE 'joined' END AS state, count(*) AS number"
    " FROM endpoint e LEFT JOIN sandbox s ON s.endpoint = e.id GROUP BY 1, 2"
)
_ADDRESSES = (
    "SELECT network, CASE WHEN role <> 'endpoint' THEN role"
    " WHEN endpoint = '' THEN 'unassigned' ELSE 'assigned' END AS state,"
    " count(*) AS number FROM tenure WHERE until = 0 GROUP BY 1, 2"
)
_MACS = (
    "SELECT n.parent, count(DISTINCT e.mac) AS number"
    " FROM network n JOIN endpoint e ON e.network = n.id"
    " WHERE n.parent <> '' AND e.mac <> '' GROUP BY 1"
)
_RANGES = (
    "SELECT s.id, s.pool, s.first, s.last, p.domain, p.subnet,"
    " (SELECT count(*) FROM freed WHERE slice = s.id) AS freed,"
    # How many addresses DHCP servers have, is not known.
    " EXISTS (SELECT 1 FROM claim WHERE slice = s.id AND source = 'pool')"
    "  AS is_claimed,"
    " (SELECT count(*) FROM reservation WHERE domain = p.domain"
    "  AND place BETWEEN s.first AND s.last AND length(place) = length(s.first)"
    f"  AND {YIELDING}) AS yielding"
    " FROM slice s JOIN pool p ON p.id = s.pool ORDER BY p.domain, p.family, s.first"
)
_LEASES = (
    "SELECT CASE WHEN address = '' THEN 'unserved' WHEN endpoint <> '' THEN"
    " iif(rebind > 0 AND rebind <= ?, 'unanswered', 'bound')"
    " WHEN gone > 0 THEN 'removed'"
    " WHEN expires > 0 AND expires <= ? THEN 'ended' ELSE 'held' END AS state,"
    " count(*) AS number FROM {} GROUP BY 1"
)
_FIRST_END = (
    "SELECT min(expires) AS first FROM (SELECT endpoint, expires FROM dhcp_lease"
    " UNION ALL SELECT endpoint, expires FROM dhcpv6_lease)"
    " WHERE endpoint <> '' AND expires > 0"
)
_STALE = (
    "SELECT count(*) AS number FROM dhcp_lease d JOIN endpoint e ON e.id = d.endpoint"
    f" WHERE d.address <> '' AND e.ipv4 <> d.address AND NOT {DROPPED}"
)
_FAILURES = "SELECT mark FROM trouble"


@dataclass(frozen=True, slots=True)
class Range:
    """A range that networks draw addresses from: how many it has, and how many free.

    None of DHCP servers.

    `span` is its first and last address, as text with a dash between them.
    """

    domain: str
    subnet: str
    span: str
    size: int
    free: int


class Counts:
    """Numbers over all tables."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def endpoints(self) -> list[tuple[str, str, int]]:
        """Return the number of endpoints by network id and state."""
        return [tuple(row) for row in self._db.rows(_ENDPOINTS)]

    def addresses(self) -> list[tuple[str, str, int]]:
        """Return the number of leased addresses by network id and state."""
        return [tuple(row) for row in self._db.rows(_ADDRESSES)]

    def macs(self) -> dict[str, int]:
        """Return the number of the endpoints' MACs by parent device."""
        return dict(map(tuple, self._db.rows(_MACS)))

    def failing(self) -> list[str]:
        """Return the marks of all objects that cannot be repaired."""
        return [row["mark"] for row in self._db.rows(_FAILURES)]

    def dhcp_leases(self, now: float) -> dict[str, int]:
        """Return the number of leases from DHCP servers by state.

        `now` in seconds since 1970; the states are those of ipam/lease_states.py.
        """
        return dict(map(tuple, self._db.rows(_LEASES.format("dhcp_lease"), now, now)))

    def dhcpv6_leases(self, now: float) -> dict[str, int]:
        """Return the same of leases from DHCPv6 servers."""
        return dict(map(tuple, self._db.rows(_LEASES.format("dhcpv6_lease"), now, now)))

    def first_dhcp_end(self) -> float | None:
        """Return when the first lease of a container ends, None if none does."""
        row = self._db.row(_FIRST_END)
        return row["first"] if row else None

    def stale_addresses(self) -> int:
        """Return how many endpoints have another address than Docker was answered."""
        row = self._db.row(_STALE)
        return row["number"] if row else 0

    def ranges(self) -> Iterator[Range]:
        """Return every range that a network draws from."""
        found = self._db.rows(_RANGES)
        fresh: dict[int, list[tuple[int, int]]] = {}
        for row in self._db.rows("SELECT pool, first, last FROM fresh"):
            fresh.setdefault(row["pool"], []).append(_span(row["first"], row["last"]))
        for row in found:
            if not row["is_claimed"]:
                continue
            first, last = _span(row["first"], row["last"])
            free = sum(
                max(0, min(last, high) - max(first, low) + 1)
                for low, high in fresh.get(row["pool"], ())
            )
            # A freed address waits in the narrowest of its ranges.
            free += sum(
                other["freed"]
                for other in found
                if other["pool"] == row["pool"]
                and row["first"] <= other["first"]
                and other["last"] <= row["last"]
            )
            free += row["yielding"]  # kept for containers that do not run
            span = f"{ip_address(row['first'])}-{ip_address(row['last'])}"
            size = last - first + 1
            yield Range(row["domain"], row["subnet"], span, size, free)


def _span(first: bytes, last: bytes) -> tuple[int, int]:
    return int.from_bytes(first), int.from_bytes(last)
