"""Where a container may connect to, with `egress=subnet`."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_interface, ip_network

import pytest

from underlay.model import Endpoint, LearnedState, Network, Subnet, Uplink
from underlay.modes.gate import elements
from underlay.modes.port_policy import policy_of

WEB = Endpoint("e", "n", IPv4Interface("10.55.0.7/23"), mac="02:00:00:00:00:42")
ALWAYS = {"224.0.0.0/4", "255.255.255.255", "fe80::/10", "ff00::/8"}


def near(subnets, endpoint=WEB, **options):
    """Return the networks that a container may connect to, beside those of all."""
    given = {"parent": "eth0", "egress": "subnet", **options}
    made = tuple(Subnet(ip_network(s), dhcp=s.endswith("/0")) for s in subnets)
    network = Network("n", given, subnets=made, uplink=Uplink("eth0"))
    found = list(elements(policy_of(network, endpoint), "who"))
    words = [w.partition(" . ")[2] for name, w in found if name.startswith("near")]
    assert len(words) == len(set(words))
    assert set(words) >= ALWAYS - {"fe80::/10"}
    return set(words) - ALWAYS


@pytest.mark.parametrize("subnets", [["0.0.0.0/0"], ["10.55.0.0/23"]])
def test_subnet_of_a_lease_is_the_one_that_the_server_gave(subnets):
    assert near(subnets) == {"10.55.0.0/23"}


def test_prefix_of_a_router_is_near_and_a_single_address_is_no_subnet():
    known = LearnedState("eth0", 1500, from_routers=(ip_interface("2001:db8::42/64"),))
    assert near(["10.55.0.0/23"], replace(WEB, learned=known)) == {
        "10.55.0.0/23",
        "2001:db8::/64",
    }
    alone = replace(WEB, ipv4=IPv4Interface("10.64.0.7/32"))
    assert near(["10.64.0.0/24"], alone, mode="routed") == {"10.64.0.0/24"}


def test_subnet_within_another_is_left_out_as_the_kernel_takes_no_two():
    assert near(["10.0.0.0/8", "fe80::/64"]) == {"10.0.0.0/8"}
