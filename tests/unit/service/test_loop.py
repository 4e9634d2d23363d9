"""The loop: a storm is one run, a bug is not the end."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

from underlay.service.loop import Calls, PeriodicJob


def running(job, least=0.0, settle=0.01, **times):
    given = {"period": 60.0, "settle": lambda waited: settle - waited, **times}
    loop = PeriodicJob(job, **given, least=lambda since: least - since)
    thread = threading.Thread(target=loop.run)
    thread.start()
    return loop, thread


def finish(loop, thread):
    loop.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()


def wait_for(runs, count):
    deadline = time.monotonic() + 30
    while len(runs) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_endless_event_storm_causes_a_run_at_intervals_only():
    runs = []
    loop, thread = running(lambda: runs.append(time.monotonic()), least=0.1)
    storm_ends = time.monotonic() + 30
    while len(runs) < 5:
        assert time.monotonic() < storm_ends
        loop.wake()
        time.sleep(0.00005)
    finish(loop, thread)
    assert all(later - earlier > 0.099 for earlier, later in pairwise(runs))


def test_missing_networks_are_requested_without_waiting_for_quiet():
    runs = []
    loop, thread = running(lambda: runs.append(1), settle=60.0)
    wait_for(runs, 1)
    loop.wake()
    loop.hurry()
    wait_for(runs, 2)
    loop.wake()
    finish(loop, thread)


def test_change_during_a_run_causes_another_run():
    runs = []

    def stir():
        runs.append(1)
        if len(runs) == 1:
            loop.wake()

    loop = PeriodicJob(
        stir, period=60.0, settle=lambda _: 0.0, least=lambda since: 0.05 - since
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    wait_for(runs, 2)
    finish(loop, thread)


def test_single_event_waits_briefly_and_not_for_the_next_period():
    runs = []
    loop, thread = running(lambda: runs.append(time.monotonic()), settle=0.1, least=1.5)
    time.sleep(1.6)
    woken = time.monotonic()
    loop.wake()
    wait_for(runs, 2)
    finish(loop, thread)
    assert 0.099 < runs[1] - woken < 1.4


def test_job_sets_the_latest_time_of_its_next_run():
    runs = []

    def hurry():
        runs.append(1)
        return 0.01 if len(runs) < 4 else None

    loop, thread = running(hurry)
    wait_for(runs, 4)
    time.sleep(0.1)
    finish(loop, thread)
    assert len(runs) == 4


def test_job_without_a_deadline_runs_every_period():
    runs = []

    def rest():
        runs.append(1)
        return 60.0

    loop, thread = running(rest, period=0.01)
    wait_for(runs, 4)
    finish(loop, thread)


def test_job_without_a_minimum_pause_gets_one():
    runs = []

    def hurry():
        runs.append(time.monotonic())
        return 0.0

    loop, thread = running(hurry, least=0.05)
    wait_for(runs, 4)
    finish(loop, thread)
    assert all(later - earlier > 0.049 for earlier, later in pairwise(runs))


def test_periodic_job_runs_at_start_and_every_period():
    runs = []
    loop, thread = running(lambda: runs.append(1), period=0.02)
    wait_for(runs, 4)
    finish(loop, thread)


def test_job_failure_is_logged_once_and_the_loop_continues(caplog):
    runs = []

    def fail():
        runs.append(1)
        raise OSError("no dockerd")

    loop, thread = running(fail, period=0.01)
    wait_for(runs, 4)
    finish(loop, thread)
    assert len([r for r in caplog.records if "job failed" in r.message]) == 1


def test_failed_job_is_retried_sooner_than_every_period():
    runs = []

    def fail_at_first():
        runs.append(1)
        if len(runs) < 3:
            raise OSError("no dockerd")

    loop, thread = running(fail_at_first, retry=0.02)
    wait_for(runs, 3)
    time.sleep(0.1)
    finish(loop, thread)
    assert len(runs) == 3


def test_bug_in_a_job_is_logged_and_the_loop_continues(caplog):
    runs = []

    def bug():
        runs.append(1)
        raise ZeroDivisionError

    loop, thread = running(bug, period=0.01)
    wait_for(runs, 2)
    finish(loop, thread)
    assert all(r.exc_info for r in caplog.records if r.levelname == "ERROR")


def test_call_rate_is_exceeded_while_too_many_calls_come_in_a_second(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rush = Calls(3)
    for _ in range(3):
        assert not rush.is_rush
        rush.note()
        now += 0.3
    assert rush.is_rush
    now += 0.2
    assert not rush.is_rush
    rush.note()
    assert rush.is_rush
    now += 5
    assert not rush.is_rush


def test_quiet_since_the_last_call_is_measured(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    calls = Calls(3)
    assert calls.quiet_seconds == float("inf")
    calls.note()
    now += 0.3
    assert round(calls.quiet_seconds, 3) == 0.3


def test_run_waits_as_long_as_it_is_told_to_settle():
    runs, busy_until = [], time.monotonic() + 0.3
    loop = PeriodicJob(
        lambda: runs.append(time.monotonic()),
        period=60.0,
        settle=lambda _: min(busy_until - time.monotonic(), 0.02),
        least=lambda _: 0.0,
    )
    thread = threading.Thread(target=loop.run)
    thread.start()
    wait_for(runs, 1)
    loop.wake()
    wait_for(runs, 2)
    finish(loop, thread)
    assert runs[1] >= busy_until


def test_a_waiting_job_is_not_stalled_however_long_it_waits():
    runs = []
    loop, thread = running(lambda: runs.append(1))
    wait_for(runs, 1)
    time.sleep(0.3)
    assert loop.stalled_seconds == 0
    finish(loop, thread)


def test_a_run_is_stalled_since_its_last_progress():
    begun, goes_on, ends = (threading.Event() for _ in range(3))

    def hang():
        begun.set()
        goes_on.wait(30)
        loop.note_progress()
        begun.clear()
        ends.wait(30)

    loop, thread = running(hang)
    assert begun.wait(30)
    time.sleep(0.3)
    loop.note_progress()  # of another thread: a call of Docker
    assert loop.stalled_seconds >= 0.3
    goes_on.set()
    while begun.is_set():
        time.sleep(0.001)
    assert loop.stalled_seconds < 0.3
    ends.set()
    finish(loop, thread)
    assert loop.stalled_seconds == 0


def test_a_failed_run_is_over_and_not_stalled():
    runs = []

    def fail():
        runs.append(1)
        raise OSError

    loop, thread = running(fail)
    wait_for(runs, 1)
    time.sleep(0.2)
    assert loop.stalled_seconds == 0
    finish(loop, thread)
