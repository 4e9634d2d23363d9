"""Records that are lost or old, and what Docker lists of live containers."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tests.fakes import ETH0, Clock, FakeKernel, engine_on
from tests.worlds import view
from underlay.docker_sync import recovery
from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.recovery import Recovery
from underlay.errors import AddressTaken, UnknownPool
from underlay.ipam.driver import IpamDriver
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerNetwork,
)
from underlay.model.objects import Link, Owner, Route
from underlay.model.steps import Delete

SUBNET = ip_network("10.0.0.0/24")
GATEWAY = ip_address("10.0.0.1")
POOL = "default/10.0.0.0/24/0123456789ab"
SANDBOX = "/run/docker/netns/web"
MAC = "02:00:00:00:00:05"


def endpoint(name="web", address="10.0.0.5/24", identity="e1"):
    return DockerEndpoint(identity, f"c-{name}", name, MAC, (ip_interface(address),))


def listed(*endpoints, identity="n1", gateway=GATEWAY, pooled=True, span="", **facts):
    return DockerNetwork(
        id=identity,
        name=f"name-{identity}",
        domain="default" if pooled else "",
        ip_networks=(SUBNET,),
        ours=facts.pop("ours", True),
        options=facts.pop("options", {"parent": "eth0"}),
        subnets=(Subnet(SUBNET, gateway, facts.pop("aux", ()), pooled),),
        ranges=(span,),
        endpoints=endpoints,
    )


class House:
    """What a service that has just started works with."""

    def __init__(self, records):
        self.records, self.kernel, self.time = records, FakeKernel(), Clock()
        self.engine = engine_on(records, self.kernel, self.time)
        reap, is_own = self.engine.remove_dead_endpoint, self.kernel.is_own
        self.ipam = IpamDriver(
            records,
            self.time,
            reap,
            is_own,
            self.engine.live_endpoints,
            self.time,
            wire=self.engine.parts.ipam.wire,
        )
        self.told = {"c-web": DockerContainer(SANDBOX, {}, {})}
        self.kernel.sandboxes.add(SANDBOX)
        passes = self.engine.reconciler
        self.recovery = Recovery(
            records, self.kernel, self.engine, passes.parents, passes.observer,
            self.time, self.ask, self.engine.parts.recovery.dhcp,
        )  # fmt: skip
        self.recovery.begin()

    def ask(self, ids):
        return {i: self.told[i] for i in ids if i in self.told}

    def heed(self, *networks):
        return self.recovery.rebuild(view(*networks), self.recovery.snapshot())

    def leave_behind(self, owner, kind="macvlan"):
        link = Link(owner.device, kind, owner, parent="eth0")
        self.kernel.links[link.name] = link
        return link.name

    def repairs(self):
        return [(r.mark, r.error) for r in self.records.repairs.latest(9)]


@pytest.fixture
def house(records):
    return House(records)


def test_networks_and_endpoints_listed_by_docker_are_recovered_and_logged(house):
    house.told["c-web"] = DockerContainer(SANDBOX, {"n1": {"mtu": "1400"}}, {})
    assert house.heed(listed(endpoint()))
    network = house.records.networks.get("n1")
    assert (network.name, network.uplink.parent) == ("name-n1", "eth0")
    assert network.subnets == (Subnet(SUBNET, GATEWAY, (), pooled=True),)
    found = house.records.endpoints.get("e1")
    assert found.sandbox == SANDBOX
    assert (found.mac, found.container, found.options) == (MAC, "web", {"mtu": "1400"})
    assert [str(a) for a in found.addresses] == ["10.0.0.5/24"]
    marks = [Owner("n1", "e1").mark, Owner("n1").mark]
    assert house.repairs() == [(mark, "") for mark in marks]
    (tenure,) = house.records.leases.live_of_endpoint("e1")
    assert (tenure.container, tenure.network) == ("web", "n1")
    assert not house.heed(listed(endpoint()))
    assert len(house.repairs()) == 2


def test_lost_pool_is_refused_until_docker_was_asked_then_known_by_its_id(house):
    with pytest.raises(UnknownPool, match="Try again in a few seconds"):
        house.ipam.request_address(POOL, "", "")
    house.heed(listed(endpoint(), span="10.0.0.4/31", aux=(ip_address("10.0.0.9"),)))
    assert str(house.ipam.request_address(POOL, "", "").ip) == "10.0.0.4"
    (claim,) = house.records.pools.claims_on(1)
    assert (claim.id, claim.network) == (POOL, "n1")
    live = {(str(t.address), t.role) for t in house.records.leases.live_in(1)}
    assert live == {
        ("10.0.0.1", "gateway"),
        ("10.0.0.9", "aux"),
        ("10.0.0.5", "endpoint"),
        ("10.0.0.4", "endpoint"),
    }


@pytest.mark.parametrize(
    "identity",
    ["default/10.0.0.1/24/0123456789ab", "default/10.0.0.0/24/x", "10.0.0.0/24", "a/b"],
)
def test_invalid_pool_id_stays_unknown(house, identity):
    house.heed(listed())
    with pytest.raises(UnknownPool):
        house.ipam.request_address(identity, "", "")


def test_release_in_a_lost_pool_frees_the_address(house):
    house.heed(listed(endpoint()))
    house.engine.delete_endpoint("n1", "e1")
    house.ipam.release_address(POOL, "10.0.0.5")
    live = house.records.leases.live_in(1)
    assert [str(t.address) for t in live] == ["10.0.0.1"]
    house.ipam.release_pool(POOL)
    assert house.records.pools.all() == []


OTHER = endpoint("other", "10.0.0.6/24", "e2")
HALF = "10.0.0.128/25"


def test_pool_id_shared_by_two_networks_belongs_to_the_one_with_the_address(house):
    house.told["c-other"] = DockerContainer("/run/other", {}, {})
    house.kernel.sandboxes.add("/run/other")
    house.heed(listed(endpoint()), listed(OTHER, identity="n2", span=HALF))
    house.engine.delete_endpoint("n2", "e2")
    house.ipam.release_address(POOL, "10.0.0.6")
    assert house.records.pools.claim(POOL).network == "n2"


@pytest.mark.parametrize("ours", [True, False])
def test_removed_network_takes_no_address_of_another(house, ours):
    """Docker gives up an unknown PoolID: of two networks, the empty one's."""
    empty = listed(identity="n2", ours=ours)
    house.heed(listed(endpoint()), empty)
    house.ipam.release_address(POOL, "10.0.0.1")
    house.ipam.release_pool(POOL)
    if ours:
        house.engine.delete_network("n2")
    (claim,) = house.records.pools.claims_on(1)
    assert claim.network == "n1"
    held = house.records.leases.live_of_claim(claim.id)
    assert sorted(str(t.address) for t in held) == ["10.0.0.1", "10.0.0.5"]


