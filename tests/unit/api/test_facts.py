"""Health: what a failure, a missing device or a repair makes of what is on record."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_network

import pytest

from underlay.api import status
from underlay.api.facts import RECENT_SECONDS
from underlay.model import BridgeTakeover, Endpoint, Network, Repair, Subnet, Uplink
from underlay.model.owner import Owner

POOL = ip_network("10.0.0.0/24")
VLAN = Network(
    "n" * 64,
    {"parent": "eth0.50"},
    uplink=Uplink(Owner.parse("underlay::eth0.50").device, ("eth0.50",)),
    created=5.0,
)
PLAIN = Network("m" * 64, {"parent": "eth0"}, uplink=Uplink("eth0"), created=6.0)
ROUTED = Network(
    "r" * 64,
    {"mode": "routed", "proxy": "eth0"},
    subnets=(Subnet(POOL, pooled=True),),
)
WEB, MAIL = Endpoint("e" * 64, VLAN.id, created=8.0), Endpoint("f" * 64, PLAIN.id)
ABSENT = "E-110 there is no device eth0.50"


@pytest.fixture
def stored(records):
    """Records with two networks, an endpoint on each, and nothing wrong."""
    with records.transaction():
        for network in (VLAN, PLAIN):
            records.networks.add(network)
        for endpoint in (WEB, MAIL):
            records.endpoints.add(endpoint)
    return records


def health(found, key="id"):
    return {f[key]: (f["health"], f["since"], f["error"]) for f in found}


def everything(records):
    return (
        health(status.endpoints(records))
        | health(status.networks(records))
        | health(status.parents(records), "device")
    )


def note_failure(records, owner, text="E-400 no", since=100.0):
    with records.transaction():
        records.repairs.note_failure(owner.mark, text, since)


def repair(records, owner, at, error=""):
    with records.transaction():
        records.repairs.note([Repair(at, owner.mark, "", "", "ip", 0.1, error)])


def absent(records):
    gone = Network(VLAN.id, uplink=replace(VLAN.uplink, parent_missing=ABSENT))
    with records.transaction():
        records.networks.move(gone)


def test_state_without_failures_and_repairs_is_ok_since_creation(stored):
    assert everything(stored) == {
        WEB.id: ("ok", 8.0, ""),
        MAIL.id: ("ok", 0.0, ""),
        VLAN.id: ("ok", 5.0, ""),
        PLAIN.id: ("ok", 6.0, ""),
        VLAN.uplink.parent: ("ok", 5.0, ""),
        "eth0": ("ok", 6.0, ""),
    }


def test_endpoint_failure_affects_only_itself(stored):
    before = everything(stored)
    note_failure(stored, Owner(VLAN.id, WEB.id).host_end)
    failing = {WEB.id: ("failing", 100.0, "E-400 no")}
    assert everything(stored) == {**before, **failing}
    assert [e["state"] for e in status.endpoints(stored)] == ["created", "failing"]


@pytest.mark.parametrize("owner", [Owner(VLAN.id), Owner.parse("underlay::eth0.50")])
def test_failure_under_a_network_fails_it_and_its_parent(stored, owner):
    before = everything(stored)
    note_failure(stored, owner)
    failing = ("failing", 100.0, "E-400 no")
    assert everything(stored) == {
        **before,
        VLAN.id: failing,
        VLAN.uplink.parent: failing,
    }


@pytest.mark.parametrize("shared", ["forwarding/4", "proxy/eth0/4"])
def test_failure_of_a_shared_object_fails_a_network_with_endpoints(records, shared):
    with records.transaction():
        records.networks.add(ROUTED)
    note_failure(records, Owner.parse(f"underlay::{shared}"))
    assert health(status.networks(records))[ROUTED.id][0] == "ok"
    with records.transaction():
        records.endpoints.add(Endpoint("e", ROUTED.id))
    assert health(status.networks(records))[ROUTED.id][0] == "failing"


def test_takeover_bridge_failure_fails_its_networks(records):
    bridge = Owner.parse("underlay::bridge/eth0")
    options = {"mode": "bridge", "parent": "eth0", "takeover": "yes"}
    with records.transaction():
        records.networks.add(Network("b", options, uplink=Uplink(bridge.device)))
        records.host.note_takeover(BridgeTakeover("eth0", bridge.device, "on"))
    note_failure(records, bridge)
    assert set(everything(records).values()) == {("failing", 100.0, "E-400 no")}


def test_older_of_two_failures_is_reported(stored):
    note_failure(stored, Owner.parse("underlay::eth0.50"), "E-400 second", 200.0)
    note_failure(stored, Owner(VLAN.id), "E-400 first", 100.0)
    assert everything(stored)[VLAN.id] == ("failing", 100.0, "E-400 first")


def test_network_without_its_device_is_pending_with_its_endpoints(stored):
    before = everything(stored)
    absent(stored)
    assert everything(stored) == {
        **before,
        WEB.id: ("pending", 8.0, ABSENT),
        VLAN.id: ("pending", 5.0, ABSENT),
        VLAN.uplink.parent: ("pending", 5.0, ABSENT),
    }
    note_failure(stored, Owner(VLAN.id, WEB.id))
    assert everything(stored)[WEB.id][0] == "failing"


def test_endpoint_that_left_is_not_pending(stored):
    absent(stored)
    with stored.transaction():
        stored.endpoints.join(WEB.id, "/run/sandbox")
    assert everything(stored)[WEB.id][0] == "pending"
    with stored.transaction():
        stored.endpoints.leave(WEB.id)
    assert everything(stored)[WEB.id] == ("ok", 8.0, "")


def test_repaired_state_is_shown_for_a_day(stored):
    before, lately = everything(stored), time.time() - RECENT_SECONDS + 60
    repair(stored, Owner(PLAIN.id, MAIL.id), lately - 120)
    assert everything(stored) == before
    repair(stored, Owner(VLAN.id, WEB.id).host_end, lately)
    assert everything(stored) == {**before, WEB.id: ("repaired", lately, "")}
    repair(stored, Owner.parse("underlay::eth0.50"), lately + 1)
    repair(stored, Owner(VLAN.id), lately)
    repaired = ("repaired", lately + 1, "")
    assert everything(stored)[VLAN.id] == repaired
    assert everything(stored)[VLAN.uplink.parent] == repaired
    absent(stored)
    assert everything(stored)[WEB.id][0] == "pending"


def test_latest_repair_of_either_veth_end_is_reported(stored):
    web, now = Owner(VLAN.id, WEB.id), time.time()
    for late, early in ((web, web.host_end), (web.host_end, web)):
        now += 2
        repair(stored, late, now)
        repair(stored, early, now - 1)
        assert everything(stored)[WEB.id] == ("repaired", now, "")


def test_refused_repair_is_not_counted(stored):
    before = everything(stored)
    repair(stored, Owner(VLAN.id, WEB.id), time.time(), "E-400 no")
    assert everything(stored) == before


def test_status_shows_the_newest_twenty_repairs(stored):
    for at in range(25):
        repair(stored, Owner(VLAN.id, WEB.id), float(at))
    told = status.status(stored)["repairs"]
    assert [r["at"] for r in told] == [float(at) for at in range(24, 4, -1)]
    assert told[0] == {
        "object": Owner(VLAN.id, WEB.id).mark,
        "at": 24.0,
        "place": "",
        "before": "",
        "step": "ip",
        "seconds": 0.1,
        "error": "",
        "network": "",
        "container": "",
    }


def test_repairs_are_found_by_later_names_and_by_ids(stored):
    def note(at, network, container):
        one = Repair(at, "", "", "", "ip", 0.1, "", network, container)
        with stored.transaction():
            stored.repairs.note([one])

    note(1.0, VLAN.id[:12], WEB.id[:12])
    with stored.transaction():
        stored.networks.rename(VLAN.id, "lan")
        stored.endpoints.name_container(WEB.id, "web")
    note(2.0, "lan", "web")
    note(3.0, "wan", "mail")
    for word in ("lan", VLAN.id, VLAN.id[:12], "web", WEB.id, WEB.id[:12]):
        assert [r["at"] for r in status.repairs_about(stored, word)] == [2.0, 1.0], word
    assert [r["at"] for r in status.repairs_about(stored, "mail")] == [3.0]
    assert status.repairs_about(stored, "we") == []
