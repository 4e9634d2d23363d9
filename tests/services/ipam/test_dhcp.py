"""Addresses from DHCP servers: which container gets which, and when they go back."""

from __future__ import annotations

import heapq
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network

import pytest

from tests.disks import unwritable
from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from underlay.api import status
from underlay.dhcp.packets import client_id_of_mac
from underlay.errors import (
    BadValue,
    ConflictingOptions,
    LeaseNotRenewed,
    LeaseRefused,
    NoDhcpServer,
    NotWithDhcp,
    OneClientForAll,
    OtherAddressGiven,
    ServerGoesByMac,
    UnknownPool,
)
from underlay.ipam import conflicts
from underlay.ipam.conflicts import QUARANTINE_SECONDS
from underlay.ipam.contested_leases import DECLINED_SECONDS
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.ipam.dhcp_clients import host_name_of
from underlay.ipam.dhcp_servers import Answer, Given
from underlay.ipam.identity import keep_for
from underlay.ipam.lease_keeper import LEAST_AGAIN_SECONDS, LeaseKeeper
from underlay.ipam.lease_states import failures
from underlay.ipam.reconnecting import Client
from underlay.model import Endpoint, LearnedState, Network, Sighting, Subnet
from underlay.model.objects import Owner
from underlay.reconcile.defender import DEFEND_SECONDS, Defender
from underlay.records import Records

HOLD, LEASE = 120.0, 3600.0
ROOM = "/run/docker/netns/web"


class Server:
    """A DHCP server that knows its clients by their client ids."""

    def __init__(self, clock):
        self.clock, self.given, self.said = clock, {}, []
        self.lease = LEASE
        self.is_there, self.next, self.router = True, 100, "10.55.0.1"
        self.reserved, self.options, self.goes_by_mac = {}, b"", False

    def boot(self):
        return "boot-1"

    def monotonic(self):
        return self.clock()

    def way_out(self, _network):
        return "Look at the server."

    def moment(self, _lease, at):
        return at

    def when(self, at):
        return at

    def _id(self, lease):
        return lease.mac if self.goes_by_mac else lease.client_id

    def _give(self, lease, address):
        self.given[self._id(lease)] = address
        now = self.clock()
        return Given(
            address=IPv4Interface(f"{address}/23"),
            server=IPv4Address("10.55.0.1"),
            server_mac="02:00:00:00:00:01",
            router=IPv4Address(self.router),
            options=self.options,
            since=now,
            renew=now + self.lease / 2,
            rebind=now + self.lease * 7 / 8,
            expires=now + self.lease,
            uptime=now,
        )

    def ask_new(self, _network, lease, _wish, seconds, refusal):
        self.said.append(("new", lease.mac))
        if not self.is_there:
            return Answer(asked="4 DISCOVERs", heard="nothing", seconds=seconds)
        known = self.reserved.get(lease.mac) or self.given.get(self._id(lease))
        if known is None:
            taken = set(self.given.values())
            free = IPv4Address("10.55.0.0") + self.next
            while free in taken:
                free += 1
            known = free
        given = self._give(lease, known)
        if why := refusal(given.address.ip, given.server):
            return Answer(asked="4 messages", heard=f"heard: {why}", seconds=seconds)
        return Answer(given, seconds=1.0)

    def ask_again(self, _network, lease):
        self.said.append(("again", lease.mac))
        if not self.is_there:
            return Answer()
        known = self.reserved.get(lease.mac) or self.given.get(self._id(lease))
        if known != lease.address.ip:
            return Answer(refused=True)
        return Answer(self._give(lease, lease.address.ip))

    def renew(self, _endpoint, lease):
        self.said.append(("renew", lease.mac))
        return self.ask_again(None, lease) if self.is_there else Answer()

    def rebind(self, _endpoint, lease):
        self.said.append(("rebind", lease.mac))
        return self.ask_again(None, lease) if self.is_there else Answer()

    def confirm(self, _endpoint, lease):
        self.said.append(("confirm", lease.mac))
        return self.ask_again(None, lease)

    def replace(self, _endpoint, lease, *, declined=False):
        self.said.append(("replace", lease.mac))
        known = self.given.get(self._id(lease)) or IPv4Address(f"10.55.0.{self.next}")
        if declined and known == lease.address.ip:  # the client takes no such offer
            return Answer()
        return Answer(self._give(lease, known)) if self.is_there else Answer()

    def decline(self, _device, lease):
        self.said.append(("decline", lease.mac))
        if self.given.pop(self._id(lease), None):
            self.next += 1

    def release(self, _device, lease, _later):
        self.said.append(("release", lease.mac))
        self.given.pop(self._id(lease), None)


class World:
    """Docker as it starts and stops containers, over one record."""

    def __init__(self, records):
        self.records, self.clock, self.started = records, Clock(), 0
        self.kernel = FakeKernel()
        self.engine = engine_on(records, self.kernel, self.clock)
        self.ipam, self.server = self.engine.parts.ipam, Server(self.clock)
        self.keeper = LeaseKeeper(records, self.server, self.clock, self.clock)
        idle = self.engine.parts.ipam.idle
        self.dhcp = DhcpAddresses(
            records, self.kernel, self.server, idle,
            self.engine.parts.engine.remove_dead_endpoint, self.clock,
            "machine-1", self.keeper.note,
        )  # fmt: skip
        object.__setattr__(self.ipam, "ask_dhcp", self.dhcp.request_address)
        self.pools = {}

    def network(self, name="n1", **options):
        claim = self.ipam.request_pool("", "", {"source": "dhcp"}, 4)
        segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
        asked = {"parent": "eth0", **options}
        self.engine.create_network(Network(name, asked, subnets=(segment,)))
        self.pools[name] = claim.id
        return claim

    def remove_network(self, name="n1"):
        self.engine.delete_network(name)
        self.ipam.release_pool(self.pools[name])

    def start(self, name, network="n1", wish="", mac=""):
        self.started += 1
        given = self.ipam.request_address(self.pools[network], wish, name)
        told = IPv4Interface(str(given))
        asked = Endpoint(f"e{self.started}", network, told, mac=mac)
        self.clock.now += 1
        return self.engine.create_endpoint(asked)

    def stop(self, endpoint):
        self.engine.delete_endpoint(endpoint.network, endpoint.id)
        pool = self.pools[endpoint.network]
        self.ipam.release_address(pool, str(endpoint.ipv4.ip))
        self.engine.dropper.finish_all()

    def join(self, endpoint, room=ROOM):
        """Let the device be in a sandbox, as a pass finds it."""
        self.engine.join(endpoint.network, endpoint.id, room)
        device = endpoint.id
        with self.records.transaction():
            joined = self.records.endpoints.get(device)
            learned = replace(joined, learned=LearnedState("eth0", 1500))
            self.records.endpoints.save_learned(learned)

    def listed(self, *names):
        self.keeper.note_listed(set(names))

    def pass_time(self, seconds):
        """Let time pass, and the keeper do all that becomes due."""
        end = self.clock.now + seconds
        while (due := self._due()) <= end:
            self.clock.now = max(self.clock.now, due)
            self.keeper._keep(self.keeper._next())
        self.clock.now = end

    def _due(self):
        """Return when the keeper does something next; void entries are taken out."""
        queue, first = self.keeper._queue, self.keeper._first
        while queue and first.get(queue[0][1]) != queue[0][0]:
            heapq.heappop(queue)
        return queue[0][0] if queue else float("inf")

    @property
    def verbs(self):
        return [verb for verb, _ in self.server.said]


