"""Records of networks with DHCP are lost: what Docker and the devices tell of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import Clock, FakeKernel, engine_on
from tests.worlds import nowhere, view
from underlay.dhcp.packets import client_id_of_mac
from underlay.docker_sync.dockerd import view as docker_view
from underlay.docker_sync.recovery import Recovery
from underlay.errors import UnknownPool
from underlay.ipam.dhcp import DhcpAddresses
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.ipam.dhcp_servers import Answer, Given
from underlay.ipam.lease_keeper import LeaseKeeper
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import DockerContainer, DockerEndpoint, DockerNetwork
from underlay.model.objects import Address, Owner, Route
from underlay.records import Records

ROUTER = ip_address("10.55.0.1")
DOMAIN, MARK = "dhcp-aabbcc", "0.170.187.204"
DEFAULT = ip_network("0.0.0.0/0")
LEASE = 3600.0


class Server:
    """A DHCP server that knows its clients by their client ids, and what it heard."""

    def __init__(self, clock):
        self.clock, self.given, self.said = clock, {}, []
        self.is_there, self.router = True, ROUTER

    def boot(self):
        return "boot-1"

    def monotonic(self):
        return self.clock()

    def moment(self, _lease, at):
        return at

    def when(self, at):
        return at

    def _answer(self, verb, lease):
        self.said.append((verb, lease.mac))
        known = self.given.get(lease.client_id)
        if not self.is_there:
            return Answer(asked="4 messages", heard="nothing")
        if verb != "new" and known != lease.address.ip:
            return Answer(refused=True)
        free = ip_address("10.55.0.100")
        while known is None:
            known = free if free not in self.given.values() else None
            free += 1
        self.given[lease.client_id] = known
        now = self.clock()
        given = Given(
            IPv4Interface(f"{known}/23"), ROUTER, "02:00:00:00:00:01", self.router,
            b"", now, now + LEASE / 2, now + LEASE * 7 / 8, now + LEASE, now,
        )  # fmt: skip
        return Answer(given)

    def ask_new(self, _network, lease, *_):
        return self._answer("new", lease)

    def ask_again(self, _network, lease):
        return self._answer("again", lease)

    def renew(self, _endpoint, lease):
        return self._answer("renew", lease)

    def rebind(self, _endpoint, lease):
        return self._answer("rebind", lease)

    def release(self, _device, lease, _later):
        self.said.append(("release", lease.mac))


class House:
    """A service over one record and one kernel, and the DHCP server of its LAN."""

    def __init__(self, records, kernel, server, clock):
        self.records, self.kernel = records, kernel
        self.server, self.clock = server, clock
        self.engine = engine_on(records, kernel, clock)
        parts = self.engine.parts
        self.changes = []
        self.keeper = LeaseKeeper(records, server, clock, clock, self.changes.append)
        self.dhcp = DhcpAddresses(
            records, kernel, server, parts.ipam.idle, parts.engine.remove_dead_endpoint,
            clock, "machine-1", self.keeper.note,
        )  # fmt: skip
        self.ipam = parts.ipam
        object.__setattr__(self.ipam, "ask_dhcp", self.dhcp.request_address)
        self.told = {}
        passes = self.engine.reconciler
        self.recovery = Recovery(
            records, kernel, self.engine, passes.parents, passes.observer, clock,
            lambda ids: {i: self.told[i] for i in ids if i in self.told}, self.dhcp,
        )  # fmt: skip

    def network(self, identity, **options):
        claim = self.ipam.request_pool("", "", {"source": "dhcp"}, 4)
        segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
        asked = Network(identity, {"parent": "eth0", **options}, subnets=(segment,))
        self.engine.create_network(asked)
        return claim

    def start(self, claim, container, wish=""):
        """Start a container as Docker does; return it as Docker lists it."""
        given = self.ipam.request_address(claim.id, wish, container)
        network = self.records.pools.claim(claim.id).network
        identity = f"e-{network}-{container}".ljust(12, "0")
        made = self.engine.create_endpoint(
            Endpoint(identity, network, IPv4Interface(str(given)))
        )
        room = f"/run/{identity}"
        answer = self.engine.join(network, identity, room)
        self.kernel.dock(
            answer.device, room, "eth0", *standing(made.ipv4, answer.gateway4)
        )
        self.look(room)
        return DockerEndpoint(
            identity, f"c-{identity}", container, made.mac, made.addresses
        )

    def stop(self, claim, endpoint):
        self.engine.delete_endpoint("n1", endpoint.id)
        self.ipam.release_address(claim.id, str(endpoint.addresses[0].ip))
        self.engine.dropper.finish_all()

    def listed(self, claim, *endpoints, **options):
        """Return a network as Docker lists it."""
        for endpoint in endpoints:
            gateways = {"n1": (ROUTER,)}
            self.told[endpoint.container] = DockerContainer(
                f"/run/{endpoint.id}", {}, gateways
            )
        return DockerNetwork(
            id=self.records.pools.claim(claim.id).network,
            name="lan",
            domain=claim.pool.domain,
            ip_networks=(EVERYWHERE,),
            ours=True,
            options={"parent": "eth0", **options},
            subnets=(Subnet(EVERYWHERE, pooled=True, dhcp=True),),
            ranges=("",),
            endpoints=endpoints,
        )

    def heed(self, *networks):
        self.recovery.rebuild(view(*networks), self.recovery.snapshot())
        self.engine.reconciler.observer.is_waiting = False

    def look(self, *stirred):
        self.engine.reconciler.run_pass(
            frozenset({"", *stirred}), self.clock(), nowhere
        )

    def keep(self, seconds=0.0):
        """Let time pass, and the keeper do what becomes due."""
        end = self.clock.now + seconds
        while self.keeper._queue and self.keeper._queue[0][0] <= end:
            self.clock.now = max(self.clock.now, self.keeper._queue[0][0])
            self.keeper._keep(self.keeper._next())
        self.clock.now = end

    def lease(self, endpoint):
        return self.records.dhcp_leases.of_endpoint(endpoint.id)

    def default_routes(self, endpoint):
        room = self.kernel.observe_sandboxes({f"/run/{endpoint.id}"})
        return [
            o.via
            for o in room[f"/run/{endpoint.id}"]
            if isinstance(o, Route) and o.destination == DEFAULT
        ]


def standing(interface, router):
    """Return what Docker and the kernel give a device."""
    connected = Route(interface.network, "eth0", 0, source=interface.ip, connected=True)
    given = [Address(interface, "eth0"), connected]
    return [*given, Route(DEFAULT, "eth0", 0, via=router)] if router else given


@pytest.fixture
def house(records):
    clock = Clock()
    return House(records, FakeKernel(), Server(clock), clock)


@pytest.fixture
def lose(house, tmp_path):
    """Return how to start the service again with other records, by default empty."""
    opened = []

    def start(copy=None):
        other = Records(copy or tmp_path / f"other{len(opened)}.db")
        opened.append(other)
        found = House(other, house.kernel, house.server, house.clock)
        found.told = house.told
        house.server.said.clear()
        found.recovery.begin()
        return found

    yield start
    for other in opened:
        other.close()


def docker_lists(**facts):
    """Return a network as Docker's API describes it."""
    ipam = {
        "Driver": "underlay",
        "Options": {"source": "dhcp"},
        "Config": [{"Subnet": "0.0.0.0/0", "Gateway": MARK}],
        **facts,
    }
    return {"Id": "n1", "Name": "lan", "Driver": "underlay", "IPAM": ipam}


