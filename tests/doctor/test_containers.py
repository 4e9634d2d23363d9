"""Pools, routes and MACs of containers, by records that the driver wrote."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tests.fakes import Clock, ipam_on
from tests.lab import net
from underlay.model import DhcpLease, Endpoint, LearnedState, Subnet

FOUR = Subnet(ip_network("10.9.0.0/24"), ip_interface("10.9.0.1").ip)


def container(bench, network, identity, **facts):
    given = {"ipv4": ip_interface("10.9.0.5/24"), "sandbox": "/run/docker/netns/x"}
    found = Endpoint(identity, network, **{**given, **facts})
    with bench.records.transaction():
        bench.records.endpoints.add(found)
        bench.records.endpoints.join(identity, found.sandbox)
        if found.learned:
            bench.records.endpoints.save_learned(found)


def test_pool_warns_when_nearly_used_up_and_fails_when_full(bench):
    ipam = ipam_on(bench.records, Clock())
    pool = ipam.request_pool("10.9.0.0/28", "", {}, 4)  # of 14 hosts
    for _ in range(12):
        ipam.request_address(pool.id, "", "")
    assert bench.check("pools") == ()
    ipam.request_address(pool.id, "", "")
    (found,) = bench.check("pools")
    assert found.level == "warning"
    ipam.request_address(pool.id, "", "")
    (found,) = bench.check("pools")
    assert (found.level, found.where) == ("failure", "pool 10.9.0.0/28")
    assert "14 of 14 addresses from 10.9.0.1 to 10.9.0.14" in found.what


def test_range_counts_alone_where_a_network_draws_from_one(bench):
    ipam = ipam_on(bench.records, Clock())
    pool = ipam.request_pool("10.9.0.0/24", "10.9.0.16/30", {}, 4)
    for _ in range(4):
        ipam.request_address(pool.id, "", "")
    (found,) = bench.check("pools")
    assert (found.level, "4 of 4" in found.what) == ("failure", True)


def test_subnet_that_the_host_has_on_another_device_warns(bench):
    net.ip("addr add 10.9.0.9/24 dev eth0")
    bench.network("lan", "eth0", (FOUR,))
    assert bench.check("host-routes") == ()
    net.ip(
        "link add eth1 type veth peer name wire1",
        "link set eth1 up",
        "addr add 10.9.0.10/24 dev eth1",
    )
    (found,) = bench.check("host-routes")
    assert (found.level, found.where) == ("warning", "network lan")
    assert "the host has 10.9.0.10/24 on eth1, and 10.9.0.0/24 is on eth0" in found.what


def test_host_without_an_address_on_the_segment_warns(bench):
    bench.network("lan", "eth0", (FOUR,))
    (found,) = bench.check("host-access")
    assert found.what == "the host has no address of 10.9.0.0/24 on eth0"
    net.ip("addr add 10.9.0.9/24 dev eth0")
    assert bench.check("host-access") == ()


def test_network_that_was_created_without_host_access_warns(bench):
    net.ip("addr add 10.9.0.9/24 dev eth0")
    bench.network("lan", "eth0", (FOUR,), host_access="off")
    (found,) = bench.check("host-access")
    assert found.what == "host_access is off"


@pytest.mark.parametrize(("families", "count"), [((4,), 0), ((), 1)])
def test_container_without_a_default_route_warns(bench, families, count):
    bench.network("lan", "eth0", (FOUR,))
    learned = LearnedState("eth0", 1500, default_families=families)
    container(bench, "lan", "e1", learned=learned)
    found = bench.check("default-routes")
    assert [f.where for f in found] == ["container e1"] * count


def test_network_that_offers_no_default_route_is_not_missed(bench):
    bench.network("lan", "eth0", (FOUR,), default_route="no")
    container(bench, "lan", "e1", learned=LearnedState("eth0", 1500))
    assert bench.check("default-routes") == ()


def test_mac_that_two_containers_have_fails(bench):
    bench.network("lan", "eth0", (FOUR,))
    bench.network("far", "wire0", (FOUR,))
    mac = "02:42:0a:00:00:05"
    container(bench, "lan", "e1", mac=mac)
    container(bench, "far", "e2", mac=mac)
    assert bench.check("same-macs") == ()  # on two segments
    container(bench, "lan", "e3", mac=mac.upper())
    (found,) = bench.check("same-macs")
    assert (found.level, found.where) == ("failure", "eth0")
    assert found.what == f"container e1 and container e3 have the MAC {mac}"


def test_mac_of_the_parent_itself_fails(bench):
    device = bench.given["kernel"].device("eth0")
    bench.network("lan", "eth0", (FOUR,))
    container(bench, "lan", "e1", mac=device.mac)
    (found,) = bench.check("same-macs")
    assert "container e1 and the device eth0" in found.what


def test_healthy_host_passes_every_check_about_containers(bench):
    net.ip("addr add 10.9.0.9/24 dev eth0")
    bench.network("lan", "eth0", (replace(FOUR, pooled=True),))
    learned = LearnedState("eth0", 1500, default_families=(4,))
    container(bench, "lan", "e1", mac="02:42:0a:00:00:05", learned=learned)
    for name in ("pools", "host-routes", "host-access", "default-routes", "same-macs"):
        assert bench.check(name) == (), name


DHCP = Subnet(ip_network("0.0.0.0/0"), pooled=True, dhcp=True)


def test_device_with_another_subnet_than_the_leases_passes(bench):
    net.ip(
        "link add eth1 type veth peer name wire1",
        "link set eth1 up",
        "addr add 10.8.0.10/24 dev eth1",
    )
    bench.network("lan", "eth0", (DHCP,))
    assert bench.check("host-routes") == ()
    container(bench, "lan", "e1")
    assert bench.check("host-routes") == ()
    net.ip("addr add 10.9.0.10/24 dev eth1")
    (found,) = bench.check("host-routes")
    assert "the host has 10.9.0.10/24 on eth1, and 10.9.0.0/24 is on eth0" in found.what


def test_host_without_an_address_in_the_subnet_of_the_leases_warns(bench):
    net.ip("addr add 10.8.0.9/24 dev eth0")
    bench.network("lan", "eth0", (DHCP,))
    assert bench.check("host-access") == ()
    container(bench, "lan", "e1")
    (found,) = bench.check("host-access")
    assert found.what == "the host has no address of 10.9.0.0/24 on eth0"
    net.ip("addr add 10.9.0.9/24 dev eth0")
    assert bench.check("host-access") == ()


@pytest.mark.parametrize(
    ("router", "options", "count"),
    [("10.9.0.1", {}, 1), (None, {}, 0), ("10.9.0.1", {"gateway": "none"}, 0)],
)
def test_container_without_the_default_route_of_its_lease_warns(
    bench, router, options, count
):
    bench.network("lan", "eth0", (DHCP,), **options)
    container(bench, "lan", "e1", learned=LearnedState("eth0", 1500))
    lease = DhcpLease(
        0, "eth0", "name", "e1", "02:42:0a:00:00:05", network="lan", endpoint="e1",
        address=ip_interface("10.9.0.5/24"), router=router and ip_address(router),
    )  # fmt: skip
    with bench.records.transaction():
        bench.records.dhcp_leases.save(lease)
    assert len(bench.check("default-routes")) == count


def test_pool_of_a_dhcp_server_is_never_nearly_used_up(bench):
    ipam = ipam_on(bench.records, Clock())
    ipam.request_pool("", "", {"source": "dhcp"}, 4)
    assert bench.check("pools") == ()