@pytest.fixture
def world(records):
    return World(records)


def test_pool_is_everything_and_its_mark_leads_to_the_network(world):
    first, second = world.network("n1"), world.network("n2")
    assert str(first.pool.subnet) == "0.0.0.0/0"
    assert mark_of(first) != mark_of(second)
    claims = world.records.pools.claims_of
    assert [c.id for c in claims("n1")] == [first.id]
    assert [c.id for c in claims("n2")] == [second.id]


def test_container_has_what_the_server_gave_and_its_router(world):
    world.network()
    web = world.start("web")
    assert str(web.ipv4) == "10.55.0.100/23"
    assert str(world.records.endpoints.get(web.id).router) == "10.55.0.1"
    assert web.mac == world.server.said[0][1]
    answer = world.engine.join("n1", web.id, ROOM)
    assert str(answer.gateway4) == "10.55.0.1"


# the_same_name_gets_the_same_mac_address_and_client_id,
# claymore666/docker-net-dhcp#370, claymore666/docker-net-dhcp#402
def test_restart_asks_for_the_same_address_and_sends_nothing_at_the_stop(world):
    world.network()
    web = world.start("web")
    world.stop(web)
    again = world.start("web")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert world.verbs == ["new", "again"]


def test_name_keeps_address_and_mac_over_another_network_of_its_parent(world):
    world.network("n1")
    web = world.start("web")
    world.stop(web)
    world.remove_network("n1")
    world.network("n2")
    again = world.start("web", "n2")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)


def test_lost_records_lead_to_the_same_mac_and_address(world, tmp_path):
    world.network()
    web = world.start("web")
    other = Records(tmp_path / "other.db")
    new = World(other)
    new.server = world.server
    new.dhcp = replace(new.dhcp, servers=world.server)
    object.__setattr__(new.ipam, "ask_dhcp", new.dhcp.request_address)
    new.network("n9")
    again = new.start("web", "n9")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    other.close()


# containernetworking/plugins#217
def test_two_living_containers_of_one_name_are_two_clients(world):
    world.network("n1")
    world.network("n2")
    first, second = world.start("web", "n1"), world.start("web", "n2")
    assert first.mac != second.mac
    assert first.ipv4 != second.ipv4


def test_mac_of_the_user_s_choice_gets_the_lease_that_docker_was_told(world):
    world.engine.parts.engine.with_address = world.dhcp.with_address
    world.network()
    web = world.start("web", mac="02:00:00:00:00:99")
    assert web.mac == "02:00:00:00:00:99"
    assert world.verbs == ["new", "again"]
    world.stop(web)
    again = world.start("web", mac="02:00:00:00:00:99")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert world.verbs == ["new", "again", "again"]


# a_reservation_by_mac_is_honoured_at_the_first_start
def test_reservation_for_the_user_s_mac_is_had_from_the_second_start_on(world):
    world.engine.parts.engine.with_address = world.dhcp.with_address
    world.network()
    mac = "02:00:00:00:00:99"
    world.server.reserved[mac] = IPv4Address("10.55.0.9")
    with pytest.raises(LeaseRefused) as refused:
        world.start("web", mac=mac)
    assert mac in str(refused.value)
    world.ipam.release_address(world.pools["n1"], "10.55.0.100")
    assert "release" in world.verbs
    assert str(world.start("web", mac=mac).ipv4) == "10.55.0.9/23"


def test_lease_that_a_mac_does_not_get_goes_back_before_that_is_on_record(world):
    world.engine.parts.engine.with_address = world.dhcp.with_address
    world.network()
    mac, said, release = "02:00:00:00:00:99", [], world.server.release
    world.server.reserved[mac] = IPv4Address("10.55.0.9")

    def note(*words):
        said.append(world.kernel.is_locked())
        release(*words)

    world.server.release = note
    with pytest.raises(LeaseRefused):
        world.start("web", mac=mac)
    assert said == [True]


def test_silent_server_is_answered_for_by_a_lease_that_is_left(world):
    world.network()
    web = world.start("web")
    world.stop(web)
    world.server.is_there = False
    assert world.start("web").ipv4 == web.ipv4


def test_refused_lease_is_asked_for_as_a_new_one(world):
    world.network()
    web = world.start("web")
    world.stop(web)
    world.server.given.clear()
    world.server.next = 120
    assert str(world.start("web").ipv4) == "10.55.0.120/23"
    assert world.verbs == ["new", "again", "new"]


def test_starting_container_that_a_late_list_lacks_keeps_its_lease(world):
    world.network(hold="0")
    told = IPv4Interface(str(world.ipam.request_address(world.pools["n1"], "", "web")))
    world.listed()
    world.pass_time(1)
    assert "release" not in world.verbs
    web = world.engine.create_endpoint(Endpoint("e1", "n1", told))
    assert world.records.dhcp_leases.of_endpoint(web.id).address == told


def test_start_without_a_server_tells_the_parent_and_the_time(world):
    world.network(lease_timeout="5")
    world.server.is_there = False
    with pytest.raises(NoDhcpServer) as refused:
        world.start("web")
    assert "eth0" in str(refused.value)
    assert "4 DISCOVERs in 5 s" in str(refused.value)


def test_address_of_an_ended_lease_that_a_server_gives_another_is_that_one_s(world):
    world.network()
    web = world.start("web")
    world.stop(web)
    world.clock.now += LEASE * 2
    world.server.given.clear()
    db = world.start("db")
    assert (db.ipv4, db.mac) == (web.ipv4, world.server.said[-1][1])
    assert world.records.dhcp_leases.of_endpoint(db.id).value == "db"
    assert world.start("web").ipv4 != web.ipv4


def test_address_that_a_running_container_gets_is_held_for_no_other(world):
    world.network()
    web, db = world.start("web"), world.start("db")
    world.join(web)
    world.stop(db)
    # The server has lost its leases.
    world.server.given = {client_id(world, web): db.ipv4.ip}
    world.pass_time(LEASE * 0.6)
    assert world.records.endpoints.get(web.id).ipv4 == db.ipv4
    world.server.is_there = False
    with pytest.raises(NoDhcpServer):
        world.start("db")


