"""The service on a disk that is full in truth."""

from __future__ import annotations

import json
import sys
import time

import pytest

from tests.api.bodies import ENDPOINT, IDS, NETWORK
from tests.disks import small_disk

ENDED = f"DeleteEndpoint {IDS['NetworkID']} {IDS['EndpointID']}"


@pytest.fixture
def disk(idle):
    """A daemon on a small disk, with an endpoint; what fills it, and makes room."""
    with small_disk(idle.state) as made:
        idle.env["UNDERLAY_PERIOD"] = "0.2"
        idle.start()
        assert idle.post("NetworkDriver.CreateNetwork", NETWORK) == (200, {})
        assert idle.post("NetworkDriver.CreateEndpoint", ENDPOINT)[0] == 200
        yield made
        idle.stop()


def healthz(daemon):
    code, told, _ = daemon.request("GET", "/healthz", on=daemon.status)
    return code, json.loads(told)


def endpoints(daemon):
    told = daemon.request("GET", "/status", on=daemon.status)[1]
    return [e["id"] for e in json.loads(told)["endpoints"]]


def reconcile(daemon):
    """Have another process repair what it finds."""
    return daemon.in_namespace(sys.executable, "-m", "underlay", "reconcile")


def test_deletion_on_a_full_disk_is_visible_at_once_and_written_later(idle, disk):
    fill, make_room = disk
    assert "ul-" in idle.in_namespace("ip", "-br", "link")
    fill()
    assert idle.post("NetworkDriver.DeleteEndpoint", IDS) == (200, {})
    refused = idle.post("NetworkDriver.CreateEndpoint", ENDPOINT)[1]["Err"]
    assert refused.startswith("E-504 ")
    time.sleep(1)  # several passes
    code, told = healthz(idle)
    assert (code, told["ok"], told["unwritten"]) == (503, False, [ENDED])
    assert told["error"].startswith("E-504 ")
    assert endpoints(idle) == []
    # Another process has it from the service.
    shown = json.loads(idle.run("status", "--json").stdout)
    assert (shown["endpoints"], shown["service"]["unwritten"]) == ([], [ENDED])
    assert reconcile(idle) == "done\n"
    assert "failing" in idle.run("status").stdout
    assert "ul-" not in idle.in_namespace("ip", "-br", "link")
    lines = idle.log.splitlines()
    assert (
        sum(
            "cannot write the end of a network or endpoint yet, retrying" in line
            for line in lines
        )
        == 1
    )
    assert sum("part of a job failed, continuing" in line for line in lines) <= 3, (
        idle.log
    )
    make_room()
    deadline = time.monotonic() + 10
    while healthz(idle)[0] != 200:
        assert time.monotonic() < deadline, idle.log
        time.sleep(0.05)
    assert "wrote the ends of networks and endpoints" in idle.log
    idle.stop(9)
    assert json.loads(idle.run("endpoint", "ls", "--json").stdout) == []
    idle.start()
    assert idle.post("NetworkDriver.CreateEndpoint", ENDPOINT)[0] == 200
