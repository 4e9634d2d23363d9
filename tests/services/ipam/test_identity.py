"""One name, one address, one MAC: what an engine that tells names (29 on) gets."""

from __future__ import annotations

from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import Clock, FakeKernel, engine_on
from underlay.errors import AddressInUse, AddressTaken, NotFound, PoolExhausted
from underlay.ipam import conflicts
from underlay.ipam.identity import keep_for, name_of
from underlay.ipam.reserving import reserve, unreserve
from underlay.model import Endpoint, Network, Reservation, Subnet
from underlay.records import Records

SUBNET = "10.0.0.0/29"
HOUR, DAY = 3600, 86400


class Engine29:
    """Starts and stops containers as Docker does, over one record."""

    def __init__(self, records):
        self.records, self.clock = records, Clock()
        self.driver = engine_on(records, FakeKernel(), self.clock)
        self.ipam = self.driver.parts.ipam
        self.pools, self.started = {}, 0

    def network(self, name="n1", subnet=SUBNET, gateway="10.0.0.1"):
        pool = self.ipam.request_pool(subnet, "", {}, 4).id
        self.ipam.request_gateway(pool, gateway)
        segment = Subnet(ip_network(subnet), ip_address(gateway), pooled=True)
        self.driver.create_network(
            Network(name, {"parent": "eth0"}, subnets=(segment,))
        )
        self.pools[name] = pool

    def remove_network(self, name="n1"):
        self.ipam.release_pool(self.pools[name])
        self.driver.delete_network(name)

    def run(self, name, wish="", network="n1", told=True, **more):
        """Start a container; return its endpoint."""
        pool, self.started = self.pools[network], self.started + 1
        given = self.ipam.request_address(pool, wish, name if told else "")
        self.clock.now += 1
        return self.driver.create_endpoint(
            Endpoint(f"e{self.started}", network, IPv4Interface(str(given)), **more)
        )

    def stop(self, *endpoints):
        for endpoint in endpoints:
            self.driver.delete_endpoint(endpoint.network, endpoint.id)
            pool = self.pools[endpoint.network]
            self.ipam.release_address(pool, str(endpoint.ipv4.ip))
        self.driver.dropper.finish_all()

    def list_containers(self, *names):
        self.driver.parts.cleanup.forget()
        with self.records.transaction():
            self.records.reservations.note_listed(names, self.clock())


@pytest.fixture
def docker(records):
    found = Engine29(records)
    found.network()
    return found


def identity(endpoint):
    return str(endpoint.ipv4), endpoint.mac


def test_a_name_gets_its_address_and_mac_again_whatever_started_meanwhile(docker):
    web, db = docker.run("web"), docker.run("db")
    docker.stop(web, db)
    assert identity(docker.run("other")) not in (identity(web), identity(db))
    assert identity(docker.run("db")) == identity(db)
    assert identity(docker.run("web")) == identity(web)


@pytest.mark.parametrize("wish", ["", "10.0.0.4"])
def test_both_outlive_the_network_and_the_pool(docker, wish):
    web = docker.run("web", wish)
    docker.stop(web)
    docker.remove_network()
    docker.network("n2")
    assert identity(docker.run("other", network="n2"))[0] != str(web.ipv4)
    assert identity(docker.run("web", wish, "n2")) == identity(web)


def test_mac_of_a_name_is_the_same_with_new_records(docker, tmp_path):
    before = docker.run("web")
    records = Records(tmp_path / "new.db")
    again = Engine29(records)
    again.network("n2")
    again.run("db", network="n2")
    assert again.run("web", network="n2").mac == before.mac
    records.close()


def test_mac_without_a_name_depends_on_pool_and_address_alone(docker):
    before = docker.run("", "10.0.0.4", told=False)
    docker.stop(before)
    docker.remove_network()
    docker.network("n2")
    assert docker.run("", "10.0.0.4", "n2", told=False).mac == before.mac


def test_mac_on_record_is_kept_when_the_engine_begins_to_tell_names(docker):
    old = docker.run("web", told=False)
    with docker.records.transaction():
        keep_for(docker.records, old.id, "web")
    docker.stop(old)
    assert identity(docker.run("web")) == identity(old)


def test_mac_that_docker_asked_for_is_not_kept(docker):
    mine = docker.run("web", mac="02:00:00:00:00:07")
    docker.stop(mine)
    again = docker.run("web")
    assert again.ipv4 == mine.ipv4
    assert again.mac != mine.mac
    docker.run("db", mac=mine.mac)


def test_name_moves_to_the_address_that_is_asked_for_with_its_mac(docker):
    web = docker.run("web")
    docker.stop(web)
    moved = docker.run("web", "10.0.0.6")
    assert moved.mac == web.mac
    docker.stop(moved)
    assert identity(docker.run("web")) == identity(moved)
    assert docker.run("db", str(web.ipv4.ip)).ipv4 == web.ipv4


def test_two_networks_of_one_pool_give_a_container_an_address_each(docker):
    docker.network("n2")
    one, two = docker.run("web"), docker.run("web", network="n2")
    assert len({one.ipv4, two.ipv4}) == len({one.mac, two.mac}) == 2
    docker.stop(one, two)
    assert identity(docker.run("web", network="n2")) == identity(two)
    assert identity(docker.run("web")) == identity(one)


def test_second_container_of_a_name_gets_an_identity_of_its_own(docker):
    """As when a container is still there that Docker has lost."""
    web = docker.run("web")
    twin = docker.run("web")
    assert len({web.ipv4, twin.ipv4}) == len({web.mac, twin.mac}) == 2


