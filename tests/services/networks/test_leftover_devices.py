"""The device of an endpoint that ended goes, wherever Docker left it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import Death
from tests.worlds import MODES, ROOM, World
from underlay.errors import AddressTaken, KernelRefused, RouteConflict
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Link, Owner
from underlay.model.steps import Delete

OTHER = Owner("n1", "e1")


@pytest.fixture(params=MODES)
def world(request, records):
    return World(records, MODES[request.param])


def ours(world):
    links = [*world.kernel.links.values()]
    links += [o for room in world.kernel.rooms.values() for o in room.values()]
    return [o.name for o in links if o.owner and o.owner.endpoint]


def refusing(world, matching):
    """Have the kernel refuse to delete what matches, until it is calmed."""
    apply = world.kernel.apply

    def refuse(step):
        if isinstance(step, Delete) and matching(step.object):
            raise KernelRefused(step=step, why="Permission denied", hint="")
        apply(step)

    world.kernel.apply = refuse

    def calm():
        world.kernel.apply = apply

    return calm


def test_leftover_device_is_deleted_and_forgotten_with_its_endpoint(world):
    world.engine.delete_endpoint("n1", "e1")
    assert ours(world) == []
    assert world.engine.records.endpoints.leftovers() == []


def test_process_death_while_deleting_a_leftover_is_repaired_by_the_next_pass(records):
    world = World(records, MODES["macvlan"])
    kernel = world.kernel
    kernel.die_before = kernel.steps + 1
    with pytest.raises(Death):
        world.engine.delete_endpoint("n1", "e1")
    kernel.calm()
    assert ours(world) == ["eth0"]
    world.look("")  # no recorded endpoint is in that sandbox
    assert ours(world) == []
    assert records.endpoints.leftovers() == []
    assert world.engine.preview() == ()


def test_failed_leftover_deletion_is_retried_and_its_address_kept(records):
    world = World(records, MODES["routed"])
    claim, four = world.made[0], world.given[0]
    calm = refusing(world, lambda o: isinstance(o, Link))
    world.engine.delete_endpoint("n1", "e1")
    world.ipam.release_address(claim, str(four.ip))
    with pytest.raises(AddressTaken):
        world.ipam.request_address(claim, str(four.ip), "")
    world.look("")
    (failure,) = records.repairs.failures()
    assert failure.mark == OTHER.mark
    calm()
    world.time.now += 600
    world.look("")
    assert ours(world) == []
    assert records.repairs.failures() == []
    world.ipam.release_address(claim, str(four.ip))
    world.ipam.request_address(claim, str(four.ip), "")


def test_leftover_device_in_a_missing_sandbox_is_forgotten(records):
    world = World(records, MODES["macvlan"])
    refusing(world, lambda o: o.sandbox)
    world.engine.delete_endpoint("n1", "e1")
    assert records.endpoints.has_leftover("e1")
    world.kernel.sandboxes.discard(ROOM)
    world.look("")
    assert not records.endpoints.has_leftover("e1")


def test_leftover_device_is_deleted_with_its_network(records):
    world = World(records, MODES["macvlan"])
    world.engine.delete_network("n1")
    assert ours(world) == []


def beside(world, mark):
    """Put a device with a mark into the sandbox of the container."""
    link = replace(world.kernel.rooms[ROOM]["eth0"], name="eth7", owner=mark)
    world.kernel.rooms[ROOM]["eth7"] = link


def test_leftover_device_without_a_record_is_deleted_when_its_sandbox_is_observed(
    records,
):
    world = World(records, MODES["macvlan"])
    beside(world, Owner("n1", "gone"))
    world.look(ROOM)
    assert ours(world) == ["eth0"]


def test_device_of_another_host_of_this_driver_is_left_alone(records):
    world = World(records, MODES["macvlan"])
    beside(world, Owner("of-a-host-in-a-container", "e1"))
    world.look(ROOM)
    assert ours(world) == ["eth0", "eth7"]


def test_leftover_device_without_a_record_is_kept_until_docker_was_asked(records):
    world = World(records, MODES["macvlan"])
    beside(world, Owner("n1", "not-rebuilt-yet"))
    with records.transaction():
        records.host.set_missing_networks({"n1"})
    world.look(ROOM)
    assert ours(world) == ["eth0", "eth7"]


def test_device_in_the_host_is_not_looked_for_in_the_sandbox(records):
    world = World(records, MODES["macvlan"])
    link = world.kernel.rooms[ROOM].pop("eth0")
    device = Owner("n1", "e1").device
    world.kernel.links[device] = replace(link, name=device, sandbox="")

    def asked(paths):
        raise AssertionError(paths)

    world.kernel.observe_sandboxes = asked
    world.engine.delete_endpoint("n1", "e1")
    assert ours(world) == []


def test_two_networks_with_their_own_default_routes_work_together(records):
    world = World(records, {"parent": "eth0", "ipvlan_mode": "l3"})
    world.engine.create_network(replace(world.network, id="n2"))
    found = joined(world, "n2", "a")
    assert {to.prefixlen for to in found.on_link} == {0}


def on_link(world):
    options = {**world.network.options, "gateway": "198.51.100.1"}
    second = replace(world.network, id="n2", options=options)
    first = replace(second, id="n3")
    for network in (second, first):
        world.engine.create_network(network)


def joined(world, network, name):
    four = IPv4Interface(f"10.0.0.{len(name) + 20}/24")
    world.engine.create_endpoint(Endpoint(name, network, four))
    return world.engine.join(network, name, ROOM)


def test_route_to_the_subnet_of_another_network_of_the_container_is_refused(records):
    world = World(records, {**MODES["macvlan"], "host_access": "off"})
    on_link(world)
    subnet = Subnet(ip_network("10.8.0.0/24"), ip_address("10.8.0.1"))
    options = {**MODES["macvlan"], "host_access": "off"}
    options["route"] = "10.0.0.0/24 via 10.8.0.9"
    world.engine.create_network(Network("n9", options, subnets=(subnet,)))
    found = joined(world, "n2", "a")
    world.kernel.dock(found.device, ROOM, "eth1")
    asked = Endpoint("bb", "n9", IPv4Interface("10.8.0.22/24"))
    world.engine.create_endpoint(asked)
    with pytest.raises(RouteConflict, match=r"E-134 .* to 10\.0\.0\.0/24"):
        world.engine.join("n9", "bb", ROOM)


def test_two_networks_with_one_on_link_gateway_are_refused_in_one_container(records):
    world = World(records, {**MODES["macvlan"], "host_access": "off"})
    on_link(world)
    found = joined(world, "n2", "a")
    world.kernel.dock(found.device, ROOM, "eth1")
    with pytest.raises(RouteConflict, match=r"E-134 .* 198\.51\.100\.1/32"):
        joined(world, "n3", "bb")
    # Of older engines, the devices are in the host yet.
    device = Owner("n2", "a").device
    link = world.kernel.rooms[ROOM].pop("eth1")
    world.kernel.links[device] = replace(link, name=device, sandbox="")
    with pytest.raises(RouteConflict):
        world.engine.join("n3", "bb", ROOM)
    world.kernel.links.pop(device)
    # What only the records say is in the container is no obstacle.
    world.engine.join("n3", "bb", ROOM)
