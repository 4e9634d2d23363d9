"""The service dies at every frame and every COMMIT of a lease: nothing is lost.

Docker then repeats its call, as its client of plugins does, or gives the start up.
"""

from __future__ import annotations

import heapq
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Interface, ip_network

import pytest

from tests.dhcp_segment import Fate, Segment, Server
from tests.fakes import Clock, Death, FakeKernel, engine_on
from tests.worlds import nowhere
from underlay.dhcp import sockets
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.ipam.lease_keeper import START_SECONDS
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import DockerNetwork, DockerView, ListedContainer
from underlay.model.objects import Address, Route
from underlay.records import Records
from underlay.records.database import Database
from underlay.service.settings import Settings

LEASE, HOLD = 3600, 120
MAC = "02:00:00:00:00:99"


class Abandoned(Exception):
    """Docker has given the start of a container up."""


class Host:
    """Docker with one network and one container, and a service that may die."""

    def __init__(self, path, fate, way, *, repeats):
        self.path, self.fate, self.repeats = path, fate, repeats
        self.is_null = way == "null"
        self.clock, self.kernel = Clock(), FakeKernel()
        self.server = Server(self.clock, LEASE)
        self.segment = Segment(self.server, self.clock, fate)
        self.number, self.running, self.is_listed = 0, None, True
        self.begin()
        self.pool = "" if self.is_null else self._claim()
        mark = None if self.is_null else mark_of(self.records.pools.claim(self.pool))
        subnet = Subnet(EVERYWHERE, mark, pooled=not self.is_null, dhcp=True)
        options = {"parent": "eth0", **({"source": "dhcp"} if self.is_null else {})}
        self.engine.create_network(Network("n1", options, subnets=(subnet,)))

    def begin(self):
        """Start the service on the records as they are."""
        self.records = Records(self.path)
        self.engine = engine_on(self.records, self.kernel, self.clock)
        self.ipam, self.keeper = self.engine.parts.ipam, self.engine.parts.keeper
        self.keeper.note_all()

    def begin_again(self):
        self.fate.arm(None)
        self.records.close()
        self.begin()
        self.look()
        self.ask_docker()

    def ask_docker(self):
        """Look at what Docker lists, and clean up."""
        endpoint = self.running and self.records.endpoints.get(self.running)
        web = ListedContainer("web", ("n1",))
        listed = DockerView(
            (DockerNetwork("n1", "lan", "default", (EVERYWHERE,), ours=True),),
            {endpoint.id: "web"} if endpoint else {},
            frozenset({endpoint.ipv4.ip} if endpoint else ()),
            (web,) if self.is_listed else (),
        )
        self.engine.parts.cleanup.run(listed)

    def _claim(self):
        return self.ipam.request_pool("", "", {"source": "dhcp"}, 4).id

    def call(self, verb, undo=lambda: None):
        """Have Docker call; if the service dies, it calls once more, or gives up."""
        try:
            return verb()
        except Death:
            self.begin_again()
            if self.repeats:
                return verb()
            undo()
            self.clock.now += Settings().grace
            self.ask_docker()
            raise Abandoned from None

    def start(self):
        """Start the container, with an endpoint of its own."""
        self.number += 1
        identity, room = f"e{self.number}", f"/run/docker/netns/{self.number}"
        told, mac = None, MAC if self.is_null else ""
        if not self.is_null:
            told = self.call(lambda: self.ipam.request_address(self.pool, "", "web"))
            told = IPv4Interface(str(told))

        def give_up():
            self.engine.delete_endpoint("n1", identity)
            self.give_back(told)

        asked = Endpoint(identity, "n1", told, mac=mac)
        self.call(
            lambda: self.engine.create_endpoint(asked), lambda: self.give_back(told)
        )
        found = self.call(lambda: self.engine.join("n1", identity, room), give_up)
        self.dock(found, room, self.records.endpoints.get(identity).ipv4)
        self.running = identity
        self.look()

    def dock(self, found, room, address):
        """Move the device into the sandbox, and give it what Join said."""
        segment = Route(address.network, "eth0", 0, source=address.ip, connected=True)
        default = Route(ip_network("0.0.0.0/0"), "eth0", 0, via=found.gateway4)
        given = Address(address, "eth0"), segment, default
        self.kernel.dock(found.device, room, "eth0", *given)

    def give_back(self, told):
        if told:
            self.ipam.release_address(self.pool, str(told.ip))

    def stop(self):
        """Stop the container; Docker forgets the endpoint whatever it is answered."""
        if self.running is None:
            return
        endpoint, self.running = self.running, None
        room = f"/run/docker/netns/{endpoint[1:]}"
        told = self.records.endpoints.get(endpoint).ipv4
        calls = [
            lambda: self.engine.leave(endpoint),
            lambda: self.engine.delete_endpoint("n1", endpoint),
            lambda: self.give_back(told),
        ]
        for call in calls:
            try:
                self.call(call)
            except Abandoned:
                continue
            if call is calls[0]:
                self.kernel.sandboxes.discard(room)
                self.kernel.rooms.pop(room, None)
        self.look()

    def remove(self):
        """Remove the container; the next look at Docker's list shows it."""
        self.is_listed = False
        self.ask_docker()

    def look(self):
        rooms = {e.sandbox for e in self.records.endpoints.all() if e.sandbox}
        try:
            self.engine.reconciler.run_pass({"", *rooms}, self.clock(), nowhere)
        except Death:
            self.begin_again()

    def pass_time(self, seconds):
        """Let time pass, and the keeper of leases do what becomes due."""
        end = self.clock.now + seconds
        while (queue := self.keeper._queue) and queue[0][0] <= end:
            due, lease = heapq.heappop(queue)
            if self.keeper._first.get(lease) != due:
                continue  # looked at before, by an earlier entry
            del self.keeper._first[lease]
            self.clock.now = max(self.clock.now, due)
            try:
                self.keeper._try(lease)
            except Death:
                self.begin_again()
        self.clock.now = end
        self.look()

    def check(self):
        """What runs has what the server leases to it, and nothing else is there."""
        assert self.engine.reconcile() == []
        assert self.engine.preview() == ()
        assert self.records.repairs.failures() == []
        endpoints = self.records.endpoints.all()
        assert [e.id for e in endpoints if e.sandbox] == [self.running]
        addresses = Counter(e.ipv4 for e in endpoints)
        assert set(addresses.values()) == {1}
        (web,) = (e for e in endpoints if e.sandbox)
        lease = self.records.dhcp_leases.of_endpoint(web.id)
        assert lease.address == web.ipv4
        assert self.server.leases == {lease.client_id: web.ipv4.ip} == self.recorded()
        there = [
            o.interface
            for o in self.kernel.others.values()
            if isinstance(o, Address) and o.sandbox == web.sandbox
        ]
        assert there == [web.ipv4]
        held = self.records.leases.live_of_endpoint(web.id)
        assert [h.address for h in held] == [web.ipv4.ip]

    def recorded(self):
        """Return the addresses of the leases on record, as the server lists its own."""
        found = self.records.dhcp_leases.given()
        return {lease.client_id: lease.address.ip for lease in found}


