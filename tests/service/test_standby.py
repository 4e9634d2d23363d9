"""A service that cannot work, with sockets of systemd: it answers, and tries again."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.api.bodies import ENDPOINT, IDS, JOIN, NETWORK

GARBAGE = b"garbage" * 1000
ABOUT_THE_DRIVER = (
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
)
POOL = {"PoolID": "default/10.0.0.0/24", "Address": "", "Options": {}}
CALLS = {
    "NetworkDriver.CreateNetwork": NETWORK,
    "NetworkDriver.DeleteNetwork": {"NetworkID": "n" * 64},
    "NetworkDriver.CreateEndpoint": ENDPOINT,
    "NetworkDriver.DeleteEndpoint": IDS,
    "NetworkDriver.Join": JOIN,
    "NetworkDriver.Leave": IDS,
    "IpamDriver.RequestPool": {"AddressSpace": "default", "Pool": "10.0.0.0/24"},
    "IpamDriver.RequestAddress": POOL,
    "IpamDriver.ReleaseAddress": POOL,
    "IpamDriver.ReleasePool": {"PoolID": POOL["PoolID"]},
}


@pytest.fixture
def damaged(idle):
    """A service whose records are damaged; systemd would start it again."""
    idle.state.mkdir(mode=0o700)
    records = idle.state / "underlay.db"
    records.touch(mode=0o600)
    records.write_bytes(GARBAGE)
    with idle.start_held():
        yield idle


def test_calls_that_need_records_are_refused_at_once_and_the_others_answered(damaged):
    for method in ABOUT_THE_DRIVER:
        assert damaged.post(method)[0] == 200, method
    for method, body in CALLS.items():
        began = time.monotonic()
        status, told = damaged.post(method, body)
        assert time.monotonic() - began < 1, method
        assert status == 500, method
        assert told["Err"] == told["Error"]
        assert told["Err"].startswith(f"E-501 the records in {damaged.state}"), method
    assert (damaged.state / "underlay.db").read_bytes() == GARBAGE


def test_status_socket_of_a_service_without_records_has_the_reason(damaged):
    for path, code in (("/healthz", 503), ("/status", 500)):
        status, told, _ = damaged.request("GET", path, on=damaged.status)
        assert status == code
        assert json.loads(told)["error"].startswith("E-501 ")
    damaged.post("NetworkDriver.Leave", IDS)
    status, told, _ = damaged.request("GET", "/metrics", on=damaged.status)
    assert status == 200
    assert b'method="NetworkDriver.Leave"' in told
    said = damaged.run("status")
    assert said.returncode == 1
    assert said.stderr.startswith("E-501 ")


def test_service_ends_when_its_records_open_so_that_systemd_starts_it_again(damaged):
    assert damaged.post("Plugin.Activate")[0] == 200
    (damaged.state / "underlay.db").unlink()
    assert damaged.process.wait(timeout=30) == 0
    assert 'msg="the fault is over, restarting"' in damaged.log
    assert damaged.plugin.exists()


def test_fault_is_logged_once_however_often_it_is_tried(damaged):
    assert damaged.post("Plugin.Activate")[0] == 200
    time.sleep(12)
    assert damaged.log.count("every call is refused until this is repaired") == 1


def test_another_fault_takes_the_place_of_the_first(damaged):
    assert damaged.post("Plugin.Activate")[0] == 200
    (damaged.state / "underlay.db").unlink()
    (damaged.state / "underlay.db").mkdir()
    deadline = time.monotonic() + 30
    while "E-501" in damaged.post("NetworkDriver.Leave", IDS)[1]["Err"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert damaged.post("NetworkDriver.Leave", IDS)[1]["Err"].startswith("E-508 ")


def test_wrong_setting_is_the_answer_to_calls(idle):
    idle.env["UNDERLAY_PERIOD"] = "often"
    with idle.start_held():
        told = idle.post("NetworkDriver.Leave", IDS)[1]
        assert told["Err"].startswith("E-505 UNDERLAY_PERIOD: 'often' is not a number")


def test_second_service_on_held_sockets_says_that_another_one_runs(idle):
    idle.start()
    first = idle.process
    with idle.start_held():
        told = idle.post("NetworkDriver.Leave", IDS)[1]
        assert told["Err"].startswith(f"E-503 another underlay (pid {first.pid}) uses")
        idle.stop()
    idle.process = first


def test_worker_that_dies_while_the_service_cannot_work_is_replaced(damaged):
    assert damaged.post("Plugin.Activate")[0] == 200

    [worker] = damaged.children()
    os.kill(worker, signal.SIGKILL)
    told = damaged.post("NetworkDriver.Leave", IDS)[1]
    assert told["Err"].startswith("E-501 ")
    assert damaged.children() != [worker]
