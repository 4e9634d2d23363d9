"""The host: its identity, its boot, and what the service changed on it.

Also the networks that Docker lists and the records lack.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace

from underlay.model import BridgeTakeover, HostEntry, Notice, Obstacle, SysctlBackup
from underlay.model.owner import SysctlReason
from underlay.records.database import Database

# Any network that Docker may list: Docker has not been asked yet.
ANY = ""


class HostRecords:
    """The tables of the host itself.

    `host`, `boot`, `awaited`, `setting`, `obstacle`, `notice` and `takeover`.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def identity(self, machine: str) -> str:
        """Return the host's permanent identity: the machine id if it has one."""
        self._db.run(
            "INSERT INTO host (one, identity) VALUES (1, ?) ON CONFLICT DO NOTHING",
            machine or secrets.token_hex(16),
        )
        row = self._db.row("SELECT identity FROM host")
        return str(row["identity"]) if row else machine

    def known_identity(self, machine: str) -> str:
        """Return that identity, without a write: what it will be if it is not there."""
        row = self._db.row("SELECT identity FROM host")
        return str(row["identity"]) if row else machine

    def boot(self) -> str:
        """Return the boot of the host that the records are of; "" if unknown."""
        row = self._db.row("SELECT identity FROM boot")
        return str(row["identity"]) if row else ""

    def note_boot(self, identity: str) -> None:
        """Record the boot that the records are of."""
        self._db.run(
            "INSERT INTO boot (one, identity) VALUES (1, ?)"
            " ON CONFLICT (one) DO UPDATE SET identity = excluded.identity",
            identity,
        )

    def missing_networks(self) -> set[str]:
        """Return the networks that Docker lists and that are not recorded.

        ANY is among them until Docker has been asked, after the service started.
        """
        return {row["network"] for row in self._db.rows("SELECT network FROM awaited")}

    def set_missing_networks(self, networks: Iterable[str]) -> None:
        """Record which networks are missing: these and no others."""
        self._db.run("DELETE FROM awaited")
        for network in networks:
            self._db.run("INSERT INTO awaited (network) VALUES (?)", network)

    def sysctls(self) -> list[SysctlBackup]:
        """Return the sysctls that were changed, in the order of writing."""
        rows = self._db.rows("SELECT * FROM setting ORDER BY turn")
        return [_backup(r) for r in rows]

    def note_sysctls(self, settings: Iterable[SysctlBackup]) -> None:
        """Record sysctls; one that is recorded already stays as it was."""
        for s in settings:
            self._db.run(
                "INSERT INTO setting (path, reason, before, value, turn)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                s.path,
                str(s.reason),
                s.before,
                s.value,
                s.write_order,
            )

    def rename_devices(self, names: Mapping[str, str]) -> None:
        """Record the new names of devices, by their old names, all together.

        Two devices may have swapped their names.
        """
        renamed = {s: _renamed(s, names) for s in self.sysctls()}
        renamed = {old: new for old, new in renamed.items() if old != new}
        for old in renamed:
            self._db.run("DELETE FROM setting WHERE path = ?", old.path)
        self.note_sysctls(renamed.values())

    def forget_sysctls(self, reason: SysctlReason) -> None:
        """Delete the sysctls of a reason, which are restored."""
        self._db.run("DELETE FROM setting WHERE reason = ?", str(reason))

    def obstacles(self) -> list[Obstacle]:
        """Return the networks that the firewall cuts off, oldest first."""
        rows = self._db.rows("SELECT * FROM obstacle ORDER BY since, network")
        return [Obstacle(r["network"], r["text"], r["since"]) for r in rows]

    def set_obstacles(self, obstacles: Iterable[Obstacle]) -> None:
        """Record which networks are cut off: these and no others."""
        self._db.run("DELETE FROM obstacle")
        for o in obstacles:
            self._db.run(
                "INSERT INTO obstacle (network, text, since) VALUES (?, ?, ?)",
                o.network,
                o.text,
                o.since,
            )

    def notices(self) -> list[Notice]:
        """Return what the last checks of the host found, oldest first."""
        rows = self._db.rows("SELECT * FROM notice ORDER BY since, found, place")
        return [Notice(r["found"], r["place"], r["text"], r["since"]) for r in rows]

    def set_notices(self, notices: Iterable[Notice]) -> None:
        """Record what the checks found: this and nothing else."""
        self._db.run("DELETE FROM notice")
        for n in notices:
            self._db.run(
                "INSERT INTO notice (found, place, text, since) VALUES (?, ?, ?, ?)",
                n.check,
                n.where,
                n.text,
                n.since,
            )

    def takeovers(self) -> list[BridgeTakeover]:
        """Return all bridge take-overs."""
        rows = self._db.rows("SELECT * FROM takeover ORDER BY parent")
        return [_takeover(r) for r in rows]

    def takeover(self, parent: str) -> BridgeTakeover | None:
        """Return the take-over of a parent."""
        row = self._db.row("SELECT * FROM takeover WHERE parent = ?", parent)
        return _takeover(row) if row else None

    def takeover_by(self, bridge: str) -> BridgeTakeover | None:
        """Return the take-over by a bridge."""
        row = self._db.row("SELECT * FROM takeover WHERE bridge = ?", bridge)
        return _takeover(row) if row else None

    def note_takeover(self, takeover: BridgeTakeover) -> None:
        """Record the state of a take-over."""
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

    def forget_takeover(self, parent: str) -> None:
        """Delete the take-over of a parent that is restored."""
        self._db.run("DELETE FROM takeover WHERE parent = ?", parent)


def _backup(row: sqlite3.Row) -> SysctlBackup:
    reason = SysctlReason.parse(row["reason"])
    return SysctlBackup(reason, row["path"], row["before"], row["value"], row["turn"])


def _renamed(setting: SysctlBackup, names: Mapping[str, str]) -> SysctlBackup:
    """Return a sysctl by the new name of its device (net/ipv4/conf/<device>/...)."""
    path, reason = setting.path.split("/"), setting.reason
    path[3:4] = [names.get(name, name) for name in path[3:4]]
    reason = replace(reason, device=names.get(reason.device, reason.device))
    return replace(setting, path="/".join(path), reason=reason)


def _takeover(row: sqlite3.Row) -> BridgeTakeover:
    return BridgeTakeover(
        row["parent"],
        row["bridge"],
        row["state"],
        tuple(HostEntry(*fact) for fact in json.loads(row["facts"])),
        tuple(json.loads(row["settings"])),
    )
