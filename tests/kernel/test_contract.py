"""What every kernel does, the fake as the real one: after apply, the plan is empty."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import engine_on
from tests.kernel.world import CHILD, OWNER, STACK
from tests.worlds import LAN, WEB, agree
from underlay.errors import KernelRefused
from underlay.model.objects import Link, Owner
from underlay.model.steps import Create, Delete
from underlay.modes.child_device import QUIET
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

OTHER = Owner("n1", "e2")
SHARED = Link(OWNER.device, "ipvlan", OWNER, parent="eth0", flavour="l2", flag="bridge")


def bring_about(kernel, *objects):
    wanted = DesiredState(objects)
    for step in plan(wanted, kernel.observe()):
        kernel.apply(step)
    assert plan(wanted, kernel.observe()) == ()
    return {link.owner: link for link in kernel.observe()}


@pytest.mark.parametrize("flavour", ["bridge", "private", "vepa"])
def test_child_device_is_created_as_specified(kernel, flavour):
    want = replace(CHILD, flavour=flavour, mac="02:00:00:00:00:07", mtu=1400)
    seen = bring_about(kernel, want)[OWNER]
    assert (seen.name, seen.flavour) == (OWNER.device, flavour)
    assert (seen.mac, seen.mtu, seen.parent) == ("02:00:00:00:00:07", 1400, "eth0")


@pytest.mark.needs("ipvlan")
@pytest.mark.parametrize("flavour", ["l2", "l3", "l3s"])
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_ipvlan_child_is_made_with_the_requested_mode_and_flag(kernel, flavour, flag):
    want = replace(SHARED, flavour=flavour, flag=flag, mtu=1400)
    seen = bring_about(kernel, want)[OWNER]
    assert (seen.kind, seen.flavour, seen.flag) == ("ipvlan", flavour, flag)
    assert (seen.mtu, seen.parent) == (1400, "eth0")


@pytest.mark.needs("ipvlan")
def test_macvlan_beside_ipvlan_is_refused_by_the_kernel(kernel):
    bring_about(kernel, SHARED)
    beside = replace(CHILD, name=OTHER.device, owner=OTHER)
    with pytest.raises(KernelRefused, match="EBUSY"):
        kernel.apply(Create(beside))


@pytest.mark.needs("ipvlan")
def test_changed_ipvlan_mode_is_left_alone(kernel):
    """It is that of every child of the parent, also of those that are not ours."""
    bring_about(kernel, SHARED)
    want = replace(SHARED, flavour="l3", flag="private")
    seen = bring_about(kernel, want)[OWNER]
    assert (seen.flavour, seen.flag) == ("l2", "bridge")


@pytest.mark.needs("vlan")
def test_stacked_vlans_are_made_up_and_found_by_their_usual_names(kernel):
    seen = bring_about(kernel, *STACK)
    assert seen[Owner.parse("underlay::eth0.50")].parent == "eth0"
    assert seen[Owner.parse("underlay::eth0.50.7")].parent == STACK[0].name
    assert all(link.up for link in seen.values())
    found = kernel.device("eth0.50.7")
    assert (found.name, found.vlan, found.ours) == (STACK[1].name, 7, True)
    assert {d.name for d in kernel.devices("vlan")} == {o.name for o in STACK}
    assert bring_about(kernel) == {}


@pytest.mark.needs("vlan")
def test_vlan_is_on_a_device_once(kernel):
    bring_about(kernel, STACK[0])
    twin = Owner.parse("underlay::twin.50")
    with pytest.raises(KernelRefused, match="EEXIST"):
        kernel.apply(Create(replace(STACK[0], name=twin.device, owner=twin)))


@pytest.mark.needs("vlan")
def test_vlan_with_another_tag_is_recreated(kernel):
    bring_about(kernel, STACK[0])
    seen = bring_about(kernel, replace(STACK[0], vlan=51))
    assert seen[Owner.parse("underlay::eth0.50")].vlan == 51


@pytest.mark.needs("vlan")
def test_vlan_is_not_deleted_under_existing_children(kernel):
    seen = bring_about(kernel, *STACK, replace(CHILD, parent=STACK[1].name))
    for lower in STACK:
        with pytest.raises(KernelRefused, match="EBUSY"):
            kernel.apply(Delete(lower))
    assert kernel.observe() == frozenset(seen.values())
    assert bring_about(kernel) == {}


@pytest.mark.needs("dummy")
def test_dummy_carries_children_and_is_up(kernel):
    owner = Owner("n1")
    dummy = Link(owner.device, "dummy", owner, mtu=9000, up=True, sysctls=QUIET)
    seen = bring_about(kernel, dummy, replace(CHILD, parent=dummy.name))
    assert (seen[owner].mtu, seen[owner].up) == (9000, True)
    assert seen[OWNER].parent == dummy.name


@pytest.mark.needs("vlan", "ipvlan")
def test_verbs_on_a_vlan_agree_with_the_kernel(kernel, records):
    network = replace(LAN, options={"parent": "eth0.50.7", "mode": "ipvlan"})
    live(engine_on(records, kernel), network)


@pytest.mark.needs("dummy")
def test_verbs_on_an_isolated_network_agree_with_the_kernel(kernel, records):
    live(engine_on(records, kernel), replace(LAN, options={"mtu": "9000"}))


def live(engine, network):
    engine.create_network(network)
    engine.create_endpoint(WEB)
    assert engine.preview() == ()
    engine.delete_endpoint("n1", "e1")
    assert engine.preview() == ()
    engine.delete_network("n1")
    assert engine.kernel.observe() == frozenset()


def test_unwanted_objects_are_deleted(kernel):
    bring_about(kernel, CHILD)
    assert bring_about(kernel) == {}


@pytest.mark.parametrize(
    "change",
    [{"mac": "02:00:00:00:00:09"}, {"mtu": 1300}, {"flavour": "private"}],
    ids=str,
)
def test_differing_objects_are_amended_in_place(kernel, change):
    bring_about(kernel, replace(CHILD, mac="02:00:00:00:00:07", mtu=1400))
    want = replace(CHILD, **{"mac": "02:00:00:00:00:07", "mtu": 1400, **change})
    seen = bring_about(kernel, want)[OWNER]
    ((field, value),) = change.items()
    assert getattr(seen, field) == value


def test_observation_of_one_name_sees_only_that_device(kernel):
    other = replace(CHILD, name=OTHER.device, owner=OTHER)
    bring_about(kernel, CHILD, other)
    (seen,) = kernel.observe({OWNER.device})
    assert seen.owner == OWNER
    assert kernel.observe({"ul-nothing"}) == frozenset()


def test_deleting_a_missing_object_is_no_error(kernel):
    kernel.apply(Delete(CHILD))


def test_creating_an_existing_object_is_refused_with_the_step(kernel):
    bring_about(kernel, CHILD)
    with pytest.raises(KernelRefused, match="E-400 the kernel refused `ip link add"):
        kernel.apply(Create(CHILD))


def test_devices_are_found_by_name(kernel):
    assert kernel.device("eth0").mtu == 1500
    assert kernel.device("eth9") is None
    assert kernel.device("") is None
    assert {"lo", "eth0"} <= {d.name for d in kernel.devices()}


def test_endpoint_device_deleted_by_another_program_is_restored(kernel, records):
    engine = engine_on(records, kernel)
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    before = {link.owner: link for link in kernel.observe()}
    kernel.apply(Delete(before[OWNER]))
    assert len(engine.preview()) == 1
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert {link.owner: link for link in kernel.observe()} == before
    engine.delete_endpoint("n1", "e1")
    assert kernel.observe() == frozenset()


def test_death_between_build_and_commit_is_cleaned_up_by_a_pass(kernel, records):
    engine = engine_on(records, kernel)
    engine.create_network(LAN)
    bring_about(kernel, CHILD)  # built, but never committed
    if hasattr(kernel, "calm"):
        agree(engine)
    assert engine.reconcile() == []
    assert kernel.observe() == frozenset()
