"""A planner that remembers the last host plans what one without a memory plans."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.worlds import MODES, ROOM, WAYS, World
from underlay.errors import UnderlayError
from underlay.model import Endpoint
from underlay.model.objects import Link, Neighbour, Owner, Route
from underlay.reconcile.planner import Planner

WORLDS = {**MODES, **{f"{name}-with-host": o for name, o in WAYS.items()}}
TURNS = 120


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
    elif room := kernel.rooms.get(ROOM):
        kernel.lose(ROOM, dice.choice(list(room)))


def spoil(world, dice):
    """Change a link, or where a route leads."""
    kernel = world.kernel
    links = [*kernel.links.items()]
    routes = [o for o in kernel.others.values() if isinstance(o, Route)]
    if links and dice.random() < 0.7:
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
    four = IPv4Interface(f"10.0.0.{number}/24")
    six = IPv6Interface(f"fd00::{number:x}/64")
    endpoint = Endpoint(f"x{number}", "n1", four, six, created=world.time())
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
            world.engine.records.endpoints.remove("n1", dice.choice(found).id)


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


def repair(world, dice):
    """Let a pass have its turn, which remembers a host without differences."""
    del dice
    world.engine.reconcile()


EVENTS = [vanish, spoil, intrude, begin, end, take_in, repair, repair]


@pytest.mark.parametrize("mode", WORLDS)
@pytest.mark.parametrize("seed", range(4))
def test_plan_from_memory_is_the_plan_without_one(records, mode, seed):
    world, dice = World(records, WORLDS[mode]), random.Random(seed)
    planner = world.engine.reconciler.planner
    planned = 0
    for turn in range(TURNS):
        event = dice.choice(EVENTS)
        with suppress(UnderlayError):  # what was spoilt may be in the way
            event(world, dice)
        joined = dice.choice([None, ()])
        remembered = planner.steps(joined)
        expected = without_memory(planner).steps(joined)
        assert list(map(str, remembered)) == list(map(str, expected)), (turn, event)
        planned += bool(remembered)
    assert planned > TURNS / 10
