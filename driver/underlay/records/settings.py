"""Settings of the host that were changed, so that they can be put back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from underlay.model import SysctlBackup
from underlay.records.database import Database


class HostSettings:
    """The table `setting`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def all(self) -> list[SysctlBackup]:
        """Return the settings that were changed, in the order of writing."""
        rows = self._db.rows("SELECT * FROM setting ORDER BY turn")
        return [
            SysctlBackup(r["reason"], r["path"], r["before"], r["value"], r["turn"])
            for r in rows
        ]

    def note(self, settings: Iterable[SysctlBackup]) -> None:
        """Note what settings are now; what is noted already stays as it was."""
        for s in settings:
            self._db.run(
                "INSERT INTO setting (path, reason, before, value, turn)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                s.path,
                s.reason,
                s.before,
                s.value,
                s.write_order,
            )

    def rename_devices(self, names: Mapping[str, str]) -> None:
        """Note what devices are called now, by their old names: all at one blow.

        Two of them may have swapped their names.
        """
        renamed = {s: _renamed(s, names) for s in self.all()}
        renamed = {old: new for old, new in renamed.items() if old != new}
        for old in renamed:
            self._db.run("DELETE FROM setting WHERE path = ?", old.path)
        self.note(renamed.values())

    def forget(self, reason: str) -> None:
        """Note that the settings of a reason have been put back."""
        self._db.run("DELETE FROM setting WHERE reason = ?", reason)


def _renamed(setting: SysctlBackup, names: Mapping[str, str]) -> SysctlBackup:
    """Return a setting by the new name of its device (net/ipv4/conf/<device>/...)."""
    path, reason = setting.path.split("/"), setting.reason.split("/")
    path[3:4] = [names.get(name, name) for name in path[3:4]]
    reason[1:-1] = [names.get(name, name) for name in reason[1:-1]]
    return replace(setting, path="/".join(path), reason="/".join(reason))