def test_endpoint_decides_which_of_two_networks_owns_a_pool_id(house):
    house.told = {}
    house.heed(listed(identity="n1"), listed(identity="n2", span=HALF))
    given = house.ipam.request_address(POOL, "", "")
    house.engine.create_endpoint(Endpoint("e9", "n2", given))
    claims = {c.id: c.network for c in house.records.pools.claims_on(1)}
    assert claims == {POOL: "n2", "default/10.0.0.0/24/of-n1": "n1"}
    (held,) = house.records.leases.live_of_endpoint("e9")
    assert held.claim == POOL
    later = house.ipam.request_address(POOL, "", "")
    assert later.ip == ip_address("10.0.0.128")


def test_address_listed_by_docker_is_kept_though_its_network_cannot_be_rebuilt(
    house,
):
    del house.kernel.strangers["eth0"]
    house.heed(listed(endpoint()))
    house.ipam.release_address(POOL, "10.0.0.5")
    with pytest.raises(AddressTaken):
        house.ipam.request_address(POOL, "10.0.0.5", "")
    house.engine.delete_endpoint("n1", "e1")
    house.ipam.release_address(POOL, "10.0.0.5")
    assert str(house.ipam.request_address(POOL, "10.0.0.5", "").ip) == "10.0.0.5"


