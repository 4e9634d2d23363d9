"""Refusals and deaths at every step of every verb: one pass always mends."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.disks import unwritable
from tests.fakes import Clock, Death, FakeKernel, engine_on
from tests.worlds import DEVICE, LAN, WEB, agree
from underlay.errors import KernelRefused, RecordsUnwritable, UnderlayError
from underlay.model import Endpoint
from underlay.model.objects import Link, Owner
from underlay.records import Records

SECOND = replace(WEB, id="e2", ipv4=None)


def life(engine):
    """Every verb that touches the kernel, in the order of two containers' life."""
    return [
        lambda: engine.create_network(LAN),
        lambda: engine.create_endpoint(WEB),
        lambda: engine.create_endpoint(SECOND),
        lambda: engine.delete_endpoint("n1", "e1"),
        engine.reconcile,
        lambda: engine.delete_network("n1"),
        engine.reconcile,
    ]


STEPS = range(1, 5)  # what the life above takes; a test below counts them


def test_endpoint_lifecycle_takes_as_many_steps_as_are_made_to_fail(records):
    kernel = FakeKernel()
    for verb in life(engine_on(records, kernel)):
        verb()
    assert kernel.steps == max(STEPS)


@pytest.mark.parametrize("moment", ["refuse_at", "refuse_after"])
@pytest.mark.parametrize("step", STEPS)
def test_refusal_at_any_step_is_reported_and_leaves_nothing_behind(
    records, step, moment
):
    kernel = FakeKernel()
    setattr(kernel, moment, step)
    engine = engine_on(records, kernel)
    for verb in life(engine):
        before, built = engine.records.endpoints.all(), dict(kernel.links)
        try:
            verb()
        except KernelRefused as error:
            assert "ip link" in str(error)
            assert engine.records.endpoints.all() == before
            assert kernel.links == built  # without waiting for a pass
    assert kernel.steps >= step
    agree(engine)


@pytest.mark.parametrize("moment", ["die_before", "die_half_way", "die_after"])
@pytest.mark.parametrize("step", STEPS)
def test_process_death_at_any_step_leaves_only_surplus_that_a_pass_removes(
    tmp_path, moment, step
):
    path = tmp_path / "underlay.db"
    kernel = FakeKernel()
    setattr(kernel, moment, step)
    records = Records(path)
    died_in = None
    for number, verb in enumerate(life(engine_on(records, kernel))):
        try:
            verb()
        except Death:
            died_in = number
            break
    deletes = (3, 4)  # the steps that delete do nothing half-way
    assert died_in is not None or (moment == "die_half_way" and step in deletes)
    records.close()
    records = Records(path)
    on_record = {e.id for e in records.endpoints.all()}
    # Docker was told of what is on record, or it was being taken away.
    if died_in == 1:
        assert on_record == set()
    if died_in == 2:
        assert on_record == {"e1"}
    agree(engine_on(records, kernel))
    records.close()


