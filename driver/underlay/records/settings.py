"""Settings of the host that were changed, so that they can be put back."""

from __future__ import annotations

from collections.abc import Iterable

from underlay.model import Setting
from underlay.records.database import Database


class HostSettings:
    """The table `setting`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[Setting]:
        """Return the settings that were changed, in the order of writing."""
        rows = self._db.rows("SELECT * FROM setting ORDER BY turn")
        return [
            Setting(r["reason"], r["path"], r["before"], r["value"], r["turn"])
            for r in rows
        ]

    def note(self, settings: Iterable[Setting]) -> None:
        """Note what settings are now; what is noted already stays as it was."""
        for s in settings:
            self._db.run(
                "INSERT INTO setting (path, reason, before, value, turn)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                s.path,
                s.reason,
                s.before,
                s.value,
                s.turn,
            )

    def rename_device(self, old: str, new: str) -> None:
        """Note that a device, and with it the settings it has, got another name."""
        self._db.run(
            "UPDATE OR REPLACE setting SET path = replace(path, ?1, ?2),"
            " reason = replace(reason, ?1, ?2) WHERE instr(path, ?1)",
            f"/{old}/",
            f"/{new}/",
        )

    def forget(self, reason: str) -> None:
        """Note that the settings of a reason have been put back."""
        self._db.run("DELETE FROM setting WHERE reason = ?", reason)
