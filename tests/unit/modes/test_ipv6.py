"""ipv6= and suffix=: what is refused, and what a container's device must have."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Interface, ip_address, ip_network
from math import inf

import pytest

from underlay import modes
from underlay.errors import BadValue, ConflictingOptions, MtuTooSmall, NotWithRouters
from underlay.model import (
    Endpoint,
    LearnedState,
    LeasedIpv6,
    Network,
    Subnet,
    Uplink,
)
from underlay.model.objects import IPV6_SECRET, Lifetimes, Slaac
from underlay.modes import ipv6

ITS_OWN = "0001:0203:0405:0607:0809:0a0b:0c0d:0e0f"
KNOWN = LearnedState("eth0", 1500, (4, 6), (f"{IPV6_SECRET}{ITS_OWN}",))
FOUR = Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
SIX = Subnet(ip_network("fd00::/64"), ip_address("fd00::1"))
DHCP = Subnet(ip_network("0.0.0.0/0"), pooled=True, dhcp=True)
ON_SEGMENTS = [
    {"parent": "eth0"},
    {"parent": "eth0", "macvlan_mode": "passthru"},
    {"mode": "ipvlan", "parent": "eth0"},
    {"bridge": "br0"},
]


def network(*subnets, internal=False, **options):
    asked = {"parent": "eth0", **options}
    asked = {key: value for key, value in asked.items() if value}
    return Network("n" * 64, asked, internal, subnets or (FOUR,), Uplink("eth0"))


def endpoint(**options):
    return Endpoint("e" * 64, "n" * 64, options=options, sandbox="/room")


@pytest.mark.parametrize("options", ON_SEGMENTS, ids=str)
@pytest.mark.parametrize(
    "subnets", [(FOUR,), (DHCP,), ()], ids=["pool", "dhcp", "null"]
)
def test_networks_on_a_segment_hear_routers_with_any_source_of_ipv4(options, subnets):
    for value in ("off", "slaac", "suffix", "dhcp"):
        modes.check(Network("n" * 64, {**options, "ipv6": value}, subnets=subnets))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (network(FOUR, SIX), "Docker gives the addresses of fd00::/64"),
        (network(internal=True), "the network is --internal"),
        (network(parent=""), "no parent, so no router. Add -o parent="),
        (network(mode="ipvlan", ipvlan_mode="l3"), "mode=ipvlan are on no segment"),
        (network(mode="ipvlan", ipvlan_mode="l3s"), "mode=ipvlan are on no segment"),
    ],
)
def test_networks_without_routers_are_refused(asked, words):
    for value in ("slaac", "suffix", "dhcp"):
        options = {**asked.options, "ipv6": value}
        with pytest.raises(NotWithRouters, match=words) as refused:
            modes.check(replace(asked, options=options))
        assert f"ipv6={value}" in str(refused.value)
    modes.check(replace(asked, options={**asked.options, "ipv6": "off"}))


def test_routed_network_is_refused():
    routed = Subnet(FOUR.subnet, FOUR.gateway, pooled=True)
    asked = Network("n" * 64, {"mode": "routed", "ipv6": "slaac"}, subnets=(routed,))
    with pytest.raises(NotWithRouters, match="--ipv6 with an IPv6 --subnet"):
        modes.check(asked)


def test_unknown_value_is_refused_with_those_that_are_known():
    with pytest.raises(BadValue, match="one of off, slaac, suffix, dhcp"):
        modes.check(network(ipv6="radvd"))


def test_container_with_a_dhcpv6_server_makes_only_its_link_local_address():
    found = ipv6.slaac(network(ipv6="dhcp"), endpoint(), KNOWN)
    assert any(x.endswith(f"stable_secret={ITS_OWN}") for x in found.sysctls)
    assert "accept_ra=1 net.ipv6.conf.eth0.autoconf=0" in found.command("add")


@pytest.mark.parametrize(("when_lost", "valid"), [("keep", inf), ("drop", 200.0)])
def test_kernel_drops_an_address_of_a_server_only_if_it_is_to_be_dropped(
    when_lost, valid
):
    leased = LeasedIpv6(IPv6Interface("fd00::5/128"), 7.0, 100.0, 200.0)
    asked = network(ipv6="dhcp", when_lost=when_lost)
    assert ipv6.lifetimes(asked, leased) == Lifetimes(7.0, 100.0, valid)


def test_options_of_leases_are_for_dhcpv6_too():
    modes.check(network(ipv6="dhcp", hold="5", hostname="register", when_lost="drop"))
    for key, value in {"hold": "x", "hostname": "yes", "when_lost": "never"}.items():
        with pytest.raises(BadValue):
            modes.check(network(ipv6="dhcp", **{key: value}))
    with pytest.raises(BadValue, match="it is for source=dhcp or ipv6=dhcp"):
        modes.check(network(hold="5"))
    with pytest.raises(BadValue, match="it is for source=dhcp"):
        modes.check(network(ipv6="dhcp", lease_timeout="5"))


def test_repair_off_is_refused_beside_it():
    with pytest.raises(ConflictingOptions, match="ipv6=slaac and repair=off"):
        modes.check(network(ipv6="slaac", repair="off"))
    with pytest.raises(ConflictingOptions):
        modes.check_endpoint(network(ipv6="slaac"), endpoint(repair="off"))


def test_mtu_that_disables_ipv6_is_refused():
    with pytest.raises(MtuTooSmall):
        modes.check(network(ipv6="slaac", mtu="1000"))


@pytest.mark.parametrize(
    "suffix",
    ["53", "::", "::53%eth0", "fd00::53", "0:0:0:1::53", "10.0.0.5", "::53/64"],
)
def test_suffix_is_the_last_half_of_an_address(suffix):
    modes.check_endpoint(network(ipv6="suffix"), endpoint(suffix="::53"))
    with pytest.raises(BadValue, match="the last 64 bits"):
        modes.check_endpoint(network(ipv6="suffix"), endpoint(suffix=suffix))


@pytest.mark.parametrize("value", ["", "off", "slaac"])
def test_suffix_is_for_networks_that_ask_for_one(value):
    with pytest.raises(BadValue, match="networks with -o ipv6=suffix"):
        modes.check_endpoint(network(ipv6=value), endpoint(suffix="::53"))


def test_secret_comes_before_ipv6_is_on():
    found = ipv6.slaac(network(ipv6="slaac"), endpoint(), KNOWN)
    assert found.command("add") == (
        "nsenter --net=/room sysctl -w net.ipv6.conf.eth0.stable_secret=hidden"
        " net.ipv6.conf.eth0.addr_gen_mode=2 net.ipv6.conf.eth0.optimistic_dad=1"
        " net.ipv6.conf.eth0.use_optimistic=1 net.ipv6.conf.eth0.accept_ra=1"
        " net.ipv6.conf.eth0.autoconf=1 net.ipv6.conf.eth0.accept_ra_defrtr=1"
        " net.ipv6.conf.eth0.disable_ipv6=0"
    )


def test_token_comes_after_ipv6_is_on_and_needs_no_secret():
    known = replace(KNOWN, sysctls=())
    found = ipv6.slaac(network(ipv6="suffix"), endpoint(suffix="::53"), known)
    words = found.command("add")
    assert words.endswith(
        "disable_ipv6=0; nsenter --net=/room ip token set ::53 dev eth0"
    )
    assert "secret" not in words


def test_container_without_a_suffix_gets_one_from_its_secret():
    found = ipv6.slaac(network(ipv6="suffix"), endpoint(), KNOWN)
    assert "ip token set ::809:a0b:c0d:e0f dev eth0" in found.command("add")


def test_nothing_is_set_before_the_secret_is_known():
    known = replace(KNOWN, sysctls=())
    for value in ("slaac", "suffix", "dhcp"):
        assert ipv6.slaac(network(ipv6=value), endpoint(), known) is None


def test_container_whose_ipv6_is_switched_off_by_its_user_hears_no_router():
    key = "com.docker.network.endpoint.sysctls"
    off = endpoint(**{key: "net.ipv6.conf.IFNAME.disable_ipv6=1"})
    assert ipv6.slaac(network(ipv6="slaac"), off, KNOWN) is None


@pytest.mark.parametrize("options", [{"default_route": "4"}, {"gateway": "none"}])
def test_network_without_an_ipv6_default_route_takes_none(options):
    asked = network(ipv6="slaac", **options)
    assert not ipv6.takes_default(asked, endpoint())
    assert ipv6.takes_default(network(ipv6="slaac"), endpoint())
    found = ipv6.slaac(asked, endpoint(), replace(KNOWN, default_families=(4,)))
    assert "net/ipv6/conf/*/accept_ra_defrtr=0" in found.sysctls


def test_addresses_that_the_kernel_makes_are_not_compared():
    wanted = Slaac("eth0", "::53", ("net/ipv6/conf/*/accept_ra=1",), sandbox="/room")
    shown = ("net/ipv6/conf/*/accept_ra=1", "net/ipv6/conf/*/proxy_ndp=0")
    assert wanted.satisfied_by(replace(wanted, sysctls=shown))
    assert not wanted.satisfied_by(Slaac("eth0", "::54", shown, sandbox="/room"))
    off = ("net/ipv6/conf/*/accept_ra=0",)
    assert not wanted.satisfied_by(replace(wanted, sysctls=off))


def test_new_device_has_ipv6_off_until_it_has_its_secret():
    had = (f"{IPV6_SECRET}{ITS_OWN}", "net/ipv6/conf/*/disable_ipv6=0", "net/ipv4/x=1")
    assert ipv6.at_birth(had) == ("net/ipv4/x=1", "net/ipv6/conf/*/disable_ipv6=1")
