"""What a lease brings a container beside its address."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network

import pytest

from underlay.model import Endpoint, Network, Subnet, Uplink
from underlay.model.lease_options import LeaseOptions, LeaseRoute
from underlay.modes import attachment, bridge, macvlan

LAN = Network(
    "n1",
    {"parent": "eth0"},
    subnets=(Subnet(ip_network("0.0.0.0/0"), pooled=True, dhcp=True),),
    uplink=Uplink("eth0", mtu=1500),
)
ROUTER, OTHER = IPv4Address("10.55.0.1"), IPv4Address("10.55.0.254")


def leased(*routes, address="10.55.0.77/24", router=ROUTER, size=None, **options):
    ways = tuple(
        LeaseRoute(IPv4Network(to), IPv4Address(hop) if hop else None)
        for to, hop in routes
    )
    said = LeaseOptions(routers=(OTHER,), routes=ways, mtu=size)
    own = IPv4Interface(address)
    return Endpoint("e1", "n1", own, options=options, router=router, leased=said)


def answer(endpoint, **options):
    asked = replace(LAN, options={**LAN.options, **options})
    found = attachment(asked, endpoint)
    on_link = [str(to) for to in found.on_link]
    return found.gateway4, on_link, [f"{to} {hop}" for to, hop in found.via]


def test_container_has_the_routes_of_its_lease():
    endpoint = leased(("10.0.0.0/8", "10.55.0.9"), ("172.16.0.0/12", "10.55.0.8"))
    found = answer(endpoint)
    assert found == (ROUTER, [], ["10.0.0.0/8 10.55.0.9", "172.16.0.0/12 10.55.0.8"])


def test_routes_of_the_lease_are_left_out_and_option_3_counts_if_it_is_so_wished():
    endpoint = leased(("0.0.0.0/0", str(ROUTER)), ("10.0.0.0/8", "10.55.0.9"))
    assert answer(endpoint, lease_routes="off") == (OTHER, [], [])


def test_route_on_the_link_leads_to_the_next_hop_of_another():
    routes = ("10.0.0.0/8", "198.51.100.1"), ("198.51.100.1/32", None)
    found = answer(leased(*routes, router=None))
    assert found == (None, ["198.51.100.1/32"], ["10.0.0.0/8 198.51.100.1"])


def test_gateway_outside_the_subnet_is_a_next_hop_with_one_route_to_it():
    far = IPv4Address("198.51.100.1")
    routes = ("198.51.100.1/32", None), ("10.0.0.0/8", str(far))
    found = answer(leased(*routes, router=far))
    assert found == (far, ["198.51.100.1/32"], ["10.0.0.0/8 198.51.100.1"])


@pytest.mark.parametrize(
    "route",
    [
        ("10.0.0.0/8", "192.0.2.1"),  # nothing leads there
        ("10.0.0.0/8", "10.55.0.77"),  # the container itself
        ("10.0.0.0/8", "10.55.0.255"),  # all machines
        ("10.0.0.0/8", "10.55.0.0"),
        ("10.55.0.0/24", "10.55.0.9"),  # the kernel has it by the address
        ("10.55.0.77/32", None),
        ("127.0.0.0/8", "10.55.0.9"),
        ("224.0.0.0/4", "10.55.0.9"),
        ("0.0.0.0/0", "10.55.0.1"),  # the gateway already
    ],
)
def test_route_that_the_kernel_would_refuse_is_left_out(route):
    assert answer(leased(route)) == (ROUTER, [], [])


def test_route_of_the_user_s_choice_comes_before_that_of_the_lease():
    routes = ("10.0.0.0/8", "10.55.0.9"), ("172.16.0.0/12", "10.55.0.9")
    found = answer(leased(*routes, route="10.0.0.0/8 via 10.55.0.2"))[2]
    assert found == ["10.0.0.0/8 10.55.0.2", "172.16.0.0/12 10.55.0.9"]


def test_second_route_to_one_destination_is_left_out():
    found = answer(leased(("10.0.0.0/8", "10.55.0.9"), ("10.0.0.0/8", "10.55.0.8")))[2]
    assert found == ["10.0.0.0/8 10.55.0.9"]


@pytest.mark.parametrize(
    ("said", "options", "own", "size"),
    [
        (1400, {"lease_mtu": "on"}, {}, 1400),
        (1400, {}, {}, None),
        (9000, {"lease_mtu": "on"}, {}, 1500),  # of the parent
        (1400, {"lease_mtu": "on", "mtu": "1300"}, {}, 1300),
        (1400, {"lease_mtu": "on"}, {"mtu": "1200"}, 1200),
        (None, {"lease_mtu": "on"}, {}, None),
        (576, {"lease_mtu": "on"}, {}, 576),
        (576, {"lease_mtu": "on", "ipv6": "slaac"}, {}, 1280),  # the least with IPv6
    ],
)
@pytest.mark.parametrize("mode", [macvlan, bridge])
def test_device_has_the_mtu_of_the_lease_if_it_is_so_wished(
    mode, said, options, own, size
):
    asked = replace(LAN, options={**LAN.options, **options})
    link, *_ = mode.endpoint_objects(asked, leased(size=said, **own))
    assert (link.peer or link).mtu == size
