"""Programs that hang are left behind, and nothing waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from tests.lab.service import wait_until
from underlay.kernel import command


@pytest.fixture
def unkillable(monkeypatch):
    """Have SIGKILL end nothing, as where a program hangs in the kernel (state D)."""
    started = []
    monkeypatch.setattr(
        subprocess.Popen, "kill", lambda process: started.append(process)
    )
    yield started
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    command._left_behind.clear()


def test_program_that_ignores_signals_is_not_waited_for(unkillable):
    began = time.monotonic()
    with command.within(0.2), pytest.raises(TimeoutError, match="does not end"):
        command.run("sleep", "600")
    assert time.monotonic() - began < 30
    [left] = unkillable
    assert left.poll() is None


def test_second_program_is_not_started_beside_a_hanging_one(unkillable):
    for _ in range(3):
        with command.within(0.2), pytest.raises(TimeoutError):
            command.run("sleep", "600")
    [left] = unkillable
    assert command.run("echo", "other").stdout == "other\n"
    os.kill(left.pid, signal.SIGKILL)
    wait_until(lambda: left.poll() is not None, 10)
    assert command.run("sleep", "0").returncode == 0


def test_programs_run_in_sequence_share_one_time_limit():
    with command.within(0.5), pytest.raises(TimeoutError):
        for _ in range(1000):
            command.run("sleep", "0.05")


def test_program_gets_its_input_and_returns_both_outputs():
    done = command.run("sh", "-c", "cat; echo no >&2; exit 4", script="yes")
    assert (done.returncode, done.stdout, done.stderr) == (4, "yes", "no\n")
