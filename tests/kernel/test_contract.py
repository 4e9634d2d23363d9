"""What every kernel does, the fake as the real one: after apply, the plan is empty."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engine.test_failures import agree
from tests.engine.test_verbs import LAN, WEB
from tests.fakes import engine_on
from underlay.errors import KernelRefused
from underlay.objects import Link, Owner
from underlay.plan import plan
from underlay.steps import Create, Delete
from underlay.wanted import Wanted

OWNER = Owner("n1", "e1")
CHILD = Link(OWNER.device, "macvlan", OWNER, parent="eth0", flavour="bridge")
OTHER = Owner("n1", "e2")


def bring_about(kernel, *objects):
    wanted = Wanted(objects)
    for step in plan(wanted, kernel.observe()):
        kernel.apply(step)
    assert plan(wanted, kernel.observe()) == ()
    return {link.owner: link for link in kernel.observe()}


@pytest.mark.parametrize("flavour", ["bridge", "private", "vepa"])
def test_a_child_is_made_as_wanted(kernel, flavour):
    want = replace(CHILD, flavour=flavour, mac="02:00:00:00:00:07", mtu=1400)
    seen = bring_about(kernel, want)[OWNER]
    assert (seen.name, seen.flavour) == (OWNER.device, flavour)
    assert (seen.mac, seen.mtu, seen.parent) == ("02:00:00:00:00:07", 1400, "eth0")


def test_what_is_wanted_no_more_goes(kernel):
    bring_about(kernel, CHILD)
    assert bring_about(kernel) == {}


@pytest.mark.parametrize(
    "change",
    [{"mac": "02:00:00:00:00:09"}, {"mtu": 1300}, {"flavour": "private"}],
    ids=str,
)
def test_what_differs_is_amended_in_place(kernel, change):
    bring_about(kernel, replace(CHILD, mac="02:00:00:00:00:07", mtu=1400))
    want = replace(CHILD, **{"mac": "02:00:00:00:00:07", "mtu": 1400, **change})
    seen = bring_about(kernel, want)[OWNER]
    ((field, value),) = change.items()
    assert getattr(seen, field) == value


def test_a_look_at_one_name_sees_that_one_alone(kernel):
    other = replace(CHILD, name=OTHER.device, owner=OTHER)
    bring_about(kernel, CHILD, other)
    (seen,) = kernel.observe({OWNER.device})
    assert seen.owner == OWNER
    assert kernel.observe({"ul-nothing"}) == frozenset()


def test_deleting_what_is_gone_is_no_error(kernel):
    kernel.apply(Delete(CHILD))


def test_making_what_is_there_is_refused_with_the_step(kernel):
    bring_about(kernel, CHILD)
    with pytest.raises(KernelRefused, match="E-400 the kernel refused `ip link add"):
        kernel.apply(Create(CHILD))


def test_devices_are_found_by_name(kernel):
    assert kernel.device("eth0").mtu == 1500
    assert kernel.device("eth9") is None
    assert kernel.device("") is None
    assert {"lo", "eth0"} <= {d.name for d in kernel.devices()}


def test_a_verb_s_device_deleted_behind_our_back_is_put_back(kernel, records):
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


def test_a_death_between_build_and_commit_is_cleaned_up_by_a_pass(kernel, records):
    engine = engine_on(records, kernel)
    engine.create_network(LAN)
    bring_about(kernel, CHILD)  # built, but never committed
    if hasattr(kernel, "calm"):
        agree(engine)
    assert engine.reconcile() == []
    assert kernel.observe() == frozenset()