def test_other_address_than_asked_for_is_given_back_and_named(world):
    world.network()
    with pytest.raises(OtherAddressGiven) as refused:
        world.start("web", wish="10.55.0.7")
    assert "10.55.0.7" in str(refused.value)
    assert "10.55.0.100" in str(refused.value)
    assert not world.server.given


def null_network(world, name="n1", **options):
    segment = Subnet(EVERYWHERE, dhcp=True)
    asked = {"parent": "eth0", "source": "dhcp", **options}
    world.engine.parts.engine.with_address = world.dhcp.with_address
    world.engine.create_network(Network(name, asked, subnets=(segment,)))


def create(world, number, network="n1", **asked):
    return world.engine.create_endpoint(Endpoint(f"e{number}", network, **asked))


def test_endpoint_of_the_null_ipam_driver_gets_its_address_from_a_server(world):
    null_network(world)
    web = create(world, 1, mac="02:00:00:00:00:99")
    assert (str(web.ipv4), web.mac) == ("10.55.0.100/23", "02:00:00:00:00:99")
    assert world.records.dhcp_leases.of_endpoint("e1").kind == "mac"
    assert str(world.records.endpoints.get("e1").router) == "10.55.0.1"
    again = create(world, 1, mac="02:00:00:00:00:99")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert world.verbs == ["new"]
    world.engine.delete_endpoint("n1", "e1")
    world.engine.dropper.finish_all()
    again = create(world, 2, mac="02:00:00:00:00:99")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)


def test_identity_names_a_container_of_the_null_ipam_driver(world):
    null_network(world)
    web = create(world, 1, options={"identity": "shop"})
    with world.records.transaction():
        keep_for(world.records, "e1", "shop-web-1")
    world.engine.delete_endpoint("n1", "e1")
    world.engine.dropper.finish_all()
    world.listed("shop-web-1")
    world.pass_time(HOLD * 2)
    again = create(world, 2, options={"identity": "shop"})
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert "release" not in world.verbs


@pytest.mark.parametrize("name", ["a b", "x" * 61, "a/b"])
def test_identity_is_one_word(world, name):
    null_network(world)
    with pytest.raises(BadValue):
        create(world, 1, options={"identity": name})


def test_identity_is_only_for_the_null_ipam_driver(world):
    world.network()
    given = world.ipam.request_address(world.pools["n1"], "", "web")
    with pytest.raises(BadValue):
        create(world, 1, ipv4=IPv4Interface(str(given)), options={"identity": "a"})


def client_id(world, endpoint):
    return world.records.dhcp_leases.of_endpoint(endpoint.id).client_id


def test_client_id_of_a_container_is_its_mac_if_the_network_says_no_other(world):
    world.network("n1")
    web = world.start("web")
    assert client_id(world, web) == client_id_of_mac(web.mac)
    world.stop(web)
    world.network("n2", client_id="duid")
    web = world.start("web", "n2")
    assert client_id(world, web)[:1] == b"\xff"
    # To the server it is another client, which has no lease yet.
    assert world.verbs == ["new", "new"]
    world.stop(web)
    assert client_id(world, world.start("web", "n2")) in world.server.given
    assert world.verbs == ["new", "new", "again"]


def test_duid_of_a_place_stays_with_the_name_that_docker_tells(world):
    world.network(client_id="duid")
    web = world.start("")
    before = client_id(world, web)
    with world.records.transaction():
        keep_for(world.records, web.id, "web")
    world.stop(web)
    assert client_id(world, world.start("web")) == before


def test_text_as_a_client_id_names_a_container_of_the_null_ipam_driver(world):
    null_network(world)
    web = create(world, 1, options={"client_id": "Shop 7"})
    assert client_id(world, web) == b"\0Shop 7"
    other = create(world, 2, options={"client_id": "duid"})
    assert client_id(world, other)[:1] == b"\xff"
    world.engine.delete_endpoint("n1", "e1")
    world.engine.dropper.finish_all()
    again = create(world, 3, options={"client_id": "Shop 7"})
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)


def test_text_as_a_client_id_has_sixty_bytes_at_the_most(world):
    null_network(world)
    with pytest.raises(BadValue):
        create(world, 1, options={"client_id": "ä" * 31})
    assert world.verbs == []


def test_client_id_of_an_endpoint_is_only_for_the_null_ipam_driver(world):
    world.network()
    given = IPv4Interface(str(world.ipam.request_address(world.pools["n1"], "", "web")))
    with pytest.raises(BadValue) as refused:
        create(world, 1, ipv4=given, options={"client_id": "duid"})
    assert "after it has got the address" in str(refused.value)


@pytest.mark.parametrize(
    "options", [{"client_id": "web"}, {"client_id": "mac", "mode": "ipvlan"}]
)
def test_client_id_that_all_containers_would_share_is_refused(world, options):
    with pytest.raises(OneClientForAll):
        world.network(**options)


def test_mac_of_the_user_s_choice_leaves_another_client_id_as_it_is(world):
    world.engine.parts.engine.with_address = world.dhcp.with_address
    world.network(client_id="duid")
    mac = "02:00:00:00:00:99"
    world.server.reserved[mac] = IPv4Address("10.55.0.9")
    with pytest.raises(LeaseRefused):
        world.start("web", mac=mac)
    assert client_id(world, world.start("web", mac=mac))[:1] == b"\xff"


def create_with(world, **options):
    claim = world.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
    asked = {"parent": "eth0", **options}
    world.engine.create_network(Network("n1", asked, subnets=(segment,)))


@pytest.mark.parametrize("source", ["dhcp", "pool"])
def test_option_source_is_only_for_the_null_ipam_driver(world, source):
    with pytest.raises(BadValue):
        create_with(world, source=source)


@pytest.mark.parametrize("value", ["on", "off"])
def test_option_probe_is_only_for_the_null_ipam_driver(world, value):
    with pytest.raises(BadValue) as refused:
        create_with(world, probe=value)
    assert f"--ipam-opt probe={value}" in str(refused.value)


def test_address_that_another_container_has_here_is_not_taken_from_a_server(world):
    world.network("n1")
    world.network("n2")
    world.start("web", "n1")
    world.server.given.clear()
    with pytest.raises(NoDhcpServer) as refused:
        world.start("db", "n2")
    assert "10.55.0.100, which container web has here" in str(refused.value)


