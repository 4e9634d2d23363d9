"""When a pass begins after an event: soon, but not while Docker calls."""

from __future__ import annotations

import errno
import time

import pytest

from underlay.service.loop import Calls
from underlay.service.runtime import BackgroundThreads, _rules_job


@pytest.fixture
def now(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


@pytest.fixture
def threads():
    found = BackgroundThreads.__new__(BackgroundThreads)
    found.calls, found._is_urgent, found._parents = Calls(40), True, frozenset({"eth0"})
    return found


def settled(threads, now, calls=()):
    """Return after how long a pass begins, with calls of Docker at these moments."""
    woken = now[0]
    while (pause := threads._settle(now[0] - woken)) > 1e-6:
        now[0] += pause
        for _ in [c for c in calls if abs(now[0] - woken - c) < 0.026]:
            threads.calls.note()
    return round(now[0] - woken, 2)


def test_pass_begins_soon_after_an_urgent_event(threads, now):
    assert settled(threads, now) == 0.05


def test_pass_begins_later_after_events_of_other_programs(threads, now):
    threads._is_urgent = False
    assert settled(threads, now) == 1.0


@pytest.mark.usefixtures("now")
def test_urgent_event_shortens_the_wait_of_others(threads):
    threads._is_urgent = False
    assert threads._settle(0.3) == 0.05
    threads._is_urgent = True
    assert threads._settle(0.35) <= 0


def test_pass_waits_until_docker_has_not_called_for_a_while(threads, now):
    threads.calls.note()
    assert settled(threads, now, calls=[0.1, 0.15]) == pytest.approx(0.25, abs=0.06)


def test_pass_begins_within_a_second_while_docker_keeps_calling(threads, now):
    calls = [n / 20 for n in range(200)]
    assert settled(threads, now, calls) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize(
    ("device", "is_urgent"),
    [("eth0", True), ("ul-0123456789ab", True), ("veth1", False)],
)
def test_events_of_parents_and_of_the_driver_s_devices_are_urgent(
    threads, device, is_urgent
):
    assert threads._is_concerned(device) is is_urgent


def test_events_of_all_devices_are_urgent_while_a_parent_is_missing(threads):
    threads._parents = None
    assert threads._is_concerned("veth1")


def test_storm_of_events_costs_a_pass_each_quarter_second(threads, now):
    assert threads._least(0.1) == pytest.approx(0.15)
    threads.calls.note()
    now[0] += 5
    assert threads._least(0.1) == pytest.approx(0.15)


def test_pass_after_a_call_of_docker_does_not_wait_for_the_last_pass(threads, now):
    """It announces the container that was started again."""
    threads.calls.note()
    now[0] += 0.1
    assert threads._least(0.15) == 0


def test_list_of_rules_that_fails_late_takes_no_larger_share_of_the_time(now):
    class Hanging:
        def update(self):
            now[0] += 3.0
            raise TimeoutError(errno.ETIMEDOUT, "nft does not end")

    job = _rules_job(Hanging(), 30.0)
    with pytest.raises(TimeoutError):
        job._job()
    assert job._least(3.0) == pytest.approx(27.0)
