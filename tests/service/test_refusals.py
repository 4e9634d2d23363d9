"""What the service remembers of what it refused, and how it is found in the log."""

from __future__ import annotations

import json
import time

from tests.api.bodies import ENDPOINT, IDS, NETWORK
from underlay.api.call import calling
from underlay.api.refusals import KEPT_SECONDS, MOST_CHARACTERS, MOST_KEPT, Refusals
from underlay.errors import BadMac, UnknownNetwork

MAC = "01:00:5e:00:00:01"  # of a group


def refusals(daemon):
    code, told, _ = daemon.request("GET", "/refusals", on=daemon.status)
    assert code == 200
    return json.loads(told)["refusals"]


def test_refusal_is_listed_with_its_id_its_network_and_its_call(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    taken = {**ENDPOINT, "Interface": {"Address": "10.0.0.5/24", "MacAddress": MAC}}
    for _ in range(3):
        assert daemon.post("NetworkDriver.CreateEndpoint", taken)[0] == 400
    (found,) = refusals(daemon)
    assert found["id"] == "E-145"
    assert found["error"].startswith(f"E-145 MAC {MAC!r} cannot be used")
    assert found["network"] == "n" * 12
    assert found["endpoint"] == IDS["EndpointID"][:12]
    assert found["times"] == 3
    assert abs(found["at"] - time.time()) < 60
    assert daemon.log.count(f"call={found['call']}") == 1
    shown = daemon.run("status").stdout
    assert "eeeeeeeeeeee on nnnnnnnnnnnn (3 times): E-145 MAC" in shown
    listed = json.loads(daemon.run("status", "--json").stdout)["refusals"]
    assert listed == refusals(daemon)
    assert (
        json.loads(daemon.request("GET", "/status", on=daemon.status)[1])["refusals"]
        == listed
    )
    daemon.stop()
    assert json.loads(daemon.run("status", "--json").stdout)["refusals"] == []


def test_refused_address_names_the_container_and_the_pool(daemon):
    pool = {"Pool": "10.0.0.0/30", "Options": {}, "V6": False}
    claim = daemon.post("IpamDriver.RequestPool", pool)[1]["PoolID"]
    name = {"com.docker.network.endpoint.name": "web\x1b[2J"}
    asked = {"PoolID": claim, "Address": "10.0.0.9", "Options": name}
    assert daemon.post("IpamDriver.RequestAddress", asked)[0] == 400
    (found,) = refusals(daemon)
    assert (found["id"], found["pool"]) == ("E-142", "10.0.0.0/30")
    assert (found["container"], found["address"]) == ("web\x1b[2J", "10.0.0.9")
    assert r"web\x1b[2J on 10.0.0.0/30: E-142" in daemon.run("status").stdout


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def refused(error):
    with calling("NetworkDriver.CreateNetwork") as call:
        call.refusal = error
    return call


def test_refusals_are_kept_for_an_hour_and_bounded_in_number_and_size():
    clock = Clock()
    kept = Refusals(clock, clock)
    kept.note(refused(BadMac(mac="x" * 1_000_000, why="no")))
    (found,) = kept.recent()
    assert len(found.error) < MOST_CHARACTERS + 10
    for number in range(MOST_KEPT + 5):
        kept.note(refused(UnknownNetwork(network=str(number))))
    assert len(kept.recent()) == MOST_KEPT
    assert f"network {MOST_KEPT + 4} " in kept.recent()[0].error
    clock.now += KEPT_SECONDS + 1
    assert kept.recent() == []