def test_container_without_a_known_name_is_told_by_its_endpoint(world):
    null_network(world)
    create(world, 1, mac="02:00:00:00:00:99")
    with pytest.raises(NoDhcpServer) as refused:
        create(world, 2, mac="02:00:00:00:00:99")
    assert "10.55.0.100, which container e1 has here" in str(refused.value)


@pytest.fixture
def ipvlan(world):
    """A network whose containers have one MAC, and a server that goes by that only."""
    world.network(mode="ipvlan")
    world.server.goes_by_mac = True
    return world


# a_container_gets_its_address_from
def test_server_that_goes_by_the_mac_only_is_named_with_both_containers(ipvlan):
    ipvlan.start("web")
    with pytest.raises(ServerGoesByMac) as refused:
        ipvlan.start("db")
    for word in ("10.55.0.1", "container db", "container web", "macvlan"):
        assert word in str(refused.value)


def test_server_that_goes_by_the_mac_only_gives_a_stopped_container_s_lease_away(
    ipvlan,
):
    web = ipvlan.start("web")
    ipvlan.stop(web)
    assert ipvlan.start("db").ipv4 == web.ipv4
    with pytest.raises(ServerGoesByMac):
        ipvlan.start("web")


def test_ipvlan_containers_have_leases_of_a_server_that_goes_by_client_ids(ipvlan):
    ipvlan.server.goes_by_mac = False
    web, db = ipvlan.start("web"), ipvlan.start("db")
    assert web.ipv4 != db.ipv4


def test_claim_of_a_server_s_addresses_is_for_ipv4(world):
    with pytest.raises(NotWithDhcp):
        world.ipam.request_pool("", "", {"source": "dhcp"}, 6)


@pytest.mark.parametrize("option", ["domain", "slice"])
def test_claim_of_a_server_s_addresses_takes_no_option_of_pools(world, option):
    with pytest.raises(ConflictingOptions):
        world.ipam.request_pool("", "", {"source": "dhcp", option: "1/2"}, 4)


@pytest.fixture
def mixed(world):
    """A network whose range is the administrator's, the rest of it the server's."""
    asked = ("10.55.0.0/23", "10.55.1.0/28", {"source": "dhcp"}, 4)
    claim = world.ipam.request_pool(*asked)
    world.ipam.request_gateway(claim.id, "")
    segment = Subnet(ip_network("10.55.0.0/23"), ip_address("10.55.0.1"), pooled=True)
    network = Network("n1", {"parent": "eth0"}, subnets=(segment,))
    world.engine.create_network(network)
    world.pools["n1"] = claim.id
    world.engine.create_network(network)  # Docker asks once more
    return world


def test_network_with_a_subnet_and_a_server_has_both_kinds_of_addresses(mixed):
    web, db = mixed.start("web"), mixed.start("db", wish="10.55.1.7")
    assert str(web.ipv4) == "10.55.0.100/23"
    assert str(db.ipv4) == "10.55.1.7/23"
    assert mixed.verbs == ["new"]
    assert mixed.records.dhcp_leases.of_endpoint(db.id) is None


def test_address_outside_the_subnet_is_not_taken_from_a_server(mixed):
    mixed.server.next = 600
    with pytest.raises(NoDhcpServer) as refused:
        mixed.start("web")
    assert "of 10.55.2.88, outside the network's --subnet" in str(refused.value)


def test_gateway_by_hand_is_refused_with_a_subnet_too(world):
    claim = world.ipam.request_pool("10.55.0.0/23", "", {"source": "dhcp"}, 4)
    with pytest.raises(NotWithDhcp) as refused:
        world.ipam.request_gateway(claim.id, "10.55.0.1")
    assert "-o gateway=10.55.0.1" in str(refused.value)


def test_gateway_and_aux_addresses_of_a_server_s_subnet_are_refused(world):
    claim = world.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    with pytest.raises(NotWithDhcp):
        world.ipam.request_gateway(claim.id, "10.55.0.1")
    with pytest.raises(NotWithDhcp):
        world.ipam.request_address(claim.id, "10.55.0.9", "")
    with pytest.raises(UnknownPool):
        world.ipam.request_address(claim.id, "", "")


@pytest.mark.parametrize(
    "options",
    [{"mode": "routed"}, {"parent": "eth0", "mode": "ipvlan", "ipvlan_mode": "l3"}, {}],
)
def test_network_without_a_segment_takes_no_dhcp(world, options):
    claim = world.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
    with pytest.raises(NotWithDhcp):
        world.engine.create_network(Network("n1", options, subnets=(segment,)))


# a_lease_lives_through
def test_lease_is_renewed_at_half_of_its_time(world):
    world.network()
    web = world.start("web")
    world.join(web)
    world.pass_time(LEASE * 5)
    assert world.verbs.count("renew") == 10
    assert "rebind" not in world.verbs
    lease = world.records.dhcp_leases.of_endpoint(web.id)
    assert lease.expires > world.clock()


# a_lease_lives_through
def test_silent_server_is_asked_again_and_then_any_server(world):
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.is_there = False
    world.pass_time(LEASE * 15 / 16)
    assert world.verbs.count("renew") > 3
    assert world.verbs.count("rebind") > 0
    world.server.is_there = True
    world.pass_time(LEASE)
    assert world.records.dhcp_leases.of_endpoint(web.id).expires > world.clock()


def lease_of(world, endpoint):
    return world.records.dhcp_leases.of_endpoint(endpoint.id)


def test_lease_is_renewed_when_an_administrator_wants_it(world):
    world.network()
    web = world.start("web")
    assert world.keeper.renew(lease_of(world, web)) is None  # it is starting
    world.join(web)
    world.clock.now += LEASE / 4
    after = world.keeper.renew(lease_of(world, web))
    assert after.expires == world.clock() + LEASE
    assert world.verbs == ["new", "renew", "again"]


def test_lease_that_is_renewed_by_hand_may_come_from_another_server(world):
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.renew = lambda _endpoint, _lease: Answer()
    assert world.keeper.renew(lease_of(world, web)).server
    assert world.verbs == ["new", "rebind", "again"]
    world.server.is_there = False
    with pytest.raises(LeaseNotRenewed):
        world.keeper.renew(lease_of(world, web))


def by_hand(world):
    """Return the keeper of the process of a command: it has a queue of its own."""
    return LeaseKeeper(world.records, world.server, world.clock, world.clock)


def test_lease_that_a_command_has_renewed_is_renewed_by_the_service_when_due(world):
    """It is shorter now, and the service waits after a server that was silent."""
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.is_there = False
    world.pass_time(LEASE * 5)  # asked again ten minutes later
    world.server.is_there, world.server.lease = True, 100.0
    by_hand(world).renew(lease_of(world, web))
    world.listed("web")
    asked = len(world.verbs)
    world.pass_time(60)
    assert world.verbs[asked:] == ["renew", "again"]


