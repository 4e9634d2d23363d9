"""Leases of DHCP servers in the order in which engine 29.7 was seen to call.

The recorder had a pool: its answers are replaced by ours, and what the user said of
addresses is left out.
"""

from __future__ import annotations

import gzip
import json
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from tests.dhcp_segment import Fate, Segment, Server
from tests.fakes import Clock, FakeKernel, engine_on
from underlay.dhcp import sockets
from underlay.errors import NotWithDhcp
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import ListedContainer

RECORDED = Path(__file__).parents[2] / "api/recordings/29.7.2.jsonl.gz"
NAME = "com.docker.network.endpoint.name"
HANDLED = {
    "RequestPool": "_request_pool",
    "CreateNetwork": "_create_network",
    "RequestAddress": "_request_address",
    "CreateEndpoint": "_create_endpoint",
    "Join": "_join",
    "Leave": "_leave",
    "DeleteEndpoint": "_delete_endpoint",
    "DeleteNetwork": "_delete_network",
}


def recorded():
    """Yield the calls about the first network of another IPAM driver, in order."""
    with gzip.open(RECORDED, "rt") as lines:
        for line in lines:
            call = json.loads(line)
            if call["scenario"] == "07-ipam-plugin":
                yield call["method"].partition(".")[2], call["req"] or {}
                if call["method"] == "NetworkDriver.DeleteNetwork":
                    return


class Host:
    """The service behind an engine that makes the recorded calls."""

    def __init__(self, records, event):
        self.records, self.event, self.clock = records, event, Clock()
        self.kernel = FakeKernel()
        self.parts = engine_on(records, self.kernel, self.clock).parts
        self.server = Server(self.clock)
        self.segment = Segment(self.server, self.clock, Fate())
        self.claim, self.told, self.given, self.macs = "", None, [], []

    def call(self, verb, asked):
        if act := getattr(self, HANDLED.get(verb, ""), None):
            self.clock.now += 1
            act(asked)

    def _request_pool(self, _asked):
        claim = self.parts.ipam.request_pool("", "", {"source": "dhcp"}, 4)
        self.claim, self.mark = claim.id, mark_of(claim)

    def _create_network(self, asked):
        segment = Subnet(EVERYWHERE, self.mark, pooled=True, dhcp=True)
        network = Network(asked["NetworkID"], {"parent": "eth0"}, subnets=(segment,))
        self.parts.engine.create_network(network)

    def _request_address(self, asked):
        name = (asked["Options"] or {}).get(NAME)
        if name is None:
            return  # of a gateway and an aux address, which the user named
        if self.event == "before":
            self.parts.ahead.note_created(created_of(self.records, name))
        self.told = self.parts.ahead.request_address(
            self.records.pools.claim(self.claim), "", name
        )
        if self.event == "after":
            self.parts.ahead.note_created(created_of(self.records, name))
        self.given.append((name, str(self.told.ip)))

    def _create_endpoint(self, asked):
        told = IPv4Interface(str(self.told))
        ours = Endpoint(asked["EndpointID"], asked["NetworkID"], told)
        self.macs.append(self.parts.engine.create_endpoint(ours).mac)

    def _join(self, asked):
        words = (asked[key] for key in ("NetworkID", "EndpointID", "SandboxKey"))
        self.gateway = self.parts.engine.join(*words).gateway4

    def _leave(self, asked):
        self.parts.engine.leave(asked["EndpointID"])

    def _delete_endpoint(self, asked):
        self.parts.engine.delete_endpoint(asked["NetworkID"], asked["EndpointID"])
        self.parts.engine.dropper.finish_all()

    def _delete_network(self, asked):
        self.parts.engine.delete_network(asked["NetworkID"])


def created_of(records, name):
    (network,) = records.networks.all()
    return ListedContainer(name, (network.id,))


@pytest.mark.parametrize("event", ["before", "after", "never"])
def test_recorded_calls_of_engine_29_give_each_name_its_lease_again(
    records, monkeypatch, event
):
    host = Host(records, event)
    monkeypatch.setattr(sockets, "run", host.segment.run)
    monkeypatch.setattr(sockets, "send", host.segment.send)
    verbs = []
    for verb, asked in recorded():
        host.call(verb, asked)
        verbs.append(verb)
        if verb == "CreateNetwork":
            claim = records.pools.claim(host.claim)
            assert claim.network == asked["NetworkID"]
    assert [name for name, _ in host.given] == ["c1", "c2", "c1"]
    (first, second, again) = (address for _, address in host.given)
    assert first == again != second
    assert host.macs[0] == host.macs[2] != host.macs[1]
    assert str(host.gateway) == "10.55.0.1"
    assert {lease.value for lease in records.dhcp_leases.all()} == {"c1", "c2"}
    # The name comes before the endpoint, each time.
    starts = [v for v in verbs if v in ("RequestAddress", "CreateEndpoint")]
    assert starts[2:] == ["RequestAddress", "CreateEndpoint"] * 3
    host.parts.ahead.stop()


def test_gateway_request_of_an_engine_that_does_not_know_the_mark_is_refused(records):
    host = Host(records, "never")
    host.call("RequestPool", {})
    with pytest.raises(NotWithDhcp):
        host.parts.ipam.request_gateway(host.claim, "")
