"""A pool whose addresses DHCP servers have is everything, and counts as nothing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_interface

import pytest

from tests.fakes import Clock, FakeKernel, engine_on
from underlay.api import status
from underlay.api.refusals import Refusal, described
from underlay.cli import reservations
from underlay.cli.tables import NETWORKS, POOLS
from underlay.errors import BadValue
from underlay.ipam.dhcp_claims import EVERYWHERE, mark_of
from underlay.ipam.leases import start_lease
from underlay.ipam.reserving import reserve, unreserve
from underlay.model import Device, Endpoint, Network, Subnet, Uplink
from underlay.model.objects import Route
from underlay.modes import check_endpoint, mode_of

ADDRESS = ip_address("192.168.1.50")
ETH1 = Device("eth1", "", "52:54:00:00:00:02", 1500)


class House:
    def __init__(self, records):
        self.records, self.kernel, self.clock = records, FakeKernel(), Clock()
        self.kernel.strangers["eth1"] = ETH1
        self.engine = engine_on(records, self.kernel, self.clock)
        self.ipam = self.engine.parts.ipam

    def network(self, identity="n1", parent="eth0", **options):
        claim = self.ipam.request_pool("", "", {"source": "dhcp", **options}, 4)
        segment = Subnet(EVERYWHERE, mark_of(claim), pooled=True, dhcp=True)
        self.engine.create_network(
            Network(identity, {"parent": parent}, subnets=(segment,))
        )
        return self.records.pools.claim(claim.id)

    def lease(self, claim, address):
        """Record what a server gave, as a request of Docker does."""
        with self.records.transaction():
            start_lease(self.records, claim, address, "endpoint", self.clock())


@pytest.fixture
def house(records):
    return House(records)


def test_no_free_addresses_are_counted_where_a_server_has_them(house):
    house.network()
    assert list(house.records.counts.ranges()) == []
    assert status.pool_use(house.records) == []
    house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    assert [r.size for r in house.records.counts.ranges()] == [254]


def test_lists_show_dhcp_in_place_of_a_subnet(house):
    claim = house.network()
    (network,), (pool,) = status.networks(house.records), status.pools(house.records)
    assert NETWORKS["SUBNETS"](network) == "dhcp"
    assert NETWORKS["GATEWAYS"](network) == "-"
    assert POOLS["SUBNET"](pool) == "dhcp"
    assert (pool["id"], pool["size"]) == (f"{claim.pool.domain}/0.0.0.0/0", None)
    assert pool["claims"] == [{"id": claim.id, "first": "", "last": ""}]


def test_refusal_of_an_address_names_dhcp_in_place_of_a_pool(house):
    claim = house.ipam.request_pool("", "", {"source": "dhcp"}, 4)
    refusal = Refusal(
        at=0.0, id="E-160", error="no server", method="", network="", endpoint="",
        pool=claim.id, address="", container="web", call="",
    )  # fmt: skip
    (facts,) = described(house.records, [refusal])
    assert facts["pool"] == "dhcp"


def test_address_counts_as_in_no_pool_where_servers_have_all(house):
    claim = house.network()
    domain, pools = claim.pool.domain, house.records.pools
    assert not pools.having(domain, ADDRESS)
    fresh = list(pools.candidates(claim, 2))
    with house.records.transaction():
        reserve(house.records, domain, ip_address("0.0.0.1"), "web", 0.0)
    assert list(pools.candidates(claim, 2)) == fresh
    with house.records.transaction():
        unreserve(house.records, domain, ip_address("0.0.0.1"))


@pytest.mark.parametrize(
    "network",
    [
        {"name": "lan", "external": True},
        {"name": "x", "ipam": {"driver": "underlay", "options": {"source": "dhcp"}}},
    ],
)
def test_compose_address_in_a_network_with_dhcp_is_not_reserved(house, network):
    house.network()
    with house.records.transaction():
        house.records.networks.rename("n1", "lan")
    web = {"networks": {"front": {"ipv4_address": str(ADDRESS)}}}
    project = {"name": "shop", "networks": {"front": network}, "services": {"web": web}}
    assert list(reservations._wishes(project, house.records)) == []


def test_segment_of_a_network_with_dhcp_is_listened_to_and_not_asked_ahead(house):
    claim = house.network()
    found = house.ipam.wire.watched()["eth0"]
    assert found.networks == {claim.pool: {"n1"}}
    assert not found.has(ADDRESS)
    house.ipam.wire.ask_due()
    assert house.kernel.asked == []


def test_segment_of_a_network_with_dhcp_and_probe_off_is_not_listened_to(house):
    house.network(probe="off")
    assert house.ipam.wire.watched() == {}


def test_subnet_of_a_network_with_dhcp_is_not_asked_ahead(house):
    """The machines there have what the server gave them."""
    claim = house.ipam.request_pool("10.0.0.0/24", "", {"source": "dhcp"}, 4)
    segment = Subnet(claim.pool.subnet, pooled=True)
    network = Network("n1", {"parent": "eth0"}, subnets=(segment,))
    house.engine.create_network(network)
    assert "eth0" in house.ipam.wire.watched()
    house.ipam.wire.ask_due()
    assert house.kernel.asked == []


def test_same_address_on_two_segments_stays_with_each_network(house):
    first, second = house.network("n1", "eth0"), house.network("n2", "eth1")
    house.lease(first, ADDRESS)
    house.lease(second, ADDRESS)
    given = IPv4Interface(f"{ADDRESS}/24")
    for network in ("n1", "n2"):
        house.engine.create_endpoint(Endpoint(f"e-{network}", network, given))
    for claim in (first, second):
        (held,) = house.records.leases.live_of_claim(claim.id)
        assert held.endpoint == f"e-{claim.network}"


@pytest.mark.parametrize(
    ("lease", "is_near"),
    [("10.0.0.5/24", True), ("10.0.1.5/24", False), ("10.0.0.5/32", False)],
)
def test_host_has_a_route_to_a_lease_of_its_own_subnet_only(lease, is_near):
    uplink = Uplink("eth0", host_addresses=(ip_interface("10.0.0.9/24"),))
    segment = Subnet(EVERYWHERE, pooled=True, dhcp=True)
    network = Network("n1", {"parent": "eth0"}, subnets=(segment,), uplink=uplink)
    endpoint = Endpoint("e1", "n1", IPv4Interface(lease))
    mode = mode_of(network.options)
    made = mode.endpoint_objects(network, endpoint)
    routes = [o for o in made if isinstance(o, Route)]
    assert [str(o.source) for o in routes] == ["10.0.0.9"] * is_near
    elsewhere = replace(network, uplink=replace(uplink, host_addresses=()))
    assert list(mode.network_objects(elsewhere)) == []


@pytest.mark.parametrize(
    ("hop", "options", "is_refused"),
    [
        ("10.0.0.2", {}, False),
        ("10.0.1.2", {}, True),
        ("10.0.1.2", {"gateway": "10.0.1.2"}, False),
    ],
)
def test_next_hop_outside_of_the_leased_subnet_is_refused(hop, options, is_refused):
    asked = {"parent": "eth0", "route": f"10.9.0.0/16 via {hop}", **options}
    segment = Subnet(EVERYWHERE, pooled=True, dhcp=True)
    network = Network("n1", asked, subnets=(segment,))
    with pytest.raises(BadValue) if is_refused else nullcontext() as found:
        check_endpoint(network, Endpoint("e1", "n1", IPv4Interface("10.0.0.5/24")))
    assert not is_refused or "must be in 10.0.0.0/24" in str(found.value)