def test_lease_is_given_back_by_hand_unless_a_container_has_it(world):
    world.network()
    web = world.start("web")
    lease = lease_of(world, web)
    assert not world.keeper.release(lease)
    world.stop(web)
    world.listed("web")
    (held,) = world.records.dhcp_leases.all()
    assert by_hand(world).release(held)
    assert world.verbs == ["new", "release"]
    assert world.records.dhcp_leases.all() == []
    world.pass_time(LEASE * 2)
    assert world.verbs == ["new", "release"]
    assert world.start("web").mac == web.mac


def test_lease_that_is_due_while_it_is_asked_for_is_looked_at_again(world):
    keeper = LeaseKeeper(world.records, world.server, world.clock, time.monotonic)
    with ThreadPoolExecutor(1) as pool:
        due = pool.submit(keeper._next)
        while not keeper._changed._waiters:
            time.sleep(0.01)
        keeper._busy.add(7)
        keeper._try(7)
        try:
            assert due.result(10) == 7
        finally:
            with keeper._changed:
                keeper._stopping = True
                keeper._changed.notify_all()


def test_lease_that_a_container_is_starting_with_is_not_given_back(world):
    world.network()
    world.ipam.request_address(world.pools["n1"], "", "web")
    (lease,) = world.records.dhcp_leases.all()
    assert not by_hand(world).release(lease)


@pytest.mark.parametrize("way", ["name", "identity"])
def test_lease_that_goes_back_while_a_start_asks_for_it_is_asked_for_as_a_new_one(
    world, way
):
    def start():
        if way == "name":
            return world.start("web")
        return create(world, world.started, options={"identity": "web"})

    if way == "name":
        world.network()
    else:
        null_network(world)
        world.pools["n1"] = ""
    web = start()
    world.engine.delete_endpoint("n1", web.id)
    if way == "name":
        world.ipam.release_address(world.pools["n1"], str(web.ipv4.ip))
    world.listed("web")
    ask = world.server.ask_again

    def release_meanwhile(network, lease):
        answer = ask(network, lease)
        (held,) = world.records.dhcp_leases.all()
        assert by_hand(world).release(held)
        return answer

    world.server.ask_again = release_meanwhile
    world.started += 1
    again = start()
    assert world.verbs == ["new", "again", "release", "new"]
    assert list(world.server.given.values()) == [again.ipv4.ip]
    assert lease_of(world, again).address == again.ipv4


def test_container_that_is_left_alone_gets_no_other_address_while_it_runs(world):
    world.network(repair="off")
    web = world.start("web")
    world.join(web)
    refusal = world.dhcp.refusal_inside(lease_of(world, web))
    other = IPv4Address("10.55.0.200")
    assert "of 10.55.0.200, which repair=off" in refusal(other, other)


def test_held_lease_is_neither_renewed_nor_released_while_docker_lists_the_container(
    world,
):
    world.network()
    web = world.start("web")
    world.stop(web)
    world.listed("web")
    world.pass_time(LEASE * 3)
    assert world.verbs == ["new"]


def test_removed_container_gives_its_lease_back_after_the_hold(world):
    world.network()
    web = world.start("web")
    world.listed("web")
    world.stop(web)
    world.listed()
    world.pass_time(HOLD - 5)
    assert world.verbs == ["new"]
    world.pass_time(10)
    assert world.verbs == ["new", "release"]
    assert world.records.dhcp_leases.all() == []


def test_lease_of_a_removed_network_goes_back_two_minutes_later(world):
    """Compose takes container and network down at once; nothing knows its `hold`."""
    world.network(hold="0")
    web = world.start("web")
    world.listed("web")
    world.stop(web)
    world.remove_network()
    world.listed()
    world.pass_time(HOLD - 5)
    assert world.verbs == ["new"]
    world.pass_time(10)
    assert world.verbs == ["new", "release"]
    assert world.records.dhcp_leases.all() == []


def test_container_that_is_back_within_the_hold_keeps_its_lease(world):
    world.network()
    web = world.start("web")
    world.stop(web)
    world.listed()
    world.pass_time(HOLD / 2)
    again = world.start("web")
    world.listed("web")
    world.pass_time(HOLD * 2)
    assert again.ipv4 == web.ipv4
    assert "release" not in world.verbs


def test_other_router_in_a_renewed_lease_is_the_container_s_at_once(world):
    changes = []
    world.keeper.on_change = changes.append
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.router = "10.55.0.254"
    world.pass_time(LEASE * 3 / 4)
    assert changes == [ROOM]
    assert str(world.records.endpoints.get(web.id).router) == "10.55.0.254"


ROUTE_A = bytes((121, 8, 24, 192, 0, 2, 10, 55, 0, 9))
ROUTE_B = bytes((121, 8, 24, 192, 0, 3, 10, 55, 0, 9))


@pytest.mark.parametrize(("asked", "former"), [("on", ["192.0.2.0/24"]), ("off", [])])
def test_other_routes_in_a_renewed_lease_are_the_container_s_at_once(
    world, asked, former
):
    changes = []
    world.keeper.on_change = changes.append
    world.network(lease_routes=asked)
    world.server.options = ROUTE_A
    web = world.start("web")
    world.join(web)
    world.server.options = ROUTE_B
    world.pass_time(LEASE * 3 / 4)
    assert changes == [ROOM]
    endpoint = world.records.endpoints.get(web.id)
    assert list(map(str, endpoint.former)) == former
    (route,) = endpoint.leased.routes
    assert str(route.destination) == "192.0.3.0/24"
    world.server.options = ROUTE_A
    world.pass_time(LEASE / 2)
    former = list(map(str, world.records.endpoints.get(web.id).former))
    assert former == (["192.0.3.0/24"] if asked == "on" else [])


def test_route_that_a_lease_did_not_bring_into_the_container_is_not_taken_out(world):
    world.network()
    # Nothing leads to the next hop: the route was left out.
    world.server.options = bytes((121, 8, 24, 192, 0, 2, 10, 99, 0, 9))
    web = world.start("web")
    world.join(web)
    world.server.options = b""
    world.pass_time(LEASE * 3 / 4)
    endpoint = world.records.endpoints.get(web.id)
    assert endpoint.leased.routes == ()
    assert endpoint.former == ()


def test_device_is_made_with_the_mtu_of_the_lease(world):
    world.network(lease_mtu="on")
    world.server.options = bytes((26, 2)) + (1400).to_bytes(2, "big")
    world.start("web")
    (made,) = (o for o in world.kernel.observe() if getattr(o, "mac", "") and o.owner)
    assert made.mtu == 1400