@pytest.mark.parametrize("gateway", [MARK, f"{MARK}/0"])
def test_network_with_dhcp_is_read_from_its_mark_in_docker_s_list(gateway):
    config = [{"Subnet": "0.0.0.0/0", "Gateway": gateway}]
    (network,) = docker_view([docker_lists(Config=config)]).networks
    assert network.domain == DOMAIN
    assert network.ip_networks == (EVERYWHERE,)
    assert network.subnets == (Subnet(EVERYWHERE, None, pooled=True, dhcp=True),)


@pytest.mark.parametrize(
    "facts",
    [
        {"Driver": "null", "Options": None},
        {"Config": [{"Subnet": "0.0.0.0/0"}]},
        {"Config": [{"Subnet": "0.0.0.0/0", "Gateway": "10.0.0.1"}]},
        {"Config": [{"Subnet": "::/0"}]},
    ],
)
def test_everything_without_a_mark_is_no_network_of_dhcp(facts):
    (network,) = docker_view([docker_lists(**facts)]).networks
    assert network.subnets == ()


def test_network_claim_endpoints_and_leases_are_recorded_again(house, lose):
    claim = house.network("n1")
    web, db = house.start(claim, "web"), house.start(claim, "db")
    listed = house.listed(claim, web, db)
    before = house.lease(web)
    after = lose()
    after.heed(listed)
    (network,) = after.records.networks.all()
    assert network.subnets == (Subnet(EVERYWHERE, None, pooled=True, dhcp=True),)
    (found,) = after.records.pools.claims_of("n1")
    assert (found.source, found.probe) == ("dhcp", True)
    assert found.pool.domain == claim.pool.domain
    for endpoint in (web, db):
        known = after.records.endpoints.get(endpoint.id)
        assert (known.addresses, known.mac) == (endpoint.addresses, endpoint.mac)
        (held,) = after.records.leases.live_of_endpoint(endpoint.id)
        assert (held.claim, held.role) == (found.id, "endpoint")
    lease = after.lease(web)
    assert (lease.kind, lease.value, lease.hostname) == ("name", "web", "web")
    assert (lease.mac, lease.client_id) == (web.mac, client_id_of_mac(web.mac))
    assert (lease.address, lease.network) == (web.addresses[0], "n1")
    assert (lease.server, lease.router, before.server is None) == (None, None, False)
    assert after.records.reservations.all() == []


