"""Disks that cannot be written: by the words of SQLite, and in truth."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import contextmanager, suppress

# What is refused, and how, on a disk that is full, on one that is read-only, and where
# another process holds the records.
WAYS = {
    "full": ("COMMIT", sqlite3.SQLITE_FULL),
    "read-only": ("BEGIN IMMEDIATE", sqlite3.SQLITE_READONLY),
    "held": ("BEGIN IMMEDIATE", sqlite3.SQLITE_BUSY),
}


class Failing:
    """A connection to which some statements fail."""

    def __init__(self, connection, fails, code):
        self.connection, self.fails, self.code = connection, fails, code

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, sql, *values):
        if sql in self.fails:
            error = sqlite3.OperationalError("it fails")
            error.sqlite_errorcode = self.code
            raise error
        return self.connection.execute(sql, *values)


def fail(records, *fails, code=sqlite3.SQLITE_FULL):
    database = records._database
    database._db = Failing(database._db, fails, code)


def mend(records):
    records._database._db = records._database._db.connection


@contextmanager
def unwritable(records, way="full"):
    """Records that cannot be written for a while, in one of the ways."""
    statement, code = WAYS[way]
    fail(records, statement, code=code)
    try:
        yield
    finally:
        mend(records)


@contextmanager
def small_disk(folder):
    """A disk of 2 MB on a directory; gives what fills it, and makes room again.

    What fills it leaves no room in the log SQLite writes to first, either.
    """
    folder.mkdir()
    filler = folder / "filler"

    def fill():
        db = sqlite3.connect(folder / "underlay.db")
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(os.urandom(4096))
        db.close()

    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=True
    )
    try:
        yield fill, filler.unlink
    finally:
        subprocess.run(["umount", folder], check=True)
