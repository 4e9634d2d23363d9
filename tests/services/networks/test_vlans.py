"""What networks share: VLANs made on demand, counted, and never taken from others."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tests.fakes import ETH0, Clock, Death, FakeKernel, engine_on
from tests.worlds import LAN, WEB
from underlay.errors import (
    BadParent,
    KernelRefused,
    MixedChildTypes,
    NoParent,
    OtherIpvlanMode,
)
from underlay.model import Device, Endpoint, Network, Uplink
from underlay.model.objects import Link, Owner
from underlay.model.steps import Delete
from underlay.records import Records

OFFICE = replace(LAN, options={"parent": "eth0.50"})
LOWER, UPPER = (
    Owner.parse("underlay::eth0.50").device,
    Owner.parse("underlay::eth0.50.7").device,
)


@pytest.fixture
def kernel():
    return FakeKernel()


@pytest.fixture
def engine(records, kernel):
    return engine_on(records, kernel)


def on(identity, parent="eth0.50", **options):
    return replace(OFFICE, id=identity, options={"parent": parent, **options})


def foreign(name="office", parent="eth0", tag=50):
    return Device(name, "vlan", ETH0.mac, 1500, parent=parent, vlan=tag)


def restarted(engine, kernel):
    """Return the engine of a new process over the same records and kernel."""
    path = engine.records.path
    engine.records.close()
    kernel.calm()
    return engine_on(Records(path), kernel)


@pytest.mark.parametrize("first", ["n1", "n2"])
def test_vlan_lives_as_long_as_one_of_its_networks(engine, kernel, first):
    engine.create_network(on("n1"))
    made = dict(kernel.links)
    assert set(made) == {LOWER}
    engine.create_network(on("n2", "eth0", vlan="50"))
    assert kernel.links == made
    engine.delete_network(first)
    assert kernel.links == made
    assert engine.preview() == ()
    engine.delete_network({"n1": "n2", "n2": "n1"}[first])
    assert kernel.links == {}


def test_stacked_vlan_keeps_the_one_below_as_long_as_it_exists(engine, kernel):
    engine.create_network(on("n1", "eth0.50.7"))
    engine.create_network(on("n2", "eth0.50"))
    assert set(kernel.links) == {LOWER, UPPER}
    engine.delete_network("n2")
    assert set(kernel.links) == {LOWER, UPPER}
    assert engine.preview() == ()
    engine.delete_network("n1")
    assert kernel.links == {}


def test_containers_of_a_vlan_network_are_children_of_the_vlan(engine, kernel):
    engine.create_network(OFFICE)
    engine.create_endpoint(WEB)
    assert kernel.links[Owner("n1", "e1").device].parent == LOWER


@pytest.mark.parametrize("name", ["eth0.50", "office"])
def test_existing_vlan_is_used_and_left_whatever_its_name(engine, kernel, name):
    kernel.strangers[name] = foreign(name)
    engine.create_network(OFFICE)
    assert kernel.links == {}
    assert engine.records.networks.get("n1").uplink.parent == name
    engine.create_endpoint(WEB)
    engine.delete_network("n1")
    assert name in kernel.strangers
    assert kernel.links == {}


def test_foreign_vlan_made_in_place_of_the_driver_s_is_used_and_left(engine, kernel):
    engine.create_network(OFFICE)
    engine.create_network(on("n2"))
    kernel.links.clear()  # he deleted ours first
    kernel.strangers["office"] = foreign()
    assert engine.reconcile() == []
    assert engine.preview() == ()
    engine.create_endpoint(WEB)
    assert kernel.links[Owner("n1", "e1").device].parent == "office"
    engine.delete_network("n1")
    engine.delete_network("n2")
    assert "office" in kernel.strangers
    assert kernel.links == {}


def test_start_detects_that_another_program_made_the_vlan(engine, kernel):
    engine.create_network(on("n1", "eth0.50.7"))
    kernel.links.clear()
    kernel.strangers["office"] = foreign()
    engine.create_endpoint(WEB)
    assert engine.records.networks.get("n1").uplink.vlans == ("office.7",)
    assert kernel.links[Owner.parse("underlay::office.7").device].parent == "office"
    assert engine.preview() == ()


def test_after_a_reboot_the_vlans_are_back_with_the_first_pass(engine, kernel):
    engine.create_network(on("n1", "eth0.50.7"))
    before = dict(kernel.links)
    kernel.links.clear()
    assert engine.reconcile() == []
    assert kernel.links == before


@pytest.mark.parametrize("network", [on("n1", "eth0.50.7"), replace(LAN, options={})])
def test_start_makes_a_missing_parent_again(engine, kernel, network):
    engine.create_network(network)
    before = dict(kernel.links)
    kernel.links.clear()
    engine.create_endpoint(WEB)
    assert before.items() <= kernel.links.items()
    assert engine.preview() == ()


def test_error_for_a_missing_vlan_base_names_the_base(engine, kernel):
    engine.create_network(on("n1", missing_parent="fail"))
    kernel.links.clear()
    del kernel.strangers["eth0"]
    with pytest.raises(NoParent, match="device 'eth0' does not exist"):
        engine.create_endpoint(WEB)
    assert engine.reconcile() == []
    assert "device eth0" in engine.records.networks.get("n1").uplink.parent_missing
    kernel.strangers["eth0"] = ETH0
    assert engine.reconcile() == []
    assert engine.records.networks.get("n1").uplink.parent_missing == ""
    assert LOWER in kernel.links


def test_error_for_a_missing_foreign_parent_names_it(engine, kernel):
    kernel.strangers["office"] = foreign()
    engine.create_network(on("n1", missing_parent="fail"))
    del kernel.strangers["office"]
    with pytest.raises(NoParent, match="device 'office' does not exist"):
        engine.create_endpoint(WEB)


def test_network_on_a_foreign_vlan_moves_to_the_driver_s_replacement(engine, kernel):
    kernel.strangers["eth0.50"] = foreign("eth0.50")
    engine.create_network(OFFICE)
    del kernel.strangers["eth0.50"]
    engine.create_network(on("n2", mode="macvlan"))
    engine.create_endpoint(WEB)
    assert engine.records.networks.get("n1").uplink.vlans == ("eth0.50",)
    engine.delete_network("n2")
    assert LOWER in kernel.links
    assert engine.preview() == ()


def test_network_does_not_move_to_a_vlan_with_another_ipvlan_mode(engine, kernel):
    kernel.strangers["eth0.50"] = foreign("eth0.50")
    engine.create_network(on("n1", mode="ipvlan"))
    del kernel.strangers["eth0.50"]
    engine.create_network(on("n2", ipvlan_mode="l3"))
    engine.create_endpoint(WEB)
    known = engine.records.networks.get("n1")
    assert known.uplink.vlans == ()
    assert "network n2" in known.uplink.parent_missing
    assert not any(link.kind == "ipvlan" for link in kernel.links.values())


def test_renamed_parent_with_its_old_name_as_altname_is_recorded(engine, kernel):
    kernel.strangers["lan0"] = ETH0
    engine.create_network(on("n1", "lan0"))
    assert engine.records.networks.get("n1").uplink.parent == "eth0"
    kernel.strangers["eth0"] = kernel.strangers["new0"] = replace(ETH0, name="new0")
    engine.create_endpoint(WEB)
    assert engine.records.networks.get("n1").uplink.parent == "new0"
    assert engine.preview() == ()


def test_start_never_uses_a_half_made_vlan_of_a_dead_process(engine, kernel):
    engine.create_network(OFFICE)
    kernel.links[LOWER] = replace(kernel.links[LOWER], owner=None, up=False)
    engine.create_endpoint(WEB)
    assert kernel.links[LOWER].owner == Owner.parse("underlay::eth0.50")
    assert engine.preview() == ()


def test_a_verb_replaces_no_vlan_under_running_containers(engine, kernel):
    engine.create_network(OFFICE)
    kernel.links[LOWER] = replace(kernel.links[LOWER], parent="lan0")  # renamed
    kernel.carrying.add(LOWER)
    with pytest.raises(KernelRefused, match=r"E-401 .* a container uses"):
        engine.create_network(on("n2"))
    assert kernel.links[LOWER].parent == "lan0"
    assert len(engine.reconcile()) == 1
    (failure,) = engine.records.repairs.failures()
    assert failure.text.startswith("E-401")


def test_two_vlans_of_one_name_on_two_devices_are_not_taken_for_one(engine, kernel):
    kernel.strangers["br0"] = replace(ETH0, name="br0", mac="52:54:00:00:00:0b")
    kernel.strangers["br0.5"] = replace(ETH0, name="br0.5", mac="52:54:00:00:00:0c")
    engine.create_network(on("n1", "br0.5", vlan="7"))
    with pytest.raises(BadParent, match="network n1 has a VLAN of that name"):
        engine.create_network(on("n2", "mac:52:54:00:00:00:0b.5", vlan="7"))


def test_a_pass_for_one_network_makes_the_vlans_under_it_alone(engine, kernel):
    engine.create_network(on("n1", "eth0.50"))
    engine.create_network(on("n2", "eth0.60"))
    kernel.links.clear()
    engine.reconcile("n1")
    assert set(kernel.links) == {LOWER}


def test_driver_s_vlan_is_kept_while_foreign_devices_use_it(engine, kernel):
    engine.create_network(OFFICE)
    kernel.strangers["theirs"] = foreign("theirs", LOWER, 9)
    engine.delete_network("n1")
    assert set(kernel.links) == {LOWER}
    assert len(engine.reconcile()) == 1
    del kernel.strangers["theirs"]
    assert engine.reconcile() == []
    assert kernel.links == {}


@pytest.mark.parametrize(
    ("network", "device"),
    [(OFFICE, LOWER), (replace(LAN, options={}), Owner("n1").device)],
)
def test_vlan_of_a_running_container_survives_the_loss_of_the_records(
    engine, kernel, tmp_path, network, device
):
    engine.create_network(network)
    kernel.carrying.add(device)
    lost = Records(tmp_path / "new.db")
    engine = engine_on(lost, kernel)
    assert [str(s) for s in engine.reconcile()] == [f"ip link del {device}"]
    assert set(kernel.links) == {device}
    (failure,) = lost.repairs.failures()
    assert failure.text.startswith("E-401 `ip link del")
    kernel.carrying.clear()
    assert engine.reconcile() == []
    assert kernel.links == {}
    lost.close()


def test_a_container_of_another_runtime_keeps_a_vlan_whose_network_is_removed(
    engine, kernel
):
    engine.create_network(OFFICE)
    kernel.carrying.add(LOWER)
    engine.delete_network("n1")
    assert set(kernel.links) == {LOWER}
    kernel.carrying.clear()
    assert engine.reconcile() == []
    assert kernel.links == {}


def test_isolated_network_keeps_its_dummy_until_removed(engine, kernel):
    engine.create_network(replace(LAN, options={"mode": "ipvlan"}))
    dummy = Owner("n1").device
    assert kernel.links[dummy].kind == "dummy"
    engine.create_endpoint(WEB)
    assert kernel.links[Owner("n1", "e1").device].parent == dummy
    engine.delete_endpoint("n1", "e1")
    assert set(kernel.links) == {dummy}
    engine.delete_network("n1")
    assert kernel.links == {}


def life(engine):
    """Two networks that share a VLAN, one of them on a VLAN in it, and a container."""
    return [
        lambda: engine.create_network(on("n1", "eth0.50.7")),
        lambda: engine.create_network(on("n2", "eth0.50", mode="ipvlan")),
        lambda: engine.create_endpoint(Endpoint("e1", "n2")),
        lambda: engine.delete_network("n1"),
        lambda: engine.delete_endpoint("n2", "e1"),
        lambda: engine.delete_network("n2"),
    ]


STEPS = range(1, 7)  # what the life above takes; a test below counts them


def test_vlan_lifecycle_takes_as_many_steps_as_are_made_to_fail(engine, kernel):
    for verb in life(engine):
        verb()
    assert kernel.steps == max(STEPS)
    assert kernel.links == {}


def wanted_links(engine):
    networks = engine.records.networks
    names = {name for n in networks.all() for name in n.uplink.vlans}
    owners = {Owner.parse(f"underlay::{name}") for name in names}
    owners |= {Owner(e.network, e.id) for e in engine.records.endpoints.all()}
    return {o.device for o in owners}


@pytest.mark.parametrize(
    "moment",
    ["refuse_at", "refuse_after", "die_before", "die_half_way", "die_after"],
)
@pytest.mark.parametrize("step", STEPS)
def test_failure_at_any_step_of_a_lifecycle_leaves_no_orphan_device(
    engine, kernel, moment, step
):
    setattr(kernel, moment, step)
    for verb in life(engine):
        try:
            verb()
        except KernelRefused:
            assert set(kernel.links) == wanted_links(engine)  # before any pass
            kernel.calm()
            verb()
        except Death:
            engine = restarted(engine, kernel)
            break
    assert engine.reconcile() == []
    assert set(kernel.links) == wanted_links(engine)
    for network in engine.records.networks.all():
        engine.delete_network(network.id)
    assert kernel.links == {}


@pytest.mark.parametrize(
    ("network", "refusal", "words"),
    [
        (
            on("n2", mode="macvlan"),
            MixedChildTypes,
            "eth0.50 has ipvlan .* .network lan",
        ),
        (on("n2", ipvlan_mode="l3"), OtherIpvlanMode, "eth0.50 has .*=l2"),
        (on("n2", mode="ipvlan", ipvlan_flag="vepa"), OtherIpvlanMode, "flag=bridge"),
    ],
)
def test_second_mode_on_one_parent_is_refused_before_any_change(
    engine, kernel, network, refusal, words
):
    engine.create_network(on("n1", mode="ipvlan"))
    engine.records.networks.rename("n1", "lan")
    steps, before = kernel.steps, dict(kernel.links)
    with pytest.raises(refusal, match=words):
        engine.create_network(network)
    assert (kernel.steps, kernel.links) == (steps, before)
    assert [n.id for n in engine.records.networks.all()] == ["n1"]
    engine.create_network(replace(network, options=network.options | {"vlan": "8"}))


def test_foreign_ipvlan_child_that_came_later_is_not_switched_to_another_mode(
    engine, kernel
):
    engine.create_network(on("n1", "eth0", mode="ipvlan"))
    theirs = Device(
        "ipv0", "ipvlan", ETH0.mac, 1500, parent="eth0", flavour="l3", flag="bridge"
    )
    kernel.strangers["ipv0"] = theirs
    with pytest.raises(OtherIpvlanMode, match="device ipv0, not of underlay"):
        engine.create_endpoint(WEB)
    assert kernel.links == {}


def test_an_ipvlan_endpoint_has_no_mac(engine, kernel):
    engine.create_network(on("n1", "eth0", mode="ipvlan"))
    assert engine.create_endpoint(WEB).mac == ""
    assert engine.create_endpoint(WEB).mac == ""  # Docker's retry
    (link,) = kernel.links.values()
    assert (link.kind, link.flavour, link.flag, link.mac) == (
        "ipvlan", "l2", "bridge", None,
    )  # fmt: skip


def test_a_vlan_is_not_dropped_under_a_network_that_is_being_made(records):
    """Between the look that finds it unneeded and its deletion, no verb may build."""
    kernel = FakeKernel()
    engine = engine_on(records, kernel, Clock())
    engine.create_network(on("n1"))
    second = threading.Thread(target=engine.create_network, args=(on("n2"),))
    carry_out = kernel.apply

    def apply(step):
        if isinstance(step, Delete):
            second.start()
            second.join(timeout=0.5)  # it waits for us, or is done already
        carry_out(step)

    kernel.apply = apply
    engine.delete_network("n1")
    second.join()
    assert set(kernel.links) == {LOWER}
    assert engine.preview() == ()


def test_vlan_stack_is_built_bottom_up_and_dropped_top_down(engine):
    engine.create_network(on("n1", "eth0.9.8.7"))
    made = dict(engine.kernel.links)
    engine.kernel.links.clear()
    assert [step.object.vlan for step in engine.preview()] == [9, 8, 7]
    engine.kernel.links.update(made)
    engine.records.networks.remove("n1")
    assert [step.object.vlan for step in engine.preview()] == [7, 8, 9]


def test_records_distinguish_networks_on_a_vlan_from_those_below_it(records):
    upper = Uplink(UPPER, ("eth0.50", "eth0.50.7"))
    records.networks.add(Network("n1", uplink=upper))
    records.networks.add(Network("n2", uplink=Uplink(LOWER, ("eth0.50",))))
    found = {n.id: n for n in records.networks.on_vlan("eth0.50")}
    assert found["n1"].uplink == upper
    assert found["n2"].uplink.vlans == ("eth0.50",)
    assert records.networks.any_on_vlan("eth0.50.7") == found["n1"]
    one = found["n1"]
    assert [n.id for n in records.networks.on_vlan("eth0.50.7")] == ["n1"]
    records.networks.move(replace(one, uplink=Uplink("office")))
    assert [n.id for n in records.networks.on_vlan("eth0.50")] == ["n2"]
    records.networks.remove("n2")
    assert records.networks.on_vlan("eth0.50") == []
    assert records.networks.any_on_vlan("eth0.50") is None


def test_unmarked_link_with_a_driver_name_is_not_the_driver_s_vlan(engine, kernel):
    kernel.links["ul-x"] = Link("ul-x", "vlan", None, parent="eth0", vlan=50)
    assert [str(s) for s in engine.preview()] == ["ip link del ul-x"]
