"""Shims and their filters: nft may hang, so it runs while nothing waits to write."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from tests.fakes import FakeKernel
from tests.worlds import (
    HERE,
    IPVLAN,
    MACVLAN,
    ROUTED,
    WAYS,
    life,
    network,
    parts,
    steps_of,
)
from underlay.errors import KernelRefused, MixedChildTypes
from underlay.model import Device
from underlay.model.objects import ForwardAccept, NftChain, Owner
from underlay.model.steps import Create, Delete, is_by_program
from underlay.reconcile.scheduling import REPAIRS

SHIM = Owner.parse("underlay::shim/eth0")
ASKED = {"host_access": "on"}
SHIM_50 = Owner.parse(f"underlay::shim/{Owner.parse('underlay::eth0.50').device}")
VLAN = {"parent": "eth0", "vlan": "50"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "underlay.db"


@pytest.fixture
def kernel():
    found = FakeKernel()
    found.host_addresses = {
        "eth0": HERE,
        "eth0.50": HERE,
        Owner.parse("underlay::eth0.50").device: HERE,
    }
    return found


def programs(kernel, engine):
    """Have programs fail the test while the lock is held; return what they did."""
    apply, lock, run = kernel.apply, engine.records._database._lock, []

    def is_free():
        taken = lock.acquire(blocking=False)
        if taken:
            lock.release()
        return taken

    def watching(step):
        if isinstance(step.object, ForwardAccept | NftChain):
            with ThreadPoolExecutor(1) as others:
                assert others.submit(is_free).result(), f"under the write lock: {step}"
            run.append(step)
        apply(step)

    kernel.apply = watching
    return run


def filters(kernel):
    """Return the netdev chains that are there."""
    chains = (o for o in kernel.others.values() if isinstance(o, NftChain))
    return {chain.name for chain in chains if chain.family == "netdev"}


def lose(kernel):
    """Take away what programs made, and the shim."""
    kernel.others = {
        k: o
        for k, o in kernel.others.items()
        if not isinstance(o, ForwardAccept | NftChain)
    }
    kernel.links.pop(SHIM.device, None)


@pytest.mark.parametrize("lost", [False, True], ids=["at rest", "lost"])
@pytest.mark.parametrize(
    "options",
    [*WAYS.values(), MACVLAN | ASKED, VLAN],
    ids=[*WAYS, "asked for", "vlan"],
)
def test_no_mode_runs_a_program_under_the_write_lock(path, kernel, options, lost):
    if options.get("mode") == "routed":
        kernel.host_addresses = {}
    engine, ipam = parts(path, kernel)
    run = programs(kernel, engine)
    for verb in life(engine, ipam, options):
        verb()
        if lost:
            lose(kernel)
        assert engine.reconcile() == []
    if options.get("mode") != "ipvlan":
        assert {type(step) for step in run} >= {Create, Delete}
    assert filters(kernel) == set()
    assert not kernel.links


def test_pass_that_removes_or_replaces_a_shim_runs_no_program_under_the_write_lock(
    path, kernel
):
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    programs(kernel, engine)
    engine.records.networks.remove("n1")
    assert engine.reconcile() == []
    assert not kernel.links
    assert filters(kernel) == set()


def test_first_network_beside_docker_s_bridge_leaves_nothing_to_repair(path, kernel):
    """Docker's bridge was made after the last look at the bridges, if there was one."""
    engine, ipam = parts(path, kernel)
    assert engine.reconcile() == []
    kernel.strangers["docker0"] = Device("docker0", "bridge", "02:00:00:00:00:01", 1500)
    life(engine, ipam, MACVLAN)[0]()
    chains = [o for o in kernel.others.values() if isinstance(o, NftChain)]
    assert f"nat-{SHIM.device}" in {chain.name for chain in chains}
    assert engine.reconcile() == []
    assert engine.records.repairs.latest(1) == []


