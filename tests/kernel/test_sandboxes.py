"""What is seen and touched inside a sandbox, and what is left to its owner there."""

from __future__ import annotations

import secrets
from ipaddress import ip_interface

import pytest

from tests.kernel.conftest import ip
from tests.kernel.test_contract import CHILD, OWNER
from tests.lab import net
from underlay.failures import KernelRefused
from underlay.kernel.netlink import Netlink
from underlay.objects import Address, Link, Route
from underlay.steps import Create, Delete

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def room():
    found = net.Namespace(f"ulsb{secrets.token_hex(3)}", "")
    yield found.netns
    found.close()


def born(room):
    return Link("eth0", "macvlan", OWNER, "eth0", "bridge", up=True, sandbox=path(room))


def path(room):
    return str(net.NETNS / room)


def there(room):
    return Netlink().observe_inside({path(room)})[path(room)]


def test_what_could_not_get_its_name_is_seen_and_removed(room):
    ip("-n", room, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    with pytest.raises(KernelRefused, match="File exists"):
        Netlink().apply(Create(born(room)))
    (left,) = there(room)
    assert (left.name, left.owner) == (CHILD.name, None)
    Netlink().apply(Delete(left))
    assert there(room) == frozenset()
    ip("-n", room, "link", "del", "eth0")
    Netlink().apply(Create(born(room)))
    assert OWNER in {o.owner for o in there(room) if isinstance(o, Link)}
    assert " group " not in ip("-n", room, "link", "show", "eth0", "group", "157")


def test_a_strangers_device_of_that_name_is_given_no_address(room):
    ip("-n", room, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    given = Address(ip_interface("10.0.0.5/24"), "eth0", OWNER, path(room))
    with pytest.raises(KernelRefused):
        Netlink().apply(Create(given))
    assert "10.0.0.5" not in ip("-n", room, "addr", "show", "dev", "eth0")


def test_a_default_route_by_router_advertisement_is_not_looked_at(room):
    Netlink().apply(Create(born(room)))
    way = ("-6", "route", "add", "default", "via", "fe80::99", "dev", "eth0")
    ip("-n", room, *way, "proto", "ra", "metric", "1024")
    assert not any(
        isinstance(o, Route) and not o.destination.prefixlen for o in there(room)
    )
