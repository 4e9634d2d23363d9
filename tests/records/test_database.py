"""The file: damage, age, disk space, and more than one hand on it."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.disks import fail, mend
from underlay.errors import (
    NoRecords,
    RecordsBusy,
    RecordsDamaged,
    RecordsTooNew,
    RecordsTooOld,
    RecordsUnwritable,
)
from underlay.model import Network, Uplink
from underlay.records import Records, database
from underlay.records.migrations import MIGRATIONS, migrate


@pytest.fixture
def path(tmp_path):
    return tmp_path / "underlay.db"


def fill(path, count=200):
    records = Records(path)
    with records.transaction():
        for n in range(count):
            records.networks.add(
                Network(f"n{n}", {"parent": "eth0"}, uplink=Uplink("eth0"))
            )
    records.close()


def test_committed_records_are_there_after_reopening(path):
    fill(path, 3)
    records = Records(path)
    assert [n.id for n in records.networks.all()] == ["n0", "n1", "n2"]
    records.close()


def test_exception_in_a_transaction_rolls_everything_back(records):
    with pytest.raises(ZeroDivisionError), records.transaction():
        records.networks.add(Network("n1"))
        raise ZeroDivisionError
    assert records.networks.all() == []
    with records.transaction():
        records.networks.add(Network("n2"))


@pytest.mark.parametrize("how", ["header", "middle", "truncated", "text"])
def test_damaged_database_is_refused_by_its_path_and_left_as_it_is(path, how):
    fill(path)
    data = bytearray(path.read_bytes())
    match how:
        case "header":
            data[0:16] = b"not a database!!"
        case "middle":
            data[4096 : 4096 + 2048] = b"\xff" * 2048
        case "truncated":
            data = data[: len(data) // 2]
        case "text":
            data = bytearray(b"hello\n" * 1000)
    path.write_bytes(data)
    with pytest.raises(
        RecordsDamaged, match=f"E-501 the records in {path} are damaged"
    ):
        Records(path, verify=True)
    assert path.read_bytes() == bytes(data)


def test_database_of_a_newer_version_is_refused_for_writing_and_reading(path):
    fill(path, 1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for readonly in (False, True):
        with pytest.raises(RecordsTooNew, match=f"{path} were written by a newer"):
            Records(path, readonly=readonly)


def test_missing_database_is_distinguished_from_an_empty_one(path):
    with pytest.raises(NoRecords, match=str(path)):
        Records(path, readonly=True)
    assert not path.exists()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_networks_of_every_older_version_are_there_after_an_upgrade(path, version):
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, path, MIGRATIONS[:version])
    db.execute(
        "INSERT INTO network (id, options, internal, segments, parent, created)"
        " VALUES ('n0', '{}', 0, '[]', 'eth0', 1.0)"
    )
    db.close()
    with pytest.raises(RecordsTooOld, match=f"version {version}.* Start the service"):
        Records(path, readonly=True)
    records = Records(path)
    assert records.networks.all() == [Network("n0", uplink=Uplink("eth0"), created=1.0)]
    records.close()


def test_older_database_is_copied_before_it_is_migrated(path):
    fill(path, 2)
    newer = (*MIGRATIONS, ("ALTER TABLE network ADD COLUMN colour TEXT",))
    db = sqlite3.connect(path, isolation_level=None)
    migrate(db, path, newer)
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(newer)
    db.close()
    copy = sqlite3.connect(path.with_name(f"underlay.db.v{len(MIGRATIONS)}"))
    assert copy.execute("SELECT count(*) FROM network").fetchone()[0] == 2
    assert copy.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    copy.close()


def test_failed_migration_leaves_neither_its_tables_nor_its_version(path):
    fill(path, 2)
    broken = (*MIGRATIONS, ("CREATE TABLE half (x) STRICT", "ALTER TABLE nothing"))
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, path, broken)
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    assert not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchall()
    db.close()


def test_full_disk_refuses_the_transaction_and_changes_nothing(path):
    fill(path, 1)
    records = Records(path)
    pages = records._database.row("PRAGMA page_count")[0]
    records._database.run(f"PRAGMA max_page_count = {pages}")
    refusal = pytest.raises(RecordsUnwritable, match=r"E-504 .* Free disk space")
    with refusal, records.transaction():
        for n in range(500):
            records.networks.add(Network(f"x{n}", {"k": "v" * 500}))
    assert [n.id for n in records.networks.all()] == ["n0"]
    records._database.run("PRAGMA max_page_count = 1000000")
    with records.transaction():
        records.networks.add(Network("after"))
    records.close()


def test_sixteen_threads_write_without_losing_records(records):
    def add(n):
        with records.transaction():
            records.networks.add(Network(f"n{n}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(320)))
    assert len(records.networks.all()) == 320


def test_writer_of_another_process_is_waited_for(path):
    fill(path, 1)
    records = Records(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    with records.transaction():
        records.networks.add(Network("late"))
    assert records.networks.get("late")
    other.close()
    records.close()


def test_reader_sees_the_records_while_they_are_written(path):
    fill(path, 1)
    writer = Records(path)
    with writer.transaction():
        writer.networks.add(Network("n9"))
        reader = Records(path, readonly=True)
        assert [n.id for n in reader.networks.all()] == ["n0"]
        reader.close()
    writer.close()


def test_host_identity_is_kept_over_reopening(path):
    records = Records(path)
    first = records.host.identity("")
    assert len(first) == 32
    assert records.host.identity("another machine id") == first
    records.close()


def test_answered_request_survives_a_power_cut(records):
    # FULL: a COMMIT is on the disk before the answer is on the wire.
    assert records._database.row("PRAGMA synchronous")[0] == 2
    assert records._database.row("PRAGMA journal_mode")[0] == "wal"
    with records.transaction(durable=False):
        records.networks.add(Network("n1"))
        assert records._database.row("PRAGMA synchronous")[0] == 1
    assert records._database.row("PRAGMA synchronous")[0] == 2
    with pytest.raises(ZeroDivisionError), records.transaction(durable=False):
        raise ZeroDivisionError
    assert records._database.row("PRAGMA synchronous")[0] == 2


def impatient(path, monkeypatch):
    """Records that wait for other writers a tenth of a second only."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(database, "STILL_BUSY_SECONDS", 0.05)
    return Records(path)