@pytest.mark.parametrize("options", [MACVLAN, ROUTED], ids=["macvlan", "routed"])
def test_following_docker_s_bridges_is_no_repair_however_many(path, kernel, options):
    if options is ROUTED:
        kernel.host_addresses = {}
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, options)[:2]:
        verb()
    assert engine.reconcile() == []
    drift = []
    engine.reconciler.on_drift = drift.extend
    for _ in range(REPAIRS + 5):
        kernel.strangers["shop"] = SHOP
        assert engine.reconcile() == []
        assert naming("shop", kernel)
        del kernel.strangers["shop"]
        assert engine.reconcile() == []
        assert not naming("shop", kernel)
    assert engine.records.repairs.latest(1) == []
    assert engine.records.repairs.failures() == []
    assert drift == []
    kernel.strangers["shop"] = SHOP
    engine.reconcile()
    chain, *_ = naming("shop", kernel)
    del kernel.others[chain.key]
    engine.reconcile()
    (repair,) = engine.records.repairs.latest(9)
    assert chain.name in repair.step
    assert drift


def test_bridge_that_docker_makes_during_a_pass_is_no_repair_either(path, kernel):
    kernel.host_addresses = {}
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, ROUTED)[:2]:
        verb()
    assert engine.reconcile() == []
    look = kernel.container_bridges

    def look_too_early():
        found = look()
        kernel.strangers["shop"] = SHOP
        return found

    kernel.container_bridges = look_too_early
    engine.reconcile()
    assert naming("shop", kernel)
    assert engine.records.repairs.latest(1) == []


SHOP = Device("shop", "bridge", "02:00:00:00:00:01", 1500)


def naming(bridge, kernel):
    """Return the chains with a rule that names a bridge."""
    chains = [o for o in kernel.others.values() if isinstance(o, NftChain)]
    return [c for c in chains if any(f'"{bridge}"' in rule for rule in c.rules)]


def is_chain(kind):
    return lambda step: isinstance(step, kind) and isinstance(step.object, NftChain)


@pytest.mark.parametrize("options", [MACVLAN, MACVLAN | ASKED], ids=["", "asked for"])
def test_deleting_a_network_removes_nothing_the_next_one_needs(path, kernel, options):
    """Nor does a pass that finds the shim of a network which is not on record yet."""
    engine, ipam = parts(path, kernel)
    create, _, create_next, *_ = life(engine, ipam, options)
    create()

    def leave():
        engine.delete_network("n1")
        engine.reconcile()

    at_end = engine.records.check_there

    def late():
        engine.records.check_there = at_end
        with ThreadPoolExecutor(1) as others:
            others.submit(leave).result(10)

    engine.records.check_there = late
    create_next()
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    assert engine.preview() == ()


@pytest.mark.parametrize("kind", [Create, Delete])
def test_network_waits_for_shim_filters_that_are_made_or_deleted(path, kernel, kind):
    """By a pass, or with the last network: the shim is up with its own, or not."""
    engine, ipam = parts(path, kernel)
    create, _, create_next, *_ = life(engine, ipam, MACVLAN | ASKED)
    create()
    apply, starts = kernel.apply, []

    def overtaken(step):
        if is_chain(kind)(step) and not starts:
            starts.append(threading.Thread(target=create_next))
            starts[0].start()
            starts[0].join(0.3)
        apply(step)

    kernel.apply = overtaken
    if kind is Create:
        lose(kernel)
        assert engine.reconcile() == []
    else:
        engine.delete_network("n1")
    starts[0].join(10)
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    assert engine.preview() == ()


@pytest.mark.parametrize("options", [MACVLAN | ASKED, VLAN | ASKED], ids=["", "vlan"])
@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_refused_network_leaves_no_unneeded_shim(path, kernel, nth, beside, options):
    engine, ipam = parts(path, kernel)
    create, _, create_next, *_ = life(engine, ipam, options)
    if beside:
        create()
        engine.reconcile()  # the host gets its address on a VLAN once that is there
    before = set(kernel.links)
    kernel.refuse_after = kernel.steps + nth
    try:
        create_next()
    except KernelRefused:
        kernel.calm()
        assert set(kernel.links) == before
        assert len(filters(kernel)) == (2 if beside else 0)
        assert engine.preview() == ()


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "there"])
def test_refused_start_leaves_the_shim_to_its_network(path, kernel, nth, is_there):
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, MACVLAN | ASKED)
    create()
    if not is_there:
        lose(kernel)
    kernel.refuse_after = kernel.steps + nth
    with suppress(KernelRefused):
        start()
    kernel.calm()
    assert engine.reconcile() == []
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2


