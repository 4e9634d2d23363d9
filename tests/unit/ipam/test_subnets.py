"""Subnets, ranges, addresses and MACs."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.errors import BadRange, BadSubnet, OutsideSubnet, UnusableAddress
from underlay.ipam import subnets


def span(text):
    return [str(a) for a in subnets.usable(ip_network(text))]


@pytest.mark.parametrize(
    ("subnet", "first", "last"),
    [
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1"),
        ("10.0.0.7/32", "10.0.0.7", "10.0.0.7"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"),
        ("fd00::/126", "fd00::1", "fd00::3"),
        ("fd00::/127", "fd00::", "fd00::1"),
        ("fd00::9/128", "fd00::9", "fd00::9"),
    ],
)
def test_host_addresses_exclude_network_and_broadcast(subnet, first, last):
    assert span(subnet) == [first, last]


@pytest.mark.parametrize(
    ("text", "family", "words"),
    [
        ("10.0.0.5/24", 4, "Did you mean '10.0.0.0/24'"),
        ("10.0.0.0/33", 4, "10.0.0.0/33"),
        ("lan", 4, "lan"),
        ("fd00::/64", 4, "it is IPv6 where IPv4 is asked for"),
        ("10.0.0.0/24", 6, "it is IPv4 where IPv6"),
        ("0.0.0.0/27", 4, "a size only"),
        ("224.0.0.0/24", 4, "multicast"),
        ("127.0.0.0/8", 4, "loopback"),
    ],
)
def test_invalid_subnet_is_refused(text, family, words):
    with pytest.raises(BadSubnet, match=words):
        subnets.parse_subnet(text, family)


def test_ip_range_is_cut_to_host_addresses():
    lan = ip_network("10.0.0.0/24")
    assert [str(a) for a in subnets.parse_range("10.0.0.0/25", lan)] == [
        "10.0.0.1",
        "10.0.0.127",
    ]
    assert [str(a) for a in subnets.parse_range("10.0.0.128/25", lan)] == [
        "10.0.0.128",
        "10.0.0.254",
    ]


@pytest.mark.parametrize(
    "text", ["10.0.1.0/25", "10.0.0.0/16", "fd00::/120", "x", "10.0.0.255/32"]
)
def test_ip_range_outside_the_subnet_is_refused(text):
    with pytest.raises(BadRange):
        subnets.parse_range(text, ip_network("10.0.0.0/24"))


def test_requested_address_must_be_a_host_address():
    lan = ip_network("10.0.0.0/24")
    assert str(subnets.parse_address("10.0.0.9", lan)) == "10.0.0.9"
    with pytest.raises(UnusableAddress, match="broadcast"):
        subnets.parse_address("10.0.0.255", lan)
    with pytest.raises(UnusableAddress, match="network"):
        subnets.parse_address("10.0.0.0", lan)
    for text in ("10.0.1.1", "fd00::1", "nas", ""):
        with pytest.raises(OutsideSubnet, match=r"10\.0\.0\.1 to 10\.0\.0\.254"):
            subnets.parse_address(text, lan)


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_derived_mac_is_local_unicast_and_stable(host, network, subject):
    mac = subnets.derive_mac(host, network, subject)
    first = int(mac[:2], 16)
    assert first & 0b10
    assert not first & 0b01
    assert len(mac) == 17
    assert mac == subnets.derive_mac(host, network, subject)


def test_two_hosts_never_derive_the_same_mac():
    assert subnets.derive_mac("a", "n", "10.0.0.5") != subnets.derive_mac(
        "b", "n", "10.0.0.5"
    )


def test_another_network_derives_another_mac_for_the_same_address():
    """As docs/modes.md says: a network that is created again has another id."""
    assert subnets.derive_mac("a", "n", "10.0.0.5") != subnets.derive_mac(
        "a", "m", "10.0.0.5"
    )
