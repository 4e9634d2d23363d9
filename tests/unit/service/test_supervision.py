"""What systemd is told: readiness, and that no pass hangs."""

from __future__ import annotations

import os
import socket
import time

import pytest

from underlay.service.supervision import Supervisor, holds_sockets


@pytest.fixture
def systemd(tmp_path):
    """The socket that systemd listens on, and the service's environment."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(20)
        yield listening, {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}


def test_supervisor_takes_its_variables_out_of_the_environment(systemd):
    _, environment = systemd
    Supervisor(environment)
    assert environment == {}


def test_reason_for_refusals_becomes_one_line_of_the_status(systemd):
    listening, environment = systemd
    Supervisor(environment).tell_ready("E-501 \x1b[1mdamaged\nREADY=0")
    told = listening.recv(4096).decode()
    assert told == "READY=1\nSTATUS=E-501 \\x1b[1mdamaged\\nREADY=0"


def test_watchdog_is_told_eight_times_in_its_time_and_not_while_stalled(systemd):
    listening, environment = systemd
    stalled = 0.09  # a slow pass is none that hangs
    supervisor = Supervisor(environment)
    supervisor.watch(lambda: stalled)
    times = []
    for _ in range(12):
        assert listening.recv(4096) == b"WATCHDOG=1"
        times.append(time.monotonic())
    assert 0.25 < times[-1] - times[0] < 5
    stalled = 0.1
    listening.settimeout(0.5)
    with pytest.raises(TimeoutError):
        for _ in range(20):  # one may have been under way
            listening.recv(4096)
    stalled = 0.0
    listening.settimeout(20)
    assert listening.recv(4096) == b"WATCHDOG=1"
    supervisor.stop()


def test_watchdog_goes_on_after_systemd_could_not_be_told_once(systemd, tmp_path):
    listening, environment = systemd
    supervisor = Supervisor(environment)
    (tmp_path / "notify").rename(tmp_path / "away")
    supervisor.watch(lambda: 0.0)
    time.sleep(0.3)
    (tmp_path / "away").rename(tmp_path / "notify")
    assert listening.recv(4096) == b"WATCHDOG=1"
    supervisor.stop()


def test_abstract_address_of_systemd_is_understood():
    name = f"underlay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).tell_ready("")
        assert listening.recv(4096) == b"READY=1"


def test_nothing_is_told_without_systemd():
    supervisor = Supervisor({})
    supervisor.tell_ready("")
    supervisor.watch(lambda: 0.0)


@pytest.mark.parametrize(
    ("environment", "held"),
    [
        ({}, False),
        ({"LISTEN_FDS": "2", "LISTEN_PID": str(os.getpid())}, True),
        ({"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())}, False),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "1"}, False),
    ],
)
def test_sockets_are_those_passed_to_this_process(environment, held):
    assert holds_sockets(environment) == held