@pytest.mark.parametrize("options", [MACVLAN | ASKED, IPVLAN | ASKED, VLAN | ASKED])
def test_container_costs_no_program_and_no_step_on_the_shim(path, kernel, options):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, options)
    verbs[0]()
    engine.reconcile()
    held, exclusive = [], engine.records.exclusive

    def counted():
        held.append(1)
        return exclusive()

    engine.records.exclusive = counted
    steps = steps_of(kernel, verbs[1]) + steps_of(kernel, verbs[4])
    assert steps
    assert not any(map(is_by_program, steps))
    assert all(s.object.owner == Owner("n1", "e1") for s in steps if s.object.device)
    assert bool(held) == ("mode" in options)  # for the reverse path filter of ipvlan
    assert kernel.links[(SHIM_50 if "vlan" in options else SHIM).device].up


def test_container_that_starts_before_the_first_pass_finds_its_host(path, kernel):
    """After a reboot, also on a VLAN: it makes VLAN, shim and filters."""
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, VLAN | ASKED)
    create()
    engine.reconcile()
    kernel.links, kernel.others, kernel.settings = {}, {}, {}
    engine, _ = parts(path, kernel)
    start()
    assert kernel.links[SHIM_50.device].up
    assert len(filters(kernel)) == 2
    assert engine.preview() == ()


def test_shim_of_two_networks_goes_with_the_last_of_them(path, kernel):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN)
    verbs[0]()
    assert kernel.links[SHIM.device].up
    assert not any(is_by_program(step) for step in steps_of(kernel, verbs[2]))
    engine.delete_network("n1")
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    engine.delete_network("n2")
    assert kernel.links == {}
    assert filters(kernel) == set()


def test_shim_comes_and_goes_with_the_host_s_address_in_the_subnet(path, kernel):
    kernel.host_addresses = {"eth0": (ip_interface("192.0.2.9/24"),)}
    engine, ipam = parts(path, kernel)
    create, start, *_ = life(engine, ipam, MACVLAN | ASKED)
    create()
    start()
    assert SHIM.device not in kernel.links
    kernel.host_addresses = {"eth0": HERE}
    programs(kernel, engine)
    assert engine.reconcile() == []
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    kernel.host_addresses = {}
    assert engine.reconcile() == []
    assert SHIM.device not in kernel.links
    assert filters(kernel) == set()
    assert engine.preview() == ()


def test_network_of_another_kind_is_refused_before_a_shim_is_made(path, kernel):
    engine, ipam = parts(path, kernel)
    life(engine, ipam, MACVLAN)[0]()
    steps = kernel.steps
    with pytest.raises(MixedChildTypes):
        engine.create_network(network("n2", **IPVLAN, **ASKED))
    engine.delete_network("n1")
    engine.create_network(network("n1", **IPVLAN, **ASKED))
    assert kernel.links[SHIM.device].kind == "ipvlan"
    assert kernel.steps > steps
    with pytest.raises(MixedChildTypes):
        engine.create_network(network("n2", **MACVLAN, **ASKED))


def test_a_shim_whose_filters_cannot_be_made_stays_down(path, kernel):
    """Where it is asked for by name, the network is refused; else it comes later."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN)
    apply = kernel.apply

    def hanging(step):
        if is_by_program(step):
            raise KernelRefused(step=step, why="nft did not end in 3 s", hint="")
        apply(step)

    kernel.apply = hanging
    verbs[0]()
    assert not kernel.links[SHIM.device].up
    verbs[1]()
    assert not kernel.links[SHIM.device].up
    assert [s for s in engine.reconcile() if isinstance(s.object, NftChain)]
    assert not kernel.links[SHIM.device].up
    kernel.apply = apply
    assert engine.reconcile() == []
    assert kernel.links[SHIM.device].up
    verbs[4]()
    verbs[5]()
    kernel.apply = hanging
    with pytest.raises(KernelRefused, match="nft did not end"):
        life(engine, ipam, MACVLAN | ASKED)[2]()
    assert kernel.links == {}


def test_old_filter_is_made_again_on_a_shim_that_is_down(path, kernel):
    """It may have been bound to a device that is gone."""
    engine, ipam = parts(path, kernel)
    for verb in life(engine, ipam, MACVLAN)[:2]:
        verb()
    kernel.links[SHIM.device] = replace(kernel.links[SHIM.device], up=False)
    assert [type(s.object) for s in engine.preview()].count(NftChain) == 2
    engine, _ = parts(path, kernel)
    assert engine.reconcile() == []
    assert kernel.links[SHIM.device].up