@pytest.mark.parametrize("ours", [True, False])
def test_network_recreated_since_a_backup_is_known_by_its_new_pool_id(house, ours):
    old = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    house.ipam.request_gateway(old, "10.0.0.1")
    if ours:
        segments = listed().subnets
        house.engine.create_network(
            Network("n-old", {"parent": "eth0"}, subnets=segments)
        )
    anew = listed(identity="n-new", ours=ours, span="10.0.0.64/27")
    house.heed(anew)
    if not ours:  # there is nothing to tell it by before Docker asks
        with pytest.raises(UnknownPool):
            house.ipam.request_address(POOL, "", "")
        house.heed(anew)
    assert str(house.ipam.request_address(POOL, "", "").ip) == "10.0.0.64"
    cleanup = Cleanup(
        house.records,
        house.kernel,
        house.engine,
        house.ipam,
        house.engine.reconciler.observer,
        house.time,
        house.time,
        60.0,
        30,
    )
    for _ in range(4):
        house.time.now += 60
        house.heed(anew)
        cleanup.run(view(anew))
    known = {c.id for c in house.records.pools.claims_on(1)}
    assert known == ({POOL} if ours else {old, POOL})
    assert [n.id for n in house.records.networks.all()] == ["n-new"] * ours


def test_pool_of_another_driver_s_network_is_rebuilt(house):
    theirs = listed(endpoint(), ours=False, gateway=None)
    house.heed(theirs)
    house.heed(theirs)
    assert house.records.networks.all() == []
    assert str(house.ipam.request_address(POOL, "", "").ip) == "10.0.0.2"
    house.ipam.release_address(POOL, "10.0.0.5")
    assert [str(t.address) for t in house.records.leases.live_in(1)] == [
        "10.0.0.1",
        "10.0.0.2",
    ]


def test_containers_with_docker_ipam_addresses_are_recovered_without_pools(
    house,
):
    house.heed(listed(endpoint(), pooled=False))
    assert house.records.pools.all() == []
    assert house.records.leases.live_of_endpoint("e1")[0].pool is None


def test_gateway_not_listed_by_docker_is_the_one_the_container_has(house):
    gateways = {"n1": (ip_address("10.0.0.3"),)}
    house.told["c-web"] = DockerContainer(SANDBOX, {}, gateways)
    house.kernel.default_routers = [("eth0", ip_address("10.0.0.4"))]
    house.heed(listed(endpoint(), gateway=None), listed(identity="n2", gateway=None))
    told, router = (n.subnets[0].gateway for n in house.records.networks.all())
    assert (str(told), str(router)) == ("10.0.0.3", "10.0.0.4")


def test_gateway_not_listed_by_docker_is_none_without_a_router(house):
    house.heed(listed(gateway=None))
    (network,) = house.records.networks.all()
    assert network.subnets[0].gateway is None


def test_container_without_a_sandbox_is_starting_and_left_alone(house):
    house.kernel.sandboxes.clear()
    house.heed(listed(endpoint()))
    assert house.records.networks.get("n1")
    assert house.records.endpoints.all() == []


def test_pass_spares_possibly_lost_objects_until_docker_was_asked(house):
    living = house.leave_behind(Owner("n1"), "dummy")
    shared = house.leave_behind(Owner.parse("underlay::shim/eth0"))
    dead = house.leave_behind(Owner("n-gone", "e-gone"))
    house.engine.reconcile()
    assert house.kernel.links.keys() == {living, shared, dead}
    assert house.engine.preview() == ()
    house.heed(listed(options={}))
    house.engine.reconcile()
    assert house.kernel.links.keys() == {living}