def test_pool_id_that_docker_kept_leads_to_the_network_and_its_servers(house, lose):
    claim = house.network("n1")
    listed = house.listed(claim, house.start(claim, "web"))
    after = lose()
    with pytest.raises(UnknownPool):
        after.ipam.request_address(claim.id, "", "other")
    after.heed(listed)
    db = after.start(claim, "db")
    assert str(db.addresses[0]) == "10.55.0.101/23"
    assert [c.id for c in after.records.pools.claims_of("n1")] == [claim.id]


def test_containers_that_stop_after_a_loss_leave_nothing_but_their_leases(house, lose):
    claim = house.network("n1")
    web = house.start(claim, "web")
    listed = house.listed(claim, web)
    after = lose()
    after.heed(listed)
    after.look(f"/run/{web.id}")
    after.keep()
    after.stop(claim, web)
    pool = after.records.pools.all()[0]
    assert after.records.leases.live_in(pool.id) == []
    assert after.start(claim, "web").addresses == web.addresses
    assert after.server.said[-1] == ("again", web.mac)
    after.ipam.release_pool(claim.id)


def test_network_removed_after_a_loss_takes_its_claim_along(house, lose):
    claim = house.network("n1")
    after = lose()
    after.heed(house.listed(claim))
    after.ipam.release_pool(claim.id)
    after.engine.delete_network("n1")
    assert after.records.pools.all() == []


def test_server_is_asked_at_once_and_tells_router_and_times(house, lose):
    claim = house.network("n1")
    web = house.start(claim, "web")
    after = lose()
    after.heed(house.listed(claim, web))
    after.look(f"/run/{web.id}")
    after.keep()
    assert after.server.said[0] == ("rebind", web.mac)
    lease = after.lease(web)
    assert (lease.server, lease.router) == (ROUTER, ROUTER)
    assert lease.expires == after.clock() + LEASE
    assert after.changes == [f"/run/{web.id}"]
    after.keep(LEASE)
    assert ("renew", web.mac) in after.server.said


def test_silent_server_is_asked_each_minute_until_it_answers(house, lose):
    claim = house.network("n1")
    web = house.start(claim, "web")
    after = lose()
    after.heed(house.listed(claim, web))
    after.look(f"/run/{web.id}")
    house.server.is_there = False
    after.keep(290.0)
    assert after.server.said == [("rebind", web.mac)] * 5
    house.server.is_there = True
    after.keep(20.0)
    assert after.lease(web).server == ROUTER


def test_default_route_stays_until_the_router_is_known_and_then_follows_it(house, lose):
    claim = house.network("n1")
    web = house.start(claim, "web")
    room = f"/run/{web.id}"
    after = lose()
    house.server.is_there = False
    after.heed(house.listed(claim, web))
    for _ in range(3):
        after.look(room)
        after.keep(1.0)
        assert after.default_routes(web) == [ROUTER]
    assert after.engine.preview() == ()
    house.server.is_there = True
    house.server.router = ip_address("10.55.0.254")
    after.keep(120.0)
    after.look(room)
    after.clock.now += 1
    after.look(room)
    assert after.default_routes(web) == [ip_address("10.55.0.254")]


def test_restart_before_a_server_answered_asks_for_the_same_address(house, lose):
    claim = house.network("n1")
    web = house.start(claim, "web")
    after = lose()
    after.heed(house.listed(claim, web))
    after.stop(claim, web)
    assert after.start(claim, "web").addresses == web.addresses
    assert after.server.said == [("new", web.mac)]


