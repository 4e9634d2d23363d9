"""What a DHCP server took back is taken out of the sandbox by a pass."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface, ip_network

import pytest

from tests.worlds import MODES, ROOM, World
from underlay.model import DhcpLease
from underlay.model.objects import Address, Route

GONE, MINE, KEPT = (ip_network(f"192.0.{n}.0/24") for n in (1, 2, 3))
HOP = IPv4Address("10.0.0.1")
# A classless route to KEPT by HOP.
OPTIONS = bytes((121, 8, 24, 192, 0, 3)) + HOP.packed
FORMER, OWN, NOW = "10.0.0.77/24", "10.0.0.88/24", "10.0.0.99/24"


@pytest.fixture(params=["macvlan", "bridge"])
def world(request, records):
    """A container with an address of an earlier lease, and one of its own."""
    found = World(records, MODES[request.param])
    found.settle()
    lease = DhcpLease(
        0, "eth0", "name", "web", "02:00:00:00:00:07",
        network="n1", endpoint="e1", address=IPv4Interface(NOW),
        router=HOP, former=(IPv4Interface(FORMER), IPv4Network(GONE)), options=OPTIONS,
    )  # fmt: skip
    with records.transaction():
        records.dhcp_leases.save(lease)
    for text in (FORMER, OWN):
        give(found, text)
    for to in (GONE, MINE):
        lead(found, to)
    return found


def give(world, text):
    address = Address(ip_interface(text), "eth0", sandbox=ROOM)
    world.kernel.others[address.key] = address


def lead(world, to):
    route = Route(to, "eth0", via=HOP, sandbox=ROOM)
    world.kernel.others[route.key] = route


def routes(world):
    there = world.kernel.others.values()
    return {o.destination for o in there if isinstance(o, Route) and o.via == HOP}


def addresses(world):
    there = world.kernel.others.values()
    return {str(o.interface) for o in there if isinstance(o, Address)}


def test_former_address_goes_and_the_container_s_own_stays(world):
    world.engine.reconcile()
    found = addresses(world)
    assert FORMER not in found
    assert {OWN, NOW} <= found


def test_former_address_is_forgotten_once_it_is_gone(world):
    endpoints = world.engine.records.endpoints
    world.engine.reconcile()
    world.engine.reconcile()
    assert endpoints.get("e1").former == ()
    give(world, FORMER)
    world.engine.reconcile()
    assert FORMER in addresses(world)


def test_address_of_a_lost_lease_is_out_of_the_container_until_it_is_given_again(world):
    records = world.engine.records
    world.engine.reconcile()
    lease = records.dhcp_leases.of_endpoint("e1")
    with records.transaction():
        records.dhcp_leases.save(replace(lease, former=(IPv4Interface(NOW),)))
    for _ in range(3):
        world.engine.reconcile()
        assert NOW not in addresses(world)
        assert OWN in addresses(world)
    assert world.engine.records.endpoints.get("e1").lost == IPv4Interface(NOW)
    with records.transaction():
        records.dhcp_leases.save(lease)
    world.engine.reconcile()
    assert NOW in addresses(world)
    assert KEPT in routes(world)


def test_former_route_goes_that_of_the_lease_comes_and_the_container_s_own_stays(world):
    world.engine.reconcile()
    found = routes(world)
    assert GONE not in found
    assert {MINE, KEPT} <= found


def test_former_route_by_another_device_is_not_looked_at(world):
    other = Route(GONE, "eth1", via=HOP, sandbox=ROOM)
    world.kernel.others[other.key] = other
    world.engine.reconcile()
    assert GONE in routes(world)


def test_route_that_the_lease_does_not_bring_any_more_is_deleted(world):
    records = world.engine.records
    world.engine.reconcile()
    lease = records.dhcp_leases.of_endpoint("e1")
    with records.transaction():
        records.dhcp_leases.save(replace(lease, options=b"", former=(KEPT,)))
    world.engine.reconcile()
    assert KEPT not in routes(world)
    world.engine.reconcile()
    assert records.endpoints.get("e1").former == ()