def started(host):
    host.start()


def stopped(host):
    host.start()
    host.stop()


def removed(host):
    stopped(host)
    host.remove()


def created(host):
    """Create the container, which does not start: engine 29 has its lease asked for."""
    ahead = host.engine.parts.ahead
    network = host.records.networks.get("n1")
    ahead.keeper.note_ahead(ahead.dhcp.take_ahead(network, "web"))


def renumbered(host):
    host.start()
    host.server.renumber(130)


def half_the_lease(host):
    host.pass_time(LEASE * 0.6)


# What went before, what the service dies in, and how many points that has.
LIVES = {
    "start": (lambda _: None, Host.start, 16),
    "start again": (stopped, Host.start, 13),
    "renewal": (started, half_the_lease, 5),
    "another address": (renumbered, half_the_lease, 17),
    "stop": (started, Host.stop, 8),
    "release": (removed, lambda host: host.pass_time(HOLD + 10), 4),
    "no start": (created, lambda host: host.pass_time(START_SECONDS + 10), 6),
}
# By which door: the name is told with the request for an address, or a MAC later.
WAYS = [(life, way) for life in LIVES for way in ("name", "null")]
WAYS.remove(("no start", "null"))


@pytest.fixture
def fate(monkeypatch):
    fate = Fate()
    monkeypatch.setattr(Database, "run", fate.at_commits(Database.run))
    return fate


@pytest.fixture
def host_of(tmp_path, fate, monkeypatch):
    """Return what makes the host of a life, up to where its service may die."""

    def made(life, way, *, repeats=True):
        host = Host(tmp_path / "underlay.db", fate, way, repeats=repeats)
        monkeypatch.setattr(sockets, "run", host.segment.run)
        monkeypatch.setattr(sockets, "send", host.segment.send)
        LIVES[life][0](host)
        return host

    return made


@pytest.mark.parametrize(("life", "way"), WAYS)
def test_life_of_a_lease_has_as_many_points_as_the_service_dies_at(
    host_of, fate, life, way
):
    host = host_of(life, way)
    fate.arm(None)
    LIVES[life][1](host)
    assert len(fate.passed) == LIVES[life][2], fate.passed
    host.records.close()


DEATHS = [(*way, n + 1) for way in WAYS for n in range(LIVES[way[0]][2])]


# killed_at_every_send_receive_commit, containernetworking/plugins#792,
# containernetworking/plugins#105, containernetworking/plugins#78
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize(("life", "way", "number"), DEATHS)
def test_death_at_any_point_loses_no_lease_and_leaves_none(
    host_of, fate, life, number, way, repeats
):
    host = host_of(life, way, repeats=repeats)
    fate.arm(number)
    with suppress(Abandoned):
        LIVES[life][1](host)
    assert fate.armed is None, "it did not die"
    if life == "release":
        host.pass_time(HOLD)
        assert (host.server.leases, host.recorded()) == ({}, {})
        host.is_listed = True
    if life == "no start":
        assert host.server.leases.items() <= host.recorded().items()
    if host.running is None:
        host.start()
    host.check()
    (had,) = host.server.leases.values()
    if life == "start again":
        assert str(had) == "10.55.0.100"
    # Renewed for as long as it runs.
    host.pass_time(LEASE * 3)
    host.check()
    assert list(host.server.leases.values()) == [had]
    host.stop()
    host.start()
    host.check()
    assert list(host.server.leases.values()) == [had]
    host.stop()
    host.remove()
    host.pass_time(HOLD * 2)
    assert (host.server.leases, host.recorded()) == ({}, {})
    host.records.close()
