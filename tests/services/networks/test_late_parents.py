"""NICs that are late, down, or without carrier: containers start and wait for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import BR0, ETH0
from tests.worlds import MODES, ROOM, World
from underlay.api import status
from underlay.model.objects import Owner

LATE = {**MODES, "proxy": {"mode": "routed", "proxy": "eth0"}}
del LATE["routed"]  # stands on nothing
LOWER = Owner.parse("underlay::eth0.50").device
KINDS = {"ipvlan": "ipvlan", "bridge": "veth", "takeover": "veth", "proxy": "veth"}


def nic(mode):
    return BR0 if mode == "bridge" else ETH0


def set_nic(world, mode, fault):
    """Have the NIC be so; a bridge of ours has it as a port."""
    known = world.kernel.strangers[nic(mode).name]
    world.kernel.strangers[known.name] = replace(known, link_fault=fault)


def said(world):
    world.engine.reconciler.announcer.send_due()
    found = world.kernel.announced[:]
    world.kernel.announced.clear()
    return found


def silence(world):
    """Let all that is due be announced."""
    for _ in range(9):
        world.engine.reconciler.announcer.send_due()
        world.time.now += 30
    world.kernel.announced.clear()


def pending(world):
    """Return why each parent, network and endpoint is pending, "" for those not."""
    found = status.status(world.engine.records)
    return {
        fact["error"]
        for fact in (*found["parents"], *found["networks"], *found["endpoints"])
        if fact["health"] in ("ok", "repaired", "pending")
    }


def wait(world, seconds):
    """Let time pass, with a pass each second."""
    end = world.time() + seconds
    while world.time() < end:
        world.time.now += min(1.0, end - world.time())
        world.look("")


@pytest.mark.parametrize("late", [0.0, 5.0, 60.0])
@pytest.mark.parametrize("mode", LATE)
@pytest.mark.parametrize("how", ["missing", "down", "no carrier"])
def test_a_container_that_starts_before_its_nic_is_served_when_that_comes(
    records, mode, how, late
):
    world = World(records, LATE[mode], docked=False)
    card = world.kernel.strangers[nic(mode).name]
    if how == "missing":
        world.kernel.links.clear()
        world.kernel.others.clear()
        world.kernel.strangers.clear()
    else:
        set_nic(world, mode, how)
    world.start(*world.given)
    wait(world, late)
    why = {
        "missing": f"device {card.name} ({card.mac}) is missing",
        "down": f"{card.name} is down",
        "no carrier": f"{card.name} has no carrier",
    }[how]
    assert all(why in text for text in pending(world)), pending(world)
    assert all("; waiting for it" in text for text in pending(world))
    assert records.repairs.failures() == []
    silence(world)
    world.kernel.strangers |= {"eth0": ETH0, "br0": BR0}
    world.settle()
    assert world.kernel.rooms[ROOM]["eth0"].kind == KINDS.get(mode, "macvlan")
    assert pending(world) == {""}
    own = frozenset(a.ip for a in records.endpoints.get("e1").addresses)
    place = ("", "eth0") if mode == "proxy" else (ROOM, "eth0")
    told = said(world)
    assert {t[:2] for t in told} == {place}
    assert frozenset().union(*(t[2] for t in told)) == own
    if mode == "vlan":
        assert world.kernel.links[LOWER].up is True


@pytest.mark.parametrize("mode", LATE)
@pytest.mark.parametrize("how", ["missing", "down", "no carrier"])
def test_missing_nic_is_waited_for_without_retries(records, mode, how):
    world = World(records, LATE[mode], docked=False)
    if how == "missing":
        world.kernel.links.clear()
        world.kernel.others.clear()
        world.kernel.strangers.clear()
    else:
        set_nic(world, mode, how)
    world.start(*world.given)
    wait(world, 10.0)
    steps = world.kernel.steps
    wait(world, 600.0)
    assert world.kernel.steps == steps
    assert "" not in pending(world)
    assert records.repairs.failures() == []


def test_a_vlan_on_a_nic_that_is_down_is_made_and_set_up_with_the_nic(records):
    world = World(records, MODES["vlan"])
    silence(world)
    set_nic(world, "vlan", "down")
    world.kernel.links[LOWER] = replace(world.kernel.links[LOWER], up=False)
    world.settle()
    assert world.kernel.links[LOWER].up is False
    world.kernel.links.pop(LOWER)
    world.settle()
    assert not world.kernel.links[LOWER].up
    set_nic(world, "vlan", "")
    world.look("")
    assert world.kernel.links[LOWER].up is True
    assert [t[:2] for t in said(world)] == [(ROOM, "eth0")]


def test_a_network_is_made_on_a_nic_that_is_down(records):
    world = World(records, {"parent": "eth0", "host_access": "off"}, docked=False)
    set_nic(world, "vlan", "down")
    options = {"parent": "eth0.50.7", "host_access": "off"}
    world.engine.create_network(replace(world.network, id="n2", options=options))
    assert not world.kernel.links[LOWER].up
    assert records.networks.get("n2").uplink.link_fault == "down"
    set_nic(world, "vlan", "no carrier")
    world.look("")
    assert world.kernel.links[LOWER].up is True
    reason = records.networks.get("n2").uplink.cut_off_reason
    assert reason.startswith("eth0 has no carrier")


@pytest.mark.parametrize("parent", ["bond0", "bond0.50"])
def test_containers_on_a_bond_are_announced_after_a_failover(records, parent):
    """Switches know the MACs of its containers at the port that failed."""
    bond = replace(
        ETH0, name="bond0", kind="bond", permanent_mac="", active_port="eth1"
    )
    options = {"parent": parent, "host_access": "off"}
    world = World(records, options, others=[bond])
    silence(world)
    for active, told in (("", []), ("eth1", []), ("eth2", [(ROOM, "eth0")])):
        world.kernel.strangers["bond0"] = replace(bond, active_port=active)
        world.look("")
        assert [t[:2] for t in said(world)] == told
    silence(world)
    world.look("")
    assert said(world) == []


def test_pass_without_a_change_announces_nothing(records):
    world = World(records, MODES["macvlan"])
    silence(world)
    world.look("")
    assert said(world) == []