def test_no_exclusive_access_while_another_process_writes(path, monkeypatch):
    fill(path, 1)
    records = impatient(path, monkeypatch)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    went_on = []
    for _ in range(2):  # the second does not wait for long
        with (
            pytest.raises(RecordsBusy, match=r"E-510 another process has held "),
            records.exclusive(),
        ):
            went_on.append(1)
    assert went_on == []
    assert records._database.row("PRAGMA busy_timeout")[0] == 50
    other.execute("ROLLBACK")
    other.execute("PRAGMA busy_timeout = 0")
    with records.transaction():
        pass
    assert records._database.row("PRAGMA busy_timeout")[0] == 100
    with records.exclusive(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.close()
    records.close()


@pytest.mark.parametrize("how", ["transaction", "exclusive"])
def test_failed_commit_leaves_no_transaction_open(records, how):
    fail(records, "COMMIT", "PRAGMA synchronous = FULL")
    with pytest.raises(RecordsUnwritable), getattr(records, how)():
        records.networks.add(Network("lost"))
    mend(records)
    assert not records._database._db.in_transaction
    with records.transaction():
        records.networks.add(Network("n1"))
    assert [n.id for n in records.networks.all()] == ["n1"]


@pytest.mark.parametrize("how", [{}, {"durable": False}])
def test_original_error_is_not_hidden_by_a_failing_rollback(records, how):
    fail(records, "COMMIT", "ROLLBACK", "PRAGMA synchronous = FULL")
    with pytest.raises(ZeroDivisionError), records.exclusive():
        records.networks.add(Network("n1"))
        raise ZeroDivisionError
    mend(records)
    records._database._db.execute("ROLLBACK")
    fail(records, "ROLLBACK")
    with pytest.raises(ZeroDivisionError), records.transaction(**how):
        raise ZeroDivisionError
    mend(records)


def test_exclusive_access_continues_on_a_read_only_disk(records):
    fail(records, "BEGIN IMMEDIATE")
    with records.exclusive():
        assert not records._database._db.in_transaction
    mend(records)


def test_writer_that_changed_nothing_does_not_weaken_the_next_commit(path, monkeypatch):
    records = impatient(path, monkeypatch)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RecordsBusy), records.transaction(durable=False):
        pass
    other.execute("ROLLBACK")
    assert records._database.row("PRAGMA synchronous")[0] == 2
    # Where that could not be set back at once, it is before the next transaction.
    fail(records, "PRAGMA synchronous = FULL")
    with records.transaction(durable=False):
        pass
    mend(records)
    with records.transaction():
        assert records._database.row("PRAGMA synchronous")[0] == 2
    other.close()
    records.close()
