"""Wanted and seen in, steps out."""

from __future__ import annotations

import shlex
from dataclasses import replace
from ipaddress import ip_interface

import pytest

from underlay.model.objects import (
    Address,
    BridgePort,
    Link,
    Neighbour,
    NftChain,
    Owner,
    Route,
    Sysctl,
)
from underlay.model.steps import Amend, Create, Delete, describe_before
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

OWNER = Owner("n", "e")
CHILD = Link("ul-1", "macvlan", OWNER, parent="eth0", flavour="bridge")
BASE = Link("ul-0", "dummy", Owner("n"))


def texts(wanted, seen):
    return [str(step) for step in plan(wanted, seen)]


def test_plan_builds_bottom_up_and_drops_top_down():
    assert texts(DesiredState((CHILD, BASE)), []) == [
        "ip link add name ul-0 type dummy",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]
    assert texts(DesiredState(), [BASE, CHILD]) == [
        "ip link del ul-1",
        "ip link del ul-0",
    ]


def test_shim_is_up_after_its_filters_also_beside_a_bridge_in_the_place_of_a_device():
    owner = Owner.parse("underlay::shim/eth1")
    shim = Link("ul-2", "macvlan", owner, "eth1", up=True, up_after_filters=True)
    hook = "filter hook ingress priority 0"
    chain = NftChain("netdev", "ingress-ul-2", hook, ("drop",), "ul-2", owner)
    port = BridgePort("eth0", "ul-3", Owner.parse("underlay::bridge/eth0"))
    steps = plan(DesiredState((shim, chain, port)), [port])
    assert [type(s.object) for s in steps] == [Link, NftChain, Link]


def test_plan_is_empty_where_nothing_differs():
    assert texts(DesiredState((CHILD,)), [CHILD]) == []


def test_field_left_none_is_not_compared():
    seen = replace(CHILD, mac="02:00:00:00:00:01", mtu=9000)
    assert texts(DesiredState((CHILD,)), [seen]) == []


def test_differing_field_is_amended():
    seen = replace(CHILD, mtu=1400, flavour="private", mac="02:00:00:00:00:01")
    want = replace(CHILD, mtu=1500)
    assert texts(DesiredState((want,)), [seen]) == [
        "ip link set ul-1 mtu 1500 type macvlan mode bridge"
    ]


@pytest.mark.parametrize("name", ["$(reboot)", ";reboot;", "`id`", "it's"])
def test_step_prints_as_one_shell_command_whatever_the_device_name(name):
    seen = replace(CHILD, name=name, sandbox="/run/netns/a", mtu=1400)
    want = replace(seen, mtu=1500)
    address = ip_interface("10.0.0.5/24")
    steps = [
        Create(want),
        Amend(seen, want),
        Delete(seen),
        Create(Address(address, name, sandbox=want.sandbox)),
        Create(Route(address.network, name, sandbox=want.sandbox)),
        Create(Neighbour(address.ip, name)),
    ]
    for step in steps:
        words = shlex.split(str(step))
        assert name in words, step
        assert not any("reboot" in w or w == "id" for w in words if w != name)


LOOSE, QUIET = "net/ipv4/conf/*/rp_filter={}", "net/ipv6/conf/*/accept_dad={}"


def test_differing_sysctls_are_set_alone_and_first():
    want = replace(CHILD, sysctls=(LOOSE.format(2), QUIET.format(0)), up=True)
    seen = replace(want, sysctls=(LOOSE.format(0), QUIET.format(0)))
    sysctl = "sysctl -w net.ipv4.conf.ul-1.rp_filter=2"
    assert texts(DesiredState((want,)), [seen]) == [sysctl]
    assert texts(DesiredState((want,)), [replace(seen, up=False)]) == [
        f"{sysctl}; ip link set ul-1 up"
    ]
    seen = replace(want, sysctls=(LOOSE.format(0), QUIET.format(1)))
    assert texts(DesiredState((want,)), [seen]) == [
        f"{sysctl} net.ipv6.conf.ul-1.accept_dad=0"
    ]


def test_step_tells_the_state_before_it():
    want = replace(CHILD, sysctls=(LOOSE.format(2), QUIET.format(0)), up=True)
    seen = replace(want, sysctls=(LOOSE.format(0), QUIET.format(0)))
    link = "ip link add link eth0 name ul-1 up type macvlan mode bridge"
    assert describe_before(Create(want)) == ""
    assert describe_before(Delete(want)) == link
    was = "sysctl -w net.ipv4.conf.ul-1.rp_filter=0"
    assert describe_before(Amend(seen, want)) == was
    down = replace(seen, up=False)
    assert describe_before(Amend(down, want)) == f"{was}; {link.replace(' up', '')}"


def test_points_in_the_name_of_a_device_are_slashes_in_the_words_of_sysctl():
    want = replace(CHILD, name="eth0.50", sysctls=(LOOSE.format(2),), up=True)
    seen = replace(want, sysctls=(LOOSE.format(0),))
    sysctl = "sysctl -w net.ipv4.conf.eth0/50.rp_filter="
    assert texts(DesiredState((want,)), [seen]) == [f"{sysctl}2"]
    assert describe_before(Amend(seen, want)) == f"{sysctl}0"
    made = Create(Sysctl("net/ipv4/conf/eth0.50/rp_filter", "2"))
    assert str(made) == f"{sysctl}2"


def test_hidden_or_inherited_settings_are_not_compared():
    want = replace(
        CHILD, sysctls=(QUIET.format(0),), initial_sysctls=(LOOSE.format(2),)
    )
    for shown in ((), (LOOSE.format(0),), (LOOSE.format(0), QUIET.format(0))):
        seen = replace(CHILD, sysctls=shown)
        assert texts(DesiredState((want,)), [seen]) == []


def test_chain_with_different_or_reordered_rules_is_replaced():
    hook = "filter hook egress priority 0"
    want = NftChain("netdev", "said", hook, ("one drop", "two drop"), "ul-1")
    others = ("one drop",), ("two drop", "one drop"), ("one accept", "two drop")
    seen = [replace(want, rules=rules, marks=()) for rules in others]
    seen += [replace(want, hook="filter hook egress priority 7")]
    bound = 'filter hook egress device "ul-1" priority 0'
    for found in seen:
        assert texts(DesiredState((want,)), [found]) == [
            "nft delete chain netdev underlay said; nft add chain netdev underlay said"
            f" {{ type {bound}; one drop; two drop }}"
        ]
    assert texts(DesiredState((want,)), [replace(want, rules=())]) == []


def test_device_on_another_parent_is_recreated():
    assert texts(DesiredState((CHILD,)), [replace(CHILD, parent="eth1")]) == [
        "ip link del ul-1",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]


def test_objects_docker_is_moving_are_left_alone():
    handed = DesiredState(in_docker_hands=frozenset({OWNER.mark}))
    assert texts(handed, [CHILD]) == []
    assert texts(handed, []) == []


def test_unfinished_link_is_deleted_before_its_successor_is_created():
    half = Link("ul-1", "macvlan", None)
    assert texts(DesiredState((CHILD,)), [half]) == [
        "ip link del ul-1",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]


def test_marks_are_read_back_and_names_fit_the_kernel():
    owner = Owner("a" * 64, "b" * 64)
    assert Owner.parse(owner.mark) == owner
    assert len(owner.mark) < 256
    assert len(owner.device) == 15
    assert owner.device.startswith("ul-")