def test_host_routes_to_a_container_survive_a_concurrent_pass(house):
    house.kernel.host_addresses = {"eth0": (ip_interface("10.0.0.99/24"),)}
    shim = house.leave_behind(Owner.parse("underlay::shim/eth0"))
    house.heed(listed(endpoint()))
    # As a pass plans that began before: it follows parents first.
    doomed = {s.object.name for s in house.engine.preview() if isinstance(s, Delete)}
    assert shim not in doomed


def test_leftover_of_a_recorded_network_is_deleted_without_docker(house):
    house.engine.create_network(Network("n1", {"parent": "eth0"}))
    house.leave_behind(Owner("n1", "e-rolled-back"))
    house.engine.reconcile()
    assert house.kernel.links == {}


def test_unrecoverable_network_is_logged_once_spared_and_retried(house):
    del house.kernel.strangers["eth0"]
    link = house.leave_behind(Owner("n1", "e1"), "veth")
    for _ in range(2):
        house.heed(listed(endpoint()))
        house.engine.reconcile()
    assert house.records.networks.all() == []
    assert link in house.kernel.links
    ((mark, error),) = house.repairs()
    assert mark == Owner("n1").mark
    assert error.startswith("E-123 ")
    # Its addresses are known all the same, for other networks of the pool.
    assert str(house.ipam.request_address(POOL, "", "").ip) == "10.0.0.2"
    house.kernel.strangers["eth0"] = ETH0
    house.heed(listed(endpoint()))
    assert house.records.endpoints.get("e1").sandbox == SANDBOX


def test_network_removed_while_docker_answers_is_not_recovered(house):
    house.heed(listed(endpoint()), listed(identity="n2"))
    before = house.recovery.snapshot()
    stale = view(listed(endpoint()), listed(identity="n2"))
    house.engine.delete_endpoint("n1", "e1")
    house.ipam.release_address(POOL, "10.0.0.5")
    house.ipam.release_pool(POOL)
    house.engine.delete_network("n2")
    house.recovery.rebuild(stale, before)
    assert [n.id for n in house.records.networks.all()] == ["n1"]
    assert house.records.endpoints.all() == []
    held = house.records.leases.live_in(1)
    assert {str(t.address) for t in held} <= {"10.0.0.1"}


def old_records(house, sandbox):
    """A copy from when e-old had the address that e1 has now."""
    asked = Network("n1", {"parent": "eth0"}, subnets=listed().subnets)
    pool = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    house.ipam.request_gateway(pool, "10.0.0.1")
    house.engine.create_network(asked)
    house.ipam.request_address(pool, "10.0.0.5", "")
    old = Endpoint("e-old", "n1", ip_interface("10.0.0.5/24"))
    house.engine.create_endpoint(old)
    house.engine.join("n1", "e-old", sandbox)
    return pool


def test_recorded_address_of_a_dead_endpoint_goes_to_the_live_one_docker_lists(house):
    pool = old_records(house, "/run/gone")
    house.kernel.links.clear()
    house.time.now += 60
    house.heed(listed(endpoint()))
    assert [e.id for e in house.records.endpoints.all()] == ["e1"]
    (tenure,) = house.records.leases.live_of_endpoint("e1")
    assert tenure.claim == pool
    assert len(house.records.pools.claims_on(1)) == 1


def test_address_of_a_live_endpoint_is_not_taken_from_it(house):
    house.kernel.sandboxes.add("/run/other")
    old_records(house, "/run/other")
    house.heed(listed(endpoint()))
    assert [e.id for e in house.records.endpoints.all()] == ["e-old"]
    assert house.repairs()[0][1].startswith("E-146 ")


