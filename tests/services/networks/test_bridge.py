"""Ports of other people's bridges: what is made, refused, and mended after deaths."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_network

import pytest

from tests.fakes import BR0, ETH0, LO, Death, FakeKernel, engine_on
from tests.worlds import WEB
from underlay.errors import (
    BadBridge,
    BridgeFiltered,
    ConflictingOptions,
    KernelLacks,
    KernelRefused,
    MacTaken,
    MtuTooBig,
    NoParent,
)
from underlay.model import Network, Subnet
from underlay.model.objects import ForwardAccept, NftElements, NftTable, Owner
from underlay.records import Records

ON = Network("n1", {"bridge": "br0"}, False, (Subnet(ip_network("10.0.0.0/24")),))
PAIR = Owner("n1", "e1")
HOST, CONTAINER = PAIR.host_end.device, PAIR.device
PERMIT = ForwardAccept(4, "-i br0 -o br0").key


@pytest.fixture
def kernel():
    return FakeKernel(LO, ETH0, BR0)


def without_gates(kernel):
    gates = NftTable, NftElements
    return {key for key, o in kernel.others.items() if not isinstance(o, gates)}


@pytest.fixture
def engine(records, kernel):
    return engine_on(records, kernel)


def test_container_has_one_veth_end_and_the_bridge_the_other(engine, kernel):
    engine.create_network(ON)
    assert kernel.links == {}
    made = engine.create_endpoint(WEB)
    host, container = kernel.links[HOST], kernel.links[CONTAINER]
    assert (host.master, host.up, host.mac, host.copy_from) == (
        "br0",
        True,
        None,
        "br0",
    )
    assert (container.mac, container.master) == (made.mac, None)
    assert without_gates(kernel) == {PERMIT}
    engine.delete_endpoint("n1", "e1")
    assert kernel.links == {}
    assert kernel.others == {}


@pytest.mark.parametrize("name", ["br+", 'br"0'])
def test_bridge_whose_name_is_a_pattern_to_iptables_is_refused(records, name):
    engine = engine_on(records, FakeKernel(LO, ETH0, replace(BR0, name=name)))
    with pytest.raises(BadBridge, match="iptables reads its name as more than a name"):
        engine.create_network(replace(ON, options={"bridge": name}))


def test_veth_step_takes_mac_and_mtu_from_the_bridge_in_shell_syntax(engine, kernel):
    engine.create_network(replace(ON, options={"bridge": "br0", "mtu": "1400"}))
    made = engine.create_endpoint(WEB)
    kernel.links.clear()
    br0 = "/sys/class/net/br0"
    assert str(engine.preview()[0]) == (
        f"ip link add name {HOST} address $(cat {br0}/address) mtu $(cat {br0}/mtu)"
        f" master br0 up type veth peer name {CONTAINER} address {made.mac} mtu 1400"
    )


def test_container_on_two_networks_sends_from_the_addresses_of_both(engine, kernel):
    other = replace(ON, id="n2", subnets=(Subnet(ip_network("10.1.0.0/24")),))
    mine = {}
    for network, address in ((ON, "10.0.0.5/24"), (other, "10.1.0.5/24")):
        engine.create_network(network)
        web = replace(WEB, id=f"e-{network.id}", network=network.id)
        engine.create_endpoint(replace(web, ipv4=IPv4Interface(address)))
        mine[network.id] = Owner(network.id, web.id).host_end.device
        engine.join(network.id, web.id, "/run/a")
    kernel.sandboxes.add("/run/a")

    def listed():
        found = (o for o in kernel.others.values() if isinstance(o, NftElements))
        parts = (part for o in found for part in o.elements)
        return {words for name, words in parts if name in ("mine4", "beside4")}

    both = ("10.0.0.5", "10.1.0.5")
    assert listed() == {f'"{d}" . {a}' for d in mine.values() for a in both}
    assert engine.reconcile() == []
    assert listed() == {f'"{d}" . {a}' for d in mine.values() for a in both}
    assert engine.preview() == ()
    engine.leave("e-n2")
    engine.delete_endpoint("n2", "e-n2")
    assert engine.reconcile() == []
    assert listed() == {f'"{mine["n1"]}" . 10.0.0.5'}


def test_host_that_can_have_no_gates_leaves_out_those_of_the_default(engine, kernel):
    kernel.can_guard = False
    engine.create_network(ON)
    engine.create_endpoint(WEB)
    assert set(kernel.others) == {PERMIT}
    assert engine.preview() == ()
    asked = replace(WEB, id="e2", options={"strict": "on"})
    with pytest.raises(KernelLacks, match="E-126"):
        engine.create_endpoint(asked)
    engine.delete_endpoint("n1", "e1")
    assert kernel.others == {}


def test_forward_accept_for_a_bridge_stays_until_its_last_container_goes(
    engine, kernel
):
    other = replace(ON, id="n2")
    for network in (ON, other):
        engine.create_network(network)
        engine.create_endpoint(replace(WEB, id=f"e-{network.id}", network=network.id))
    engine.delete_endpoint("n1", "e-n1")
    assert without_gates(kernel) == {PERMIT}
    assert engine.preview() == ()
    engine.delete_endpoint("n2", "e-n2")
    assert kernel.others == {}


def test_unplugged_bridge_port_is_plugged_in_again(engine, kernel):
    engine.create_network(ON)
    engine.create_endpoint(WEB)
    engine.join("n1", "e1", "/run/a")
    kernel.links.pop(CONTAINER)
    kernel.links[HOST] = replace(kernel.links[HOST], master=None)
    assert engine.reconcile() == []
    assert kernel.links[HOST].master == "br0"
    assert engine.preview() == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("br1", "no device of that name. Did you mean 'br0'.* Bridges: br0[.]"),
        ("eth0", "it is not a bridge. To put containers on it .* -o parent="),
        ("bond0", "it is a bond device"),
        ("docker0", "Docker made it"),
        ("br-0123456789ab", "Docker made it"),
        ("ul-0", "belongs to a network of underlay"),
        ("x" * 300, "no device of that name"),
    ],
)
def test_device_that_is_no_administrator_s_bridge_is_refused(
    engine, kernel, name, words
):
    for device in (
        replace(BR0, name="docker0"),
        replace(BR0, name="br-0123456789ab"),
        replace(BR0, name="ul-0", ours=True),
        replace(BR0, name="bond0", kind="bond"),
    ):
        kernel.strangers[device.name] = device
    with pytest.raises(BadBridge, match=words):
        engine.create_network(replace(ON, options={"bridge": name}))
    assert engine.records.networks.all() == []


def test_host_without_a_bridge_is_told_how_to_get_one(engine, kernel):
    del kernel.strangers["br0"]
    with pytest.raises(BadBridge, match=r"Bridges: none; mode=bridge .* makes one"):
        engine.create_network(ON)


def test_bridge_that_forwards_nothing_is_refused_with_the_way_out(engine, kernel):
    kernel.dropping["br0", 6] = "ip6tables says no"
    engine.create_network(ON)  # IPv4 alone
    both = (*ON.subnets, Subnet(ip_network("fd00::/64")))
    with pytest.raises(BridgeFiltered, match=r"says no.*ip6tables -I FORWARD"):
        engine.create_network(replace(ON, id="n2", subnets=both))
    assert [n.id for n in engine.records.networks.all()] == ["n1"]


def test_bridge_option_is_refused_with_parent_or_vlan(engine):
    for key, value in (("parent", "eth0"), ("vlan", "5")):
        with pytest.raises(ConflictingOptions, match=f"bridge=br0 and {key}={value}"):
            engine.create_network(replace(ON, options={"bridge": "br0", key: value}))


def test_mtu_above_the_bridge_s_is_refused(engine):
    with pytest.raises(MtuTooBig, match="1501 is larger than the MTU of parent br0"):
        engine.create_network(replace(ON, options={"bridge": "br0", "mtu": "1501"}))
    engine.create_network(ON)
    for key in ("mtu", "com.docker.network.driver.mtu"):
        with pytest.raises(MtuTooBig):
            engine.create_endpoint(replace(WEB, options={key: "1501"}))


def test_mac_of_the_bridge_or_of_a_neighbour_is_refused(engine):
    engine.create_network(ON)
    engine.create_network(replace(ON, id="n2", options={"parent": "br0"}))
    with pytest.raises(MacTaken, match="br0 itself has it"):
        engine.create_endpoint(replace(WEB, mac=BR0.mac))
    engine.create_endpoint(replace(WEB, mac="02:00:00:00:00:07"))
    twin = replace(WEB, id="e2", network="n2", mac="02:00:00:00:00:07")
    with pytest.raises(MacTaken, match="container e1"):
        engine.create_endpoint(twin)


def test_macvlan_networks_on_a_bridge_and_its_ports_do_not_conflict(engine):
    engine.create_network(replace(ON, options={"parent": "br0"}))
    engine.create_network(replace(ON, id="n2"))
    engine.create_network(
        replace(ON, id="n3", options={"parent": "br0", "macvlan_mode": "vepa"})
    )


def test_container_that_does_not_wait_is_refused_on_a_missing_bridge(engine, kernel):
    engine.create_network(replace(ON, options={**ON.options, "missing_parent": "fail"}))
    del kernel.strangers["br0"]
    with pytest.raises(NoParent, match="'br0'"):
        engine.create_endpoint(WEB)
    assert engine.records.endpoints.all() == []


def life(engine):
    return [
        lambda: engine.create_network(ON),
        lambda: engine.create_endpoint(WEB),
        lambda: engine.create_endpoint(replace(WEB, id="e2", ipv4=None)),
        lambda: engine.delete_endpoint("n1", "e1"),
        engine.reconcile,
        lambda: engine.delete_network("n1"),
        engine.reconcile,
    ]


@pytest.mark.parametrize("moment", ["refuse_at", "die_before", "die_after"])
@pytest.mark.parametrize("step", range(1, 7))
def test_refusal_or_death_at_any_bridge_step_is_repaired_by_one_pass(
    tmp_path, moment, step
):
    kernel = FakeKernel(LO, ETH0, BR0)
    setattr(kernel, moment, step)
    records = Records(tmp_path / "underlay.db")
    for verb in life(engine_on(records, kernel)):
        try:
            verb()
        except (KernelRefused, Death):
            break
    assert kernel.steps >= step
    records.close()
    records = Records(tmp_path / "underlay.db")
    kernel.calm()
    engine = engine_on(records, kernel)
    assert engine.reconcile() == []
    assert engine.preview() == ()
    ends = {
        end
        for e in records.endpoints.all()
        for end in (Owner("n1", e.id).device, Owner("n1", e.id).host_end.device)
    }
    assert set(kernel.links) == ends
    assert without_gates(kernel) == ({PERMIT} if ends else set())
    assert len(kernel.others) == (3 if ends else 0)
    records.close()
