"""Records that the real code of every older version left, taken over by this one.

tests/lab/old_records.py made them, with a real engine.
"""

from __future__ import annotations

import json
import sqlite3
from ipaddress import ip_address
from pathlib import Path

import pytest

from underlay.errors import RecordsTooNew
from underlay.records import Records, migrations
from underlay.records.migrations import MIGRATIONS

STORED = Path(__file__).with_name("stored")
# No commit left records of these: they got their last form together with the next one.
NEVER_WRITTEN = (3, 5)
OLDER = sorted({*range(1, len(MIGRATIONS))} - {*NEVER_WRITTEN})


@pytest.fixture(params=OLDER)
def stored(request, tmp_path):
    """The path of the records of one version, and what Docker said of them."""
    path = tmp_path / "underlay.db"
    db = sqlite3.connect(path)
    db.executescript((STORED / f"v{request.param}.sql").read_text())
    db.close()
    return path, json.loads((STORED / f"v{request.param}.json").read_text())


@pytest.fixture
def migrated(stored):
    path, facts = stored
    records = Records(path, verify=True)
    yield records, facts
    records.close()


def schema(path):
    db = sqlite3.connect(path)
    rows = db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    db.close()
    return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in rows}


def test_every_older_version_has_its_stored_records():
    assert {p.name for p in STORED.iterdir()} == {
        f"v{n}.{kind}" for n in OLDER for kind in ("sql", "json")
    }


def test_networks_and_endpoints_are_those_that_docker_has(migrated):
    records, facts = migrated
    assert {n.id for n in records.networks.all()} == set(facts["networks"].values())
    found = {
        e.id: (e.network, [str(a.ip) for a in e.addresses], e.mac)
        for e in records.endpoints.all()
    }
    assert found == {
        c["id"]: (c["network"], c["addresses"], c["mac"])
        for c in facts["containers"].values()
    }
    assert all(e.sandbox for e in records.endpoints.all())
    lan = facts["networks"]["lan"]
    assert records.networks.get(lan).uplink.parent == "eth0"


def test_addresses_in_use_stay_taken_and_released_ones_rest(migrated):
    records, facts = migrated
    used = {a for c in facts["containers"].values() for a in c["addresses"]}
    pools = records.pools.all()
    assert used <= {address for pool in pools for address in taken(records, pool)}
    released = set(facts["released"])
    assert all(records.leases.history(address, 1)[0].until for address in released)
    with records.transaction():
        for pool in pools:
            for claim in records.pools.claims_on(pool.id):
                free = records.pools.next_free(claim)
                assert str(free) not in used | released
                records.pools.take(pool.id, free)


def test_containers_keep_the_addresses_and_macs_that_they_had(migrated):
    records, facts = migrated
    named = {e.container: e.mac for e in records.endpoints.all() if e.container}
    # In some, Docker had not told all names yet: those are learnt, and kept, later.
    assert named.keys() <= facts["containers"].keys()
    for name, mac in named.items():
        for text in facts["containers"][name]["addresses"]:
            kept = records.reservations.get("default", ip_address(text))
            assert (kept.name, kept.mac) == (name, mac)


def test_schema_is_that_of_new_records(migrated, tmp_path):
    records, _ = migrated
    Records(tmp_path / "new.db").close()
    assert schema(records.path) == schema(tmp_path / "new.db")


def test_version_before_takes_the_copy_back_and_refuses_the_newer_one(stored):
    path, facts = stored
    Records(path).close()
    known = MIGRATIONS[: facts["version"]]
    copy = path.with_name(f"underlay.db.v{facts['version']}")
    for file, is_refused in ((path, True), (copy, False)):
        db = sqlite3.connect(file, isolation_level=None)
        if is_refused:
            with pytest.raises(RecordsTooNew, match=r"underlay\.db\.v"):
                migrations.migrate(db, file, known)
        else:
            migrations.migrate(db, file, known)
            (count,) = db.execute("SELECT count(*) FROM endpoint").fetchone()
            assert count == len(facts["containers"])
        db.close()


def taken(records, pool):
    return {str(lease.address) for lease in records.leases.live_in(pool.id)}
