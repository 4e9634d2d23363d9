"""Which device a `parent=` wish names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import ETH0, LO, FakeKernel
from underlay import uplink
from underlay.errors import BadParent, NoDefaultDevice, NoParent, NotYet

ETH1 = replace(ETH0, name="eth1", mac="52:54:00:00:00:02")


def host(*devices, default="eth0"):
    return FakeKernel(LO, ETH0, *devices, default=default)


def test_a_parent_is_named_by_name_mac_or_default_route():
    assert uplink.resolve("eth0", host()).name == "eth0"
    assert uplink.resolve("auto", host()).name == "eth0"
    assert uplink.resolve("mac:52:54:00:00:00:02", host(ETH1)).name == "eth1"
    assert uplink.resolve("mac:52-54-00-00-00-02", host(ETH1)).name == "eth1"


def test_the_permanent_address_decides_between_members_of_a_bond():
    bond = replace(ETH0, name="bond0", kind="bond")
    slave = replace(ETH1, mac=ETH0.mac, permanent_mac=ETH1.mac)
    found = uplink.resolve(f"mac:{ETH1.mac}", host(bond, slave))
    assert found.name == "eth1"


@pytest.mark.parametrize(
    ("wish", "refusal", "words"),
    [
        ("eth9", NoParent, "Did you mean 'eth1'.* Devices: eth0, eth1"),
        ("lo", BadParent, "loopback"),
        ("ul-123", BadParent, "belongs to a container"),
        ("mac:zz", BadParent, "it is not mac:"),
        ("mac:52:54:00:00:00:09", NoParent, "Devices: eth0, eth1"),
        ("", NotYet, "without a parent"),
        ("eth0.50", NotYet, "ip link add link eth0 name eth0.50 type vlan id 50"),
        ("wlan7.50", NoParent, "not a device"),
    ],
)
def test_a_parent_that_cannot_be_is_refused(wish, refusal, words):
    with pytest.raises(refusal, match=words):
        uplink.resolve(wish, host(ETH1, replace(ETH1, name="ul-123")))


def test_auto_without_a_default_route_is_refused():
    with pytest.raises(NoDefaultDevice):
        uplink.resolve("auto", host(default=None))


def test_an_address_that_two_devices_have_is_refused():
    with pytest.raises(BadParent, match="eth0, eth2 all have"):
        uplink.resolve(f"mac:{ETH0.mac}", host(replace(ETH0, name="eth2")))
