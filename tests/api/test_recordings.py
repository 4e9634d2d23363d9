"""Every request that four engines were seen to send is decoded and answered."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from tests.api.conftest import Plugin
from underlay.records import Records

GENERIC = "com.docker.network.generic"
RECORDINGS = Path(__file__).parent / "recordings"
ENGINES = ("20.10.24", "26.1.5", "28.5.2", "29.7.2")

# What the recorder let pass and we refuse, and what follows from it.
EXPECTED = {
    "E-100": "options the recorder had invented",
    "E-101": "mode=bridge without a bridge",
    "E-111": "a pool without subnet",
    "E-114": "an address of that pool",
    "E-130": "an endpoint of a network refused before",
    "E-131": "a Join of an endpoint refused before",
    "E-145": "a MAC for an ipvlan container",
}

# The recorder's own IPAM option, in the words of ours.
OURS = {"site": "domain"}


def calls(engine):
    with gzip.open(RECORDINGS / f"{engine}.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in lines]


class Translation:
    """Puts our answers in the place of the recorder's in what Docker says later."""

    def __init__(self, way):
        self.words, self.way = {}, way

    def learn(self, recorded, ours):
        spaces = ("LocalDefaultAddressSpace", "GlobalDefaultAddressSpace")
        for key in ("PoolID", "Address", *spaces):
            if recorded.get(key) and ours.get(key):
                self.words[recorded[key]] = ours[key]
                bare = recorded[key].split("/")[0], ours[key].split("/")[0]
                if key == "Address":
                    self.words[bare[0]] = bare[1]

    def apply(self, value):
        if isinstance(value, dict):
            if isinstance(value.get(GENERIC), dict):
                value = {**value, GENERIC: value[GENERIC] | self.way}
            return {
                OURS.get(k, k): self.apply(v)
                for k, v in value.items()
                if not k.startswith("stub.")
            }
        if isinstance(value, list):
            return [self.apply(v) for v in value]
        return self.words.get(value, value) if isinstance(value, str) else value


# The same calls for networks of other options, and how many of them are refused.
WAYS = {
    "as recorded": ({}, 20),
    "l3": ({"mode": "ipvlan", "ipvlan_mode": "l3"}, 22),
    "a VLAN": ({"parent": "eth0", "vlan": "50"}, 20),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_recorded_request_is_answered(engine, way, tmp_path):
    options, most = WAYS[way]
    outcomes = Counter()
    for scenario, group in groupby(calls(engine), key=lambda c: c["scenario"]):
        records = Records(tmp_path / f"{scenario}.db")
        plugin, translation = Plugin(records), Translation(options)
        for call in group:
            asked = call["req"]
            body = b"" if asked is None else json.dumps(translation.apply(asked)) + "\n"
            answer = plugin.post(call["method"], body, call["host"] or "")
            told = json.loads(answer.data)
            if answer.status_code == 200:
                assert "Err" not in told
                assert "Error" not in told
                if isinstance(call["resp"], dict):
                    translation.learn(call["resp"], told)
            else:
                assert told["Err"] == told["Error"]
                assert told["Err"][:5] in EXPECTED, (scenario, call, told)
            outcomes[call["method"], answer.status_code == 200] += 1
        records.close()
    assert sum(n for (_, good), n in outcomes.items() if not good) <= most
    for method in {method for method, _ in outcomes}:
        assert outcomes[method, True] > outcomes[method, False], method


def test_recordings_contain_every_method_and_the_odd_hosts():
    seen = [call for engine in ENGINES for call in calls(engine)]
    assert len(seen) > 4500
    assert len({call["method"] for call in seen}) >= 20
    assert {call["host"] for call in seen} >= {"", "plugin.moby.localhost"}


NAMED = "com.docker.network.endpoint.name"


def test_engine_29_gets_the_same_address_and_mac_for_a_name_again(tmp_path):
    """Its calls name the container; a pool is known by its domain and subnet."""
    addresses, macs = {}, {}
    for scenario, group in groupby(calls("29.7.2"), key=lambda c: c["scenario"]):
        if scenario == "08-ipam-reqmac":
            continue  # the recorder gave one PoolID to two claims
        records = Records(tmp_path / f"{scenario}.db")
        plugin, translation, who = Plugin(records), Translation({}), None
        for call in group:
            asked = translation.apply(call["req"]) if call["req"] else {}
            answer = plugin.post(call["method"], json.dumps(asked), "")
            told = json.loads(answer.data)
            if answer.status_code != 200:
                continue
            if isinstance(call["resp"], dict):
                translation.learn(call["resp"], told)
            if call["method"] == "IpamDriver.RequestAddress":
                name = (asked.get("Options") or {}).get(NAMED)
                who = name and (scenario, asked["PoolID"].rpartition("/")[0], name)
                if who and not asked["Address"]:
                    addresses.setdefault(who, []).append(told["Address"])
            elif call["method"] == "NetworkDriver.CreateEndpoint" and who:
                mac = (told.get("Interface") or {}).get("MacAddress")
                macs.setdefault(who, []).extend([mac] if mac else [])
        records.close()
    for found in (addresses, macs):
        again = {who: each for who, each in found.items() if len(each) > 1}
        assert again
        assert all(len(set(each)) == 1 for each in again.values()), again
