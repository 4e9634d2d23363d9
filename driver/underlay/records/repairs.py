"""The repair log, and the failures: what cannot be repaired now."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import astuple

from underlay.model import Failure, Repair
from underlay.model.owner import Owner
from underlay.records.database import Database

KEPT = 10_000
_COLUMNS = "at, mark, place, before, step, seconds, error, network, container"


class Repairs:
    """The tables `repair`, of which the newest KEPT rows are kept, and `trouble`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, repairs: Iterable[Repair]) -> None:
        """Add repairs, and delete the oldest; part of a transaction."""
        for repair in repairs:
            self._db.run(
                f"INSERT INTO repair ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *astuple(repair),
            )
        self._db.run(
            "DELETE FROM repair WHERE id <= (SELECT max(id) FROM repair) - ?", KEPT
        )

    def latest(self, limit: int) -> list[Repair]:
        """Return the newest repairs, newest first."""
        rows = self._db.rows("SELECT * FROM repair ORDER BY id DESC LIMIT ?", limit)
        return [_repair(r) for r in rows]

    def about(self, names: Iterable[str], limit: int) -> list[Repair]:
        """Return the repairs of containers or networks of these names, newest first."""
        rows = self._db.rows(
            "WITH name AS (SELECT value FROM json_each(?)) SELECT * FROM repair"
            " WHERE container IN name OR network IN name ORDER BY id DESC LIMIT ?",
            json.dumps(list(names)),
            limit,
        )
        return [_repair(r) for r in rows]

    def last(self) -> dict[str, float]:
        """Return when each mark was last repaired successfully."""
        rows = self._db.rows(
            "SELECT mark, max(at) AS at FROM repair WHERE error = '' GROUP BY mark"
        )
        return {r["mark"]: r["at"] for r in rows}

    def name_of_network(self, network: str) -> str:
        """Return what a network was called when it was repaired last, "" if never."""
        first = Owner(network).mark
        row = self._db.row(
            "SELECT network FROM repair WHERE mark >= ? AND mark < ?"
            " ORDER BY id DESC LIMIT 1",
            first,
            f"{first[:-1]};",  # the sign behind the colon that ends the id
        )
        return row["network"] if row else ""

    def failures(self) -> list[Failure]:
        """Return the failures, oldest first."""
        rows = self._db.rows("SELECT mark, text, since FROM trouble ORDER BY since")
        return [Failure(r["mark"], r["text"], r["since"]) for r in rows]

    def note_failure(self, mark: str, text: str, now: float) -> None:
        """Record that an object cannot be repaired; `since` stays the first time."""
        self._db.run(
            "INSERT INTO trouble (mark, text, since) VALUES (?, ?, ?)"
            " ON CONFLICT (mark) DO UPDATE SET text = excluded.text",
            mark,
            text,
            now,
        )

    def clear_failure(self, mark: str) -> None:
        """Delete the failure of an object that is right again, or gone."""
        self._db.run("DELETE FROM trouble WHERE mark = ?", mark)


def _repair(row: sqlite3.Row) -> Repair:
    return Repair(
        at=row["at"],
        mark=row["mark"],
        place=row["place"],
        before=row["before"],
        step=row["step"],
        seconds=row["seconds"],
        error=row["error"],
        network=row["network"],
        container=row["container"],
    )
