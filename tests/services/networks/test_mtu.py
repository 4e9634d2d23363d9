"""The MTU of what stands on a parent is that of the parent now, unless asked for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from tests.fakes import BR0, ETH0
from tests.worlds import MODES, ROOM, World
from underlay.model import Device, Network
from underlay.model.objects import Owner

FOLLOWING = {
    "macvlan": {"parent": "eth0"},
    "ipvlan": {"parent": "eth0", "mode": "ipvlan"},
    "vlan": MODES["vlan"],
    "stacked": {"parent": "eth0.50.7", "host_access": "off"},
    "bridge": MODES["bridge"],
    "takeover": MODES["takeover"],
    "proxy": {"mode": "routed", "proxy": "eth0"},
}
SHIM = Owner.parse("underlay::shim/eth0").device
HERE = ip_interface("10.0.0.9/24"), ip_interface("fd00::9/64")


def set_mtu(world, size):
    strangers = world.kernel.strangers
    for known in (ETH0, BR0):
        strangers[known.name] = replace(strangers[known.name], mtu=size)


def sizes(world):
    """Return the MTU of the container's device, and of each of ours in the host."""
    inside = world.kernel.rooms[ROOM]["eth0"].mtu
    return inside, {o.mtu for o in world.kernel.links.values() if o.kind != "bridge"}


@pytest.mark.parametrize("mode", FOLLOWING)
def test_children_follow_the_mtu_of_their_parent_up_and_down(records, mode):
    world = World(records, FOLLOWING[mode], docked=False)
    if mode in ("macvlan", "ipvlan"):
        world.kernel.host_addresses = {"eth0": HERE}
    world.start(*world.given)
    for size in (9000, 1400, 1500):
        set_mtu(world, size)
        world.settle()
        inside, outside = sizes(world)
        assert inside == size
        if mode in ("bridge", "takeover"):
            # A port that is smaller makes the bridge smaller, and keeps it so.
            assert outside == {9000}
        else:
            assert outside in (set(), {size})
    assert records.repairs.failures() == []
    if mode in ("macvlan", "ipvlan"):
        assert SHIM in world.kernel.links


@pytest.mark.parametrize("mode", FOLLOWING)
def test_requested_mtu_stays_but_never_exceeds_the_parent_s(records, mode):
    world = World(records, {**FOLLOWING[mode], "mtu": "1450"})
    for size, inside in ((9000, 1450), (1400, 1400), (1500, 1450)):
        set_mtu(world, size)
        world.settle()
        if mode == "proxy":  # nothing stands on it
            inside = 1450
        assert sizes(world)[0] == inside


def test_foreign_vlan_keeps_its_own_mtu(records):
    world = World(records, MODES["macvlan"], docked=False)
    office = Device("office", "vlan", ETH0.mac, 1480, parent="eth0", vlan=50)
    world.kernel.strangers["office"] = office
    network = replace(world.network, id="n2", options=MODES["vlan"])
    world.engine.create_network(network)
    set_mtu(world, 9000)
    world.look("")
    assert records.networks.get("n2").uplink.mtu == 1480


def test_a_vlan_on_macsec_has_room_for_its_tag(records):
    world = World(records, MODES["macvlan"], docked=False)
    world.kernel.strangers["sec0"] = Device("sec0", "macsec", ETH0.mac, 1468)
    options = {"parent": "sec0.50.7", "host_access": "off"}
    world.engine.create_network(replace(world.network, id="n2", options=options))
    world.look("")
    assert records.networks.get("n2").uplink.mtu == 1464


def test_routed_network_without_a_proxy_keeps_the_mtu_of_its_uplink_when_made(records):
    world = World(records, MODES["macvlan"], docked=False)
    set_mtu(world, 9000)
    routed = Network("n2", {"mode": "routed"})
    world.engine.create_network(routed)
    set_mtu(world, 1500)
    world.look("")
    assert records.networks.get("n2").uplink.mtu == 9000
    world.kernel.default = None
    world.engine.create_network(replace(routed, id="n3"))
    assert records.networks.get("n3").uplink.mtu == 0


def test_uplink_with_a_small_mtu_does_not_switch_ipv6_off(records):
    world = World(records, MODES["macvlan"], docked=False)
    set_mtu(world, 1200)
    pooled = tuple(replace(s, pooled=True) for s in world.network.subnets)
    routed = Network("n2", {"mode": "routed", "proxy": "eth0"}, subnets=pooled)
    world.engine.create_network(routed)
    assert records.networks.get("n2").uplink.mtu == 1280


def test_mtu_reduced_inside_a_container_is_raised_to_the_parent_s(records):
    world = World(records, MODES["macvlan"])
    room = world.kernel.rooms[ROOM]
    room["eth0"] = replace(room["eth0"], mtu=1300)
    world.settle()
    assert sizes(world)[0] == 1500