# an_address_changed_by_the_server_reaches_the_running_container_in_2_s,
# svinota/pyroute2#1436
def test_refused_renewal_gives_the_container_another_address(world):
    changes = []
    world.keeper.on_change = changes.append
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.given.clear()
    world.server.next = 130
    world.pass_time(LEASE * 3 / 4)
    endpoint = world.records.endpoints.get(web.id)
    assert str(endpoint.ipv4) == "10.55.0.130/23"
    assert endpoint.former == (web.ipv4,)
    assert changes == [ROOM]
    (held,) = world.records.leases.live_of_endpoint(web.id)
    assert str(held.address) == "10.55.0.130"
    with world.records.transaction():
        world.records.endpoints.name_container(web.id, "web")
    # What name servers are told.
    assert list(world.records.endpoints.named()) == [("web", "n1", "10.55.0.130/23")]


# a_lease_lives_through
def test_lease_without_a_server_ends_and_the_container_keeps_its_address(world):
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.is_there = False
    world.pass_time(LEASE * 4)
    assert world.records.endpoints.get(web.id).ipv4 == web.ipv4
    asked = world.verbs.count("confirm")
    assert LEASE * 3 / 600 <= asked <= LEASE * 3 / 600 + 6
    world.server.is_there = True
    world.pass_time(700)
    assert world.records.dhcp_leases.of_endpoint(web.id).expires > world.clock()


# a_lease_lives_through, kube-vip/kube-vip#871
def test_lease_without_a_server_is_dropped_at_its_end_if_it_is_so_wished(world):
    changes, records = [], world.records
    world.keeper.on_change = changes.append
    world.network(when_lost="drop")
    web = world.start("web")
    world.join(web)
    with records.transaction():
        records.endpoints.name_container(web.id, "web")
    world.server.is_there = False
    world.pass_time(LEASE * 2)
    endpoint = records.endpoints.get(web.id)
    assert (endpoint.ipv4, endpoint.lost, endpoint.former) == (None, web.ipv4, ())
    assert changes == [ROOM]
    assert list(records.endpoints.named()) == []
    assert records.leases.live_of_endpoint(web.id) == []
    (failure,) = failures(records, world.clock())
    assert "has lost (when_lost=drop)" in failure.text
    # The pass has seen that it is gone. It must not come back for that.
    with records.transaction():
        records.dhcp_leases.keep_former(web.id, ())
    assert records.endpoints.get(web.id).ipv4 is None


@pytest.mark.parametrize("other", [None, "10.55.0.140"])
def test_dropped_address_is_back_when_a_server_gives_it_or_another(world, other):
    changes, records = [], world.records
    world.network(when_lost="drop")
    web = world.start("web")
    world.join(web)
    world.server.is_there = False
    world.pass_time(LEASE * 2)
    world.keeper.on_change = changes.append
    world.server.is_there = True
    if other:
        world.server.given[client_id(world, web)] = IPv4Address(other)
    world.pass_time(700)
    endpoint = records.endpoints.get(web.id)
    assert str(endpoint.ipv4.ip) == (other or str(web.ipv4.ip))
    assert (endpoint.lost, endpoint.former) == (None, (web.ipv4,) if other else ())
    assert changes == [ROOM]
    (held,) = records.leases.live_of_endpoint(web.id)
    assert held.address == endpoint.ipv4.ip
    world.stop(web)


def test_address_is_not_to_be_dropped_from_a_sandbox_that_is_left_alone(world):
    with pytest.raises(ConflictingOptions, match="when_lost=drop and repair=off"):
        world.network(when_lost="drop", repair="off")
    world.network("n2", when_lost="drop")
    told = IPv4Interface(str(world.ipam.request_address(world.pools["n2"], "", "web")))
    with pytest.raises(ConflictingOptions, match="when_lost=drop and repair=off"):
        world.engine.create_endpoint(
            Endpoint("e1", "n2", told, options={"repair": "off"})
        )


def test_lease_that_a_command_renews_at_its_end_is_not_dropped(world):
    world.network(when_lost="drop")
    web = world.start("web")
    world.join(web)
    ended = world.records.dhcp_leases.of_endpoint(web.id)
    world.clock.now += LEASE * 2
    world.keeper.renew(ended)
    changes = []
    world.keeper.on_change = changes.append
    world.keeper._renew(ended)  # as it was before the command
    assert world.records.endpoints.get(web.id).ipv4 == web.ipv4
    assert changes == []


def test_dropped_address_is_of_no_use_to_the_next_start_without_a_server(world):
    world.network(when_lost="drop")
    web = world.start("web")
    world.join(web)
    world.server.is_there = False
    world.pass_time(LEASE * 2)
    world.stop(web)
    with pytest.raises(NoDhcpServer):
        world.start("web")
    world.server.is_there = True
    assert world.start("web").ipv4 == web.ipv4


def test_leases_of_a_parent_that_is_back_are_asked_about_at_once(world):
    world.network()
    for name in ("web", "db"):
        world.join(world.start(name), f"/run/docker/netns/{name}")
    world.keeper.note_back("n1")
    world.pass_time(1)
    assert world.verbs.count("confirm") == 2
    world.pass_time(10)
    assert world.verbs.count("confirm") == 2


def test_parent_that_is_back_is_not_waited_for_after_a_silent_server(world):
    world.network()
    world.join(world.start("web"))
    world.server.is_there = False
    world.pass_time(LEASE * 0.6)
    world.server.is_there = True
    world.keeper.note_back("n1")
    world.pass_time(1)
    assert world.verbs.count("confirm") == 1


def test_answer_after_a_cable_that_cannot_be_recorded_is_asked_for_once_more(world):
    world.network()
    web = world.start("web")
    world.join(web)
    lease = world.records.dhcp_leases.of_endpoint(web.id)
    world.keeper.note_back("n1")
    with unwritable(world.records):
        world.keeper._try(lease.id)
    world.pass_time(20)
    assert world.verbs.count("confirm") == 2
    assert world.records.dhcp_leases.by_id(lease.id).since > lease.since


def test_switch_that_lets_nothing_through_at_first_is_asked_through_again(world):
    world.network()
    web = world.start("web")
    world.join(web)
    lease = world.records.dhcp_leases.of_endpoint(web.id)
    with world.records.transaction():
        ends = {key: getattr(lease, key) + 86400 for key in ("renew", "rebind")}
        world.records.dhcp_leases.save(
            replace(lease, expires=lease.expires + 86400, **ends)
        )
    world.server.is_there = False
    world.keeper.note_back("n1")
    world.pass_time(30)
    world.server.is_there = True
    world.pass_time(LEAST_AGAIN_SECONDS)
    assert world.records.dhcp_leases.of_endpoint(web.id).since > lease.since


