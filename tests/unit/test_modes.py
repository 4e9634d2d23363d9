"""Options to meaning: what macvlan accepts, refuses and wants."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0
from underlay.errors import (
    BadMac,
    BadValue,
    Contradiction,
    MacTaken,
    MtuTooBig,
    MtuTooSmall,
    NotYet,
    PassthruFull,
    PassthruTaken,
    UnknownMode,
    UnknownOption,
)
from underlay.model import Endpoint, Network, Segment
from underlay.modes import macvlan, mode_name, mode_of
from underlay.objects import Owner
from underlay.steps import Create

V4 = Segment(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
V6 = Segment(ip_network("fd00::/64"), ip_address("fd00::1"))


def network(*segments, internal=False, **options):
    return Network("n" * 64, options, internal, tuple(segments or (V4,)), parent="eth0")


def endpoint(**facts):
    return Endpoint("e" * 64, "n" * 64, **facts)


def test_the_mode_is_macvlan_when_nothing_names_one():
    assert mode_name({}) == "macvlan"
    assert mode_name({"macvlan_mode": "vepa"}) == "macvlan"
    assert mode_name({"ipvlan_mode": "l3"}) == "ipvlan"


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"mode": "macvlam"}, UnknownMode, "Did you mean 'macvlan'?"),
        ({"mode": "macvlan", "ipvlan_mode": "l2"}, Contradiction, "mode=macvlan and"),
        ({"macvlan_mode": "bridge", "ipvlan_mode": "l2"}, Contradiction, "ipvlan_mode"),
    ],
)
def test_a_mode_that_cannot_be_is_refused(options, refusal, words):
    with pytest.raises(refusal, match=words.replace("?", r"\?")):
        mode_of(options)


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"paren": "eth0"}, UnknownOption, "Did you mean 'parent'"),
        ({"macvlan_mode": "brdge"}, BadValue, "Did you mean 'bridge'"),
        ({"mtu": "big"}, BadValue, "a number of bytes from 68 to 65535"),
        ({"mtu": "67"}, BadValue, "from 68"),
        (
            {"mtu": "1400", "com.docker.network.driver.mtu": "1300"},
            Contradiction,
            "mtu=1400 and com.docker.network.driver.mtu=1300",
        ),
        ({"mtu": "65536"}, BadValue, "to 65535"),
        ({"mtu": "-1"}, BadValue, "number"),
        ({"mtu": "\u0661500"}, BadValue, "number"),
        ({"host_access": "on"}, NotYet, "host_access=on"),
        ({"vlan": "5"}, NotYet, "vlan=5"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, refusal, words):
    with pytest.raises(refusal, match=words):
        macvlan.check(network(**options))


def test_options_of_docker_and_those_that_ask_for_nothing_are_accepted():
    macvlan.check(
        network(
            **{
                "com.docker.network.advertise_addr_nmsgs": "0",
                "host_access": "off",
                "default_route": "yes",
            }
        )
    )


def test_an_mtu_that_switches_ipv6_off_is_refused_with_ipv6_only():
    macvlan.check(network(mtu="1000"))
    with pytest.raises(MtuTooSmall):
        macvlan.check(network(V4, V6, mtu="1000"))


def test_the_mtu_of_the_parent_is_the_most():
    macvlan.admit(network(mtu="1500"), ETH0, [])
    with pytest.raises(MtuTooBig, match="the 1500 of parent eth0"):
        macvlan.admit(network(mtu="1501"), ETH0, [])
    with pytest.raises(MtuTooBig):
        macvlan.admit_endpoint(network(), endpoint(options={"mtu": "9000"}), ETH0, None)


@pytest.mark.parametrize(
    ("asked", "there", "refused"),
    [
        ("bridge", "bridge", False),
        ("private", "vepa", False),
        ("passthru", "bridge", True),
        ("bridge", "passthru", True),
        ("passthru", "passthru", True),
    ],
)
def test_passthru_shares_its_parent_with_nobody(asked, there, refused):
    other = network(macvlan_mode=there)
    if not refused:
        macvlan.admit(network(macvlan_mode=asked), ETH0, [other])
        return
    with pytest.raises(PassthruTaken, match="network nnnnnnnnnnnn"):
        macvlan.admit(network(macvlan_mode=asked), ETH0, [other])


def test_passthru_serves_one_container():
    one = endpoint(container="web")
    with pytest.raises(PassthruFull, match="endpoint web has it"):
        macvlan.admit_endpoint(network(macvlan_mode="passthru"), endpoint(), ETH0, one)


def test_the_mac_is_the_one_asked_for_else_the_derived_one():
    asked = endpoint(mac="02:00:00:00:00:07")
    assert macvlan.endpoint_mac(network(), asked, ETH0, "d") == "02:00:00:00:00:07"
    assert macvlan.endpoint_mac(network(), endpoint(), ETH0, "d") == "d"
    with pytest.raises(MacTaken, match="eth0 itself"):
        macvlan.endpoint_mac(network(), endpoint(mac=ETH0.mac), ETH0, "d")


def test_passthru_never_changes_the_mac_of_the_parent():
    whole = network(macvlan_mode="passthru")
    assert macvlan.endpoint_mac(whole, endpoint(), ETH0, "derived") == ETH0.mac
    with pytest.raises(BadMac, match="would change the host's device"):
        macvlan.endpoint_mac(whole, endpoint(mac="02:00:00:00:00:07"), ETH0, "d")


def test_an_endpoint_wants_its_child_device():
    (link,) = macvlan.endpoint_objects(
        network(macvlan_mode="vepa", mtu="1400"), endpoint(mac="02:00:00:00:00:07")
    )
    name = Owner("n" * 64, "e" * 64).device
    assert str(Create(link)) == (
        f"ip link add link eth0 name {name} address 02:00:00:00:00:07 mtu 1400"
        " type macvlan mode vepa"
    )


def test_the_mtu_of_an_endpoint_goes_before_that_of_its_network():
    (link,) = macvlan.endpoint_objects(
        network(mtu="1400"), endpoint(options={"mtu": "1300"})
    )
    assert link.mtu == 1300


def test_join_answers_the_gateways_of_the_subnets_the_endpoint_is_in():
    both = endpoint(ipv4=IPv4Interface("10.0.0.5/24"), ipv6=IPv6Interface("fd00::5/64"))
    found = macvlan.attachment(network(V4, V6), both)
    assert (str(found.gateway4), str(found.gateway6)) == ("10.0.0.1", "fd00::1")
    only4 = endpoint(ipv4=IPv4Interface("10.0.0.5/24"))
    assert macvlan.attachment(network(V4, V6), only4).gateway6 is None


def test_an_internal_network_has_no_way_out():
    found = macvlan.attachment(
        network(internal=True), endpoint(ipv4=IPv4Interface("10.0.0.5/24"))
    )
    assert found.gateway4 is None
    assert not macvlan.needs_gateway({}, internal=True)
