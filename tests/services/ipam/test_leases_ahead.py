"""Leases that are taken while Docker is still creating the container."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

import pytest

from tests.fakes import Clock, FakeKernel, engine_on
from underlay.errors import NoDhcpServer
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.ipam.dhcp_clients import DhcpClients
from underlay.ipam.dhcp_servers import Answer, Given
from underlay.ipam.lease_keeper import START_SECONDS, LeaseKeeper
from underlay.ipam.leases_ahead import AT_ONCE, LeasesAhead
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import ListedContainer


class Server:
    """A DHCP server that answers when it is let to."""

    def __init__(self, clock):
        self.clock, self.said, self.answers = clock, [], threading.Event()
        self.asked = threading.Semaphore(0)
        self.is_there = True
        self.answers.set()

    def boot(self):
        return "boot-1"

    def monotonic(self):
        return self.clock()

    def moment(self, _lease, at):
        return at

    def when(self, at):
        return at

    def way_out(self, _network):
        return "Look at the server."

    def ask_new(self, _network, lease, *_words):
        self.said.append(("new", lease.value))
        self.asked.release()
        assert self.answers.wait(10)
        number = sum(said[0] == "new" for said in self.said)
        address = f"10.55.0.{100 + number}/23"
        return self._given(address) if self.is_there else Answer(asked="4 messages")

    def ask_again(self, _network, lease):
        self.said.append(("again", lease.value))
        return self._given(lease.address)

    def release(self, device, lease, _later):
        self.said.append(("release", lease.value, device))

    def _given(self, address):
        now, server = self.clock(), IPv4Address("10.55.0.1")
        times = (now, now + 1800, now + 3150, now + 3600, now)
        mac = "02:00:00:00:00:01"
        return Answer(Given(IPv4Interface(address), server, mac, server, b"", *times))


@dataclass
class World:
    """A network with source=dhcp, on an engine that tells names."""

    records: object

    def __post_init__(self):
        self.clock, self.kernel = Clock(), FakeKernel()
        self.engine = engine_on(self.records, self.kernel, self.clock)
        self.ipam, self.server = self.engine.parts.ipam, Server(self.clock)
        self.keeper = LeaseKeeper(self.records, self.server, self.clock, self.clock)
        remove = self.engine.parts.engine.remove_dead_endpoint
        dhcp = DhcpAddresses(
            self.records, self.kernel, self.server, self.ipam.idle, remove, self.clock,
            "machine-1", self.keeper.note,
        )  # fmt: skip
        self.ahead = LeasesAhead(dhcp, self.keeper)
        object.__setattr__(self.ipam, "ask_dhcp", self.ahead.request_address)
        claim = self.ipam.request_pool("", "", {"source": "dhcp"}, 4)
        segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
        network = Network("n1", {"parent": "eth0"}, subnets=(segment,))
        self.engine.create_network(network)
        with self.records.transaction():
            self.records.networks.rename("n1", "lan")
        self.claim = claim.id

    def create(self, name, *networks):
        self.ahead.note_created(ListedContainer(name, networks or ("lan",)))

    def settle(self):
        for asked in list(self.ahead._asked.values()):
            asked.result(10)

    def start(self, name):
        given = IPv4Interface(str(self.ipam.request_address(self.claim, "", name)))
        self.engine.create_endpoint(Endpoint(f"e-{name}", "n1", given))
        return given

    def pass_time(self, seconds):
        end = self.clock.now + seconds
        while self.keeper._queue and self.keeper._queue[0][0] <= end:
            self.clock.now = max(self.clock.now, self.keeper._queue[0][0])
            self.keeper._keep(self.keeper._next())
        self.clock.now = end


@pytest.fixture
def world(records):
    found = World(records)
    yield found
    found.server.answers.set()
    found.ahead._pool.shutdown()


def test_container_that_was_created_starts_with_the_lease_that_waits(world):
    world.create("web")
    world.settle()
    (lease,) = world.records.dhcp_leases.all()
    assert world.start("web") == lease.address
    assert world.server.said == [("new", "web"), ("again", "web")]
    world.pass_time(START_SECONDS * 2)
    assert not [said for said in world.server.said if said[0] == "release"]


def test_start_waits_for_the_answer_that_is_on_its_way(world):
    world.server.answers.clear()
    world.create("web")
    assert world.server.asked.acquire(timeout=10)
    threading.Timer(0.1, world.server.answers.set).start()
    world.start("web")
    assert [said for said in world.server.said if said[0] == "new"] == [("new", "web")]


def test_start_whose_turn_has_not_come_asks_itself(world):
    world.server.answers.clear()
    for number in range(AT_ONCE):
        world.create(f"other{number}")
        assert world.server.asked.acquire(timeout=10)
    world.create("web")
    threading.Timer(0.1, world.server.answers.set).start()
    world.start("web")
    world.settle()
    assert world.server.said.count(("new", "web")) == 1


def test_lease_goes_back_if_the_container_does_not_start(world):
    world.create("web")
    world.settle()
    mac = world.records.dhcp_leases.all()[0].mac
    world.pass_time(START_SECONDS - 1)
    assert world.server.said == [("new", "web")]
    world.pass_time(2)
    assert world.server.said[1:] == [("release", "web", "eth0")]
    # It is known as before: a reservation in the server still holds.
    world.start("web")
    (lease,) = world.records.dhcp_leases.all()
    assert (lease.mac, lease.endpoint) == (mac, "e-web")


def test_nothing_is_asked_for_a_container_that_has_a_lease(world):
    world.start("web")
    world.create("web")  # Compose creates it beside the one that runs
    world.settle()
    world.engine.delete_endpoint("n1", "e-web")
    world.create("web")
    world.settle()
    assert world.server.said == [("new", "web")]
    world.pass_time(START_SECONDS * 2)
    assert world.server.said == [("new", "web")]


def test_nothing_is_asked_for_a_container_of_another_network(world):
    world.create("web", "bridge")
    world.settle()
    assert not world.server.said
    world.create("web", "bridge", "n1")
    world.settle()
    assert world.server.said == [("new", "web")]


def test_container_in_two_networks_of_a_parent_is_asked_for_once(world):
    claim = world.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
    world.engine.create_network(Network("n2", {"parent": "eth0"}, subnets=(segment,)))
    world.server.answers.clear()
    world.create("web", "n1", "n2")
    threading.Timer(0.1, world.server.answers.set).start()
    world.ipam.request_address(claim.id, "", "web")
    assert world.server.said == [("new", "web"), ("again", "web")]


def test_silent_server_fails_the_start_and_not_the_creation(world):
    world.server.is_there = False
    world.create("web")
    world.settle()
    with pytest.raises(NoDhcpServer):
        world.start("web")
    assert world.server.said == [("new", "web")] * 2


def test_start_that_came_before_the_news_of_the_creation_keeps_its_lease(world):
    ask, network = world.server.ask_new, world.records.networks.get("n1")

    def ask_late(*words):
        world.server.ask_new = ask
        world.start("web")
        return ask(*words)

    world.server.ask_new = ask_late
    assert world.ahead.dhcp.take_ahead(network, "web") is None
    (lease,) = world.records.dhcp_leases.all()
    assert lease.endpoint == "e-web"
    assert lease.address == world.records.endpoints.get("e-web").ipv4


def test_nothing_is_asked_for_a_container_that_has_just_asked(world, monkeypatch):
    of_start, network = DhcpClients.of_start, world.records.networks.get("n1")

    def of_late_start(clients, *words):
        monkeypatch.undo()
        world.ipam.request_address(world.claim, "", "web")
        return of_start(clients, *words)

    monkeypatch.setattr(DhcpClients, "of_start", of_late_start)
    assert world.ahead.dhcp.take_ahead(network, "web") is None
    assert world.server.said == [("new", "web")]


def test_lease_of_a_start_is_not_given_back_with_that_of_the_creation(world):
    world.create("web")
    world.settle()
    (lease,) = world.records.dhcp_leases.all()
    world.ipam.request_address(world.claim, "", "web")
    world.keeper._give_back(lease)
    assert not [said for said in world.server.said if said[0] == "release"]
    assert world.records.dhcp_leases.all()[0].address == lease.address


def test_end_of_a_wait_is_not_that_of_the_next_lease_with_its_number(world):
    world.create("web")
    world.settle()
    (web,) = world.records.dhcp_leases.all()
    world.keeper.note_listed(set())
    world.pass_time(START_SECONDS * 2)
    world.start("db")
    world.engine.delete_endpoint("n1", "e-db")
    (db,) = world.records.dhcp_leases.all()
    assert db.id == web.id
    world.keeper.note(db)
    world.pass_time(START_SECONDS * 2)
    released = [said for said in world.server.said if said[0] == "release"]
    assert released == [("release", "web", "eth0")]
