"""The file: damage, age, disk space, and more than one hand on it."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from underlay.failures import (
    NoRecords,
    RecordsDamaged,
    RecordsTooNew,
    RecordsTooOld,
    RecordsUnwritable,
)
from underlay.model import Network
from underlay.records import Records
from underlay.records.migrations import MIGRATIONS, migrate


@pytest.fixture
def path(tmp_path):
    return tmp_path / "underlay.db"


def fill(path, count=200):
    records = Records(path)
    with records.writing():
        for n in range(count):
            records.networks.add(Network(f"n{n}", {"parent": "eth0"}, parent="eth0"))
    records.close()


def test_what_was_committed_is_there_after_opening_again(path):
    fill(path, 3)
    records = Records(path)
    assert [n.id for n in records.networks.all()] == ["n0", "n1", "n2"]
    records.close()


def test_an_exception_rolls_everything_back(records):
    with pytest.raises(ZeroDivisionError), records.writing():
        records.networks.add(Network("n1"))
        raise ZeroDivisionError
    assert records.networks.all() == []
    with records.writing():
        records.networks.add(Network("n2"))


@pytest.mark.parametrize("how", ["header", "middle", "truncated", "text"])
def test_a_damaged_file_is_refused_by_its_path_and_left_as_it_is(path, how):
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


def test_a_file_of_a_newer_version_is_refused_for_writing_and_for_reading(path):
    fill(path, 1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for readonly in (False, True):
        with pytest.raises(RecordsTooNew, match=f"{path} were written by a newer"):
            Records(path, readonly=readonly)


def test_no_file_is_told_apart_from_an_empty_one(path):
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
    assert records.networks.all() == [Network("n0", parent="eth0", created=1.0)]
    records.close()


def test_an_older_file_is_copied_before_it_is_migrated(path):
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


def test_a_migration_that_fails_leaves_neither_its_tables_nor_its_version(path):
    fill(path, 2)
    broken = (*MIGRATIONS, ("CREATE TABLE half (x) STRICT", "ALTER TABLE nothing"))
    db = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, path, broken)
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    assert not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'half'").fetchall()
    db.close()


def test_a_full_disk_is_refused_and_nothing_is_changed(path):
    fill(path, 1)
    records = Records(path)
    pages = records._database.row("PRAGMA page_count")[0]
    records._database.run(f"PRAGMA max_page_count = {pages}")
    refusal = pytest.raises(RecordsUnwritable, match=r"E-504 .* Free disk space")
    with refusal, records.writing():
        for n in range(500):
            records.networks.add(Network(f"x{n}", {"k": "v" * 500}))
    assert [n.id for n in records.networks.all()] == ["n0"]
    records._database.run("PRAGMA max_page_count = 1000000")
    with records.writing():
        records.networks.add(Network("after"))
    records.close()


def test_sixteen_threads_write_without_losing_anything(records):
    def add(n):
        with records.writing():
            records.networks.add(Network(f"n{n}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(320)))
    assert len(records.networks.all()) == 320


def test_a_writer_of_another_process_is_waited_for(path):
    fill(path, 1)
    records = Records(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    with records.writing():
        records.networks.add(Network("late"))
    assert records.networks.get("late")
    other.close()
    records.close()


def test_a_reader_sees_the_records_while_they_are_written(path):
    fill(path, 1)
    writer = Records(path)
    with writer.writing():
        writer.networks.add(Network("n9"))
        reader = Records(path, readonly=True)
        assert [n.id for n in reader.networks.all()] == ["n0"]
        reader.close()
    writer.close()


def test_a_host_keeps_its_identity(path):
    records = Records(path)
    first = records.notes.identity("")
    assert len(first) == 32
    assert records.notes.identity("another machine id") == first
    records.close()


def test_what_was_answered_survives_a_power_cut(records):
    # FULL: a COMMIT is on the disk before the answer is on the wire.
    assert records._database.row("PRAGMA synchronous")[0] == 2
    assert records._database.row("PRAGMA journal_mode")[0] == "wal"
    with records.writing(durable=False):
        records.networks.add(Network("n1"))
        assert records._database.row("PRAGMA synchronous")[0] == 1
    assert records._database.row("PRAGMA synchronous")[0] == 2
    with pytest.raises(ZeroDivisionError), records.writing(durable=False):
        raise ZeroDivisionError
    assert records._database.row("PRAGMA synchronous")[0] == 2
