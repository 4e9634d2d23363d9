"""Names of devices: what Join answers, what passes add and keep."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_network

import pytest

from tests.fakes import Clock, FakeKernel, engine_on
from tests.worlds import LAN, MODES, ROOM, WEB, World, take, take_device
from underlay.errors import BadValue
from underlay.model import Subnet
from underlay.model.objects import AltName, Owner
from underlay.reconcile.new_names import NewNames

OWNER = Owner("n1", "e1")
DMZ = replace(
    LAN, id="n2", subnets=(Subnet(ip_network("10.1.0.0/24"), None),),
)  # fmt: skip
OTHER = replace(WEB, id="e2", network="n2", ipv4=IPv4Interface("10.1.0.5/24"))


def named(found, name):
    return replace(found, options={**found.options, "ifname": name})


@pytest.fixture(params=["macvlan", "routed"])
def world(request, records):
    return World(records, {**MODES[request.param], "ifname": "uplink"})


def altnames(world):
    return {o.name for o in world.kernel.others.values() if isinstance(o, AltName)}


@pytest.mark.parametrize(
    ("first", "second", "answers"),
    [
        ("lan0", "lan1", [("lan", "lan0"), ("lan", "lan1")]),
        ("lan1", "lan0", [("eth", "lan1"), ("eth", "lan0")]),
        ("lan0", "lan0", [("lan", "lan0"), ("eth", "")]),
        ("", "lan0", [("eth", ""), ("lan", "lan0")]),
        ("uplink", "", [("eth", "uplink"), ("eth", "")]),
    ],
)
def test_join_answers_the_names_of_a_containers_devices(
    records, first, second, answers
):
    time = Clock()
    engine = engine_on(records, FakeKernel(), time)
    found = []
    for network, endpoint, name in ((LAN, WEB, first), (DMZ, OTHER, second)):
        engine.create_network(network)
        engine.create_endpoint(named(endpoint, name))
        time.now += 1
        answer = engine.join(network.id, endpoint.id, ROOM)
        found.append((answer.prefix, answer.name))
    assert found == answers


def test_observed_name_of_another_device_decides(records):
    """A name that Docker gave otherwise than expected: an older engine counts on."""
    engine = engine_on(records, FakeKernel())
    for network, endpoint in ((LAN, WEB), (DMZ, OTHER)):
        engine.create_network(network)
        engine.create_endpoint(named(endpoint, f"lan{network.id == 'n2':d}"))
    engine.join("n1", "e1", ROOM)
    kernel = engine.kernel
    kernel.dock(OWNER.device, ROOM, "lan7")
    engine.reconciler.run_pass(frozenset({ROOM}), 0.0, lambda _: None)
    engine.reconciler.observer.monotonic.now += 60.0
    engine.reconciler.run_pass(frozenset({ROOM}), 0.0, lambda _: None)
    assert engine.records.endpoints.get("e1").learned.device == "lan7"
    assert engine.join("n2", "e2", ROOM).prefix == "eth"


def test_lost_device_is_assumed_under_the_answered_name(records):
    world = World(records, {**MODES["macvlan"], "ifname": "lan0"}, docked=False)
    made = world.engine.create_endpoint(
        replace(WEB, created=world.time()),
    )
    world.engine.join("n1", made.id, ROOM)
    world.kernel.sandboxes.add(ROOM)
    world.kernel.links.pop(OWNER.device)
    world.look()
    world.time.now += 10.0
    world.settle()
    assert list(world.kernel.rooms[ROOM]) == ["lan0"]


def test_alternative_name_is_given_and_kept(world):
    world.settle()
    assert altnames(world) == {"uplink"}
    before = world.dump()
    for harm in (lambda w: take(w, AltName), take_device):
        harm(world)
        assert altnames(world) == set()
        world.settle()
        assert world.dump() == before


def test_name_is_no_repair_unless_it_is_refused(world):
    take(world, AltName)
    world.settle()
    assert world.engine.records.repairs.latest(9) == []
    take(world, AltName)
    world.kernel.steps, world.kernel.refuse_at = 0, 1
    world.look()
    (entry,) = world.engine.records.repairs.latest(9)
    assert "altname uplink" in entry.step
    world.kernel.calm()
    world.time.now += 400.0
    world.settle()
    assert not world.engine.records.repairs.failures()
    assert altnames(world) == {"uplink"}


def test_name_in_use_is_left_out_and_said_once(world, caplog):
    take(world, AltName)
    world.kernel.taken_names = {"uplink"}
    for _ in range(3):
        world.settle()
    assert altnames(world) == set()
    said = [r for r in caplog.records if "in use" in r.message]
    assert [r.altname for r in said] == ["uplink"]
    world.kernel.taken_names = set()
    world.settle()
    assert altnames(world) == {"uplink"}


def test_leave_takes_the_alternative_name_back(world):
    world.settle()
    world.engine.leave("e1")
    assert altnames(world) == set()
    world.look("", ROOM)
    assert altnames(world) == set()


def test_leave_succeeds_though_the_name_cannot_be_removed(world):
    world.settle()
    world.kernel.steps, world.kernel.refuse_at = 0, 1
    world.engine.leave("e1")
    world.kernel.calm()
    assert world.engine.records.endpoints.get("e1").left


def test_nothing_is_named_where_repair_is_off(records):
    world = World(records, {**MODES["macvlan"], "ifname": "uplink", "repair": "off"})
    world.settle()
    assert altnames(world) == set()


def test_refused_name_leaves_no_network_and_no_endpoint(records):
    engine = engine_on(records, FakeKernel())
    with pytest.raises(BadValue):
        engine.create_network(named(LAN, "a/b"))
    engine.create_network(LAN)
    with pytest.raises(BadValue):
        engine.create_endpoint(named(WEB, "all"))
    assert engine.records.endpoints.all() == []
    assert len(engine.records.networks.all()) == 1


def called(world, name):
    with world.engine.records.transaction():
        world.engine.records.endpoints.name_container("e1", name)


@pytest.fixture(params=["bridge", "routed"])
def in_host(request, records):
    found = World(records, MODES[request.param])
    found.settle()
    return found


def test_host_device_is_called_like_its_container_when_docker_told_the_name(in_host):
    assert altnames(in_host) == set()
    for name in ("web", "api_2.x-1"):
        called(in_host, name)
        in_host.settle()
        (found,) = (o for o in in_host.kernel.others.values() if isinstance(o, AltName))
        assert (found.name, found.device) == (f"ul-{name}", OWNER.host_end.device)
        assert found.sandbox == ""
    assert in_host.engine.records.repairs.latest(9) == []
    take_device(in_host)
    assert altnames(in_host) == set()
    in_host.settle()
    assert altnames(in_host) == {"ul-api_2.x-1"}


@pytest.mark.parametrize(
    "name", ["0123456789ab", "a/b", "a b", "a:b", "-a", "x" * 125, "ü"]
)
def test_host_device_has_no_name_that_means_another_or_is_none(in_host, name):
    """Twelve hex digits are what a device of the service has after its prefix."""
    called(in_host, name)
    in_host.settle()
    assert altnames(in_host) == set()
    assert not in_host.engine.records.repairs.failures()
    called(in_host, "x" * 124)
    in_host.settle()
    assert {len(n) for n in altnames(in_host)} == {127}


def test_device_inside_the_container_only_has_no_name_in_the_host(records):
    world = World(records, MODES["macvlan"])
    called(world, "web")
    world.settle()
    assert altnames(world) == set()


def test_start_waits_for_no_name(records):
    """Newer engines tell the name before the start: a pass gives it all the same."""
    world = World(records, MODES["bridge"], docked=False)
    world.engine.create_endpoint(replace(WEB, container="web"))
    assert altnames(world) == set()
    world.engine.create_endpoint(replace(WEB, container="web"))  # Docker's retry
    assert altnames(world) == set()
    world.look("")
    assert altnames(world) == {"ul-web"}
    world.engine.leave("e1")
    world.engine.delete_endpoint("n1", "e1")
    assert altnames(world) == set()


def test_name_of_a_device_that_is_about_to_go_is_waited_for_in_silence(in_host, caplog):
    in_host.kernel.taken_names = {"ul-web"}
    called(in_host, "web")
    in_host.look("")
    assert not any("in use" in r.message for r in caplog.records)
    in_host.kernel.taken_names = set()
    in_host.settle()
    assert altnames(in_host) == {"ul-web"}
    in_host.kernel.taken_names = {"ul-api"}
    called(in_host, "api")
    for _ in range(4):
        in_host.look("")
    assert [r.altname for r in caplog.records if "in use" in r.message] == ["ul-api"]


def test_kernel_is_asked_about_missing_names_only(in_host):
    called(in_host, "web")
    in_host.settle()
    asked = []
    in_host.kernel.lacking_names = lambda names: asked.append(names) or frozenset()
    for _ in range(3):
        in_host.look("", ROOM)
    assert asked == []


def test_new_names_are_told_once_where_devices_of_the_host_get_them(records):
    world = World(records, MODES["routed"])
    names = NewNames(records)
    assert not names.places()
    called(world, "web")
    assert [names.places(), names.places()] == [{""}, set()]
    called(world, "api")
    assert [names.places(), names.places()] == [{""}, set()]


def test_names_are_no_news_where_no_device_of_the_host_gets_one(records):
    world = World(records, MODES["macvlan"])
    called(world, "web")
    assert not NewNames(records).places()
