"""The database file: opened, checked, migrated, and written one transaction a time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from underlay.errors import UnderlayError
from underlay.failures import (
    NoRecords,
    NotAllowed,
    RecordsDamaged,
    RecordsTooOld,
    RecordsUnwritable,
)
from underlay.records.migrations import MIGRATIONS, MODE, check_version, migrate

BUSY_SECONDS = 10


class Database:
    """One connection for all threads; whoever writes holds the lock until COMMIT.

    A connection per thread would be simpler but has 200 ms tails: sqlite's busy
    handler sleeps where a lock wakes.
    """

    def __init__(
        self, path: Path, *, readonly: bool = False, verify: bool = False
    ) -> None:
        """Open the records; `verify`: read all of them, which takes a while.

        Raises RecordsDamaged, RecordsTooNew, RecordsUnwritable, NoRecords, NotAllowed.
        """
        self.path = path
        self._readonly = readonly
        self._lock = threading.RLock()
        self._find(path, readonly=readonly)
        with self._translated():
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rwc'}",
                uri=True,
                isolation_level=None,
                timeout=BUSY_SECONDS,
                check_same_thread=False,
            )
            self._db.row_factory = sqlite3.Row
            try:
                self._prepare(readonly, verify)
            except BaseException:
                self._db.close()
                raise
        self._inode = path.stat().st_ino

    @staticmethod
    def _find(path: Path, *, readonly: bool) -> None:
        """See that there is a file; one that is made is for its owner alone.

        SQLite gives the files it makes beside it the same mode.
        """
        try:
            path.stat()
        except FileNotFoundError:
            if readonly:
                raise NoRecords(path=path) from None
            with suppress(OSError):  # SQLite says why it cannot be made
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, MODE))
        except PermissionError as error:
            raise NotAllowed(what=f"reading {path}", why=error) from error

    def _prepare(self, readonly: bool, verify: bool) -> None:
        self._db.execute("PRAGMA foreign_keys = ON")
        if verify:
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise RecordsDamaged(path=self.path, why=verdict)
        found = check_version(self._db, self.path)
        if readonly and found < len(MIGRATIONS):
            raise RecordsTooOld(path=self.path, found=found, known=len(MIGRATIONS))
        if not readonly:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            migrate(self._db, self.path)

    def check_there(self) -> None:
        """Raise RecordsUnwritable if the file is no longer the one that was opened."""
        try:
            same = self.path.stat().st_ino == self._inode
        except OSError as error:
            raise RecordsUnwritable(path=self.path, why=error) from error
        if not same:
            why = "another file has taken its place; start the service again"
            raise RecordsUnwritable(path=self.path, why=why)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[None]:
        """Hold the one write transaction; any exception rolls it back.

        It excludes the writers of other processes too. What is not `durable` survives
        any death of a process, and a power cut only with the next write that is.
        Raises RecordsUnwritable.
        """
        with self._lock:
            if not durable:
                self.run("PRAGMA synchronous = NORMAL")
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                if not durable:
                    self.run("PRAGMA synchronous = FULL")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep everybody from writing, as far as anybody can write at all.

        For touching the kernel, by records that do not change meanwhile. What is noted
        inside is kept; that it cannot be is told to whoever notes it.
        """
        with self._lock:
            try:
                self.run("BEGIN IMMEDIATE")
            except RecordsUnwritable:
                yield
                return
            try:
                yield
            finally:
                if self._db.in_transaction:
                    self.run("COMMIT")

    def version(self) -> tuple[int, int]:
        """Return what is another after every change, by this process or another."""
        [other] = self.rows("PRAGMA data_version")
        return self._db.total_changes, other[0]

    def run(self, sql: str, *values: Any) -> int:
        """Execute one statement; return how many rows it changed."""
        with self._lock, self._translated():
            return self._db.execute(sql, values).rowcount

    def rows(self, sql: str, *values: Any) -> Sequence[sqlite3.Row]:
        """Return all rows of a query."""
        with self._lock, self._translated():
            return self._db.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query."""
        with self._lock, self._translated():
            found: sqlite3.Row | None = self._db.execute(sql, values).fetchone()
            return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.Error) -> UnderlayError | sqlite3.Error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return RecordsDamaged(path=self.path, why=error)
        denied = code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
        if denied or (self._readonly and code == sqlite3.SQLITE_READONLY):
            return NotAllowed(what=f"reading {self.path}", why=error)
        if code in _UNWRITABLE:
            return RecordsUnwritable(path=self.path, why=error)
        return error


_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }
)
