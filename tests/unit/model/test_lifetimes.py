"""How long the kernel uses an address of a DHCPv6 server, and when that is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from math import inf

import pytest

from underlay.model import Endpoint, LearnedState, LeasedIpv6, Network, Uplink
from underlay.model.objects import (
    IPV6_SECRET,
    Address,
    Lifetimes,
    Link,
    Owner,
    Slaac,
)
from underlay.model.steps import (
    Amend,
    Create,
    Delete,
    needs_announcement,
    repairs_nothing,
)
from underlay.planning.sandbox import (
    failed_address,
    learn_state,
    relevant,
    sandbox_objects,
)

LEASED = IPv6Interface("fd70:1::5/128")
ENDS = Lifetimes(since=100.0, preferred=60.0, valid=120.0)
GIVEN = Address(LEASED, "eth0", Owner("n", "e"), "/room", ENDS)
LAN = Network("n", {"parent": "eth0", "ipv6": "dhcp"}, uplink=Uplink("eth0"))
WEB = Endpoint(
    "e", "n", sandbox="/room",
    learned=LearnedState("eth0", 1500, (), (f"{IPV6_SECRET}::1",)),
    leased6=LeasedIpv6(LEASED, 100.0, 60.0, 120.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "is_same"),
    [
        (ENDS, True),
        (Lifetimes(130.0, 30.0, 90.0), True),  # the same ends, looked at later
        (Lifetimes(130.0, 28.0, 91.0), True),  # the kernel tells whole seconds
        (Lifetimes(130.0, 60.0, 120.0), False),
        (Lifetimes(130.0, 30.0, 120.0), False),
        (Lifetimes(100.0, 60.0, inf), False),
        (Lifetimes(100.0, inf, inf), False),
    ],
)
def test_lifetimes_are_the_same_if_they_end_at_the_same_time(seen, is_same):
    assert GIVEN.satisfied_by(replace(GIVEN, lifetimes=seen)) is is_same
    assert seen.is_as(ENDS) is is_same


def test_lifetime_without_an_end_is_the_same_whenever_it_began():
    forever = Lifetimes(1.0, inf, inf)
    assert forever.is_as(Lifetimes(99.0, inf, inf))
    assert str(forever) == "valid_lft forever preferred_lft forever"


def test_rest_of_a_lifetime_does_not_go_below_zero():
    assert ENDS.left(110.0) == Lifetimes(110.0, 50.0, 110.0)
    assert ENDS.left(500.0) == Lifetimes(500.0, 0, 0)
    assert Lifetimes(1.0, inf, inf).left(500.0).valid == inf


def test_address_of_docker_or_ipv4_has_no_lifetimes_to_compare():
    docker = Address(IPv6Interface("fd00::5/64"), "eth0", None, "/room")
    assert docker.satisfied_by(replace(docker, lifetimes=ENDS))
    four = Address(IPv4Interface("10.0.0.5/24"), "eth0", None, "/room")
    assert four.satisfied_by(four)


def test_steps_say_the_lifetimes_as_the_server_gave_them():
    words = "dev eth0 noprefixroute valid_lft 120 preferred_lft 60"
    start = "nsenter --net=/room ip addr"
    assert str(Create(GIVEN)) == f"{start} add {LEASED} {words}"
    change = Amend(replace(GIVEN, lifetimes=None), GIVEN)
    assert str(change) == f"{start} change {LEASED} {words}"
    assert str(Delete(GIVEN)) == f"{start} del {LEASED} dev eth0"


def test_steps_of_a_lease_repair_nothing_and_need_no_announcement():
    """The kernel first asks whether the address is free."""
    for step in (Create(GIVEN), Amend(GIVEN, GIVEN)):
        assert repairs_nothing(step)
        assert not needs_announcement(step)
    assert needs_announcement(Create(replace(GIVEN, lifetimes=None)))


def wanted(endpoint, network=LAN):
    found = sandbox_objects(network, endpoint, endpoint.learned, ())
    return [o for o in found if isinstance(o, Address)]


def test_leased_address_is_wanted_in_the_sandbox_while_ipv6_is_on():
    (found,) = wanted(WEB)
    assert (found, found.lifetimes) == (GIVEN, Lifetimes(100.0, 60.0, inf))
    off = replace(WEB, learned=replace(WEB.learned, families_off=(6,)))
    assert wanted(off) == []


def test_lost_address_is_not_wanted_and_deleted_where_it_is_seen():
    lost = replace(WEB, leased6=replace(WEB.leased6, is_lost=True))
    assert wanted(lost) == []
    seen = replace(GIVEN, owner=None)
    assert relevant((), {"/room": [seen]}, [lost]) == {GIVEN}
    assert relevant((), {"/room": [seen]}, [WEB]) == set()


def test_failed_address_is_that_of_the_lease():
    failed = replace(GIVEN, has_failed=True)
    assert failed_address(WEB, [failed])
    assert not failed_address(WEB, [GIVEN])
    other = Address(IPv6Interface("fd70:1::6/128"), "eth0", has_failed=True)
    assert not failed_address(WEB, [other])
    assert not failed_address(replace(WEB, leased6=None), [failed])


def test_leased_address_is_none_of_those_that_routers_brought():
    link = Link("eth0", "macvlan", Owner("n", "e"), sandbox="/room", up=True)
    other = IPv6Interface("fd70:1::9/64")
    seen = [link, Slaac("eth0", sandbox="/room", found=(LEASED, other))]
    found = learn_state(LAN, WEB, seen, given=True)
    assert found.learned.from_routers == (other,)
