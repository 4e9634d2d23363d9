"""A planner that remembers the last host plans what one without a memory plans."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0
from tests.worlds import GUARDED, HERE, MODES, ROOM, WAYS, World
from underlay.errors import UnderlayError
from underlay.model import Endpoint, HostEntry, Uplink
from underlay.model.objects import (
    Address,
    ForwardAccept,
    Link,
    Neighbour,
    NftChain,
    Owner,
    Route,
)
from underlay.reconcile.planner import Planner

WORLDS = {
    **MODES,
    **{f"{name}-with-host": o for name, o in WAYS.items()},
    "bridge-guarded": {**MODES["bridge"], **GUARDED},
}
# Several containers are in one sandbox.
ROOMS = ROOM, "/run/docker/netns/db"
TURNS = 80


def without_memory(planner):
    return Planner(
        planner.records,
        planner.kernel,
        planner.builder,
        planner.takeovers,
        planner.leftovers,
        planner.observer,
    )


def vanish(world, dice):
    """Take an object away, in the host or the sandbox."""
    kernel = world.kernel
    if kernel.others and dice.random() < 0.6:
        kernel.others.pop(dice.choice(list(kernel.others)))
    elif kernel.links and dice.random() < 0.6:
        kernel.links.pop(dice.choice(list(kernel.links)))
    else:
        there = dice.choice(ROOMS)
        if room := kernel.rooms.get(there):
            kernel.lose(there, dice.choice(list(room)))


def spoil(world, dice):
    """Change a link, where a route leads, a chain, or a sysctl."""
    kernel = world.kernel
    links = [*kernel.links.items()]
    routes = [o for o in kernel.others.values() if isinstance(o, Route)]
    chains = [o for o in kernel.others.values() if isinstance(o, NftChain)]
    if chains and dice.random() < 0.3:
        chain = dice.choice(chains)
        kernel.others[chain.key] = replace(chain, marks=("another",))
    elif kernel.settings and dice.random() < 0.2:
        kernel.settings[dice.choice(list(kernel.settings))] = "7"
    elif links and dice.random() < 0.7:
        name, link = dice.choice(links)
        how = dice.choice([{"mtu": 1300}, {"up": False}, {"kind": "dummy"}])
        kernel.links[name] = replace(link, **how)
    elif routes:
        route = dice.choice(routes)
        kernel.others[route.key] = replace(route, device="eth9")


def intrude(world, dice):
    """Leave something with our mark that no record wants."""
    kernel, number = world.kernel, dice.randrange(9)
    owner = Owner("n1", f"gone{number}")
    surplus = dice.choice(
        [
            Link(f"ul-{number}", "macvlan", owner, parent="eth0"),
            Route(ip_network(f"10.9.{number}.0/32"), "eth0"),
            Route(ip_network(f"10.9.{number}.0/32"), None),
            Neighbour(ip_address(f"10.9.{number}.1"), "eth0"),
            NftChain("ip", f"nat-{number}", "nat hook postrouting priority 0", ()),
            ForwardAccept(4, f"-i br{number}"),
        ]
    )
    if isinstance(surplus, Link):
        kernel.links[surplus.name] = surplus
    else:
        kernel.others[surplus.key] = surplus


def begin(world, dice):
    """Record another endpoint, with its device or without."""
    number = dice.randrange(20, 40)
    if world.engine.records.endpoints.get(f"x{number}"):
        return
    given = [f"10.0.0.{number}/24", f"fd00::{number:x}/64"]
    if world.made:  # the pools of a routed network
        given = [str(world.ipam.request_address(c, "", "")) for c in world.made]
    four, six = IPv4Interface(given[0]), IPv6Interface(given[1])
    where = dice.choice(["n1", "n2"])
    if not world.engine.records.networks.get(where):
        return
    endpoint = Endpoint(f"x{number}", where, four, six, created=world.time())
    if dice.random() < 0.5:
        world.engine.create_endpoint(endpoint)
        return
    with world.engine.records.transaction():
        world.engine.records.endpoints.add(replace(endpoint, mac="02:00:00:00:00:77"))


def end(world, dice):
    """Forget an endpoint: its device is surplus now."""
    found = [e for e in world.engine.records.endpoints.all() if e.id != "e1"]
    if found:
        with world.engine.records.transaction():
            ended = dice.choice(found)
            world.engine.records.endpoints.remove(ended.network, ended.id)


def take_in(world, dice):
    """Record that a device is in a sandbox, or that it leaves that."""
    found = [e for e in world.engine.records.endpoints.all() if e.id != "e1"]
    if found:
        endpoint = dice.choice(found)
        with world.engine.records.transaction():
            if endpoint.sandbox:
                world.engine.records.endpoints.leave(endpoint.id)
            else:
                world.engine.records.endpoints.join(endpoint.id, "/run/elsewhere")


def dock(world, dice):
    """Let Docker move a device into a sandbox, and give it its addresses."""
    records, kernel = world.engine.records, world.kernel
    known = [e for e in records.endpoints.not_joined() if owner_of(e) in kernel.links]
    if not known:
        return
    endpoint, room = dice.choice(known), dice.choice(ROOMS)
    found = world.engine.join(endpoint.network, endpoint.id, room)
    name = f"eth{len(kernel.rooms.get(room, ()))}"
    if name not in kernel.rooms.get(room, ()):
        given = [Address(a, name) for a in endpoint.addresses]
        kernel.dock(found.device, room, name, *given)


def owner_of(endpoint):
    return Owner(endpoint.network, endpoint.id).device


def name(world, dice):
    """Record that Docker told the name of a container."""
    endpoint = dice.choice(world.engine.records.endpoints.all())
    with world.engine.records.transaction():
        called = f"web{dice.randrange(3)}"
        world.engine.records.endpoints.name_container(endpoint.id, called)


def part(world, dice):
    """Let Docker end an endpoint whose device it leaves in the sandbox."""
    found = [e for e in world.engine.records.endpoints.joined() if e.id != "e1"]
    if found:
        endpoint = dice.choice(found)
        world.engine.leave(endpoint.id)
        world.engine.delete_endpoint(endpoint.network, endpoint.id)


def change_parent(world, dice):
    """Unplug the parent, plug it in again, or change it."""
    kernel = world.kernel
    if "eth0" not in kernel.strangers:
        kernel.strangers["eth0"] = ETH0
    elif dice.random() < 0.3:
        del kernel.strangers["eth0"]
    else:
        mtu = dice.choice([1500, 9000, 1400])
        known = kernel.strangers["eth0"]
        kernel.strangers["eth0"] = replace(known, mtu=mtu, link_fault="")


def change_host(world, dice):
    """Give the host other addresses, and another address to be moved to a bridge."""
    kernel = world.kernel
    kernel.host_addresses["eth0"] = dice.choice([HERE, HERE[:1], HERE[1:], ()])
    entry = HostEntry("address", f"192.0.2.{dice.randrange(9)}/24", "")
    kernel.on_devices.setdefault("eth0", []).append(entry)


def second_network(world, dice):
    """Create another network on the same parent, or remove it."""
    del dice
    if world.engine.records.networks.get("n2"):
        world.engine.delete_network("n2")
    else:
        world.engine.create_network(replace(world.network, id="n2", uplink=Uplink()))


def lose_records(world, dice):
    """Have Docker list a network that is not on record, or no longer."""
    lost = dice.choice([(), (), ("n9",)])
    with world.engine.records.transaction():
        world.engine.records.host.set_missing_networks(lost)


def repair(world, dice):
    """Let a pass have its turn, which remembers a host without differences."""
    del dice
    world.engine.reconcile()


def settle(world, dice):
    """Let passes come to an end, in a host where nothing is missing."""
    world.kernel.strangers["eth0"] = ETH0
    with world.engine.records.transaction():
        world.engine.records.host.set_missing_networks(())
    for _ in range(4):
        repair(world, dice)


EVENTS = [
    vanish, spoil, spoil, intrude, begin, begin, end, take_in, dock, name, part,
    change_parent, change_host, second_network, lose_records, repair, *[settle] * 6,
]  # fmt: skip


def hide_devices(kernel, monkeypatch):
    """List chains as nft 1.0.6 does, which does not tell the device of one."""
    observe = kernel.observe

    def told(*words):
        return frozenset(
            replace(o, device="") if isinstance(o, NftChain) else o
            for o in observe(*words)
        )

    monkeypatch.setattr(kernel, "observe", told)


@pytest.mark.parametrize("mode", WORLDS)
@pytest.mark.parametrize("seed", range(4))
def test_plan_from_memory_is_the_plan_without_one(records, mode, seed, monkeypatch):
    world, dice = World(records, WORLDS[mode]), random.Random(seed)
    if seed % 2:
        hide_devices(world.kernel, monkeypatch)
    planner = world.engine.reconciler.planner
    for event in (second_network, *[begin, begin, dock] * 6, settle):
        with suppress(UnderlayError):
            event(world, dice)
    planned = 0
    for turn in range(TURNS):
        event = dice.choice(EVENTS)
        snapshot = planner.observe()
        with suppress(UnderlayError):  # what was spoilt may be in the way
            event(world, dice)
        if dice.random() < 0.3:  # while a pass is under way
            planner.plan(snapshot)
        joined = dice.choice([None, ()])
        remembered = planner.steps(joined)
        expected = without_memory(planner).steps(joined)
        assert list(map(str, remembered)) == list(map(str, expected)), (turn, event)
        planned += bool(remembered)
    assert planned > TURNS / 20


@pytest.fixture(params=["routed-with-host", "bridge"])
def world(request, records):
    found = World(records, WORLDS[request.param])
    found.settle()
    return found


def plans(planner):
    """Return what is planned without a look into sandboxes: now, and by others."""
    return planner.steps(()), without_memory(planner).steps(())


def test_endpoint_that_ended_during_a_pass_is_not_remembered_as_wanted(world):
    """If the kernel refuses to delete its device, a pass has to."""
    planner = world.engine.reconciler.planner
    snapshot = planner.observe()
    with world.engine.records.transaction():
        world.engine.records.endpoints.remove("n1", "e1")
    planner.plan(snapshot)
    remembered, expected = plans(planner)
    assert expected
    assert remembered == expected


def test_container_named_during_a_pass_is_not_remembered_as_without_a_name(world):
    """Docker tells the name a moment after the start, while a pass is under way."""
    planner, endpoints = world.engine.reconciler.planner, world.engine.records.endpoints
    snapshot = planner.observe()
    with world.engine.records.transaction():
        endpoints.name_container("e1", "web")
    seen = planner.plan(snapshot)
    remembered, expected = plans(planner)
    assert [step.object.name for step in expected] == ["ul-web"]
    assert seen == remembered == expected


def test_network_that_changes_during_a_plan_is_not_remembered_as_it_was(
    world, monkeypatch
):
    planner, networks = world.engine.reconciler.planner, world.engine.records.networks
    read, snapshot = networks.get, planner.observe()

    def change():
        known = read("n1")
        with world.engine.records.transaction():
            networks.move(replace(known, uplink=replace(known.uplink, mtu=9000)))

    def changed_after_reading(identity):
        found = read(identity)
        change()
        return found

    monkeypatch.setattr(networks, "get", changed_after_reading)
    planner.plan(snapshot)
    change()
    remembered, expected = plans(planner)
    assert expected
    assert remembered == expected
