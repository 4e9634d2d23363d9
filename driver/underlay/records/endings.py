"""Endings that could not be written: they take effect at once, and are written later.

Docker forgets an endpoint whatever the driver answers, and a disconnected container
must stay disconnected. So an ending that cannot be written (a full disk) is kept in
memory, and readers of the records find it done: views of SQLite's temporary schema
replace the tables. It is written before anything else, in the order of arrival.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from underlay.errors import RecordsUnwritable, UnderlayError
from underlay.records.database import Database

log = logging.getLogger(__name__)

# Docker's verb, and the ids it came with.
Ending = tuple[str, ...]
# The table whose row, by the last id, is hidden from readers after a verb.
_HIDDEN = {"Leave": "sandbox", "DeleteEndpoint": "endpoint", "DeleteNetwork": "network"}


class Endings:
    """The endings of this process that are not written yet."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._known: dict[Ending, None] = {}
        self._acts: dict[str, Callable[..., None]] = {}
        self._why = ""
        self._taken_over: list[Ending] = []
        database.first = self.write

    def by(self, verb: str, act: Callable[..., None]) -> None:
        """Set the function that records a verb, by its ids, within a transaction."""
        self._acts[verb] = act

    def remember(self, why: UnderlayError, verb: str, *ids: str) -> None:
        """Make an ending take effect, though it could not be written."""
        with self._db.lock:
            log.warning(
                "cannot write the end of a network or endpoint yet, retrying",
                extra={"ending": " ".join((verb, *ids)), "error": why},
            )
            self._known[verb, *ids] = None
            self._why = str(why)
            self._hide([(verb, *ids)])

    def all(self) -> list[Ending]:
        """Return the endings that are not written yet, oldest first."""
        return list(self._known)

    @property
    def why(self) -> str:
        """Why an ending is not written yet, "" if all are."""
        return self._why if self._known else ""

    def write(self) -> None:
        """Write the endings; raises RecordsUnwritable."""
        with self._db.lock:
            if not self._known or self._db.is_writing:
                return
            with self._db.locked_transaction():
                self._show()
                for verb, *ids in self._known:
                    self._act(verb, *ids)
            log.warning(
                "wrote the ends of networks and endpoints",
                extra={"endings": len(self._known)},
            )
            self._known.clear()

    def _act(self, verb: str, *ids: str) -> None:
        try:
            self._acts[verb](*ids)
        except RecordsUnwritable:
            raise
        except Exception:
            # An internal error in one must not block all other writes for good.
            log.exception("internal error")

    def take_over_from(self, endings: Collection[Ending]) -> None:
        """Make exactly these endings take effect here; another connection has them."""
        with self._db.lock:
            if list(endings) != self._taken_over:
                self._show()
                self._hide(endings)
                self._taken_over = list(endings)

    def _hide(self, endings: Collection[Ending]) -> None:
        for statement in _VIEWS if endings else ():
            self._db.run(statement.format(columns=self._sandbox_columns()))
        for verb, *ids in endings:
            if what := _HIDDEN.get(verb):
                self._db.run(_HIDE, what, ids[-1])

    def _show(self) -> None:
        for what in ("VIEW sandbox", "VIEW endpoint", "VIEW network", "TABLE ended"):
            kind, name = what.split()
            self._db.run(f"DROP {kind} IF EXISTS temp.{name}")

    def _sandbox_columns(self) -> str:
        rows = self._db.rows("SELECT name FROM pragma_table_info('sandbox', 'main')")
        names = [row["name"] for row in rows]
        return ", ".join(_LEFT if name == "left" else name for name in names)


_HIDE = "INSERT INTO temp.ended (what, id) VALUES (?, ?) ON CONFLICT DO NOTHING"
_LEFT = (
    '("left" OR endpoint IN'
    " (SELECT id FROM temp.ended WHERE what = 'sandbox')) AS \"left\""
)
_VIEWS = (
    "CREATE TEMP TABLE IF NOT EXISTS ended"
    " (what TEXT, id TEXT, PRIMARY KEY (what, id)) STRICT, WITHOUT ROWID",
    "CREATE TEMP VIEW IF NOT EXISTS network AS SELECT * FROM main.network"
    " WHERE id NOT IN (SELECT id FROM temp.ended WHERE what = 'network')",
    "CREATE TEMP VIEW IF NOT EXISTS endpoint AS SELECT * FROM main.endpoint"
    " WHERE id NOT IN (SELECT id FROM temp.ended WHERE what = 'endpoint')"
    " AND network NOT IN (SELECT id FROM temp.ended WHERE what = 'network')",
    "CREATE TEMP VIEW IF NOT EXISTS sandbox AS SELECT {columns} FROM main.sandbox",
)
