"""What a device cannot have is not wanted; a refused step slows nothing but itself."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

import pytest

from tests.worlds import MODES, ROOM, World, take_addresses, take_device
from underlay.errors import KernelRefused
from underlay.model import Endpoint
from underlay.model.objects import IPV6_SWITCH, Address, Owner, Route
from underlay.modes.sysctls import KEY, asked, switch_ipv6_off

OFF, ON = f"{IPV6_SWITCH}1", f"{IPV6_SWITCH}0"


@pytest.fixture(params=MODES)
def world(request, records):
    return World(records, MODES[request.param])


def switch(world, setting):
    """Do as the kernel does when IPv6 is switched off on a device, or on."""
    room = world.kernel.rooms[ROOM]
    room["eth0"] = replace(room["eth0"], sysctls=(setting,))
    if setting == OFF:
        world.kernel.others = {
            k: o for k, o in world.kernel.others.items() if not is_six(o)
        }


def is_six(found):
    if not getattr(found, "sandbox", ""):
        return False
    if isinstance(found, Address):
        return found.interface.version == 6
    return isinstance(found, Route) and found.destination.version == 6


def sixes(world):
    return {k for k, o in world.kernel.others.items() if is_six(o)}


def refuse_six(world):
    """Have the kernel refuse IPv6 in the sandbox; return what was tried, and a cure."""
    apply, tried = world.kernel.apply, []

    def refuse(step):
        if is_six(step.object):
            tried.append(world.time())
            raise KernelRefused(step=step, why="Permission denied", hint="")
        apply(step)

    world.kernel.apply = refuse

    def cure():
        world.kernel.apply = apply

    return tried, cure


def test_ipv6_is_wanted_only_as_long_as_it_is_switched_on(world):
    records, had = world.engine.records, sixes(world)
    switch(world, OFF)
    tried, cure = refuse_six(world)
    world.look(ROOM)
    assert world.engine.preview() == ()
    take_addresses(world)
    world.look(ROOM)
    assert tried == []
    assert world.engine.preview() == ()
    assert records.repairs.failures() == []
    assert records.endpoints.get("e1").learned.families_off == (6,)
    cure()
    switch(world, ON)
    world.settle()
    assert sixes(world) == had


def test_recreated_device_keeps_ipv6_off(world):
    switch(world, OFF)
    world.look(ROOM)
    take_device(world)
    world.settle()
    assert OFF in world.kernel.rooms[ROOM]["eth0"].initial_sysctls
    assert sixes(world) == set()
    take_device(world)
    world.settle()
    assert OFF in world.kernel.rooms[ROOM]["eth0"].initial_sysctls


def start(world, options=None):
    given = [IPv4Interface(str(world.given[0])), IPv6Interface(str(world.given[1]))]
    asked = Endpoint("e1", "n1", *given, options=options or {}, created=world.time())
    known = world.engine.create_endpoint(asked)
    world.attachment = world.engine.join("n1", "e1", ROOM)
    return known


def test_docker_is_done_when_all_possible_addresses_are_there(records):
    world = World(records, MODES["macvlan"], docked=False)
    known = start(world)
    world.dock(known)
    switch(world, OFF)
    world.look(ROOM)
    inside = records.endpoints.get("e1").learned
    assert (inside.families_off, inside.default_families) == ((6,), (4, 6))
    assert world.engine.preview() == ()
    # Its routes come with IPv6 itself.
    switch(world, ON)
    world.settle()
    assert len(sixes(world)) == 3


@pytest.mark.parametrize("mode", MODES)
def test_join_answer_has_no_ipv6_where_docker_disables_it(records, mode):
    world = World(records, MODES[mode], docked=False)
    start(world, {KEY: "net.ipv6.conf.IFNAME.disable_ipv6=1"})
    found = world.attachment
    assert found.gateway4
    assert found.gateway6 is None
    assert {to.version for to in found.destinations} <= {4}


@pytest.mark.parametrize(
    ("said", "off"),
    [
        ("", False),
        ("net.ipv6.conf.IFNAME.disable_ipv6=1", True),
        ("net.ipv6.conf.ifname.disable_ipv6=1", True),
        ("net/ipv6/conf/IFNAME/disable_ipv6=1", True),
        ("net.ipv4.conf.IFNAME.arp_ignore=1, net.ipv6.conf.all.disable_ipv6=1", True),
        ("net.ipv6.conf.default.disable_ipv6=1", True),
        ("net.ipv6.conf.IFNAME.disable_ipv6=0", False),
        ("net.ipv6.conf.all.disable_ipv6=1,net.ipv6.conf.IFNAME.disable_ipv6=0", False),
        ("net.ipv6.conf.IFNAME.disable_policy=1", False),
        ("net.ipv6.conf.IFNAME.disable_ipv6", False),
    ],
)
def test_ipv6_disable_sysctl_is_found_in_any_spelling(said, off):
    assert switch_ipv6_off({KEY: said}) is off


def test_device_lost_before_the_first_observation_gets_the_sysctls_docker_was_asked_for(
    records,
):
    world = World(records, MODES["macvlan"], docked=False)
    said = "net.ipv4.conf.IFNAME.arp_ignore=1,net.ipv6.conf.IFNAME.disable_ipv6=1"
    start(world, {KEY: said})
    world.kernel.sandboxes.add(ROOM)
    world.kernel.links.clear()
    world.settle()
    born = world.kernel.rooms[ROOM]["eth0"]
    assert born.initial_sysctls == ("net/ipv4/conf/*/arp_ignore=1", OFF)
    assert sixes(world) == set()


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("net.ipv4.neigh.IFNAME.ucast_solicit=7", ["net/ipv4/neigh/*/ucast_solicit=7"]),
        ("net.ipv4.conf.IFNAME.a=1,net/ipv4/conf/ifname/a=2", ["net/ipv4/conf/*/a=2"]),
        ("net.ipv4.conf.IFNAME.../../x=1", []),
        ("net.ipv4.conf.IFNAME.arp_ignore=1=2", []),
        ("net.ipv4.conf.IFNAME.arp_ignore=*", []),
        ("net.ipv4.conf.IFNAME.arp_ignore", []),
        ("net.core.somaxconn=1", []),
        (",,=,", []),
    ],
)
def test_only_device_sysctls_are_read_from_docker_s_options(said, found):
    assert list(asked({KEY: said})) == found


def test_refused_step_delays_nothing_but_itself(world):
    tried, cure = refuse_six(world)
    take_addresses(world)
    for _ in range(100):  # refused for minutes, and later each time
        world.look(ROOM, "")
        world.time.now += 5.0
    assert 3 < len(tried) < 60
    (failure,) = world.engine.records.repairs.failures()
    assert failure.mark == Owner("n1", "e1").mark
    four = Address(world.given[0], "eth0", sandbox=ROOM)
    assert four.key in world.kernel.others
    world.kernel.others.pop(four.key)
    world.look(ROOM)
    assert four.key in world.kernel.others
    # What could be repaired is no sign that all is well.
    assert len(world.engine.records.repairs.failures()) == 1
    cure()
    world.settle()
    assert Address(world.given[1], "eth0", sandbox=ROOM).key in world.kernel.others
    assert world.engine.records.repairs.failures() == []


def test_reconcile_command_retries_everything_at_once(records):
    world = World(records, MODES["macvlan"])
    tried, cure = refuse_six(world)
    take_addresses(world)
    world.look(ROOM)
    before = len(tried)
    assert [s for s in world.engine.reconcile() if is_six(s.object)]
    assert len(tried) > before
    cure()
    assert world.engine.reconcile() == []
    assert ip_interface(str(world.given[1])) == world.given[1]
