"""The parent that a network's options name, and the networks that may share it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import ETH0, LO, FakeKernel
from underlay.errors import (
    BadParent,
    KernelLacks,
    MixedChildTypes,
    NoDefaultRoute,
    NoParent,
    OtherIpvlanMode,
    PassthruTaken,
)
from underlay.model import Device, Network, Uplink
from underlay.model.objects import Owner
from underlay.planning.checks import check_kernel, check_parent_sharing
from underlay.planning.parent import resolve_parent

ETH1 = replace(ETH0, name="eth1", mac="52:54:00:00:00:02")


def host(*devices, default="eth0"):
    return FakeKernel(LO, ETH0, *devices, default=default)


def found(wish, kernel, **options):
    return resolve_parent(Network("n1", {"parent": wish, **options}), kernel)


def vlan(name, parent, tag, *, ours=False, mtu=1500):
    return Device(name, "vlan", ETH0.mac, mtu, parent=parent, vlan=tag, ours=ours)


def on(parent="eth0", identity="n1", **options):
    return Network(identity, {"parent": parent, **options}, uplink=Uplink(parent))


def test_parent_is_found_by_name_mac_or_default_route():
    assert found("eth0", host()).parent == "eth0"
    assert found("auto", host()).parent == "eth0"
    assert found("mac:52:54:00:00:00:02", host(ETH1)).parent == "eth1"
    assert found("mac:52-54-00-00-00-02", host(ETH1)).parent == "eth1"


def test_permanent_mac_decides_between_members_of_a_bond():
    bond = replace(ETH0, name="bond0", kind="bond")
    slave = replace(ETH1, mac=ETH0.mac, permanent_mac=ETH1.mac)
    assert found(f"mac:{ETH1.mac}", host(bond, slave)).parent == "eth1"


@pytest.mark.parametrize(
    ("wish", "refusal", "words"),
    [
        ("eth9", NoParent, "Did you mean 'eth1'.* Devices: eth0, eth1"),
        ("lo", BadParent, "loopback"),
        ("ul-123", BadParent, "belongs to a network"),
        ("mac:zz", BadParent, "it is not mac:"),
        ("mac:52:54:00:00:00:09", NoParent, "Devices: eth0, eth1"),
        ("wlan7.50", NoParent, "'wlan7.50' does not exist"),
        ("eth0.0", BadParent, "VLAN 0 is not from 1 to 4094"),
        ("eth0.4095", BadParent, "VLAN 4095 is not"),
        ("eth0.50.9999", BadParent, "'eth0.50.9999' cannot .* VLAN 9999 is not"),
        ("lo.5", BadParent, "loopback"),
        ("mv0", BadParent, "it is a macvlan child itself. Use parent=eth0"),
    ],
)
def test_unusable_parent_is_refused(wish, refusal, words):
    child = Device("mv0", "macvlan", ETH1.mac, 1500, parent="eth0")
    with pytest.raises(refusal, match=words):
        found(wish, host(ETH1, replace(ETH1, name="ul-123", ours=True), child))


def test_auto_parent_without_a_default_route_is_refused():
    with pytest.raises(NoDefaultRoute):
        found("auto", host(default=None))


def test_mac_that_two_devices_have_is_refused():
    with pytest.raises(BadParent, match="eth0, eth2 all have"):
        found(f"mac:{ETH0.mac}", host(replace(ETH0, name="eth2")))


@pytest.mark.parametrize(
    ("wish", "options", "vlans"),
    [
        ("eth0.50", {}, ("eth0.50",)),
        ("eth0", {"vlan": "50"}, ("eth0.50",)),
        ("eth0.50.7", {}, ("eth0.50", "eth0.50.7")),
        ("eth0.50", {"vlan": "7"}, ("eth0.50", "eth0.50.7")),
        ("auto.50", {}, ("eth0.50",)),
        ("auto", {"vlan": "50"}, ("eth0.50",)),
        (f"mac:{ETH0.mac}", {"vlan": "50"}, ("eth0.50",)),
        (f"mac:{ETH0.mac}.50", {}, ("eth0.50",)),
        ("eth0.050", {}, ("eth0.50",)),
    ],
)
def test_vlan_is_given_in_the_parent_or_as_an_option(wish, options, vlans):
    at = found(wish, host(), **options)
    assert (at.vlans, at.parent) == (
        vlans,
        Owner.parse(f"underlay::{vlans[-1]}").device,
    )


def test_vlan_has_the_mtu_of_its_base():
    assert found("big0.5", host(replace(ETH0, name="big0", mtu=9000))).mtu == 9000
    small = vlan("v5", "big0", 5, mtu=1400)
    big = replace(ETH0, name="big0", mtu=9000)
    assert found("big0.5.6", host(big, small)).mtu == 1400


@pytest.mark.parametrize("name", ["eth0.50", "office"])
def test_foreign_vlan_is_used_whatever_its_name(name):
    at = found("eth0.50", host(vlan(name, "eth0", 50)))
    assert (at.parent, at.vlans) == (name, ())


def test_driver_s_vlan_is_made_on_a_foreign_one():
    at = found("eth0.50.7", host(vlan("office", "eth0", 50)))
    assert at.vlans == ("office.7",)


def test_driver_s_vlan_is_used_by_the_next_network():
    ours = vlan(Owner.parse("underlay::eth0.50").device, "eth0", 50, ours=True)
    at = found("eth0.50", host(ours))
    assert (at.parent, at.vlans) == (ours.name, ("eth0.50",))


def test_device_whose_name_looks_like_a_vlan_is_used_as_it_is():
    odd = replace(ETH1, name="eth0.50")
    at = found("eth0.50", host(odd))
    assert (at.parent, at.vlans) == ("eth0.50", ())


def test_network_without_a_parent_gets_its_own_dummy():
    at = resolve_parent(Network("n1"), host())
    assert (at.parent, at.vlans) == (Owner("n1").device, ())


@pytest.mark.parametrize(
    ("network", "lacks", "words"),
    [
        (on(mode="ipvlan"), {"ipvlan"}, "no ipvlan, which mode ipvlan .* mode=macvlan"),
        (on(), {"macvlan"}, "no macvlan, which mode macvlan needs: mode=ipvlan works"),
        (on(), {"macvlan", "ipvlan"}, "no macvlan, .* mode=routed works here"),
        (
            replace(on(), uplink=Uplink("eth0", ("eth0.5",))),
            {"vlan"},
            "no 8021q, which VLAN eth0.5 needs: mode=macvlan works here on a device",
        ),
        (Network("n1"), {"dummy"}, "no dummy, which a network without a parent needs"),
    ],
)
def test_error_for_a_missing_kernel_feature_says_what_works(network, lacks, words):
    kernel = host()
    check_kernel(network, kernel)
    kernel.lacks = lacks
    with pytest.raises(KernelLacks, match=f"E-126 this kernel has {words}"):
        check_kernel(network, kernel)


@pytest.mark.parametrize(
    ("asked", "there", "refusal", "words"),
    [
        ({}, {"macvlan_mode": "private"}, None, ""),
        ({"macvlan_mode": "passthru"}, {}, PassthruTaken, "network lan uses it"),
        ({}, {"macvlan_mode": "passthru"}, PassthruTaken, "in mode passthru"),
        (
            {"macvlan_mode": "passthru"},
            {"macvlan_mode": "passthru"},
            PassthruTaken,
            "network lan",
        ),
        ({"mode": "ipvlan"}, {"mode": "ipvlan", "ipvlan_mode": "l2"}, None, ""),
        (
            {"ipvlan_mode": "l3"},
            {"mode": "ipvlan"},
            OtherIpvlanMode,
            "with ipvlan_mode=l2 ipvlan_flag=bridge .network lan.",
        ),
        (
            {"ipvlan_flag": "private"},
            {"mode": "ipvlan"},
            OtherIpvlanMode,
            "ipvlan_mode=l2 ipvlan_flag=private would change all",
        ),
        (
            {},
            {"mode": "ipvlan"},
            MixedChildTypes,
            "E-120 eth0 has ipvlan devices already .network lan., and the kernel allows"
            " either macvlan or ipvlan on one parent, not both. Use mode=ipvlan",
        ),
        ({"mode": "ipvlan"}, {}, MixedChildTypes, "has macvlan devices"),
    ],
)
def test_parent_sharing_follows_the_rules_of_the_modes(asked, there, refusal, words):
    other = replace(on(identity="n2", **there), name="lan")
    if refusal is None:
        check_parent_sharing(on(**asked), [other], host())
        return
    with pytest.raises(refusal, match=words):
        check_parent_sharing(on(**asked), [other], host())


@pytest.mark.parametrize(
    ("asked", "kind", "flavour", "refusal"),
    [
        ({}, "macvlan", "bridge", None),
        ({}, "macvtap", "passthru", PassthruTaken),
        ({}, "ipvlan", "l2", MixedChildTypes),
        ({"mode": "ipvlan"}, "macvtap", "bridge", MixedChildTypes),
        ({"mode": "ipvlan"}, "ipvlan", "l2", None),
        ({"mode": "ipvlan"}, "ipvtap", "l3", OtherIpvlanMode),
    ],
)
def test_children_of_other_programs_count_for_parent_sharing(
    asked, kind, flavour, refusal
):
    child = Device("x0", kind, ETH1.mac, 1500, parent="eth0", flavour=flavour)
    child = replace(child, flag="bridge") if kind.startswith("ipv") else child
    check_parent_sharing(on("eth1", **asked), [], host(ETH1, child))
    if refusal is None:
        check_parent_sharing(on(**asked), [], host(child))
        return
    with pytest.raises(refusal, match="device x0, not of underlay"):
        check_parent_sharing(on(**asked), [], host(child))


@pytest.mark.parametrize(("ours", "use"), [(False, "Use proxy=br9"), (True, "")])
def test_bridge_port_is_refused_as_a_proxy(ours, use):
    bridge = Device("br9", "bridge", ETH0.mac, 1500, ours=ours)
    kernel = host(bridge, replace(ETH1, master="br9"))
    network = Network("n1", {"mode": "routed", "proxy": "eth1"})
    with pytest.raises(BadParent, match=f"a port of br9, .* place.*{use}"):
        resolve_parent(network, kernel)
