"""Bridges of ours that have, or are to have, what stood on their parents."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import astuple

from underlay.model import BridgeTakeover, HostEntry
from underlay.records.database import Database


class BridgeTakeovers:
    """The table `takeover`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[BridgeTakeover]:
        """Return all of them."""
        rows = self._db.rows("SELECT * FROM takeover ORDER BY parent")
        return [_takeover(r) for r in rows]

    def of(self, parent: str) -> BridgeTakeover | None:
        """Return that of a parent."""
        row = self._db.row("SELECT * FROM takeover WHERE parent = ?", parent)
        return _takeover(row) if row else None

    def by(self, bridge: str) -> BridgeTakeover | None:
        """Return that by a bridge."""
        row = self._db.row("SELECT * FROM takeover WHERE bridge = ?", bridge)
        return _takeover(row) if row else None

    def note(self, takeover: BridgeTakeover) -> None:
        """Note how far it is."""
        self._db.run(
            "INSERT INTO takeover (parent, bridge, state, facts, settings)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (parent) DO UPDATE SET"
            " state = excluded.state, facts = excluded.facts",
            takeover.parent,
            takeover.bridge,
            takeover.state,
            json.dumps([astuple(fact) for fact in takeover.entries]),
            json.dumps(takeover.sysctls),
        )

    def forget(self, parent: str) -> None:
        """Note that the parent is as it was."""
        self._db.run("DELETE FROM takeover WHERE parent = ?", parent)


def _takeover(row: sqlite3.Row) -> BridgeTakeover:
    return BridgeTakeover(
        row["parent"],
        row["bridge"],
        row["state"],
        tuple(HostEntry(*fact) for fact in json.loads(row["facts"])),
        tuple(json.loads(row["settings"])),
    )
