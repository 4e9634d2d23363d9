"""What stands on a parent, when that goes, comes back, or is another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from tests.worlds import DEVICE, LAN, WEB
from underlay.errors import BadParent, KernelRefused
from underlay.model import Device, DhcpLease, LearnedState, SysctlBackup
from underlay.model.objects import Address, Owner, Route, SysctlReason
from underlay.reconcile.announcer import Announcer

ROOM = "/run/docker/netns/web"
NEW_MAC = "52:54:00:00:00:99"
LOWER = Owner.parse("underlay::eth0.50").device


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def engine(records, kernel):
    return engine_on(records, kernel, Clock())


def start(engine, kernel, **options):
    """Have a container run on a network of these options, at rest."""
    engine.create_network(replace(LAN, options=options))
    engine.create_endpoint(WEB)
    engine.join("n1", "e1", ROOM)
    way = Route(WEB.ipv4.network, "eth0", source=WEB.ipv4.ip, connected=True)
    kernel.dock(DEVICE, ROOM, "eth0", Address(WEB.ipv4, "eth0"), way)
    calm(engine)
    assert engine.records.endpoints.get("e1").learned == LearnedState("eth0", 1500)


def calm(engine):
    assert engine.reconcile() == []
    assert engine.preview() == ()


def test_pass_makes_the_vlan_before_the_child_that_replaces_a_placeholder(
    engine, kernel
):
    start(engine, kernel, parent="eth0.50")
    eth0 = kernel.strangers.pop("eth0")
    kernel.links.clear()
    kernel.lose(ROOM, "eth0")
    calm(engine)
    assert kernel.rooms[ROOM]["eth0"].kind == "veth"
    kernel.strangers["eth0"] = eth0
    calm(engine)
    assert LOWER in kernel.links
    child = kernel.rooms[ROOM]["eth0"]
    assert (child.kind, child.parent) == ("macvlan", LOWER)


def test_child_that_would_switch_the_mode_of_foreign_children_is_not_made(
    engine, kernel
):
    start(engine, kernel, parent="eth0", mode="ipvlan")
    kernel.lose(ROOM, "eth0")
    theirs = Device(
        "ipv0", "ipvlan", ETH0.mac, 1500, parent="eth0", flavour="l3", flag="bridge"
    )
    kernel.strangers["ipv0"] = theirs
    assert len(engine.reconcile()) == 1
    (failure,) = engine.records.repairs.failures()
    assert failure.text.startswith("E-402")
    assert "ipv0" in failure.text
    del kernel.strangers["ipv0"]
    calm(engine)
    assert engine.records.repairs.failures() == []


@pytest.mark.parametrize("seen_by", ["pass", "verb"])
def test_containers_with_the_parent_s_mac_are_announced_when_it_changes(
    engine, kernel, seen_by
):
    start(engine, kernel, parent="eth0", mode="ipvlan")
    engine.reconciler.announcer.send_due()
    kernel.announced.clear()
    kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    if seen_by == "verb":
        engine.create_endpoint(replace(WEB, id="e2", ipv4=None))
    engine.reconcile()
    engine.reconciler.announcer.send_due()
    assert kernel.announced == [(ROOM, "eth0", frozenset({WEB.ipv4.ip}))]
    engine.reconcile()
    engine.reconciler.announcer.send_due()
    assert len(kernel.announced) == 1


def test_device_that_took_over_a_name_does_not_share_the_vlan_of_that_name(
    engine, kernel
):
    engine.create_network(replace(LAN, options={"parent": "eth0.50"}))
    kernel.strangers["lan0"] = replace(ETH0, name="lan0")
    kernel.links[LOWER] = replace(kernel.links[LOWER], parent="lan0")
    kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    with pytest.raises(BadParent, match="n1 has a VLAN of that name on another"):
        engine.create_network(replace(LAN, id="n2", options={"parent": "eth0.50"}))
    engine.create_network(replace(LAN, id="n3", options={"parent": "lan0.50"}))
    assert engine.records.networks.get("n3").uplink.vlans == ("eth0.50",)
    calm(engine)


def test_container_scheduled_twice_at_one_time_is_announced_once(kernel):
    announcer = Announcer(kernel, Clock())
    kernel.rooms[ROOM] = {"eth0": None}
    web = replace(WEB, sandbox=ROOM, learned=LearnedState("eth0", 1500))
    announcer.schedule(web)
    announcer.schedule(replace(web, container="web"))
    announcer.send_due()
    assert len(kernel.announced) == 1


def test_repair_log_shows_that_a_parent_was_followed(engine, kernel):
    start(engine, kernel, parent="eth0")
    kernel.strangers["lan0"] = replace(kernel.strangers.pop("eth0"), name="lan0")
    engine.reconcile()
    followed = [r for r in engine.records.repairs.latest(10) if "follow" in r.step]
    (entry,) = followed
    assert entry.before == f"parent eth0 ({ETH0.mac})"
    assert entry.step == f"follow parent lan0 ({ETH0.mac})"


CARD_B = Device("eth1", "", "52:54:00:00:00:02", 1500)


def places(engine):
    """The network ids with where they are, "" for on nothing."""
    known = engine.records.networks.all()
    return {n.id: "" if n.uplink.parent_missing else n.uplink.parent for n in known}


def on_two_cards(engine, kernel):
    kernel.strangers["eth1"] = CARD_B
    for identity, parent in (("n1", "eth0"), ("n2", "eth1")):
        options = {"parent": parent, "host_access": "off"}
        engine.create_network(replace(LAN, id=identity, options=options))
    engine.reconcile()


def test_card_with_the_former_name_of_another_is_not_taken_for_it(engine, kernel):
    on_two_cards(engine, kernel)
    # At this boot the first card is late, and the second one has its name.
    eth0 = kernel.strangers.pop("eth0")
    kernel.strangers["eth0"] = replace(kernel.strangers.pop("eth1"), name="eth0")
    for _ in range(2):
        calm(engine)
        assert places(engine) == {"n1": "", "n2": "eth0"}
    kernel.strangers["eth1"] = replace(eth0, name="eth1")
    calm(engine)
    assert places(engine) == {"n1": "eth1", "n2": "eth0"}


@pytest.mark.parametrize("seen_by", ["pass", "verb"])
def test_all_networks_on_a_card_move_to_the_one_in_its_place(engine, kernel, seen_by):
    for identity, parent in (("n1", "eth0"), ("n2", "eth0.50"), ("n3", "auto")):
        options = {"parent": parent, "host_access": "off"}
        engine.create_network(replace(LAN, id=identity, options=options))
    kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    if seen_by == "verb":
        engine.create_endpoint(WEB)
    calm(engine)
    assert not any(n.uplink.parent_missing for n in engine.records.networks.all())
    assert {n.uplink.base_device.mac for n in engine.records.networks.all()} == {
        NEW_MAC
    }


def test_network_with_an_unresolvable_parent_blocks_no_other(engine, kernel):
    kernel.strangers["eth0.50"] = Device(
        "eth0.50", "vlan", ETH0.mac, 1500, parent="eth0", vlan=50
    )
    auto = {"parent": "auto", "vlan": "50", "host_access": "off"}
    engine.create_network(replace(LAN, options=auto))
    engine.create_network(replace(LAN, id="n2", options={"parent": "eth0.50"}))
    # That VLAN is taken away, and its name goes to one of ours.
    del kernel.strangers["eth0.50"]
    engine.reconcile()
    engine.create_network(replace(LAN, id="n3", options={"parent": "eth0.50"}))
    kernel.default = None
    assert engine.reconcile() == []


def test_unreadable_host_devices_stop_no_repair(engine, kernel, monkeypatch):
    start(engine, kernel, parent="eth0")

    def refuse(device):
        raise KernelRefused(step=f"ip addr show dev {device}", why="EINTR", hint="")

    monkeypatch.setattr(kernel, "addresses_of", refuse)
    kernel.lose(ROOM, "eth0")
    engine.reconcile()
    assert "eth0" in kernel.rooms[ROOM]


def test_a_passthru_child_has_the_mac_of_its_parent_whatever_that_is(engine, kernel):
    start(engine, kernel, parent="eth0", macvlan_mode="passthru")
    kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    room = kernel.rooms[ROOM]
    room["eth0"] = replace(room["eth0"], mac=NEW_MAC)  # the kernel's doing
    told = len(kernel.announced)
    steps = kernel.steps
    calm(engine)
    assert kernel.steps == steps
    engine.reconciler.announcer.send_due()
    assert len(kernel.announced) > told


def test_network_made_on_a_replacement_card_leaves_no_other_without_parent(
    engine, kernel
):
    options = {"parent": "eth0", "host_access": "off"}
    engine.create_network(replace(LAN, options=options))
    kernel.strangers["eth0"] = replace(ETH0, mac=NEW_MAC)
    # Before any pass has seen it.
    engine.create_network(replace(LAN, id="n2", options=options))
    calm(engine)
    assert places(engine) == {"n1": "eth0", "n2": "eth0"}


def test_settings_follow_swapped_cards_whichever_component_sees_it_first(
    engine, kernel
):
    on_two_cards(engine, kernel)
    records = engine.records
    path = "net/ipv4/conf/{}/rp_filter"
    with records.transaction():
        records.host.note_sysctls(
            SysctlBackup(SysctlReason("loose", name), path.format(name), was, "2")
            for name, was in (("eth0", "0"), ("eth1", "1"))
        )
        for device in ("eth0", "eth1"):
            mac = f"mac on {device}"
            records.dhcp_leases.save(DhcpLease(0, device, "name", "web", mac))
    first, second = kernel.strangers["eth0"], kernel.strangers["eth1"]
    kernel.strangers["eth0"] = replace(second, name="eth0")
    kernel.strangers["eth1"] = replace(first, name="eth1")
    parents, network = engine.reconciler.parents, records.networks.get("n1")
    with records.transaction():
        parents.record(network, parents.resolve(network))
    found = {s.path: s.before for s in records.host.sysctls()}
    assert found == {path.format("eth1"): "0", path.format("eth0"): "1"}
    clients = {c.uplink: c.mac for c in records.dhcp_leases.all()}
    assert clients == {"eth1": "mac on eth0", "eth0": "mac on eth1"}
    assert places(engine) == {"n1": "eth1", "n2": "eth0"}


def test_bridge_that_takes_the_mac_of_a_new_port_stays_the_same_parent(engine, kernel):
    bridge = Device("br9", "bridge", ETH0.mac, 1500)
    kernel.strangers["br9"] = bridge
    engine.create_network(replace(LAN, options={"mode": "bridge", "bridge": "br9"}))
    kernel.strangers["br9"] = replace(bridge, mac=NEW_MAC)
    calm(engine)
    assert engine.records.networks.get("n1").uplink.base_device.mac == NEW_MAC
    assert engine.records.repairs.latest(10) == []