def test_lease_that_ends_never_is_not_renewed(world):
    world.network()
    web = world.start("web")
    world.join(web)
    lease = world.records.dhcp_leases.of_endpoint(web.id)
    with world.records.transaction():
        forever = replace(lease, renew=0.0, rebind=0.0, expires=0.0)
        world.keeper.note(world.records.dhcp_leases.save(forever))
    world.pass_time(LEASE * 5)
    assert "renew" not in world.verbs


def test_containers_without_a_name_have_places_that_are_used_again(world):
    world.network()
    first, second = world.start(""), world.start("")
    assert first.mac != second.mac
    world.stop(first)
    again = world.start("")
    assert (again.ipv4, again.mac) == (first.ipv4, first.mac)


def test_place_becomes_the_name_that_docker_tells_later(world):
    world.network()
    web = world.start("")
    with world.records.transaction():
        keep_for(world.records, web.id, "web")
    world.stop(web)
    other = world.start("")
    again = world.start("web")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert other.ipv4 != web.ipv4


def name(world, endpoint, container):
    """Let Docker tell the name of a running container."""
    with world.records.transaction():
        keep_for(world.records, endpoint.id, container)
    world.keeper.note_named(endpoint.id)
    world.pass_time(1)
    return world.records.dhcp_leases.of_endpoint(endpoint.id)


def test_name_that_docker_tells_after_the_start_is_told_to_the_server_once(world):
    world.network()
    web = world.start("")
    world.join(web)
    assert name(world, web, "web_1").hostname == "web-1"
    assert world.verbs.count("renew") == 1
    name(world, web, "web_1")
    assert world.verbs.count("renew") == 1
    # One that was known at the start has been told.
    db = world.start("db")
    world.join(db, "/run/docker/netns/db")
    name(world, db, "db")
    assert world.verbs.count("renew") == 1


def test_name_is_told_as_soon_as_the_device_is_in_the_sandbox(world):
    world.network()
    web = world.start("")
    name(world, web, "web")
    assert "renew" not in world.verbs
    world.join(web)
    world.pass_time(2)
    assert world.verbs.count("renew") == 1


def test_name_of_a_container_on_a_segment_in_doubt_waits_for_no_server(world):
    world.network()
    web = world.start("")
    world.join(web)
    world.pass_time(LEASE / 4)
    world.keeper.note_back("n1")
    assert name(world, web, "web").hostname == "web"
    assert world.verbs.count("confirm") == 1
    assert "renew" not in world.verbs


def test_name_is_not_told_with_hostname_off(world):
    world.network(hostname="off")
    web = world.start("")
    world.join(web)
    assert name(world, web, "web").hostname == ""
    assert "renew" not in world.verbs


@pytest.mark.parametrize(
    ("container", "host"),
    [("web_1", "web-1"), ("Web", "web"), ("x" * 70, "x" * 63), ("-a-", "a"), ("ä", "")],
)
def test_host_name_is_the_container_s_name_as_servers_take_it(container, host):
    assert host_name_of(container) == host


THEIRS = "02:00:00:00:00:66"


class Segment:
    """What machines say on the segment of a container that runs with a lease."""

    def __init__(self, world, ipam="underlay", **options):
        self.world, self.records, self.ipam = world, world.records, ipam
        if ipam == "null":
            null_network(world, **options)
        else:
            world.network(**options)
        self.start()
        wire, self.announcer = world.ipam.wire, world.engine.reconciler.announcer
        self.defender = Defender(
            world.records, wire, self.announcer, world.clock,
            world.keeper.note_contested,
        )  # fmt: skip
        self.defender.follow()

    def start(self):
        if self.ipam == "null":
            self.started = getattr(self, "started", 0) + 1
            known_as = {"identity": "web"}
            self.web = create(self.world, self.started, options=known_as)
        else:
            self.web = self.world.start("web")
        self.world.join(self.web)
        self.world.kernel.dock(Owner("n1", self.web.id).device, ROOM, "eth0")

    def stop(self):
        if self.ipam == "null":
            self.world.engine.delete_endpoint("n1", self.web.id)
            self.world.engine.dropper.finish_all()
        else:
            self.world.stop(self.web)

    def hear(self, address=None, *, devices=("eth0",), mac=THEIRS):
        claimed = address or self.address
        self.defender.hear([Sighting(claimed, mac, d) for d in devices])
        self.announcer.send_due()

    def hear_twice(self):
        self.hear()
        self.world.clock.now += 2
        self.hear()
        self.world.pass_time(1)

    @property
    def address(self):
        return self.records.endpoints.get(self.web.id).ipv4.ip

    @property
    def conflicts(self):
        return [(str(c.address), c.mac) for c in self.records.leases.conflicts()]

    @property
    def failures(self):
        """What is said of the container; by the clock of the host no lease holds."""
        return [f.text for f in conflicts.failures(self.records)]


@pytest.fixture(params=["underlay", "null"])
def segment(world, request):
    """By the IPAM driver, which the service is, or without one."""
    return Segment(world, request.param)


def test_machine_that_claims_a_lease_is_recorded_shown_logged_and_answered(
    segment, caplog
):
    segment.hear(devices=["eth0", *segment.defender._segments])
    assert segment.conflicts == [("10.55.0.100", THEIRS)]
    (failure,) = segment.failures
    assert failure.startswith("E-167 10.55.0.100 is in use on the network")
    assert status.endpoints(segment.records)[0]["health"] == "failing"
    announced = [(ROOM, "eth0", frozenset({segment.address}))]
    assert segment.world.kernel.announced == announced
    assert caplog.text.count("address in use by another machine") == 1
    segment.world.pass_time(60)
    assert segment.world.verbs == ["new"]


def test_lease_that_is_not_claimed_again_is_kept_and_healthy_when_it_is_silent(segment):
    world = segment.world
    segment.hear()
    world.clock.now += DEFEND_SECONDS + 1
    segment.hear()
    assert len(world.kernel.announced) == 2
    world.pass_time(QUARANTINE_SECONDS)
    world.ipam.wire.look()
    world.ipam.wire.ask_due()
    assert (segment.conflicts, segment.failures) == ([], [])
    assert "decline" not in world.verbs


def test_lease_that_is_claimed_again_within_ten_seconds_is_declined_and_replaced(
    segment, caplog
):
    changes, world = [], segment.world
    world.keeper.on_change = changes.append
    segment.hear_twice()
    assert world.verbs == ["new", "decline", "replace"]
    endpoint = segment.records.endpoints.get(segment.web.id)
    assert str(endpoint.ipv4) == "10.55.0.101/23"
    assert endpoint.former == (segment.web.ipv4,)
    assert changes == [ROOM]
    (declined,) = (r for r in caplog.records if "lease declined" in r.message)
    assert (declined.address, declined.mac) == (segment.web.ipv4, THEIRS)
    # The machine's address stays on record. That is no failure of the container's.
    assert segment.conflicts == [("10.55.0.100", THEIRS)]
    assert segment.failures == []
    assert [c.role for c in segment.records.leases.history("10.55.0.100", 9)] == [
        "conflict", "endpoint",
    ]  # fmt: skip


