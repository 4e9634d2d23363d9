"""strict= and isolate=: by mode, and what a gate knows of a container."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.fakes import FakeKernel
from underlay.errors import BadValue, ConflictingOptions, KernelLacks, NeedsRouted
from underlay.model import Endpoint, LearnedState, Network, Subnet, Uplink
from underlay.model.objects import IPV6_SECRET, NftElements, NftTable
from underlay.modes import check, check_endpoint, mode_of, stable_address
from underlay.modes.gate import of_sandbox
from underlay.modes.port_policy import policy_of
from underlay.planning.checks import check_guards
from underlay.planning.desired import DesiredState, beside_objects, endpoint_objects

MODES = {
    "macvlan": {"parent": "eth0"},
    "bridge": {"bridge": "br0"},
    "takeover": {"mode": "bridge", "parent": "eth0", "takeover": "yes"},
    "routed": {"mode": "routed"},
}
PAIRS = ("bridge", "takeover", "routed")
WEB = Endpoint(
    "e" * 64,
    "n" * 64,
    IPv4Interface("10.0.0.5/24"),
    IPv6Interface("fd00::5/64"),
    "02:00:00:00:00:42",
    sandbox="/room",
)
# What addresses of that MAC end with, and one that a kernel made of this secret.
END = ("ends6", "0x000000fffe000042")
SECRET, OF_SECRET = "2001:db8::1234:5678:9abc:def0", "fe80::f6d:dbfb:d78c:5691"


def network(mode, **options):
    subnets = (
        Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"), pooled=True),
        Subnet(ip_network("fd00::/64"), ip_address("fd00::1"), pooled=True),
    )
    given = {**MODES[mode], **options}
    return Network("n" * 64, given, False, subnets, Uplink("eth0"))


def elements(asked, endpoint=WEB):
    """Return the words in the sets of the host's gates, without the container."""
    objects = mode_of(asked.options).endpoint_objects(asked, endpoint)
    found = [o for o in objects if isinstance(o, NftElements)]
    each = (element for of in found for element in of.elements)
    return {(name, words.partition(" . ")[2]) for name, words in each}


@pytest.mark.parametrize("mode", MODES)
def test_containers_with_veths_are_strict_unless_options_say_otherwise(mode):
    assert policy_of(network(mode), WEB).strict == (mode in PAIRS)
    for value in ("on", "off"):
        one = replace(WEB, options={"strict": value})
        for asked in (network(mode, strict=value), network(mode)):
            assert policy_of(asked, one).strict == (value == "on")
        check(network(mode, strict=value))
        check_endpoint(network(mode), one)


@pytest.mark.parametrize("mode", MODES)
def test_gate_knows_a_container_s_mac_and_addresses(mode):
    assert elements(network(mode, strict="on")) == {
        ("strict", ""),
        ("macs", WEB.mac),
        ("mine4", "10.0.0.5"),
        ("mine6", f"0x{ip_address('fd00::5').packed.hex()}"),
        END,
    }
    assert elements(network(mode, strict="off")) == set()


def test_addresses_of_docker_and_routers_on_a_device_are_its_own():
    given = IPv4Interface("169.254.3.3/16"), IPv6Interface("fe80::77/64")
    known = LearnedState(
        "eth0", 1500, link_local=given, from_routers=(IPv6Interface("fd70::9/64"),)
    )
    more = elements(network("bridge"), replace(WEB, learned=known))
    assert more - elements(network("bridge")) == {
        ("mine4", "169.254.3.3"),
        ("mine6", f"0x{ip_address('fe80::77').packed.hex()}"),
        ("mine6", f"0x{ip_address('fd70::9').packed.hex()}"),
    }


def test_link_local_address_of_a_secret_takes_the_place_of_the_mac_s():
    assert str(stable_address.link_local(SECRET)) == OF_SECRET
    known = LearnedState("eth0", 1500, sysctls=(f"{IPV6_SECRET}{SECRET}",))
    web = replace(WEB, ipv6=None, learned=known)
    with_suffix = replace(web, learned=None, options={"suffix": "::53"})
    of_secret = ("mine6", f"0x{ip_address(OF_SECRET).packed.hex()}")
    found = elements(network("bridge", ipv6="slaac"), web)
    assert {e for e in found if "6" in e[0]} == {of_secret}
    # With a token the kernel makes that address from the MAC, and others of the token.
    for one, end in ((web, "123456789abcdef0"), (with_suffix, "0" * 14 + "53")):
        found = elements(network("bridge", ipv6="suffix"), one)
        assert {e for e in found if "6" in e[0]} == {END, ("ends6", f"0x{end}")}


def test_container_beside_an_ipvlan_network_sends_from_its_address_there():
    nets = {"n" * 64: network("bridge"), "i": replace(network("macvlan"), id="i")}
    nets["i"] = replace(nets["i"], options={"mode": "ipvlan", "parent": "eth0"})
    # ipvlan containers have no MAC of their own.
    other = Endpoint("o", "i", IPv4Interface("10.9.0.5/24"), sandbox="/room")
    found = beside_objects(nets, [WEB, other])
    (o,) = found[WEB.id].objects
    assert o.elements == {("beside4", f"{o.who} . 10.9.0.5")}
    assert not found["o"].objects


def test_macvlan_container_is_checked_in_its_sandbox_as_well():
    (table,) = of_sandbox(
        network("macvlan", strict="on"), WEB, "eth0", has_siblings=True
    )
    assert f'element macs {{ "eth0" . {WEB.mac} }}' in table.body
    assert not any(of_sandbox(network("macvlan"), WEB, "eth0", has_siblings=True))


def test_only_the_default_is_left_out_on_a_host_without_gates():
    kernel = FakeKernel()
    kernel.can_guard = False
    for mode in PAIRS:
        asked = network(mode)
        check_guards(asked, {}, kernel)
        check_guards(asked, {"ping": "on"}, kernel)
        found = endpoint_objects(asked, WEB)
        assert gates(found)
        assert not gates(found.without_optional())
        for options in ({"strict": "on"}, {"ping": "off"}):
            with pytest.raises(KernelLacks, match="E-126"):
                check_guards(asked, options, kernel)
            one = replace(WEB, options=options)
            assert gates(endpoint_objects(asked, one).without_optional())
    with pytest.raises(KernelLacks, match="isolate=on"):
        check_guards(network("routed", isolate="on"), {}, kernel)


def gates(found: DesiredState):
    return [o for o in found.objects if isinstance(o, NftTable | NftElements)]


def test_isolated_network_has_a_table_of_its_own_with_its_containers():
    asked = network("routed", strict="off", isolate="on")
    check(asked)
    table, member = gates(endpoint_objects(asked, WEB))
    other, _ = gates(endpoint_objects(replace(asked, id="m" * 64), WEB))
    assert member.table == table.name
    assert [name for name, _ in member.elements] == ["members"]
    assert other.key != table.key
    assert not gates(endpoint_objects(network("routed", strict="off"), WEB))


def test_options_are_refused_where_they_mean_nothing():
    ipvlan = replace(network("macvlan"), options={"mode": "ipvlan", "strict": "on"})
    with pytest.raises(BadValue, match="ipvlan containers share a MAC"):
        check(ipvlan)
    with pytest.raises(NeedsRouted, match="isolate=on"):
        check(network("macvlan", isolate="on"))
    with pytest.raises(ConflictingOptions, match="isolate=on"):
        check(network("takeover", isolate="on"))
    for key in ("strict", "isolate"):
        with pytest.raises(BadValue, match=f"{key}='yes'"):
            check(network("routed", **{key: "yes"}))