def test_pass_reconciles_each_owner_inside_the_transaction(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    for verb in life(engine)[:2]:
        verb()
    kernel.links.clear()
    seen = []
    carry_out = kernel.apply

    def apply(step):
        seen.append(records._database._db.in_transaction)
        carry_out(step)

    kernel.apply = apply
    engine.reconcile()
    assert seen == [True]


def test_full_disk_stops_no_teardown(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    for verb in life(engine)[:2]:
        verb()
    with unwritable(records):
        engine.leave("e1")
        engine.delete_endpoint("n1", "e1")
    assert kernel.links == {}


def test_deleted_or_replaced_records_are_not_written_to(records):
    engine = engine_on(records, FakeKernel())
    engine.create_network(LAN)
    kept = records.path.rename(records.path.with_suffix(".away"))
    with pytest.raises(RecordsUnwritable):
        engine.create_endpoint(WEB)
    records.path.write_bytes(b"another file")
    with pytest.raises(RecordsUnwritable, match="another file has taken its place"):
        engine.create_endpoint(WEB)
    records.path.unlink()
    kept.rename(records.path)
    engine.create_endpoint(WEB)


def test_step_refused_by_the_kernel_is_noted_without_blocking_others(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    for verb in life(engine)[:3]:
        verb()
    kernel.links.clear()
    kernel.refuse_at = kernel.steps + 1
    failed = engine.reconcile()
    assert len(failed) == 1
    assert len(kernel.links) == 1
    engine.clock.now += 60
    kernel.links.clear()
    kernel.refuse_at = kernel.steps + 1
    engine.reconcile()
    (failure,) = records.repairs.failures()
    assert failure.since == engine.clock.now - 60
    assert failure.text.startswith("E-400 the kernel refused `ip link add")
    agree(engine)


def test_pass_never_touches_devices_docker_moves(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    for verb in life(engine)[:2]:
        verb()
    engine.join("n1", "e1", "/run/a")
    del kernel.links[DEVICE]  # moved into the sandbox
    assert engine.preview() == ()
    engine.leave("e1")
    assert engine.preview() == ()


def test_pass_never_deletes_newly_created_devices(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    engine.create_network(LAN)
    look = kernel.observe

    def look_while_docker_calls(names=None):
        seen = look(names)
        kernel.observe = look
        engine.create_endpoint(WEB)
        return seen

    kernel.observe = look_while_docker_calls
    assert engine.reconcile() == []
    assert DEVICE in kernel.links
    agree(engine)


def test_pass_for_one_network_leaves_the_others_alone(records):
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    engine.create_network(LAN)
    engine.create_network(replace(LAN, id="n2"))
    engine.create_endpoint(WEB)
    engine.create_endpoint(replace(WEB, id="e2", network="n2", ipv4=None))
    kernel.links.clear()
    engine.reconcile("n2")
    assert list(kernel.links) == [Owner("n2", "e2").device]


def test_marked_link_without_an_owner_is_removed(records):
    kernel = FakeKernel()
    owner = Owner("gone", "gone")
    kernel.links["ul-x"] = Link("ul-x", "macvlan", owner, parent="eth0")
    kernel.links["ul-y"] = Link("ul-y", "macvlan", None, parent="eth0")
    engine = engine_on(records, kernel)
    assert engine.reconcile() == []
    assert kernel.links == {}


class Moody(FakeKernel):
    """Refuses and dies by the dice, until it is calm."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.moody = True

    def apply(self, step):
        mood = self.rng.random() if self.moody else 1.0
        if mood < 0.10:
            raise KernelRefused(step=step, why="refused before", hint="")
        self.die_half_way = self.steps + 1 if mood < 0.14 else None
        super().apply(step)
        if mood < 0.20:
            raise KernelRefused(step=step, why="refused after", hint="")
        if mood < 0.25:
            raise Death

    def calm(self):
        super().calm()
        self.moody = False


@pytest.mark.parametrize("seed", range(60))
def test_random_sequence_of_verbs_ends_with_one_pass_and_an_empty_plan(tmp_path, seed):
    rng = random.Random(seed)
    kernel = Moody(rng)
    records = Records(tmp_path / "underlay.db")
    for _ in range(60):
        engine = engine_on(records, kernel)
        network, endpoint = rng.choice("ab"), rng.choice("uvwxyz")
        verb = rng.choice(
            [
                lambda n=network: engine.create_network(replace(LAN, id=n)),
                lambda n=network, e=endpoint: engine.create_endpoint(Endpoint(e, n)),
                lambda n=network, e=endpoint: engine.create_endpoint(Endpoint(e, n)),
                lambda n=network, e=endpoint: engine.join(n, e, "/run/a"),
                lambda e=endpoint: engine.leave(e),
                lambda n=network, e=endpoint: engine.delete_endpoint(n, e),
                lambda n=network: engine.delete_network(n),
                engine.reconcile,
            ]
        )
        try:
            verb()
        except UnderlayError:
            continue
        except Death:
            records.close()
            records = Records(tmp_path / "underlay.db")
    joined = {e.id for e in records.endpoints.all() if e.sandbox}
    for name, link in list(kernel.links.items()):
        if link.owner and link.owner.endpoint in joined:
            del kernel.links[name]  # in a sandbox, out of sight
    agree(engine_on(records, kernel))
    records.close()


def test_failed_endpoint_that_is_gone_is_not_retried(records):
    clock = Clock()
    engine = engine_on(records, FakeKernel(), clock)
    engine.create_network(LAN)
    engine.create_endpoint(WEB)
    engine.kernel.links.clear()
    engine.kernel.refuse_at = engine.kernel.steps + 1

    def go_round():
        clock.now += 10.0
        return engine.reconciler.run_pass(frozenset(), clock.now, lambda _: None)

    assert go_round() is not None
    engine.delete_endpoint("n1", "e1")
    assert go_round() is None
