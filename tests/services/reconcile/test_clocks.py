"""The clock on the wall set a day back and forth between two looks."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from tests.fakes import Clock, FakeKernel, engine_on, ipam_on
from tests.worlds import MODES, ROOM, World, take_device, view
from underlay.docker_sync.cleanup import Cleanup
from underlay.errors import AddressTaken
from underlay.ipam.driver import CREATING_SECONDS, LATE_SECONDS
from underlay.kernel.clock import since_boot
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Route
from underlay.networks.driver import LISTED_SECONDS, STARTING_SECONDS
from underlay.reconcile.sandbox_state import LOST_SECONDS
from underlay.reconcile.scheduling import PLACEHOLDER_SECONDS, REPAIR_SECONDS, REPAIRS

DAY = 86400.0


class Adrift(World):
    """A world with a clock on the wall that is set, and one that goes on."""

    def __init__(self, records, options, step, **more):
        self.wall, self.step = Clock(), step
        super().__init__(records, options, **more)
        boot = Clock(1000.0)
        self.engine = engine_on(records, self.kernel, self.wall, boot)
        self.ipam = ipam_on(records, self.wall, self.kernel, boot)
        self.time = boot

    def look(self, *stirred):
        self.wall.now += self.step
        return super().look(*stirred)


STEPS = pytest.mark.parametrize("step", [-DAY, DAY], ids=["back", "forth"])


@STEPS
def test_second_check_comes_when_it_is_due(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.look("", ROOM)
    before = world.dump()
    route = next(
        o for o in world.kernel.others.values() if isinstance(o, Route) and o.via
    )
    world.kernel.others.pop(route.key)
    pause = world.look("", ROOM)
    assert route.key not in world.kernel.others
    assert pause <= 1.0
    world.time.now += pause + 0.01
    world.look("", ROOM)
    assert world.dump() == before


@STEPS
def test_placeholder_device_takes_two_seconds_and_no_less(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.look("", ROOM)
    world.kernel.strangers.pop("eth0")
    take_device(world)
    world.look("", ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    assert world.look("", ROOM) <= PLACEHOLDER_SECONDS
    assert "eth0" not in world.kernel.rooms[ROOM]
    world.time.now += PLACEHOLDER_SECONDS
    world.look("", ROOM)
    assert world.kernel.rooms[ROOM]["eth0"].kind == "veth"


@STEPS
def test_refused_step_is_retried_when_it_is_due(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.look("", ROOM)
    take_device(world)
    world.kernel.refuse_at = world.kernel.steps + 1
    pause = world.look(ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    assert 0 < pause <= 1.0
    world.look(ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    world.time.now += pause
    world.look(ROOM)
    assert "eth0" in world.kernel.rooms[ROOM]


@STEPS
def test_repair_rate_limit_slows_repairs_without_stopping_them(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.look("", ROOM)
    for _ in range(REPAIRS + 1):
        take_device(world)
        world.look(ROOM)
    take_device(world)
    world.look(ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    world.time.now += REPAIR_SECONDS
    world.look(ROOM)
    assert "eth0" in world.kernel.rooms[ROOM]


@STEPS
def test_device_lost_before_the_first_observation_is_made_when_due(records, step):
    world = Adrift(records, MODES["macvlan"], step, docked=False)
    asked = Endpoint("e1", "n1", ip_interface("10.0.0.5/24"))
    device = world.engine.create_endpoint(asked)
    world.attachment = world.engine.join("n1", "e1", ROOM)
    world.dock(device)
    take_device(world)
    assert world.look("", ROOM) <= LOST_SECONDS
    world.look("", ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    world.time.now += LOST_SECONDS
    world.look("", ROOM)
    assert "eth0" in world.kernel.rooms[ROOM]


@STEPS
def test_repair_duration_is_measured_by_the_monotonic_clock(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.look("", ROOM)
    take_device(world)
    noticed = world.time.now
    world.time.now += 0.5
    world.wall.now += step
    world.engine.reconciler.run_pass(frozenset({ROOM}), noticed, lambda _: None)
    told = records.repairs.latest(9)
    assert {repair.seconds for repair in told} == {0.5}
    assert {repair.at for repair in told} == {world.wall.now}  # what is shown


def test_announcements_use_the_monotonic_clock(records):
    boot = Clock(1000.0)
    engine = engine_on(records, FakeKernel(), Clock(), boot)
    assert engine.reconciler.announcer.clock is boot


@STEPS
def test_dead_endpoints_are_distinguished_from_starting_ones_by_elapsed_time(
    records, step
):
    kernel, wall, boot = FakeKernel(), Clock(), Clock(1000.0)
    engine = engine_on(records, kernel, wall, boot)
    engine.create_network(Network("n1", MODES["macvlan"]))
    engine.create_endpoint(Endpoint("e1", "n1"))
    engine.join("n1", "e1", ROOM)  # no sandbox yet, the device is in the host
    wall.now += step
    with records.transaction():
        assert not engine.remove_dead_endpoint("e1")
    boot.now += STARTING_SECONDS
    wall.now -= 2 * step
    with records.transaction():
        assert engine.remove_dead_endpoint("e1")


@STEPS
def test_time_for_docker_to_list_an_endpoint_is_elapsed_time(records, step):
    world = Adrift(records, MODES["macvlan"], step)
    world.engine.create_endpoint(Endpoint("e2", "n1"))
    world.engine.join("n1", "e2", ROOM)
    cleanup = Cleanup(
        records=records, kernel=world.kernel, engine=world.engine, ipam=world.ipam,
        observer=world.engine.reconciler.observer,
        clock=world.wall, monotonic=world.time, grace=60.0, history_days=1.0,
    )  # fmt: skip
    world.wall.now += step
    cleanup.note_listed(view())
    observer = world.engine.reconciler.observer
    # An earlier process made e1: no view is older than that.
    assert observer.not_listed_by_docker == {"e1"}
    world.time.now += LISTED_SECONDS
    world.wall.now -= step
    cleanup.note_listed(view())
    assert observer.not_listed_by_docker == {"e1", "e2"}


@STEPS
def test_network_creation_grace_is_elapsed_time(records, step):
    wall, boot = Clock(), Clock(1000.0)
    ipam = ipam_on(records, wall, None, boot)
    first, second, third = (
        ipam.request_pool("10.0.0.0/24", "", {}, 4).id for _ in range(3)
    )
    segment = Subnet(
        ip_network("10.0.0.0/24"), None, (ip_address("10.0.0.9"),), pooled=True
    )
    ipam.request_address(first, "10.0.0.9", "")
    engine = engine_on(records, FakeKernel(), wall, boot)
    engine.create_network(Network("n1", MODES["macvlan"], subnets=(segment,)))
    wall.now += step
    ipam.request_address(second, "10.0.0.9", "")  # an aux address of both
    boot.now += CREATING_SECONDS
    wall.now -= 2 * step
    with pytest.raises(AddressTaken):
        ipam.request_address(third, "10.0.0.9", "")


@STEPS
def test_late_release_window_is_elapsed_time(records, step):
    wall, boot = Clock(), Clock(1000.0)
    ipam = ipam_on(records, wall, None, boot)
    claim = ipam.request_pool("10.0.0.0/24", "", {}, 4).id

    def live():
        pool = records.pools.claim(claim).pool.id
        return records.leases.live(pool, ip_address("10.0.0.5"))

    ipam.request_address(claim, "10.0.0.5", "")
    ipam._expect_late_release(live()[0])
    wall.now += step
    boot.now += LATE_SECONDS / 2
    ipam.release_address(claim, "10.0.0.5")
    assert live()  # that was for the endpoint that had it before
    ipam._expect_late_release(live()[0])
    boot.now += LATE_SECONDS
    wall.now -= 2 * step
    ipam.release_address(claim, "10.0.0.5")
    assert not live()


def test_monotonic_clock_continues_and_starts_at_boot():
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(since_boot() - uptime) < 5