def test_addresses_of_running_containers_are_reserved_before_docker_was_asked(house):
    pool = old_records(house, SANDBOX)
    lab = house.ipam.request_pool("10.0.0.0/24", "", {"domain": "lab"}, 4).id
    mine, news = Owner("n1", "e-new"), Owner("n-new", "e-newer")
    house.kernel.other_namespaces = {
        mine.mark: (ip_address("10.0.0.2"),),
        news.mark: (ip_address("10.0.0.3"), ip_address("10.9.0.3")),
        Owner("n1", "e-old").mark: (ip_address("10.0.0.5"),),
    }
    house.recovery.begin()
    house.recovery.begin()
    assert str(house.ipam.request_address(pool, "", "").ip) == "10.0.0.4"
    given = [str(house.ipam.request_address(lab, "", "").ip) for _ in range(3)]
    assert given == ["10.0.0.1", "10.0.0.2", "10.0.0.4"]


def test_new_network_gets_its_pool_though_one_address_is_reserved(house):
    """It had none: no blackhole, and nothing to give back when it is removed."""
    house.kernel.other_namespaces = {Owner("n0", "e0").mark: (ip_address("10.0.0.5"),)}
    house.recovery.begin()
    pool = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    house.ipam.request_gateway(pool, "10.0.0.1")
    segments = (Subnet(SUBNET, GATEWAY, (), pooled=True),)
    house.engine.create_network(Network("n1", {"mode": "routed"}, subnets=segments))
    assert house.records.pools.claim(pool).network == "n1"
    assert any(isinstance(o, Route) for o in house.kernel.others.values())
    held = house.records.leases.live_of_claim(pool)
    roles = {(str(t.address), t.role) for t in held}
    assert roles == {("10.0.0.1", "gateway"), ("10.0.0.5", "endpoint")}


def test_address_reserved_for_a_container_is_held_by_its_network_once_known(
    house,
):
    old_records(house, "/run/gone")
    web = listed(endpoint(address="10.0.0.9/24"), identity="n2", span=HALF)
    house.kernel.other_namespaces = {Owner("n2", "e1").mark: (ip_address("10.0.0.9"),)}
    house.recovery.begin()
    house.heed(listed(), web)
    (held,) = house.records.leases.live_of_endpoint("e1")
    assert house.records.pools.claim(held.claim).network == "n2"


def test_start_survives_arbitrary_address_claims_of_marked_devices(house):
    """A container may make them: it took the service 370 s to believe 65,000."""
    pool = house.ipam.request_pool("10.0.0.0/8", "", {}, 4).id
    marks = {
        Owner(f"n{n}", f"e{n}").mark: (ip_address(0x0A000000 + n),)
        for n in range(1, 20_000)
    }
    house.kernel.other_namespaces = marks | {
        Owner("n0", "e0").mark: (ip_address("11.0.0.1"),)
    }
    asked = []
    house.records._database._db.set_trace_callback(asked.append)
    house.recovery.begin()
    house.records._database._db.set_trace_callback(None)
    held = house.records.leases.live_of_claim(pool)
    assert len(held) == recovery.MOST_KEPT
    assert len(asked) < 10 * recovery.MOST_KEPT


def test_driver_s_vlan_under_a_lost_network_is_recognized(house):
    owner = Owner.parse("underlay::eth0.50")
    vlan = Link(owner.device, "vlan", owner, parent="eth0", vlan=50, up=True, mtu=1500)
    house.kernel.links[vlan.name] = vlan
    house.heed(listed(options={"parent": "eth0.50"}))
    known = house.records.networks.get("n1").uplink
    assert (known.parent, known.vlans) == (vlan.name, ("eth0.50",))
    assert house.engine.preview() == ()


def test_takeover_bridge_of_a_lost_network_is_recognized(house):
    owner = Owner.parse("underlay::bridge/eth0")
    bridge = Link(owner.device, "bridge", owner, up=True)
    house.kernel.links[bridge.name] = bridge
    house.kernel.strangers["eth0"] = replace(ETH0, master=bridge.name)
    house.heed(listed(options={"mode": "bridge", "parent": "eth0"}))
    house.engine.reconcile()
    assert bridge.name in house.kernel.links
    assert house.kernel.strangers["eth0"].master == bridge.name
    assert house.records.host.takeover("eth0").state == "on"
