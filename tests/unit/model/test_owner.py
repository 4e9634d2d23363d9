"""Owners: their marks and the names of what is shared, written and read back."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from underlay.model.owner import Owner, SharedOwner, SysctlReason

POOL = ip_network("10.0.0.0/24")


@pytest.mark.parametrize(
    ("shared", "mark"),
    [
        (SharedOwner("vlan", "eth0.50"), "underlay::eth0.50"),
        (SharedOwner("bridge", "eth0"), "underlay::bridge/eth0"),
        (SharedOwner("shim", "eth0"), "underlay::shim/eth0"),
        (SharedOwner("port", "br0"), "underlay::port/br0"),
        (SharedOwner("pool", table=7, subnet=POOL), "underlay::pool/7/10.0.0.0/24"),
        (SysctlReason("forwarding", family=6), "underlay::forwarding/6"),
        (SysctlReason("proxy", "eth0", 6), "underlay::proxy/eth0/6"),
        (SysctlReason("loose", "eth0"), "underlay::loose/eth0/4"),
    ],
)
def test_the_mark_of_a_shared_owner_is_read_back(shared, mark):
    assert shared.owner.mark == mark
    assert Owner.parse(mark) == shared.owner


@pytest.mark.parametrize("name", ["shim", "pool", "loose"])
def test_a_vlan_whose_name_is_a_kind_of_shared_owner_is_read_back(name):
    assert Owner.parse(f"underlay::{name}").vlan == name


@pytest.mark.parametrize(
    "owner", [Owner(), Owner("n"), Owner("n", "e"), Owner("n", "e").host_end]
)
def test_the_mark_of_a_network_or_an_endpoint_is_read_back(owner):
    assert Owner.parse(owner.mark) == owner


def test_a_shared_owner_of_an_unknown_kind_is_refused():
    with pytest.raises(KeyError):
        Owner.parse("underlay::ring/eth0")
