"""Shims and their filters: nft may hang, so it runs while nothing waits to write."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.fakes import FakeKernel
from tests.worlds import HERE, MACVLAN, WAYS, life, parts
from underlay.errors import KernelRefused
from underlay.model.objects import ForwardAccept, Link, NftChain, Owner
from underlay.model.steps import Create, Delete, is_by_program

SHIM = Owner.parse("underlay::shim/eth0")
ASKED = {"host_access": "on"}
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
    if options is WAYS["routed"]:
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
    engine.records.endpoints.remove("n1", "e1")
    assert engine.reconcile() == []
    assert not kernel.links
    assert filters(kernel) == set()


def is_chain(kind):
    return lambda step: isinstance(step, kind) and isinstance(step.object, NftChain)


@pytest.mark.parametrize("options", [MACVLAN, MACVLAN | ASKED], ids=["", "asked for"])
def test_last_leaving_container_removes_nothing_the_next_one_needs(
    path, kernel, options
):
    """Nor does a pass that finds the shim of a start which is not on record yet."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, options)
    for verb in verbs[:3]:
        verb()

    def leave():
        verbs[4]()
        engine.reconcile()

    at_end = engine.records.check_there

    def late():
        engine.records.check_there = at_end
        with ThreadPoolExecutor(1) as others:
            others.submit(leave).result(10)

    engine.records.check_there = late
    verbs[3]()
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    assert engine.preview() == ()


@pytest.mark.parametrize("kind", [Create, Delete])
def test_start_waits_for_shim_filters_that_are_made_or_deleted(path, kernel, kind):
    """By a pass, or by the last that leaves: it is up with its own or not at all."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN | ASKED)
    for verb in verbs[:3]:
        verb()
    apply, starts = kernel.apply, []

    def overtaken(step):
        if is_chain(kind)(step) and not starts:
            starts.append(threading.Thread(target=verbs[3]))
            starts[0].start()
            starts[0].join(0.3)
        apply(step)

    kernel.apply = overtaken
    if kind is Create:
        lose(kernel)
        assert engine.reconcile() == []
    else:
        verbs[4]()
    starts[0].join(10)
    assert kernel.links[SHIM.device].up
    assert len(filters(kernel)) == 2
    assert engine.preview() == ()


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_refused_start_leaves_no_unneeded_shim(path, kernel, nth, beside):
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN | ASKED)
    for verb in verbs[:3] if beside else [verbs[0], verbs[2]]:
        verb()
    kernel.refuse_after = kernel.steps + nth
    try:
        verbs[3]()
    except KernelRefused:
        kernel.calm()
        assert (SHIM.device in kernel.links) == beside
        assert len(filters(kernel)) == (2 if beside else 0)
        assert engine.preview() == ()


def test_a_shim_whose_filters_cannot_be_made_stays_down(path, kernel):
    """Where it is asked for by name, the start is refused; else it comes later."""
    engine, ipam = parts(path, kernel)
    verbs = life(engine, ipam, MACVLAN)
    verbs[0]()
    apply = kernel.apply

    def hanging(step):
        if is_by_program(step):
            raise KernelRefused(step=step, why="nft did not end in 3 s", hint="")
        apply(step)

    kernel.apply = hanging
    verbs[1]()
    assert not kernel.links[SHIM.device].up
    assert [s for s in engine.reconcile() if isinstance(s.object, NftChain)]
    assert not kernel.links[SHIM.device].up
    kernel.apply = apply
    assert engine.reconcile() == []
    assert kernel.links[SHIM.device].up
    kernel.apply = apply
    verbs[4]()
    kernel.apply = hanging
    named = life(engine, ipam, MACVLAN | ASKED)
    named[2]()
    with pytest.raises(KernelRefused, match="nft did not end"):
        named[3]()
    assert not any(isinstance(o, Link) and o.up and not o.peer and o.owner == SHIM
                   for o in kernel.links.values())  # fmt: skip


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
