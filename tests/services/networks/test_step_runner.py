"""One place runs steps: what depends on a refused step is left out."""

from __future__ import annotations

import pytest

from underlay.errors import KernelRefused
from underlay.model.objects import Link, Owner
from underlay.model.steps import Amend, Create
from underlay.networks import bridge_takeover
from underlay.networks.step_runner import apply_all, run_steps

FIRST, SECOND = (Create(Link(f"ul-{n}", "dummy", Owner(n))) for n in ("n1", "n2"))
# Sets up the device that the first step creates.
DEPENDENT = Amend(FIRST.object, FIRST.object)


@pytest.fixture
def applied():
    return []


def refusing(refused, applied):
    def apply(step):
        if step == refused:
            raise KernelRefused(step=step, why="Device or resource busy", hint="")
        applied.append(step)

    return apply


def test_a_refused_step_stops_only_what_depends_on_it(applied):
    steps = FIRST, DEPENDENT, SECOND
    results = list(run_steps(steps, refusing(FIRST, applied)))
    assert [(r.step, bool(r.refusal)) for r in results] == [
        (FIRST, True),
        (SECOND, False),
    ]
    assert applied == [SECOND]


def test_step_that_depends_on_an_earlier_refusal_is_not_run(applied):
    run = run_steps((DEPENDENT, SECOND), applied.append, refused_before=[FIRST])
    assert [result.step for result in run] == applied == [SECOND]


def test_a_step_is_run_when_its_result_is_asked_for(applied):
    results = run_steps((FIRST, SECOND), applied.append)
    assert next(results).step == FIRST
    assert applied == [FIRST]


def test_a_step_that_may_not_wait_raises(applied):
    steps = FIRST, SECOND
    with pytest.raises(KernelRefused):
        apply_all(steps, refusing(FIRST, applied))
    assert applied == []
    apply_all(steps, refusing(FIRST, applied), may_wait=lambda step: step == FIRST)
    assert applied == [SECOND]


def test_the_table_of_take_over_states_is_the_one_in_the_docstring():
    lines = map(str.split, bridge_takeover.__doc__.splitlines())
    states = {"(none)": None, "trying": "trying", "on": "on", "back": "back"}
    events = {event for _, event in bridge_takeover.TRANSITIONS}
    told = {
        (states[words[0]], words[1]): states[words[2]]
        for words in lines
        if len(words) > 2 and words[1] in events
    }
    assert told == bridge_takeover.TRANSITIONS
