"""The loop: a storm is one run, a bug is not the end."""

from __future__ import annotations

import threading
import time

from underlay.reconciler import Loop


def running(job, **times):
    loop = Loop(job, **{"period": 60.0, "settle": 0.05, **times})
    thread = threading.Thread(target=loop.run)
    thread.start()
    return loop, thread


def finish(loop, thread):
    loop.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_storm_of_ten_thousand_wake_ups_costs_few_runs():
    runs = []
    loop, thread = running(lambda: runs.append(1))
    for _ in range(10_000):
        loop.wake()
    time.sleep(0.3)
    finish(loop, thread)
    assert 1 <= len(runs) <= 5


def test_it_runs_at_start_and_every_period():
    runs = []
    loop, thread = running(lambda: runs.append(1), period=0.02)
    time.sleep(0.3)
    finish(loop, thread)
    assert len(runs) > 3


def test_a_failure_is_said_once_and_the_loop_goes_on(caplog):
    runs = []

    def fail():
        runs.append(1)
        raise OSError("no dockerd")

    loop, thread = running(fail, period=0.01)
    time.sleep(0.2)
    finish(loop, thread)
    assert len(runs) > 3
    assert len([r for r in caplog.records if r.message == "not done, trying on"]) == 1


def test_what_failed_is_tried_again_sooner_than_every_period():
    runs = []

    def fail_at_first():
        runs.append(1)
        if len(runs) < 3:
            raise OSError("no dockerd")

    loop, thread = running(fail_at_first, retry=0.02)
    time.sleep(0.3)
    finish(loop, thread)
    assert len(runs) == 3


def test_a_bug_is_logged_and_the_loop_goes_on(caplog):
    runs = []

    def bug():
        runs.append(1)
        raise ZeroDivisionError

    loop, thread = running(bug, period=0.01)
    time.sleep(0.1)
    finish(loop, thread)
    assert len(runs) > 1
    assert all(r.exc_info for r in caplog.records if r.levelname == "ERROR")
