"""What this host is, what could not be done on it, and what Docker is to tell yet."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from underlay.model import Failure
from underlay.records.database import Database

# All that Docker may list, as long as it was not asked.
ANY = ""


class Notes:
    """The tables `host`, `boot`, `trouble` and `awaited`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def identity(self, machine: str) -> str:
        """Return this host's identity: the machine's own if it has one, for good."""
        self._db.run(
            "INSERT INTO host (one, identity) VALUES (1, ?) ON CONFLICT DO NOTHING",
            machine or secrets.token_hex(16),
        )
        row = self._db.row("SELECT identity FROM host")
        return str(row["identity"]) if row else machine

    def boot(self) -> str:
        """Return which boot of the host the records are of, "" if not known yet."""
        row = self._db.row("SELECT identity FROM boot")
        return str(row["identity"]) if row else ""

    def note_boot(self, identity: str) -> None:
        """Note which boot the records are of from now on."""
        self._db.run(
            "INSERT INTO boot (one, identity) VALUES (1, ?)"
            " ON CONFLICT (one) DO UPDATE SET identity = excluded.identity",
            identity,
        )

    def failures(self) -> list[Failure]:
        """Return what is wrong, oldest first."""
        rows = self._db.rows("SELECT mark, text, since FROM trouble ORDER BY since")
        return [Failure(r["mark"], r["text"], r["since"]) for r in rows]

    def note_trouble(self, mark: str, text: str, now: float) -> None:
        """Note that an object cannot be put right; `since` stays the first time."""
        self._db.run(
            "INSERT INTO trouble (mark, text, since) VALUES (?, ?, ?)"
            " ON CONFLICT (mark) DO UPDATE SET text = excluded.text",
            mark,
            text,
            now,
        )

    def clear_failure(self, mark: str) -> None:
        """Note that the object is right again, or gone."""
        self._db.run("DELETE FROM trouble WHERE mark = ?", mark)

    def missing_networks(self) -> set[str]:
        """Return the networks Docker lists that are not on record.

        ANY is one of them as long as Docker was not asked, since the service started.
        """
        return {row["network"] for row in self._db.rows("SELECT network FROM awaited")}

    def set_missing_networks(self, networks: Iterable[str]) -> None:
        """Note which networks are to be put on record yet: these and no others."""
        self._db.run("DELETE FROM awaited")
        for network in networks:
            self._db.run("INSERT INTO awaited (network) VALUES (?)", network)
