"""Options to meaning: what the modes accept, refuse and want."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0
from underlay.errors import (
    BadMac,
    BadValue,
    ConflictingOptions,
    MacTaken,
    MtuTooSmall,
    PassthruFull,
    TakeoverNotConfirmed,
    UnknownMode,
    UnknownOption,
)
from underlay.model import Endpoint, Network, Subnet, Uplink
from underlay.model.objects import Owner
from underlay.model.steps import Create
from underlay.modes import (
    MODES,
    attachment,
    bridge,
    check,
    check_capacity,
    check_endpoint,
    ipvlan,
    macvlan,
    misspellings,
    mode_name,
    mode_of,
    withholds_way_out,
)
from underlay.modes.options import MODE_KEYS, NETWORK_KEYS

V4 = Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"))
V6 = Subnet(ip_network("fd00::/64"), ip_address("fd00::1"))


def network(*segments, internal=False, **options):
    subnets = tuple(segments or (V4,))
    return Network("n" * 64, options, internal, subnets, Uplink("eth0"))


def endpoint(**facts):
    return Endpoint("e" * 64, "n" * 64, **facts)


def test_mode_is_macvlan_when_none_is_named():
    assert mode_name({}) == "macvlan"
    assert mode_name({"macvlan_mode": "vepa"}) == "macvlan"
    assert mode_name({"ipvlan_mode": "l3"}) == "ipvlan"


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"mode": "macvlam"}, UnknownMode, "Did you mean 'macvlan'?"),
        ({"mode": "MACVLAN"}, UnknownMode, "Did you mean 'macvlan'?"),
        ({"mode": "l2"}, UnknownMode, "Did you mean 'ipvlan_mode=l2'?"),
        ({"mode": "L3S"}, UnknownMode, "Did you mean 'ipvlan_mode=l3s'?"),
        ({"mode": "ipvlan-l3"}, UnknownMode, "Did you mean 'ipvlan_mode=l3'?"),
        ({"mode": "l2", "ipvlan_mode": "l2"}, UnknownMode, "'ipvlan_mode=l2'?"),
        ({"mode": "private"}, UnknownMode, "Did you mean 'macvlan_mode=private'?"),
        ({"mode": "unmanaged"}, UnknownMode, "Did you mean 'bridge=<name>'?"),
        ({"mode": "nat"}, UnknownMode, "'masquerade=on with mode=routed'?"),
        (
            {"mode": "macvlan", "ipvlan_mode": "l2"},
            ConflictingOptions,
            "mode=macvlan and",
        ),
        (
            {"macvlan_mode": "bridge", "ipvlan_mode": "l2"},
            ConflictingOptions,
            "ipvlan_mode",
        ),
    ],
)
def test_invalid_mode_is_refused(options, refusal, words):
    with pytest.raises(refusal, match=words.replace("?", r"\?")):
        mode_of(options)


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"paren": "eth0"}, UnknownOption, "Did you mean 'parent'"),
        ({"host_iface": "eth1"}, UnknownOption, "Did you mean 'parent=eth1'"),
        ({"host-iface": "a\x1b"}, UnknownOption, r"Did you mean 'parent=\.\.\.'"),
        ({"master": "eth1"}, UnknownOption, "Did you mean 'parent=eth1'"),
        ({"ipvlan-mode": "l3"}, UnknownOption, "Did you mean 'ipvlan_mode'"),
        ({"macvlanMode": "vepa"}, UnknownOption, "Did you mean 'macvlan_mode'"),
        ({"vlanId": "5"}, UnknownOption, "Did you mean 'vlan=5'"),
        ({"no_default_route": "1"}, UnknownOption, "Did you mean 'default_route=no'"),
        ({"release_lease": "never"}, UnknownOption, "Did you mean 'hold=<seconds>'"),
        ({"skip_routes": "true"}, UnknownOption, "Leave it out: no routes of the host"),
        ({"takeover": "yes"}, UnknownOption, "It is for mode=bridge with parent="),
        ({"macvlan_mode": "l2"}, BadValue, "Did you mean 'ipvlan_mode=l2'"),
        ({"macvlan_mode": "brdge"}, BadValue, "Did you mean 'bridge'"),
        ({"mtu": "big"}, BadValue, "a number of bytes from 68 to 65535"),
        ({"mtu": "67"}, BadValue, "from 68"),
        (
            {"mtu": "1400", "com.docker.network.driver.mtu": "1300"},
            ConflictingOptions,
            "mtu=1400 and com.docker.network.driver.mtu=1300",
        ),
        ({"mtu": "65536"}, BadValue, "to 65535"),
        ({"mtu": "-1"}, BadValue, "number"),
        ({"mtu": "\u0661500"}, BadValue, "number"),
        (
            {"host_access": "on", "macvlan_mode": "vepa"},
            BadValue,
            "host_access='on' is not valid: only off is possible, because macvlan",
        ),
        ({"bcqueuelen": "0"}, BadValue, "a number of packets from 1"),
        ({"mac_budget": "few"}, BadValue, "a number of MACs from 0"),
        ({"vlan": "0"}, BadValue, "a number from 1 to 4094"),
        ({"vlan": "4095"}, BadValue, "a number from 1 to 4094"),
        ({"vlan": "5"}, BadValue, "Add -o parent=<device>"),
        ({"default_route": "off"}, BadValue, "one of yes, no"),
        ({"host_access": "yes"}, BadValue, "not valid: one of on, off."),
        ({"gateway": "nobody"}, BadValue, "none, or an address, or one of each"),
        ({"gateway": "fe80::1%eth0", "parent": "eth0"}, BadValue, "none, or an"),
        ({"gateway": "10.9.0.1"}, BadValue, "Add -o parent=<device>"),
        ({"gateway": "10.0.0.5", "parent": "eth0"}, BadValue, "--gateway 10.0.0.5"),
        ({"gateway": "fe80::1", "parent": "eth0"}, BadValue, "no IPv6 subnet that"),
        ({"gateway": "10.9.0.1,10.9.0.2"}, BadValue, "at most one IPv4 address"),
        ({"gateway": "224.0.0.1"}, BadValue, "is not the address of a router"),
        ({"parent": ""}, BadValue, "Leave it out for a network without a parent"),
    ],
)
def test_invalid_option_is_refused(options, refusal, words):
    with pytest.raises(refusal, match=words):
        macvlan.check(network(**options))


def test_docker_options_and_options_without_effect_are_accepted():
    macvlan.check(
        network(
            **{
                "com.docker.network.advertise_addr_nmsgs": "0",
                "host_access": "off",
                "default_route": "yes",
            }
        )
    )


BOTH = {
    "ipv4": IPv4Interface("10.0.0.5/24"),
    "ipv6": IPv6Interface("fd00::5/64"),
}


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    ("said", "gateway4", "gateway6", "on_link", "kept"),
    [
        ("none", None, None, [], []),
        ("10.9.0.1", "10.9.0.1", "fd00::1", ["10.9.0.1/32"], [6]),
        ("fe80::1", "10.0.0.1", "fe80::1", ["fe80::1/128"], [4]),
        (
            "10.9.0.1,fe80::1",
            "10.9.0.1",
            "fe80::1",
            ["10.9.0.1/32", "fe80::1/128"],
            [],
        ),
    ],
)
def test_gateway_option_replaces_docker_s_in_its_family(
    mode, said, gateway4, gateway6, on_link, kept
):
    asked = network(V4, V6, mode=mode, parent="eth0", gateway=said)
    MODES[mode].check(asked)
    found = MODES[mode].attachment(asked, endpoint(**BOTH))
    answered = [str(g) if g else None for g in (found.gateway4, found.gateway6)]
    assert answered == [gateway4, gateway6]
    assert [str(n) for n in found.on_link] == on_link
    assert list(MODES[mode].traits(asked.options).reserved_gateways) == kept


def test_ipvlan_l3_refuses_a_gateway_option():
    routed = {"ipvlan_mode": "l3", "parent": "eth0"}
    ipvlan.check(network(**routed, gateway="none"))
    with pytest.raises(ConflictingOptions, match="ipvlan_mode=l3 and gateway=10"):
        ipvlan.check(network(**routed, gateway="10.9.0.1"))


@pytest.mark.parametrize("options", [{"macvlan_mode": "bridge"}, {"ipvlan_mode": "l3"}])
def test_network_or_endpoint_may_leave_the_default_route_to_others(options):
    mode = mode_of(options)
    open_, shut = (
        network(parent="eth0", default_route=value, **options)
        for value in ("yes", "no")
    )
    plain = endpoint(ipv4=BOTH["ipv4"])
    assert mode.attachment(open_, plain) != mode.attachment(shut, plain)
    for asked, said, same in ((open_, "no", shut), (shut, "yes", open_)):
        one = replace(plain, options={"default_route": said})
        check_endpoint(asked, one)
        assert mode.attachment(asked, one) == mode.attachment(same, plain)
    with pytest.raises(BadValue, match="Did you mean 'yes'"):
        check_endpoint(open_, replace(plain, options={"default_route": "yess"}))


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "routed", "bridge"])
def test_default_route_in_one_family_leaves_the_other_to_other_networks(mode):
    ways = {"bridge": {"bridge": "br0"}, "routed": {"mode": "routed"}}
    options = ways.get(mode, {"mode": mode, "parent": "eth0"})
    for said, four, six in (
        ("yes", True, True),
        ("4", True, False),
        ("6", False, True),
    ):
        asked = network(V4, V6, default_route=said, **options)
        found = attachment(asked, endpoint(**BOTH))
        assert (bool(found.gateway4), bool(found.gateway6)) == (four, six)


ROUTES = "10.8.0.0/16 via 10.0.0.254, 10.9.0.0/16 via 10.0.0.253,fd08::/16 via fd00::9"


def test_routes_of_a_network_and_of_an_endpoint_are_answered_at_join():
    asked = network(V4, V6, parent="eth0", route=ROUTES)
    check(asked)

    def told(**facts):
        return [
            f"{to} via {hop}" for to, hop in attachment(asked, endpoint(**facts)).via
        ]

    assert told(**BOTH) == [
        "10.8.0.0/16 via 10.0.0.254",
        "10.9.0.0/16 via 10.0.0.253",
        "fd08::/16 via fd00::9",
    ]
    assert len(told(ipv4=BOTH["ipv4"])) == 2
    own = {"route": "10.7.0.0/16 via 10.0.0.1"}
    assert told(**BOTH, options=own) == ["10.7.0.0/16 via 10.0.0.1"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("10.8.0.0/16", "routes are like 10.0.0.0/8 via 192.168.1.254"),
        ("10.8.0.0/16 by 10.0.0.1", "routes are like"),
        ("10.8.0.1/16 via 10.0.0.1", "has host bits set"),
        ("10.8.0.0/16 via here", "'here' does not appear to be"),
        ("10.8.0.0/16 via 10.0.0.1,", "routes are like"),
        ("10.8.0.0/16 via fd00::1", "of one IP family"),
        ("fd08::/16 via fe80::1%eth0", "of one IP family"),
        ("0.0.0.0/0 via 10.0.0.1", "what gateway= is for"),
        ("224.0.0.0/4 via 10.0.0.1", "is not behind a router"),
        ("10.0.0.0/24 via 10.0.0.1", "another route to 10.0.0.0/24 already"),
        ("10.0.0.1/32 via 10.0.0.9", "another route to 10.0.0.1/32 already"),
        ("10.8.0.0/16 via 10.1.0.1", "must be in a subnet of the network"),
        ("10.8.0.0/16 via 10.0.0.1, 10.8.0.0/16 via 10.0.0.2", "another route"),
        (", ".join(f"10.8.{n}.0/24 via 10.0.0.1" for n in range(65)), "64 routes"),
    ],
)
def test_route_that_cannot_work_is_refused_for_network_and_endpoint(value, words):
    with pytest.raises(BadValue, match=words):
        check(network(V4, V6, parent="eth0", route=value))
    one = replace(endpoint(**BOTH), options={"route": value})
    with pytest.raises(BadValue, match=words):
        check_endpoint(network(V4, V6, parent="eth0"), one)


def test_next_hop_outside_the_subnets_is_refused_also_if_it_is_the_gateway():
    """With default_route=no nothing leads to it, and no container would start."""
    way = "10.8.0.0/16 via 10.99.9.1"
    with pytest.raises(BadValue, match="must be in a subnet of the network"):
        check(network(parent="eth0", gateway="10.99.9.1", route=way))


def test_next_hop_of_a_routed_network_is_its_gateway_alone():
    pool = replace(V4, pooled=True)
    check(network(pool, mode="routed", route="10.8.0.0/16 via 10.0.0.1"))
    with pytest.raises(BadValue, match="must be the gateway"):
        check(network(pool, mode="routed", route="10.8.0.0/16 via 10.0.0.9"))


def test_route_needs_a_segment_on_which_a_next_hop_answers():
    way = "10.8.0.0/16 via 10.0.0.1"
    check(network(parent="eth0", ipvlan_mode="l2", route=way))
    with pytest.raises(BadValue, match="without a segment there is no next hop"):
        check(network(parent="eth0", ipvlan_mode="l3", route=way))


def test_mtu_that_disables_ipv6_is_refused_with_ipv6_only():
    macvlan.check(network(mtu="1000"))
    with pytest.raises(MtuTooSmall):
        macvlan.check(network(V4, V6, mtu="1000"))


def test_passthru_serves_one_container():
    one = endpoint(container="web")
    check_capacity(network(), one)
    with pytest.raises(PassthruFull, match="endpoint web uses it"):
        check_capacity(network(macvlan_mode="passthru"), one)


def test_requested_mac_is_used_else_the_derived_one():
    asked = endpoint(mac="02:00:00:00:00:07")
    assert macvlan.endpoint_mac(network(), asked, ETH0.mac, "d") == "02:00:00:00:00:07"
    assert macvlan.endpoint_mac(network(), endpoint(), ETH0.mac, "d") == "d"
    with pytest.raises(MacTaken, match="eth0 itself"):
        macvlan.endpoint_mac(network(), endpoint(mac=ETH0.mac), ETH0.mac, "d")


def test_passthru_never_changes_the_mac_of_the_parent():
    whole = network(macvlan_mode="passthru")
    assert macvlan.endpoint_mac(whole, endpoint(), ETH0.mac, "derived") == ETH0.mac
    with pytest.raises(BadMac, match="would change that of the host"):
        macvlan.endpoint_mac(whole, endpoint(mac="02:00:00:00:00:07"), ETH0.mac, "d")


def test_endpoint_requires_its_child_device():
    (link,) = macvlan.endpoint_objects(
        network(macvlan_mode="vepa", mtu="1400"), endpoint(mac="02:00:00:00:00:07")
    )
    name = Owner("n" * 64, "e" * 64).device
    assert str(Create(link)) == (
        f"ip link add link eth0 name {name} address 02:00:00:00:00:07 mtu 1400"
        " type macvlan mode vepa"
    )


def test_endpoint_mtu_overrides_the_network_s():
    (link,) = macvlan.endpoint_objects(
        network(mtu="1400"), endpoint(options={"mtu": "1300"})
    )
    assert link.mtu == 1300


def test_join_answer_has_the_gateways_of_the_endpoint_s_subnets():
    both = endpoint(ipv4=IPv4Interface("10.0.0.5/24"), ipv6=IPv6Interface("fd00::5/64"))
    found = macvlan.attachment(network(V4, V6, parent="eth0"), both)
    assert (str(found.gateway4), str(found.gateway6)) == ("10.0.0.1", "fd00::1")
    only4 = endpoint(ipv4=IPv4Interface("10.0.0.5/24"))
    assert macvlan.attachment(network(V4, V6, parent="eth0"), only4).gateway6 is None


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
@pytest.mark.parametrize(
    "closed", [network(internal=True, parent="eth0"), network()], ids=["internal", "-"]
)
@pytest.mark.parametrize("flavour", ["l2", "l3"])
def test_internal_or_isolated_network_has_no_way_out(mode, closed, flavour):
    asked = {**closed.options, "mode": mode}
    if mode == "ipvlan":
        asked["ipvlan_mode"] = flavour
    found = MODES[mode].attachment(
        replace(closed, options=asked), endpoint(ipv4=IPv4Interface("10.0.0.5/24"))
    )
    assert (found.gateway4, found.on_link) == (None, ())


def ipvlan_network(*segments, **options):
    return network(*segments, mode="ipvlan", parent="eth0", **options)


def test_ipvlan_l2_has_the_gateway_of_its_subnet():
    one = endpoint(ipv4=IPv4Interface("10.0.0.5/24"))
    found = ipvlan.attachment(ipvlan_network(), one)
    assert (str(found.gateway4), found.on_link) == ("10.0.0.1", ())
    assert 4 in ipvlan.traits(ipvlan_network().options).reserved_gateways
    isolated = {"ipvlan_mode": "l2"}
    assert ipvlan.traits(isolated).reserved_gateways == ()


@pytest.mark.parametrize("flavour", ["l3", "l3s"])
def test_ipvlan_l3_routes_everything_to_the_parent_in_its_families(flavour):
    routed = ipvlan_network(V4, V6, ipvlan_mode=flavour)
    both = endpoint(ipv4=IPv4Interface("10.0.0.5/24"), ipv6=IPv6Interface("fd00::5/64"))
    found = ipvlan.attachment(routed, both)
    assert [str(n) for n in found.on_link] == ["0.0.0.0/0", "::/0"]
    assert (found.gateway4, found.gateway6) == (None, None)
    only6 = endpoint(ipv6=IPv6Interface("fd00::5/64"))
    assert [str(n) for n in ipvlan.attachment(routed, only6).on_link] == ["::/0"]
    assert ipvlan.traits(routed.options).reserved_gateways == ()


def test_ipvlan_child_has_mode_and_flag_and_no_mac():
    asked = ipvlan_network(ipvlan_mode="l3s", ipvlan_flag="private", mtu="1400")
    (link,) = ipvlan.endpoint_objects(asked, endpoint())
    name = Owner("n" * 64, "e" * 64).device
    assert str(Create(link)) == (
        f"ip link add link eth0 name {name} mtu 1400 type ipvlan mode l3s private"
    )
    assert not ipvlan.endpoint_mac(asked, endpoint(), ETH0.mac, "derived")
    check_capacity(asked, endpoint())


def test_mac_for_an_ipvlan_container_is_refused():
    with pytest.raises(BadMac, match=f"the MAC of eth0, {ETH0.mac}.* mode=macvlan"):
        ipvlan.endpoint_mac(
            ipvlan_network(), endpoint(mac="02:00:00:00:00:07"), ETH0.mac, "d"
        )


@pytest.mark.parametrize(
    "said", sorted({*misspellings.KEYS.values(), *misspellings.MODES.values()})
)
def test_suggestions_for_unknown_words_are_existing_options(said):
    known = (*NETWORK_KEYS, *MODE_KEYS)
    for option in said.split(" with "):
        assert option.startswith("--") or option.partition("=")[0] in known


def test_no_option_name_is_taken_for_another():
    ours = {k.replace("_", "") for k in (*NETWORK_KEYS, *MODE_KEYS)}
    assert not ours & misspellings.KEYS.keys()
    assert not MODES.keys() & misspellings.MODES.keys()


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"ipvlan_mode": "private"}, "ipvlan_flag=private"),
        ({"ipvlan_mode": "L3"}, "l3"),
        ({"ipvlan_flag": "privat"}, "private"),
    ],
)
def test_invalid_ipvlan_mode_or_flag_is_refused(options, near):
    with pytest.raises(BadValue, match=f"Did you mean '{near}'"):
        ipvlan.check(ipvlan_network(**options))


def test_isolated_network_uses_its_own_dummy():
    (link,) = macvlan.network_objects(network(mtu="9000"))
    owner = Owner("n" * 64)
    assert (
        str(Create(link)) == f"ip link add name {owner.device} mtu 9000 up type dummy"
    )
    assert link.owner == owner


def test_driver_s_vlans_are_stacked_in_order():
    lower, upper = Owner.parse("underlay::eth0.50"), Owner.parse("underlay::eth0.50.7")
    tagged = replace(
        network(parent="eth0.50.7"),
        uplink=Uplink(upper.device, ("eth0.50", "eth0.50.7")),
    )
    assert [str(Create(link)) for link in macvlan.network_objects(tagged)] == [
        f"ip link add link eth0 name {lower.device} up type vlan id 50",
        f"ip link add link {lower.device} name {upper.device} up type vlan id 7",
    ]
    assert tagged.parent_label == "eth0.50.7"


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"mode": "bridge"}, BadValue, "expected a bridge of this host"),
        ({"bridge": ""}, BadValue, "expected a bridge of this host"),
        ({"mode": "bridge", "parent": "eth0"}, TakeoverNotConfirmed, "-o takeover=yes"),
        (
            {"mode": "bridge", "parent": "eth0", "takeover": "no"},
            TakeoverNotConfirmed,
            "use -o macvlan_mode=bridge",
        ),
        (
            {"mode": "bridge", "parent": "eth0", "takeover": "on"},
            BadValue,
            "one of no, yes",
        ),
        ({"bridge": "br0", "takeover": "yes"}, ConflictingOptions, "and takeover=yes"),
        (
            {"bridge": "br0", "parent": "eth0"},
            ConflictingOptions,
            "bridge=br0 and parent=",
        ),
        ({"bridge": "br0", "vlan": "5"}, ConflictingOptions, "bridge=br0 and vlan=5"),
        ({"bridge": "br0", "host_access": "off"}, BadValue, "the host is on the"),
        (
            {"bridge": "br0", "proxy": "eth0"},
            ConflictingOptions,
            "bridge=br0 and proxy=eth0",
        ),
        ({"bridge": "br0", "gateway": "10.0.0.5"}, BadValue, "--gateway 10.0.0.5"),
        ({"bridge": "br0", "mtu": "67"}, BadValue, "from 68"),
    ],
)
def test_option_unsupported_on_a_bridge_is_refused(options, refusal, words):
    with pytest.raises(refusal, match=words):
        bridge.check(network(**options))


def test_bridge_option_implies_mode_bridge():
    assert mode_of({"bridge": "br0"}) is bridge
    with pytest.raises(ConflictingOptions, match="mode=macvlan and bridge=br0"):
        mode_of({"mode": "macvlan", "bridge": "br0"})


def test_bridged_container_uses_its_subnet_s_gateway():
    asked = network(V4, V6, bridge="br0", host_access="on")
    on = replace(asked, uplink=Uplink("br0"))
    bridge.check(on)
    found = bridge.attachment(on, endpoint(**BOTH))
    assert (str(found.gateway4), str(found.gateway6)) == ("10.0.0.1", "fd00::1")
    inside = bridge.attachment(replace(on, internal=True), endpoint(**BOTH))
    assert (inside.gateway4, inside.gateway6) == (None, None)
    assert 4 in bridge.traits(on.options).reserved_gateways


@pytest.mark.parametrize(
    ("options", "internal", "withheld"),
    [
        ({"parent": "eth0"}, False, False),
        ({"parent": "eth0", "gateway": "none"}, False, True),
        ({"parent": "eth0", "default_route": "no"}, False, True),
        ({"parent": "eth0", "default_route": "no"}, True, False),
        ({"parent": "eth0", "gateway": "198.51.100.1"}, False, False),
        ({"default_route": "no"}, False, False),
        ({"parent": "eth0", "ipvlan_mode": "l3", "gateway": "none"}, False, False),
        ({"parent": "eth0", "ipvlan_mode": "l3", "default_route": "no"}, False, True),
        ({"mode": "routed", "default_route": "no"}, False, True),
        ({"bridge": "br0", "gateway": "none"}, False, True),
    ],
)
def test_options_that_replace_the_default_route_are_recognized(
    options, internal, withheld
):
    assert withholds_way_out(network(V4, internal=internal, **options)) == withheld
