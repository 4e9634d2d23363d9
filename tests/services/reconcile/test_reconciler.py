"""Repair inside sandboxes on a kernel in memory: every refusal, every death."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    ip_address,
    ip_network,
)
from itertools import pairwise

import pytest

from tests.fakes import BR0, ETH0, Clock, Death, engine_on
from tests.worlds import (
    FOUR,
    GATEWAY4,
    MODES,
    ROOM,
    World,
    nowhere,
    take,
    take_addresses,
    take_device,
)
from underlay.errors import KernelRefused, NoParent
from underlay.model import Device, Endpoint
from underlay.model.objects import Address, Link, Owner, Route
from underlay.model.steps import Create
from underlay.reconcile.repair_log import RepairLog
from underlay.reconcile.sandbox_state import LOST_SECONDS
from underlay.reconcile.scheduling import (
    A_FEW,
    PLACEHOLDER_SECONDS,
    REPAIR_SECONDS,
    REPAIRS,
    SECOND_LOOK_SECONDS,
)
from underlay.records import Records


@pytest.fixture(params=MODES)
def world(request, records):
    return World(records, MODES[request.param])


def take_routes(world):
    take(world, Route)


def spoil_link(world):
    room = world.kernel.rooms[ROOM]
    room["eth0"] = replace(room["eth0"], up=False, mtu=1300)


WAYS = ["die_before", "die_after", "refuse_at", "refuse_after"]
HARMS = [take_device, take_addresses, take_routes, spoil_link]


@pytest.mark.parametrize("harm", HARMS)
def test_objects_removed_from_a_sandbox_are_restored_by_a_pass(world, harm):
    before = world.dump()
    harm(world)
    assert world.dump() != before or harm is spoil_link
    world.settle()
    assert world.dump() == before
    assert world.kernel.rooms[ROOM]["eth0"].mtu == 1500
    told = world.engine.records.repairs.latest(20)
    assert told
    assert {t.mark for t in told} == {Owner("n1", "e1").mark}
    assert not any(t.error for t in told)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(
    "way", ["die_before", "die_after", "refuse_at", "refuse_after"]
)
def test_refusal_or_death_at_any_step_is_repaired_by_the_next_pass(world, harm, way):
    before = world.dump()
    kernel = world.kernel
    for step in range(1, 50):
        harm(world)
        world.time.now += 400.0  # nothing waits from the time before
        kernel.steps = 0
        setattr(kernel, way, step)
        reached = True
        try:
            world.look()
            world.time.now += SECOND_LOOK_SECONDS
            world.look()
            reached = kernel.steps >= step
        except Death:
            # What starts again has no memory.
            world.engine = engine_on(world.engine.records, kernel, world.time)
        kernel.calm()
        world.settle()
        assert world.dump() == before, step
        if not reached:
            return
    raise AssertionError("no end of steps")


def test_changed_sandboxes_are_repaired_before_the_host_is_observed(world):
    before, seen = world.dump(), []
    look = world.kernel.observe

    def noting(names=None):
        if names is None:
            seen.append(world.dump())
        return look(names)

    world.kernel.observe = noting
    take_addresses(world)
    assert world.dump() != before
    world.look(ROOM)
    assert seen[0] == before


def test_repair_log_records_place_object_and_state_before_and_after(records):
    world = World(records, MODES["macvlan"])
    records.endpoints.name_container("e1", "web")
    records.networks.rename("n1", "lan")
    spoil_link(world)
    world.time.now += 2.0
    world.engine.reconciler.run_pass(frozenset({ROOM}), world.time() - 0.5, nowhere)
    (told,) = records.repairs.latest(9)
    assert (told.container, told.network, told.place) == ("web", "lan", ROOM)
    assert "mtu 1300" in told.before
    assert told.step.startswith(f"nsenter --net={ROOM} ip link set eth0")
    assert (told.seconds, told.error) == (0.5, "")


def test_repair_is_made_though_it_cannot_be_logged(records):
    world = World(records, MODES["macvlan"])
    before = world.dump()
    take_device(world)
    records._database.run("PRAGMA query_only = ON")  # a disk gone read-only
    world.look()
    assert world.dump() == before
    records._database.run("PRAGMA query_only = OFF")
    assert records.repairs.latest(9) == []


def test_device_returned_to_the_host_by_docker_is_not_expected_in_the_sandbox(world):
    take_device(world)
    name = Owner("n1", "e1").device
    kind = {"routed": "veth", "bridge": "veth"}.get(world.network.id, "macvlan")
    world.kernel.links[name] = Link(name, kind, Owner("n1", "e1"))
    world.look("", ROOM)
    world.time.now += 60
    world.look("", ROOM)
    assert world.kernel.rooms[ROOM] == {}
    assert name in world.kernel.links


def test_sandbox_is_not_touched_before_docker_has_finished(records):
    world = World(records, MODES["macvlan"], docked=False)
    asked = Endpoint("e1", "n1", IPv4Interface("10.0.0.5/24"), created=world.time())
    world.engine.create_endpoint(asked)
    attachment = world.engine.join("n1", "e1", ROOM)
    world.kernel.dock(attachment.device, ROOM, "eth0")  # no address yet
    for _ in range(3):
        world.look("", ROOM)
    assert records.endpoints.get("e1").learned is None
    assert world.kernel.others == {}


def test_device_lost_before_the_first_observation_is_made_again(world):
    before = world.dump()
    lose_unlearnt(world)
    take_device(world)
    world.look("", ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]
    world.time.now += LOST_SECONDS + 1
    world.settle()
    assert world.dump() == before


def lose_unlearnt(world, *devices):
    records = world.engine.records
    with records.transaction():
        for endpoint in records.endpoints.of_network("n1"):
            records.endpoints.cancel_leave(endpoint.id)
    for device in devices:
        world.kernel.lose(ROOM, device)


def test_two_devices_lost_in_one_sandbox_get_distinct_names(records):
    world = World(records, MODES["macvlan"])
    other = Endpoint("e2", "n1", IPv4Interface("10.0.0.6/24"), created=world.time())
    other = world.engine.create_endpoint(other)
    world.attachment = world.engine.join("n1", "e2", ROOM)
    world.kernel.dock(world.attachment.device, ROOM, "eth1")
    lose_unlearnt(world, "eth0", "eth1")
    world.look("", ROOM)
    world.time.now += LOST_SECONDS
    world.settle()
    assert world.kernel.rooms[ROOM].keys() == {"eth0", "eth1"}


def test_repair_off_assumes_no_sandbox_state(records):
    world = World(records, {**MODES["macvlan"], "repair": "off"})
    lose_unlearnt(world, "eth0")
    for _ in range(3):
        assert world.look("", ROOM) in (None, LOST_SECONDS)
        world.time.now += LOST_SECONDS + 1
    assert records.endpoints.get("e1").learned is None


def test_device_being_moved_is_not_considered_lost(records):
    world = World(records, MODES["macvlan"], docked=False)
    four, six = IPv4Interface("10.0.0.5/24"), IPv6Interface("fd00::5/64")
    known = world.engine.create_endpoint(Endpoint("e1", "n1", four, six))
    world.attachment = world.engine.join("n1", "e1", ROOM)
    world.kernel.sandboxes.add(ROOM)
    for _ in range(3):
        world.time.now += LOST_SECONDS + 1
        world.look("", ROOM)
    assert world.kernel.rooms.get(ROOM, {}) == {}
    world.dock(known)
    world.look()
    assert world.kernel.rooms[ROOM].keys() == {"eth0"}


def test_sandbox_is_not_touched_once_docker_takes_the_device_back(world):
    world.engine.leave("e1")
    take_device(world)
    world.look("", ROOM)
    world.time.now += 60
    world.look("", ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]


def test_missing_sandbox_is_not_touched(world):
    world.kernel.sandboxes.clear()
    take_device(world)
    world.look("", ROOM)
    assert "eth0" not in world.kernel.rooms[ROOM]


def test_repair_off_leaves_the_sandbox_alone_per_network_or_endpoint(records):
    world = World(records, {**MODES["macvlan"], "repair": "off"})
    take_device(world)
    world.time.now += 60
    world.look("", ROOM)
    assert world.kernel.rooms[ROOM] == {}
    assert world.engine.preview() == ()


def test_default_route_is_given_time_to_move_and_then_restored(records):
    world = World(records, MODES["macvlan"])
    before = world.dump()
    key = Route(ip_network("0.0.0.0/0"), "eth0", 0, sandbox=ROOM).key
    world.kernel.others.pop(key)
    assert world.look() == pytest.approx(SECOND_LOOK_SECONDS)
    assert key not in world.kernel.others
    world.time.now += SECOND_LOOK_SECONDS
    world.look()
    assert world.dump() == before


def test_second_check_is_on_time_with_many_containers(records):
    world = World(records, MODES["macvlan"])
    for number in range(3 * A_FEW):
        other = Endpoint(f"a{number}", "n1", created=world.time())
        world.engine.create_endpoint(other)
        attachment = world.engine.join("n1", other.id, f"/run/{other.id}")
        way = Route(ip_network("0.0.0.0/0"), "eth0", 0, via=GATEWAY4)
        world.kernel.dock(attachment.device, f"/run/{other.id}", "eth0", way)
    world.settle()
    key = Route(ip_network("0.0.0.0/0"), "eth0", 0, sandbox=ROOM).key
    world.kernel.others.pop(key)
    world.look()
    for _ in range(2):
        assert key not in world.kernel.others
        world.time.now += SECOND_LOOK_SECONDS * 0.6
        world.look("/run/a0")
    assert key in world.kernel.others


def test_default_route_moved_to_another_device_is_not_restored(records):
    world = World(records, MODES["macvlan"])
    ours = Route(ip_network("0.0.0.0/0"), "eth0", 0, sandbox=ROOM)
    other = Route(ip_network("0.0.0.0/0"), "eth1", 0, sandbox=ROOM)
    world.kernel.others[ours.key] = other
    world.look()
    assert records.endpoints.get("e1").learned.default_families == (6,)
    world.kernel.others.pop(ours.key)
    world.time.now += 60
    world.look()
    assert ours.key not in world.kernel.others


def test_constantly_changing_host_does_not_cause_constant_retries(records, monkeypatch):
    world = World(records, MODES["routed"])
    tries = []

    def refuse(step):
        tries.append(world.time())
        raise KernelRefused(step=step, why="File exists", hint="")

    take_device(world)
    # The kernel makes a pair, and takes it back: each try is a change of the host.
    with monkeypatch.context() as patched:
        patched.setattr(world.kernel, "apply", refuse)
        while len(tries) < 2 or world.time() < tries[0] + 200:
            again = world.look("", ROOM)
            world.time.now += min(again or 0.25, 0.25)
    gaps = [b - a for a, b in pairwise(tries)]
    assert gaps[0] < 2
    assert 18 < gaps[-1] < 20
    # The same refusal again and again is entered once.
    assert len(records.repairs.latest(10_000)) == 1
    # And when it can be helped, that does not take as long as if nothing had changed.
    world.time.now += 20
    world.look("")
    assert "eth0" in world.kernel.rooms[ROOM]


def test_refusal_is_logged_also_when_it_affects_another_container(records):
    clock = Clock()
    repair_log = RepairLog(records, clock, clock)
    steps = [Create(Route(ip_network(f"10.{n}.0.0/24"), "x", 1)) for n in range(2)]

    def refused(*which):
        for n in which:
            repair_log.add(Owner("n1", "e1"), steps[n], f"refused {n}")
        repair_log.finish(Owner("n1", "e1"), f"refused {which[0]}" if which else "")
        repair_log.write()
        return [r.error for r in records.repairs.latest(10)][::-1]

    assert refused(0) == ["refused 0"]
    assert refused(0, 1) == refused(0, 1) == ["refused 0", "refused 1"]
    # That it was right in between is news as well.
    refused()
    assert refused(0) == ["refused 0", "refused 1", "refused 0"]


def test_failed_repairs_back_off_exponentially_without_blocking_others(records):
    world = World(records, MODES["macvlan"])
    other = Endpoint("e2", "n1", IPv4Interface("10.0.0.6/24"), created=world.time())
    world.engine.create_endpoint(other)
    attachment = world.engine.join("n1", "e2", "/run/other")
    given = [
        Address(other.ipv4, "eth0"),
        Route(FOUR, "eth0", 0, source=other.ipv4.ip, connected=True),
        Route(ip_network("0.0.0.0/0"), "eth0", 0, via=GATEWAY4),
    ]
    world.kernel.dock(attachment.device, "/run/other", "eth0", *given)
    world.look("/run/other")
    # A stranger has the name: the device cannot be made.
    take_device(world)
    world.kernel.rooms[ROOM]["eth0"] = Link("eth0", "dummy", Owner("no", "body"))
    tries = []
    for _ in range(2000):
        before = world.kernel.steps
        again = world.look(ROOM)
        if world.kernel.steps > before:
            tries.append(world.time())
        world.time.now += min(again or 1.0, 1.0)
    gaps = [b - a for a, b in pairwise(tries)]
    assert gaps[0] < 3
    assert gaps[-1] >= 300
    assert gaps == sorted(gaps)
    (failure,) = records.repairs.failures()
    assert failure.mark == Owner("n1", "e1").mark
    world.kernel.lose("/run/other", "eth0")
    world.look("/run/other")
    assert "eth0" in world.kernel.rooms["/run/other"]
    # Something has changed in the host: soon is soon enough.
    del world.kernel.rooms[ROOM]["eth0"]
    world.time.now += 1.0
    world.look("")
    world.look("", ROOM)
    assert "eth0" in world.kernel.rooms[ROOM]
    assert records.repairs.failures() == []


def test_repeatedly_reverted_repairs_are_rate_limited(records):
    world = World(records, MODES["macvlan"])
    before, began, repairs = world.dump(), world.time(), 0
    while world.time() < began + 120:
        take_addresses(world)
        again = world.look(ROOM)
        repairs += world.dump() == before
        world.time.now += min(again or 0.25, 0.25)
    assert REPAIRS < repairs <= REPAIRS + 120 / REPAIR_SECONDS
    (failure,) = records.repairs.failures()
    assert failure.text.startswith("E-403")
    # That program has ended: all is well, and what comes then is repaired at once.
    world.time.now += REPAIR_SECONDS
    world.settle()
    assert world.dump() == before
    assert records.repairs.failures() == []
    world.time.now += 2 * REPAIR_SECONDS
    take_addresses(world)
    world.look(ROOM)
    assert world.dump() == before


def test_veth_is_repaired_whole_and_counted_once(records):
    world = World(records, MODES["routed"])
    before = world.dump()
    for _ in range(REPAIRS):
        take_device(world)
        world.look("", ROOM)
        assert world.dump() == before
        world.time.now += 0.25
    assert records.repairs.failures() == []
    take_device(world)
    for _ in range(50):  # of a rate, too
        world.look(ROOM)
        assert world.dump() == before or "eth0" not in world.kernel.rooms[ROOM]
        world.time.now += 0.25


def test_refusal_inside_a_sandbox_delays_nothing_in_the_host(records):
    world = World(records, MODES["routed"])
    apply = world.kernel.apply

    def host_part():
        found = world.kernel.others.items()
        return {k for k, o in found if not getattr(o, "sandbox", "")}

    def refuse(step):
        o = step.object
        if isinstance(o, Address) and o.sandbox and o.interface.version == 6:
            raise KernelRefused(step=step, why="Permission denied", hint="")
        apply(step)

    before = host_part()
    world.kernel.apply = refuse
    take_device(world)
    world.look("", ROOM)
    assert host_part() == before


def test_rate_limited_container_is_reported_throughout(records):
    world = World(records, MODES["macvlan"])
    while not records.repairs.failures():
        take_addresses(world)
        world.look(ROOM)
        world.time.now += 0.25
    world.look(ROOM)  # what the repair itself has changed
    world.time.now += REPAIR_SECONDS / 2
    take_addresses(world)
    world.look(ROOM)
    assert world.engine.preview() != ()
    assert records.repairs.failures() != []


def test_new_endpoints_and_recreated_devices_are_announced(records):
    world = World(records, MODES["macvlan"])
    announcer = world.engine.reconciler.announcer
    announcer.send_due()
    both = frozenset({ip_address("10.0.0.5"), ip_address("fd00::5")})
    assert world.kernel.announced == [(ROOM, "eth0", both)]
    for pause in (1.0, 2.0, 4.0):
        world.time.now += pause
        announcer.send_due()
    assert len(world.kernel.announced) == 4
    take_device(world)
    world.look()
    announcer.send_due()
    assert len(world.kernel.announced) == 5
    spoil_link(world)
    world.look()
    announcer.send_due()
    assert len(world.kernel.announced) == 5


def test_unwatched_segment_gets_no_announcements(records):
    world = World(records, MODES["routed"])
    world.engine.reconciler.announcer.send_due()
    assert world.kernel.announced == []


# --- parents ---


def lose_parent(world):
    del world.kernel.strangers["eth0"]
    if ROOM in world.kernel.rooms:
        take_device(world)
    world.kernel.links.clear()


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "vlan"])
def test_missing_parent_is_replaced_by_a_placeholder_until_it_returns(records, mode):
    world = World(records, MODES[mode])
    before = world.dump()
    lose_parent(world)
    world.look("")
    assert "52:54:00:00:00:01" in records.networks.get("n1").uplink.parent_missing
    world.look(ROOM)
    assert world.kernel.rooms[ROOM] == {}
    world.time.now += PLACEHOLDER_SECONDS
    world.look()
    assert world.kernel.rooms[ROOM]["eth0"].kind == "veth"
    assert world.engine.preview() == ()
    world.kernel.strangers["eth0"] = ETH0
    world.settle()
    assert records.networks.get("n1").uplink.parent_missing == ""
    assert world.dump() == before


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "vlan", "bridge", "takeover"])
def test_container_starts_without_its_parent_and_ends_without_leftovers(records, mode):
    world = World(records, MODES[mode], docked=False)
    world.kernel.links.clear()
    world.kernel.strangers.clear()
    world.start("10.0.0.5/24", "fd00::5/64")
    assert world.kernel.rooms[ROOM]["eth0"].kind == "veth"
    assert records.networks.get("n1").uplink.parent_missing
    world.kernel.strangers.update({"eth0": ETH0, "br0": BR0})
    world.settle()
    kinds = {"ipvlan": "ipvlan", "bridge": "veth", "takeover": "veth"}
    assert world.kernel.rooms[ROOM]["eth0"].kind == kinds.get(mode, "macvlan")
    # Docker moves it back, by the name it knows.
    world.engine.leave("e1")
    link = world.kernel.rooms[ROOM].pop("eth0")
    name = Owner("n1", "e1").device
    world.kernel.links[name] = replace(link, name=name, sandbox="")
    world.engine.delete_endpoint("n1", "e1")
    world.engine.delete_network("n1")
    assert world.kernel.links == {}


def test_container_that_does_not_wait_is_refused_per_network_or_endpoint(records):
    world = World(records, MODES["macvlan"], docked=False)
    world.kernel.strangers.clear()
    asked = Endpoint("e1", "n1", options={"missing_parent": "fail"})
    with pytest.raises(NoParent, match="'eth0'"):
        world.engine.create_endpoint(asked)
    assert records.endpoints.all() == []


def renamed(world, old, new):
    """Rename a device of the host; what stands on it follows."""
    strangers = world.kernel.strangers
    strangers[new] = replace(strangers.pop(old), name=new)
    for links in (world.kernel.links, *world.kernel.rooms.values()):
        for name, link in links.items():
            if link.parent == old:
                links[name] = replace(link, parent=new)


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "vlan"])
def test_renamed_parent_is_followed_without_recreating_anything(records, mode):
    world = World(records, MODES[mode])
    renamed(world, "eth0", "lan0")
    world.look("")
    steps = world.kernel.steps
    world.settle()
    assert world.kernel.steps == steps
    assert records.networks.get("n1").uplink.base_device.name == "lan0"
    take_device(world)
    world.settle()
    assert world.kernel.rooms[ROOM]["eth0"]


def test_parents_that_swap_names_are_not_confused(records):
    world = World(records, MODES["macvlan"])
    other = Device("eth1", "", "52:54:00:00:00:02", 1500)
    world.kernel.strangers["eth1"] = other
    renamed(world, "eth0", "tmp")
    renamed(world, "eth1", "eth0")
    renamed(world, "tmp", "eth1")
    world.settle()
    assert records.networks.get("n1").uplink.parent == "eth1"


def test_bridge_with_the_parent_s_mac_is_not_taken_for_it(records):
    world = World(records, MODES["bridge"])
    gone = world.kernel.strangers.pop("br0")
    world.kernel.strangers["br50"] = replace(gone, name="br50")
    world.look("")
    known = records.networks.get("n1").uplink
    assert (known.parent, bool(known.parent_missing)) == ("br0", True)


def test_replacement_parent_is_found_by_its_name(records):
    world = World(records, MODES["macvlan"])
    lose_parent(world)
    world.kernel.strangers["eth0"] = replace(ETH0, mac="52:54:00:00:00:77")
    world.settle()
    assert records.networks.get("n1").uplink.base_device.mac == "52:54:00:00:00:77"
    assert world.kernel.rooms[ROOM]["eth0"].parent == "eth0"


def test_device_details_are_remembered_by_a_restarted_service(records, tmp_path):
    world = World(records, MODES["macvlan"])
    take_device(world)
    again = Records(tmp_path / "underlay.db")
    engine = engine_on(again, world.kernel, world.time)
    engine.reconciler.run_pass(None, world.time(), nowhere)
    assert "eth0" in world.kernel.rooms[ROOM]
    again.close()


@pytest.mark.parametrize("mode", ["bridge", "takeover"])
def test_container_waiting_on_a_veth_is_announced_when_it_is_a_port(records, mode):
    world = World(records, MODES[mode], docked=False)
    world.kernel.links.clear()
    world.kernel.strangers.clear()
    world.start("10.0.0.5/24", "fd00::5/64")
    announcer = world.engine.reconciler.announcer
    for _ in range(9):
        announcer.send_due()
        world.time.now += 9
    world.kernel.announced.clear()
    world.kernel.strangers.update({"eth0": ETH0, "br0": BR0})
    world.settle()
    announcer.send_due()
    both = frozenset({ip_address("10.0.0.5"), ip_address("fd00::5")})
    assert world.kernel.announced == [(ROOM, "eth0", both)]


def test_foreign_route_by_a_device_with_the_container_s_name_is_kept(world):
    theirs = Route(ip_network("192.0.2.0/24"), "eth0", 0)
    world.kernel.others[theirs.key] = theirs
    world.look("", ROOM)
    assert theirs.key in world.kernel.others
    assert world.engine.preview() == ()
