"""How much is on record, for metrics: a few queries, however much that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from underlay.records.database import Database

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
    " EXISTS (SELECT 1 FROM claim WHERE slice = s.id) AS is_claimed"
    " FROM slice s JOIN pool p ON p.id = s.pool ORDER BY p.domain, p.family, s.first"
)
_FAILURES = "SELECT mark FROM trouble"


@dataclass(frozen=True, slots=True)
class Range:
    """A range that networks draw addresses from: how many it has, and how many free.

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
            span = f"{ip_address(row['first'])}-{ip_address(row['last'])}"
            size = last - first + 1
            yield Range(row["domain"], row["subnet"], span, size, free)


def _span(first: bytes, last: bytes) -> tuple[int, int]:
    return int.from_bytes(first), int.from_bytes(last)
