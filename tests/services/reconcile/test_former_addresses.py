"""An address that a DHCP server took back is taken out of the sandbox by a pass."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, ip_interface

import pytest

from tests.worlds import MODES, ROOM, World
from underlay.model import DhcpLease
from underlay.model.objects import Address

FORMER, OWN, NOW = "10.0.0.77/24", "10.0.0.88/24", "10.0.0.99/24"


@pytest.fixture(params=["macvlan", "bridge"])
def world(request, records):
    """A container with an address of an earlier lease, and one of its own."""
    found = World(records, MODES[request.param])
    found.settle()
    lease = DhcpLease(
        0, "eth0", "name", "web", "02:00:00:00:00:07",
        network="n1", endpoint="e1", address=IPv4Interface(NOW),
        router=IPv4Address("10.0.0.1"), former=(IPv4Interface(FORMER),),
    )  # fmt: skip
    with records.transaction():
        records.dhcp_leases.save(lease)
    for text in (FORMER, OWN):
        give(found, text)
    return found


def give(world, text):
    address = Address(ip_interface(text), "eth0", sandbox=ROOM)
    world.kernel.others[address.key] = address


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
