"""The database file: opened, checked, migrated, and written one transaction a time."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from underlay.errors import (
    NoRecords,
    NotAllowed,
    RecordsBusy,
    RecordsDamaged,
    RecordsTooOld,
    RecordsUnwritable,
    UnderlayError,
)
from underlay.records.migrations import MIGRATIONS, MODE, check_version, migrate

BUSY_SECONDS = 10
# The wait after one that timed out: a teardown must be quick.
STILL_BUSY_SECONDS = 0.5


class Database:
    """One connection for all threads; a writer holds the lock until COMMIT.

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
        self._is_short = False
        # Called before each transaction, with the lock held.
        self.first: Callable[[], None] = lambda: None
        # Called after each COMMIT with the seconds it took; must not fail or wait.
        self.on_commit: Callable[[float], None] = lambda _seconds: None
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
        """Create the file if it is missing, for its owner alone.

        SQLite creates its other files with the same mode.
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
        self._db.execute("PRAGMA temp_store = MEMORY")  # works when the disk does not
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

    @property
    def lock(self) -> threading.RLock:
        """The lock that each read and write holds."""
        return self._lock

    @property
    def is_writing(self) -> bool:
        """Whether a transaction is open."""
        return self._db.in_transaction

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Hold the one write transaction; any exception rolls it back.

        It excludes the writers of other processes too. What is not `durable` survives
        the death of the process, and a power cut only after the next durable write.
        Endings that could not be written are written first. Raises RecordsUnwritable.
        """
        with self._lock:
            self.first()
            with self.locked_transaction(durable=durable):
                yield

    @contextmanager
    def locked_transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Hold a write transaction; the caller holds the lock."""
        # Set each time: after the last transaction it may have failed.
        self.run(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        try:
            self._begin()
            try:
                yield
                self._run_commit()
            except BaseException:
                self._roll_back()
                raise
        finally:
            if not durable:
                with suppress(sqlite3.Error):
                    self._db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other writers out, unless no transaction can begin (full disk).

        For changes to the kernel by records that do not change meanwhile. Writes in it
        are committed also after an exception. Raises RecordsBusy if another process is
        writing, and RecordsUnwritable at the end if the writes cannot be committed.
        """
        with self._lock:
            is_alone = self._begin_alone()
            try:
                yield
            except BaseException:
                if is_alone:
                    with suppress(RecordsUnwritable):  # the first error counts
                        self._commit()
                raise
            if is_alone:
                self._commit()

    def _begin_alone(self) -> bool:
        """Begin a transaction; return whether it began: not on a full disk."""
        try:
            self._begin()
        except RecordsBusy:
            raise
        except RecordsUnwritable:
            return False
        return True

    def _begin(self) -> None:
        try:
            self.run("BEGIN IMMEDIATE")
        except RecordsBusy:
            self._wait_for_others(STILL_BUSY_SECONDS)
            raise
        if self._is_short:
            self._wait_for_others(BUSY_SECONDS)

    def _wait_for_others(self, seconds: float) -> None:
        self._is_short = seconds < BUSY_SECONDS
        self._db.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def _commit(self) -> None:
        try:
            if self._db.in_transaction:  # SQLite ends it itself on a full disk
                self._run_commit()
        except BaseException:
            self._roll_back()
            raise

    def _run_commit(self) -> None:
        began = time.perf_counter()
        self.run("COMMIT")
        self.on_commit(time.perf_counter() - began)

    def _roll_back(self) -> None:
        """Leave no transaction open; an error here must not hide the first one."""
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def change_counter(self) -> tuple[int, int]:
        """Return a value that differs after each change, by any process."""
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
        if code == sqlite3.SQLITE_BUSY:
            return RecordsBusy(path=self.path, seconds=BUSY_SECONDS, why=error)
        if code in _UNWRITABLE:
            return RecordsUnwritable(path=self.path, why=error)
        return error


_UNWRITABLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_LOCKED,
    }
)