def test_removed_container_without_a_known_server_is_forgotten(house, lose):
    claim = house.network("n1", hold="0")
    web = house.start(claim, "web")
    after = lose()
    after.heed(house.listed(claim, web, hold="0"))
    after.engine.delete_endpoint("n1", web.id)
    after.keeper.note_listed(set())
    after.keep(1.0)
    assert after.records.dhcp_leases.all() == []
    assert after.server.said == []


def test_container_on_two_networks_of_a_parent_is_told_apart_by_its_macs(house, lose):
    first, second = house.network("n1"), house.network("n2")
    web = house.start(first, "web"), house.start(second, "web")
    lists = house.listed(first, web[0]), house.listed(second, web[1])
    after = lose()
    after.heed(*reversed(lists))
    assert after.lease(web[0]).value == "web"
    assert after.lease(web[1]).value == "web/n2"
    assert [after.lease(e).mac for e in web] == [e.mac for e in web]


def test_ipvlan_container_is_known_by_its_own_client_id_again(house, lose):
    claim = house.network("n1", mode="ipvlan")
    web = house.start(claim, "web")
    before = house.lease(web)
    after = lose()
    after.heed(house.listed(claim, web, mode="ipvlan"))
    lease = after.lease(web)
    assert (lease.mac, lease.client_id) == (before.mac, before.client_id)
    assert lease.client_id != client_id_of_mac(lease.mac)


def test_address_that_a_server_changed_since_docker_was_told_is_the_device_s(
    house, lose
):
    claim = house.network("n1")
    web = house.start(claim, "web")
    room, given = f"/run/{web.id}", IPv4Interface("10.55.0.140/24")
    house.kernel.others = {}
    for o in standing(given, ROUTER):
        o = replace(o, sandbox=room)
        house.kernel.others[o.key] = o
    after = lose()
    after.heed(house.listed(claim, web))
    assert after.lease(web).address == given
    assert after.records.endpoints.get(web.id).ipv4 == given
    # Docker releases what it knows.
    (held,) = after.records.leases.live_of_endpoint(web.id)
    assert held.address == web.addresses[0].ip


def copy_of(house, tmp_path):
    path = tmp_path / "copy.db"
    house.records._database._db.execute("VACUUM INTO ?", (str(path),))
    return path


def test_old_copy_that_knows_the_lease_keeps_its_server(house, lose, tmp_path):
    claim = house.network("n1")
    web = house.start(claim, "web")
    house.stop(claim, web)
    copy = copy_of(house, tmp_path)
    web = house.start(claim, "web")
    after = lose(copy=copy)
    after.heed(house.listed(claim, web))
    assert after.lease(web).server == ROUTER
    assert [x.value for x in after.records.dhcp_leases.all()] == ["web"]


def test_old_copy_with_another_container_at_the_address_gives_way(
    house, lose, tmp_path
):
    claim = house.network("n1")
    old = house.start(claim, "old")
    house.stop(claim, old)
    copy = copy_of(house, tmp_path)
    house.server.given.clear()
    heir = house.start(claim, "heir")
    assert heir.addresses == old.addresses
    after = lose(copy=copy)
    after.heed(house.listed(claim, heir))
    assert (after.lease(heir).value, after.lease(heir).mac) == ("heir", heir.mac)
    assert len(after.records.endpoints.all()) == 1


def test_claim_that_an_old_copy_has_without_its_network_is_bound_to_it(
    house, lose, tmp_path
):
    claim = house.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    copy = copy_of(house, tmp_path)
    segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
    house.engine.create_network(Network("n1", {"parent": "eth0"}, subnets=(segment,)))
    web = house.start(claim, "web")
    after = lose(copy=copy)
    after.heed(house.listed(claim, web))
    assert [c.id for c in after.records.pools.claims_of("n1")] == [claim.id]
    assert str(after.start(claim, "db").addresses[0]) == "10.55.0.101/23"


def test_addresses_of_unknown_devices_are_not_reserved_where_a_server_has_them(
    house, lose, tmp_path
):
    house.network("n1")
    mark = Owner("n9", "e9").mark
    house.kernel.other_namespaces = {mark: (ip_address("10.9.0.5"),)}
    after = lose(copy=copy_of(house, tmp_path))
    (pool,) = after.records.pools.all()
    assert after.records.leases.live_in(pool.id) == []