def test_task_of_a_swarm_service_is_known_by_its_slot():
    assert name_of("shop_web.3.k2v8d0l1m3n5p7q9r2s4t6u8w") == "shop_web.3"
    assert name_of("web.3") == "web.3"
    first, second = ("a" * 25, "b" * 25)
    assert name_of(f"web.1.{first}") == name_of(f"web.1.{second}") == "web.1"


def test_address_of_a_stopped_container_is_refused_to_another_name(docker):
    web = docker.run("web", "10.0.0.4")
    docker.stop(web)
    with pytest.raises(
        AddressTaken, match=r"web has had it since 1970.*and is stopped.*unreserve"
    ):
        docker.run("db", "10.0.0.4")
    docker.list_containers("db")
    with pytest.raises(AddressTaken, match=r"no longer lists.*kept for it until 1970"):
        docker.run("db", "10.0.0.4")


def test_address_of_a_removed_container_is_free_after_the_days_of_the_setting(docker):
    web = docker.run("web")
    docker.stop(web)
    docker.clock.now += 30 * DAY
    docker.list_containers("web")
    docker.list_containers("web")
    assert docker.records.reservations.all()[0].gone == 0
    docker.list_containers()
    docker.clock.now += 7 * DAY - HOUR
    docker.list_containers()
    assert docker.records.reservations.all()
    docker.clock.now += 2 * HOUR
    docker.list_containers()
    assert docker.records.reservations.all() == []
    assert docker.run("db", str(web.ipv4.ip)).ipv4 == web.ipv4


def test_full_pool_takes_from_removed_containers_first_and_never_a_fixed_address(
    docker,
):
    """Five addresses beside the gateway."""
    fixed = docker.run("fixed", "10.0.0.6")
    gone, late, there = (docker.run(name) for name in ("gone", "late", "there"))
    docker.stop(fixed, gone, late, there)
    docker.list_containers("late", "there", "fixed")
    docker.clock.now += 1
    docker.list_containers("there", "fixed")
    docker.run("new-0")  # the one that is left
    given = [docker.run(f"new-{n}").ipv4 for n in (1, 2, 3)]
    assert given == [gone.ipv4, late.ipv4, there.ipv4]
    with pytest.raises(
        PoolExhausted,
        match=r"of 6, 4 in use.*1 kept for containers.*fixed since 1970.*unreserve",
    ):
        docker.run("new-4")
    assert identity(docker.run("fixed", "10.0.0.6")) == identity(fixed)


def test_gateway_is_not_taken_from_a_container_that_docker_lists(docker):
    web = docker.run("web", "10.0.0.4")
    docker.stop(web)
    with pytest.raises(AddressTaken, match="container web"):
        docker.network("n2", gateway="10.0.0.4")
    docker.list_containers()
    docker.network("n3", gateway="10.0.0.4")
    assert docker.records.reservations.all() == []


def test_usual_gateway_is_no_address_that_is_kept(docker):
    docker.network("n2", "10.0.1.0/29", "10.0.1.5")
    docker.stop(docker.run("web", "10.0.1.1", "n2"))
    docker.remove_network("n2")
    pool = docker.ipam.request_pool("10.0.1.0/29", "", {}, 4).id
    assert str(docker.ipam.request_gateway(pool, "").ip) == "10.0.1.2"


def test_reserved_address_is_given_to_its_container_and_to_no_other(docker):
    kept = Reservation("default", ip_address("10.0.0.5"), "web", "reserved")
    web = docker.run("web")
    with docker.records.transaction():
        docker.records.reservations.hold(kept)
    docker.stop(web)
    docker.list_containers()
    assert str(docker.run("web").ipv4) == "10.0.0.5/29"
    assert docker.records.reservations.get("default", web.ipv4.ip) is None
    for n in range(4):
        docker.run(f"other-{n}")
    with pytest.raises(PoolExhausted):
        docker.run("other-4")


def test_address_of_another_machine_is_reserved_for_nothing(docker):
    claim = docker.records.pools.claim(docker.pools["n1"])
    address = ip_address("10.0.0.5")
    with docker.records.transaction():
        conflicts.start(docker.records, claim, address, "02:00:00:00:00:09", 1.0)
    with pytest.raises(AddressInUse, match="02:00:00:00:00:09"):
        reserve(docker.records, "default", address, "web", 2.0)
    with pytest.raises(
        NotFound, match=r"no reservation in domain default of '10\.0\.0\.5'"
    ):
        unreserve(docker.records, "default", address)


def test_refusals_name_the_domain_that_the_way_out_needs(docker):
    records, address = docker.records, ip_address("10.0.0.5")
    with records.transaction():
        reserve(records, "lab", address, "web", 1.0)
    with pytest.raises(AddressTaken, match=r"unreserve 10\.0\.0\.5 --domain lab\."):
        reserve(records, "lab", address, "db", 2.0)
    with pytest.raises(
        NotFound, match=r"Domain lab has one: --domain lab\. On record: none"
    ):
        unreserve(records, "default", address)


def test_reservation_by_hand_stays_before_docker_lists_its_container(docker):
    address = ip_address("10.0.0.5")
    with docker.records.transaction():
        reserve(docker.records, "default", address, "web", 1.0)
    docker.list_containers()
    with pytest.raises(AddressTaken, match="reserved for container web"):
        reserve(docker.records, "default", address, "db", 2.0)
    with pytest.raises(AddressTaken, match="reserved for container web"):
        docker.network("n2", gateway="10.0.0.5")
