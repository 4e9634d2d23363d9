"""What Docker ends while nothing can be written: it holds, and is written later."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tests.disks import WAYS, small_disk, unwritable
from tests.fakes import Clock, FakeKernel, engine_on, ipam_on
from tests.worlds import FOUR, GATEWAY4, MODES, ROOM, World, take_device, view
from underlay.api import status
from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.recovery import Recovery
from underlay.errors import RecordsUnwritable
from underlay.model import Device, Endpoint, Network
from underlay.model.docker import DockerEndpoint, DockerNetwork
from underlay.model.objects import Owner
from underlay.networks.forwarding import is_door
from underlay.records import Records


@pytest.fixture(params=MODES)
def world(request, records):
    return World(records, MODES[request.param])


def back_to_host(world):
    """Do as Docker does between Leave and DeleteEndpoint."""
    link = world.kernel.rooms[ROOM]["eth0"]
    others = dict(world.kernel.others)
    world.kernel.lose(ROOM, "eth0")
    assert others.keys() >= world.kernel.others.keys()
    device = Owner("n1", "e1").device
    world.kernel.links[device] = replace(link, name=device, sandbox="", up=False)


def disconnect(world):
    world.engine.leave("e1")
    back_to_host(world)
    world.engine.delete_endpoint("n1", "e1")


def pass_by(world, times=6):
    for _ in range(times):
        world.look("", ROOM)
        world.time.now += 60


def there(world):
    """Return what there is in the host and in the sandbox, but settings.

    Nor what keeps others from being routed: that stays until it is on record that
    forwarding was put back.
    """
    links = {*world.kernel.links, *world.kernel.rooms[ROOM]}
    return links, {k for k, o in world.kernel.others.items() if not is_door(o)}


@pytest.mark.parametrize("way", WAYS)
def test_disconnected_container_stays_disconnected_on_a_full_disk(world, way):
    records = world.engine.records
    with unwritable(records, way):
        disconnect(world)
        for _ in range(6):
            try:
                world.look("", ROOM)
            except RecordsUnwritable:
                assert way == "held"  # then nothing touches the kernel
            world.time.now += 60
        assert "eth0" not in world.kernel.rooms[ROOM]
        assert Owner("n1", "e1").device not in world.kernel.links
        if way != "held":  # nothing that others share was touched then
            assert world.engine.preview() == ()
        assert status.status(records)["endpoints"] == []
        unwritten = there(world)
    assert records.endings.all() == [("Leave", "e1"), ("DeleteEndpoint", "n1", "e1")]
    assert "E-5" in records.endings.why
    pass_by(world)
    assert (records.endings.all(), records.endings.why) == ([], "")
    assert records.endpoints.all() == []
    if way != "held":
        assert there(world) == unwritten
    again = Records(records.path)
    assert again.endpoints.all() == []
    again.close()


@pytest.mark.parametrize("way", WAYS)
def test_endpoint_that_left_is_not_restored_before_its_deletion_is_written(world, way):
    with unwritable(world.engine.records, way):
        world.engine.leave("e1")
        world.kernel.lose(ROOM, "eth0")
        [found] = world.engine.records.endpoints.all()
        assert found.left
        assert world.engine.records.endpoints.leaving() == [found]
        assert world.engine.records.endpoints.joined() == []
        if way != "held":
            pass_by(world)
        assert "eth0" not in world.kernel.rooms[ROOM]
    pass_by(world)
    assert "eth0" not in world.kernel.rooms[ROOM]
    [found] = world.engine.records.endpoints.all()
    assert found.left


@pytest.mark.parametrize("way", WAYS)
def test_deferred_teardown_succeeds_and_is_written_first(records, way):
    world = World(records, MODES["routed"])
    claims, address = list(world.made), str(world.given[0].ip)
    with unwritable(records, way):
        disconnect(world)
        for claim, given in zip(claims, world.given, strict=True):
            world.ipam.release_address(claim, str(given.ip))
        world.engine.delete_network("n1")
        world.ipam.release_address(claims[0], str(GATEWAY4))
        for claim in claims:
            world.ipam.release_pool(claim)
            world.ipam.release_pool(claim)  # Docker repeats what it got no answer to
        assert records.networks.all() == []
        assert world.kernel.links == {}
        with pytest.raises(RecordsUnwritable):
            world.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    assert len(records.endings.all()) == 2 + 2 + 1 + 1 + 2
    claim = world.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    assert records.endings.all() == []
    assert records.pools.claim(claims[0]) is None
    assert [p.subnet for p in records.pools.all()] == [FOUR]
    assert world.ipam.request_address(claim, address, "").ip == world.given[0].ip


def test_bug_in_one_deferred_teardown_does_not_block_the_others(records, caplog):
    world = World(records, MODES["macvlan"])
    with unwritable(records):
        disconnect(world)
        world.engine.delete_network("n1")

    def fail(*_):
        raise ZeroDivisionError

    records.endings.by("Leave", fail)
    pass_by(world)
    assert records.endings.all() == []
    assert records.networks.all() == []
    errors = [r.msg for r in caplog.records if r.levelno == logging.ERROR]
    assert errors == ["internal error"]


def test_address_is_free_as_soon_as_its_teardown_is_written(records):
    world = World(records, MODES["routed"])
    claim, address = world.made[0], str(world.given[0].ip)
    with unwritable(records):
        disconnect(world)
        world.ipam.release_address(claim, address)
    assert str(world.ipam.request_address(claim, address, "").ip) == address


def test_teardown_lost_with_the_process_is_found_from_docker_s_list(tmp_path):
    path = tmp_path / "underlay.db"
    records = Records(path)
    world = World(records, MODES["macvlan"])
    with unwritable(records):
        disconnect(world)
    records.close()
    records = Records(path)  # another process, which does not know of it
    try:
        world.engine = engine_on(records, world.kernel, world.time)
        recovery = recovery_on(world)
        cleanup = cleanup_on(world)
        world.time.now += 600
        with unwritable(records):
            recovery.begin()
            pass_by(world)
            assert not recovery.do_without()  # dockerd does not answer
            pass_by(world)
            assert "eth0" not in world.kernel.rooms[ROOM]
            assert cleanup.note_listed(view(docker_network()))
            assert not cleanup.note_listed(view(docker_network()))
            pass_by(world)
            assert "eth0" not in world.kernel.rooms[ROOM]
        recovery.snapshot()
        pass_by(world)
        assert "eth0" not in world.kernel.rooms[ROOM]
    finally:
        records.close()


def docker_network(*endpoints):
    return DockerNetwork(
        id="n1", name="lan", domain="", ip_networks=(), ours=True,
        options=MODES["macvlan"], subnets=(), ranges=(), endpoints=endpoints,
    )  # fmt: skip


def recovery_on(world):
    reconciler = world.engine.reconciler
    return Recovery(
        world.engine.records, world.kernel, world.engine, reconciler.parents,
        reconciler.observer, world.time, lambda _: {},
        world.engine.parts.recovery.dhcp,
    )  # fmt: skip


def cleanup_on(world):
    records = world.engine.records
    ipam = ipam_on(records, world.time, world.kernel)
    return Cleanup(
        records=records, kernel=world.kernel, engine=world.engine, ipam=ipam,
        observer=world.engine.reconciler.observer,
        clock=world.time, monotonic=world.time, grace=60.0, history_days=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("answers", [True, False])
def test_starting_service_repairs_sandboxes_once_it_asked_docker(records, answers):
    world = World(records, MODES["macvlan"])
    recovery = recovery_on(world)
    recovery.begin()
    take_device(world)
    pass_by(world)
    assert "eth0" not in world.kernel.rooms[ROOM]
    if answers:
        listed = DockerEndpoint("e1", "c-web", "web", "", ())
        assert cleanup_on(world).note_listed(view(docker_network(listed)))
    else:
        assert recovery.do_without()  # so a pass looks everywhere once more
        assert not recovery.do_without()
    pass_by(world)
    assert "eth0" in world.kernel.rooms[ROOM]


def test_cleanup_continues_on_a_full_disk(records):
    world = World(records, MODES["macvlan"])
    cleanup = cleanup_on(world)
    world.time.now += 600
    with unwritable(records):
        for _ in range(3):
            cleanup.run(view(docker_network()))
            world.time.now += 100
        # In its sandbox it lives, so it is not freed, but it is not repaired either.
        assert not world.engine.reconciler.observer.is_listed(
            records.endpoints.get("e1")
        )
        world.kernel.lose(ROOM, "eth0")
        for _ in range(3):
            cleanup.run(view(docker_network()))
            world.time.now += 100
        assert records.endpoints.all() == []
    pass_by(world)
    assert records.endpoints.all() == []


def test_unwritable_teardown_is_logged_once_however_many_passes_run(records, caplog):
    world = World(records, MODES["macvlan"])
    with unwritable(records), caplog.at_level(logging.INFO):
        # Something to note in each pass: a new MAC of the parent, and a repair.
        mac = "52:54:00:00:00:77"
        world.kernel.strangers["eth0"] = Device("eth0", "", mac, 1500)
        for _ in range(5):
            take_device(world)
            pass_by(world, 1)
        assert "eth0" in world.kernel.rooms[ROOM]
    said = [
        (r.msg, getattr(r, "part", ""), getattr(r, "parent", ""))
        for r in caplog.records
        if r.levelno >= logging.WARNING
    ]
    assert len(said) == len(set(said)), said
    failed = {
        part for msg, part, _ in said if msg == "part of a job failed, continuing"
    }
    assert failed >= {"parents", "the repair log"}


def test_parent_moved_under_a_vlan_blocks_no_other_repair(records):
    kernel, time = FakeKernel(), Clock()
    engine = engine_on(records, kernel, time)
    for number, parent in enumerate(("eth0.50", "eth0")):
        options = {"parent": parent, "host_access": "off"}
        engine.create_network(Network(f"n{number}", options))
        engine.create_endpoint(Endpoint(f"e{number}", f"n{number}"))
    device = kernel.strangers.pop("eth0")
    kernel.strangers["lan0"] = replace(device, name="lan0")
    for link in list(kernel.links):
        kernel.links.pop(link)
    with unwritable(records, "read-only"):
        engine.reconcile()
        engine.reconcile()  # raised RecordsUnwritable for all of them
    kernel.strangers["eth0"] = kernel.strangers.pop("lan0")
    engine.reconcile()
    assert {Owner("n0", "e0").device, Owner("n1", "e1").device} <= set(kernel.links)


def test_teardown_on_a_real_full_disk_succeeds(tmp_path):
    with small_disk(tmp_path / "disk") as (fill, make_room):
        records = Records(tmp_path / "disk" / "underlay.db")
        world = World(records, MODES["routed"])
        claim = world.made[0]
        fill()
        with pytest.raises(RecordsUnwritable, match="full"):
            world.ipam.request_pool("10.9.0.0/24", "", {}, 4)
        disconnect(world)
        world.ipam.release_address(claim, str(world.given[0].ip))
        pass_by(world)
        assert "eth0" not in world.kernel.rooms[ROOM]
        assert records.endpoints.all() == []
        assert len(records.endings.all()) == 3
        other = Records(records.path, readonly=True)
        assert [e.id for e in other.endpoints.all()] == ["e1"]
        other.endings.take_over_from(records.endings.all())  # as the command line does
        assert other.endpoints.all() == []
        other.endings.take_over_from([])
        assert [e.id for e in other.endpoints.all()] == ["e1"]
        other.close()
        make_room()
        pass_by(world)
        assert records.endings.all() == []
        records.close()
        records = Records(tmp_path / "disk" / "underlay.db", verify=True)
        assert records.endpoints.all() == []
        records.close()
