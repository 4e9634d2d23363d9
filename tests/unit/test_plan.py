"""Wanted and seen in, steps out."""

from __future__ import annotations

from dataclasses import replace

from underlay.objects import Link, Owner
from underlay.plan import plan
from underlay.wanted import Wanted

OWNER = Owner("n", "e")
CHILD = Link("ul-1", "macvlan", OWNER, parent="eth0", flavour="bridge")
BASE = Link("ul-0", "dummy", Owner("n"))


def texts(wanted, seen):
    return [str(step) for step in plan(wanted, seen)]


def test_builds_go_bottom_up_and_drops_top_down():
    assert texts(Wanted((CHILD, BASE)), []) == [
        "ip link add name ul-0 type dummy",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]
    assert texts(Wanted(), [BASE, CHILD]) == ["ip link del ul-1", "ip link del ul-0"]


def test_nothing_is_planned_where_nothing_differs():
    assert texts(Wanted((CHILD,)), [CHILD]) == []


def test_a_field_left_none_is_not_ours():
    seen = replace(CHILD, mac="02:00:00:00:00:01", mtu=9000)
    assert texts(Wanted((CHILD,)), [seen]) == []


def test_a_field_that_differs_is_amended():
    seen = replace(CHILD, mtu=1400, flavour="private", mac="02:00:00:00:00:01")
    want = replace(CHILD, mtu=1500)
    assert texts(Wanted((want,)), [seen]) == [
        "ip link set ul-1 mtu 1500 type macvlan mode bridge"
    ]


def test_a_device_on_another_parent_is_made_again():
    assert texts(Wanted((CHILD,)), [replace(CHILD, parent="eth1")]) == [
        "ip link del ul-1",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]


def test_what_docker_has_in_its_hands_is_left_alone():
    handed = Wanted(handed_over=frozenset({OWNER.mark}))
    assert texts(handed, [CHILD]) == []
    assert texts(handed, []) == []


def test_an_unfinished_link_goes_before_its_successor_comes():
    half = Link("ul-1", "macvlan", None)
    assert texts(Wanted((CHILD,)), [half]) == [
        "ip link del ul-1",
        "ip link add link eth0 name ul-1 type macvlan mode bridge",
    ]


def test_a_mark_is_read_back_and_names_fit_the_kernel():
    owner = Owner("a" * 64, "b" * 64)
    assert Owner.parse(owner.mark) == owner
    assert len(owner.mark) < 256
    assert len(owner.device) == 15
    assert owner.device.startswith("ul-")