def test_watch_follows_a_container_to_its_other_address(segment):
    segment.hear_twice()
    segment.world.clock.now += DEFEND_SECONDS
    announced = len(segment.world.kernel.announced)
    segment.hear(segment.web.ipv4.ip)
    assert len(segment.world.kernel.announced) == announced
    segment.hear(segment.address)
    assert len(segment.world.kernel.announced) == announced + 1
    assert len(segment.failures) == 1


def test_leases_are_not_declined_one_after_the_other(segment):
    """A machine that claims every address must not use up the server's."""
    for _ in range(5):
        segment.hear_twice()
    assert segment.world.verbs.count("decline") == 1
    segment.world.clock.now += DECLINED_SECONDS
    segment.hear_twice()
    assert segment.world.verbs.count("decline") == 2


def test_addresses_that_no_container_has_are_neither_recorded_nor_remembered(segment):
    for last in range(1, 99):
        segment.hear(IPv4Address(f"10.55.0.{last}"))
    segment.hear(mac=segment.web.mac)
    assert segment.conflicts == []
    assert segment.world.ipam.wire.sightings._seen == {}


def test_container_keeps_a_declined_address_until_a_server_gives_another(segment):
    world = segment.world
    world.server.is_there = False
    segment.hear_twice()
    assert segment.address == segment.web.ipv4.ip
    world.pass_time(LEASE / 40)
    assert world.verbs == ["new", "decline", "replace", "decline", "replace"]
    world.server.is_there = True
    world.pass_time(60)
    assert str(segment.address) == "10.55.0.101"
    world.pass_time(LEASE)
    assert world.verbs.count("decline") == 3


def test_same_address_is_renewed_when_the_other_machine_is_silent(segment):
    """Where the server has no other one."""
    world = segment.world
    world.server.replace = lambda *_words, **_more: Answer()
    segment.hear_twice()
    (conflict,) = segment.records.leases.conflicts()
    with segment.records.transaction():
        world.ipam.wire.conflicts.end(conflict)
    world.server.given[client_id(world, segment.web)] = segment.address
    asked = len(world.verbs)
    world.pass_time(LEASE)
    assert "renew" in world.verbs[asked:]
    assert "decline" not in world.verbs[asked:]
    assert segment.address == segment.web.ipv4.ip


def test_container_starts_with_a_lease_that_a_machine_has_claimed(segment):
    """If it claims it again, the running container gets another one."""
    world = segment.world
    segment.hear()
    segment.stop()
    segment.start()
    assert segment.conflicts == [("10.55.0.100", THEIRS)]
    world.clock.now += DEFEND_SECONDS
    segment.hear_twice()
    assert str(segment.address) == "10.55.0.101"


def test_conflict_of_a_stopped_container_does_not_decline_the_lease_of_its_next_start(
    segment,
):
    world = segment.world
    world.server.is_there = False
    segment.hear_twice()
    last = segment.address
    world.server.given[client_id(world, segment.web)] = last  # none heard it
    segment.stop()
    world.server.is_there = True
    segment.start()
    assert segment.address == last
    declined = world.verbs.count("decline")
    world.pass_time(LEASE)
    assert world.verbs.count("decline") == declined


def test_network_without_an_ipam_driver_is_not_listened_to_with_probe_off(world):
    segment = Segment(world, "null", probe="off")
    assert segment.defender.follow() == {}
    segment.hear_twice()
    assert (segment.conflicts, world.verbs) == ([], ["new"])


def test_machine_on_one_segment_is_no_conflict_with_the_same_address_on_another(world):
    """Networks without an IPAM driver have no pool that tells them apart."""
    world.kernel.strangers["eth1"] = replace(ETH0, name="eth1", mac="52:54:00:00:00:02")
    segment = Segment(world, "null")
    null_network(world, "n2", parent="eth1")
    world.server.given.clear()
    other = create(world, 9, "n2", options={"identity": "db"})
    assert other.ipv4 == segment.web.ipv4
    segment.defender.follow()
    segment.hear()
    ((mark, health),) = [(f.mark, f.text) for f in conflicts.failures(segment.records)]
    assert mark == Owner("n1", segment.web.id).mark
    assert THEIRS in health
    segment.hear(devices=["eth1"])
    assert len(segment.conflicts) == 2


def test_conflict_of_a_removed_network_ends_with_the_next_look(world):
    segment = Segment(world, "null")
    segment.hear()
    segment.stop()
    world.engine.delete_network("n1")
    world.pass_time(QUARANTINE_SECONDS)
    world.ipam.wire.look()
    world.ipam.wire.ask_due()
    assert segment.conflicts == []


def as_client(lease):
    return Client(lease.kind, lease.value, lease.container)


def test_next_request_without_a_name_is_for_the_container_that_docker_reconnects(world):
    """Though others may be asking."""
    world.network()
    web = world.start("web")
    lease = world.records.dhcp_leases.of_endpoint(web.id)
    world.stop(web)
    with world.dhcp.reconnecting.expected("n1", as_client(lease)):
        again, other = world.start(""), world.start("")
    assert (again.ipv4, again.mac) == (web.ipv4, web.mac)
    assert other.mac != web.mac
    world.stop(again)
    assert world.start("").mac != web.mac


def test_container_of_the_null_ipam_driver_that_docker_reconnects_has_its_lease(world):
    """Not that of the first free place; nor has a container that says what it is."""
    null_network(world)
    _, db = create(world, 1), create(world, 2)
    lease = world.records.dhcp_leases.of_endpoint("e2")
    for endpoint in ("e1", "e2"):
        world.engine.delete_endpoint("n1", endpoint)
    world.engine.dropper.finish_all()
    with world.dhcp.reconnecting.expected("n1", as_client(lease)):
        told = create(world, 3, options={"identity": "shop"})
        again = create(world, 4)
    assert (again.ipv4, again.mac) == (db.ipv4, db.mac)
    assert told.mac != db.mac


def test_container_that_got_another_address_is_not_refused_it_at_its_next_start(world):
    """Docker gives the one back that it was told."""
    world.network()
    web = world.start("web")
    world.join(web)
    world.server.given.clear()
    world.server.next = 120
    world.pass_time(LEASE / 2 + 1)
    now = world.records.endpoints.get(web.id).ipv4
    assert now != web.ipv4
    world.stop(web)
    assert world.records.leases.having(now.ip) == []
    world.server.ask_again = lambda *_words: Answer(refused=True)
    assert world.start("web").ipv4 == now
