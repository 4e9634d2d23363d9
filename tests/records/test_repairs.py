"""The repair log: bounded, and of each mark the last repair."""

from __future__ import annotations

from ipaddress import ip_address

from underlay.api import status
from underlay.model import Lease, Repair
from underlay.model.owner import Owner
from underlay.records.repairs import KEPT


def repair(at, mark="m", error="", network="", container=""):
    return Repair(at, mark, "", "", "ip", 0.1, error, network, container)


def note(records, repairs):
    with records.transaction():
        records.repairs.note(repairs)


def test_repairs_are_listed_whole_and_newest_first(records):
    first = Repair(1.0, "m", "/run/sandbox", "no", "ip", 0.1, "E-400 no", "lan", "web")
    second = repair(2.0)
    note(records, [first, second])
    assert records.repairs.latest(10) == [second, first]
    assert records.repairs.latest(1) == [second]


def test_repair_log_keeps_the_newest_ten_thousand_repairs(records):
    assert KEPT == 10_000
    note(records, (repair(float(at)) for at in range(KEPT + 5)))
    assert len(records.repairs.latest(KEPT * 2)) == KEPT
    note(records, [repair(-1.0), repair(-2.0)])
    kept = records.repairs.latest(KEPT * 2)
    assert [kept[0].at, kept[1].at, kept[2].at] == [-2.0, -1.0, KEPT + 4.0]
    assert (len(kept), kept[-1].at) == (KEPT, 7.0)


def test_last_successful_repair_of_each_mark_is_known(records):
    refused = repair(9.0, "a", error="E-400 no")
    note(records, [repair(2.0, "a"), repair(1.0, "a"), repair(3.0, "b"), refused])
    assert records.repairs.last() == {"a": 2.0, "b": 3.0}


def test_removed_network_has_the_name_of_its_last_repair_in_the_history(records):
    address = ip_address("10.0.0.7")
    ids = ("a" * 64, "b" * 64, "")
    with records.transaction():
        for number, network in enumerate(ids):
            records.leases.start(
                Lease(0, address, "endpoint", network=network, since=float(number))
            )
    marks = [Owner(network, "e1").mark for network in ids]
    note(records, [
        repair(1.0, marks[0], network="old"), repair(2.0, marks[0], network="lan"),
        repair(3.0, marks[2], network="none"),
    ])  # fmt: skip
    found = {
        had["since"]: had["network"] for had in status.history(records, "10.0.0.7")
    }
    assert found == {0.0: "lan", 1.0: "b" * 12, 2.0: ""}


def test_repairs_of_a_container_or_network_are_found_by_any_of_its_names(records):
    of_web, of_lan = repair(1.0, container="web"), repair(2.0, network="lan")
    other = repair(3.0, network="wan", container="mail")
    note(records, [of_web, of_lan, other])
    assert records.repairs.about(["web"], 10) == [of_web]
    assert records.repairs.about(["lan", "web"], 10) == [of_lan, of_web]
    assert records.repairs.about(["lan", "web"], 1) == [of_lan]
    assert records.repairs.about(["la"], 10) == []


def test_looking_up_the_repairs_of_a_name_reads_no_others(records):
    seen = []
    records._database._db.set_trace_callback(seen.append)
    records.repairs.about(["web"], 10)
    records._database._db.set_trace_callback(None)
    plan = records._database.rows(f"EXPLAIN QUERY PLAN {seen[0]}")
    assert not [p["detail"] for p in plan if p["detail"].startswith("SCAN repair")]
