"""What Docker gave a device beside its addresses is learnt once, and looked after."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from tests.worlds import MODES, ROOM, World, take_device
from underlay.model.objects import OWN_LINK_LOCAL, Address, Route
from underlay.planning.sandbox import LINK_LOCAL_MOST

GIVEN4 = ip_interface("169.254.8.8/16")
GIVEN6 = ip_interface("fe80::8/64")
MAC, FROM_MAC = "02:42:0a:4d:00:05", "fe80::42:aff:fe4d:5/64"
BY_IPVLAN = "fe80::242:a00:14d:5/64"


@pytest.fixture(params=MODES)
def world(request, records):
    return World(records, MODES[request.param], docked=False)


def start(world, *beside, mode=0, mac=MAC):
    """Dock a container whose device has more than the endpoint's addresses."""
    dock = world.dock

    def and_more(endpoint):
        dock(endpoint)
        room = world.kernel.rooms[ROOM]
        shown = (f"{OWN_LINK_LOCAL}{mode}",) if mode is not None else ()
        room["eth0"] = replace(room["eth0"], sysctls=shown, mac=mac)
        give(world, *beside)

    world.dock = and_more
    world.start(*world.given)


def give(world, *addresses, device="eth0"):
    for a in addresses:
        more = [Address(a, device, sandbox=ROOM)]
        if a.version == 4:
            way = Route(a.network, device, source=a.ip, sandbox=ROOM, connected=True)
            more.append(way)
        for o in more:
            world.kernel.others.setdefault(o.key, o)


def learnt(world):
    return world.engine.records.endpoints.get("e1").learned.link_local


def has(world, address):
    return Address(address, "eth0", sandbox=ROOM).key in world.kernel.others


def test_link_local_address_is_restored_with_its_route(world):
    start(world, GIVEN4)
    assert learnt(world) == (GIVEN4,)
    take_device(world)
    world.settle()
    assert has(world, GIVEN4)
    way = Route(GIVEN4.network, "eth0", source=GIVEN4.ip, sandbox=ROOM)
    assert world.kernel.others[way.key].is_amendable_from(way)
    world.kernel.others.pop(Address(GIVEN4, "eth0", sandbox=ROOM).key)
    world.look(ROOM)
    assert has(world, GIVEN4)


def test_two_link_local_addresses_of_one_subnet_have_one_route_by_the_first(world):
    second = ip_interface("169.254.9.9/16")
    start(world, GIVEN4, second)
    assert learnt(world) == (GIVEN4, second)
    assert world.engine.preview() == ()
    take_device(world)
    world.settle()
    assert has(world, second)
    assert world.engine.preview() == ()


def test_docker_s_ipv6_link_local_address_is_distinguished_from_the_kernel_s(records):
    world = World(records, MODES["macvlan"], docked=False)
    start(world, GIVEN6, ip_interface(FROM_MAC))
    assert learnt(world) == (GIVEN6,)
    take_device(world)
    world.settle()
    assert has(world, GIVEN6)
    routes = [o for o in world.kernel.others.values() if isinstance(o, Route)]
    assert ip_network("fe80::/64") not in {o.destination for o in routes}


@pytest.mark.parametrize(
    ("mode", "address", "given"),
    [
        (0, FROM_MAC, False),
        (0, BY_IPVLAN, False),
        (1, "fe80::1/64", True),
        (2, "fe80::1234:5678:9abc:def0/64", False),
        (3, "fe80::1234:5678:9abc:def0/64", False),
        (None, "fe80::1/64", False),
        (0, "10.0.0.99/24", False),
        (0, "fd00::99/64", False),
    ],
)
def test_addresses_another_program_may_have_added_are_not_docker_s(
    records, mode, address, given
):
    world = World(records, MODES["macvlan"], docked=False)
    found = ip_interface(address)
    start(world, found, mode=mode)
    assert learnt(world) == ((found,) if given else ())


def test_addresses_added_later_or_elsewhere_are_ignored(records):
    world = World(records, MODES["macvlan"], docked=False)
    start(world)
    give(world, GIVEN4)
    world.look(ROOM)
    assert learnt(world) == ()
    world.kernel.others.pop(Address(GIVEN4, "eth0", sandbox=ROOM).key)
    world.look(ROOM)
    assert not has(world, GIVEN4)


def test_recorded_addresses_are_at_most_what_docker_may_have_given(records):
    world = World(records, MODES["macvlan"], docked=False)
    many = [ip_interface(f"169.254.{n}.1/16") for n in range(100)]
    start(world, *many)
    assert learnt(world) == tuple(many[:LINK_LOCAL_MOST])


def test_recreated_device_has_all_its_settings(world):
    wanted = ("net/ipv6/conf/*/accept_ra_rt_info_max_plen=64",)
    world.kernel.unusual[ROOM, "eth0"] = wanted
    start(world)
    take_device(world)
    world.settle()
    assert world.kernel.rooms[ROOM]["eth0"].initial_sysctls == wanted
