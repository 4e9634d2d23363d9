"""A device taken over by a bridge of ours: refusals and deaths on the fake kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from tests.engine.test_verbs import WEB
from tests.fakes import ETH0, LO, Death, FakeKernel, engine_on
from underlay.errors import BadParent, GatewaySilent, NoParent, NoTakeover
from underlay.failures import KernelRefused
from underlay.model import Device, Network, Segment, Standing
from underlay.objects import Owner
from underlay.records import Records

SUBNET = Segment(ip_network("10.0.0.0/24"))
ON = Network("n1", {"mode": "bridge", "parent": "eth0"}, False, (SUBNET,))
BRIDGE = Owner(shared="bridge/eth0").device
FACTS = (
    Standing("address", "10.0.0.5/24", "aa"),
    Standing("route", "0.0.0.0/0 via 10.0.0.1 metric 0 table 254", "bb", "10.0.0.1"),
)


def host(*devices):
    kernel = FakeKernel(LO, ETH0, *devices)
    kernel.on_devices["eth0"] = list(FACTS)
    return kernel


def standing(kernel):
    return {d: sorted(s.words for s in on) for d, on in kernel.on_devices.items() if on}


WORDS = sorted(f.words for f in FACTS)


def life(engine):
    return [
        lambda: engine.create_network(ON),
        lambda: engine.create_endpoint(WEB),
        engine.reconcile,
        lambda: engine.delete_network("n1"),
        engine.reconcile,
    ]


def test_the_steps_say_what_is_moved_in_the_words_of_iproute2(records, caplog):
    caplog.set_level("INFO")
    engine = engine_on(records, host())
    for verb in life(engine):
        verb()
    steps = [r.step for r in caplog.records if r.message == "step"]
    eth0 = "/sys/class/net/eth0"
    assert steps == [
        f"ip link add name {BRIDGE} address $(cat {eth0}/address) mtu $(cat {eth0}/mtu)"
        " up type bridge",
        f"ip link set eth0 master {BRIDGE}",
        f"ip addr replace 10.0.0.5/24 dev {BRIDGE}; ip addr del 10.0.0.5/24 dev eth0",
        f"ip route replace {FACTS[1].words} dev {BRIDGE};"
        f" ip route del {FACTS[1].words} dev eth0",
        "ip link set eth0 nomaster",
        f"ip addr replace 10.0.0.5/24 dev eth0; ip addr del 10.0.0.5/24 dev {BRIDGE}",
        f"ip route replace {FACTS[1].words} dev eth0;"
        f" ip route del {FACTS[1].words} dev {BRIDGE}",
        f"ip link del {BRIDGE}",
    ]


@pytest.mark.parametrize("moment", ["refuse_at", "die_before", "die_after"])
@pytest.mark.parametrize("step", range(1, 14))
def test_whatever_happens_at_a_step_nothing_of_the_host_is_lost(tmp_path, moment, step):
    kernel = host()
    setattr(kernel, moment, step)
    records = Records(tmp_path / "underlay.db")
    engine = engine_on(records, kernel)
    for verb in life(engine):
        try:
            verb()
        except (KernelRefused, Death):
            break
    assert kernel.steps >= step
    records.close()
    records = Records(tmp_path / "underlay.db")
    kernel.calm()
    engine = engine_on(records, kernel)
    engine.reconcile()
    assert engine.reconcile() == []
    assert engine.preview() == ()
    on = BRIDGE if records.networks.all() else "eth0"
    assert standing(kernel) == {on: WORDS}
    assert (BRIDGE in kernel.links) == bool(records.networks.all())
    assert bool(records.takeovers.all()) == bool(records.networks.all())
    records.close()


def test_what_stands_on_the_device_is_on_record_before_anything_is_touched(tmp_path):
    kernel = host()
    kernel.die_before = 1
    records = Records(tmp_path / "underlay.db")
    with pytest.raises(Death):
        engine_on(records, kernel).create_network(ON)
    records.close()
    records = Records(tmp_path / "underlay.db")
    (found,) = records.takeovers.all()
    assert (found.state, found.facts) == ("trying", FACTS)
    records.close()


def test_a_gateway_that_falls_silent_undoes_it_all(records):
    kernel = host()
    kernel.silent.add(BRIDGE)
    with pytest.raises(GatewaySilent, match=r"10.0.0.1 did not answer behind"):
        engine_on(records, kernel).create_network(ON)
    assert standing(kernel) == {"eth0": WORDS}
    assert kernel.links == {}
    assert records.takeovers.all() == records.networks.all() == []


def test_a_network_refused_after_the_look_at_the_device_leaves_it_alone(records):
    kernel = host()
    engine = engine_on(records, kernel)
    kernel.refuse_at = 2
    with pytest.raises(KernelRefused):
        engine.create_network(ON)
    assert standing(kernel) == {"eth0": WORDS}
    assert kernel.device("eth0").master == ""


def child(kind):
    return Device("c0", kind, ETH0.mac, 1500, parent="eth0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k: k.wireless.add("eth0"), "it is wireless"),
        (lambda k: k.strangers.update(eth0=replace(ETH0, master="bond0")), "of bond0"),
        (lambda k: k.strangers.update(c0=child("macvtap")), "c0 .macvtap. is on it"),
        (lambda k: k.strangers.update(c0=child("ipvlan")), "c0 .ipvlan. is on it"),
        (lambda k: k.on_devices["eth0"].append(
            Standing("address", "10.9.0.1/24", "cc", why="it has a lifetime")),
         "of its address 10.9.0.1/24, it has a lifetime.*-o bridge=<name>"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_over_is_refused_untouched(records, change, words):
    kernel = host()
    change(kernel)
    with pytest.raises(NoTakeover, match=words):
        engine_on(records, kernel).create_network(ON)
    assert kernel.steps == 0
    assert records.takeovers.all() == []


def test_a_parent_of_macvlan_networks_is_not_taken_over_nor_the_other_way(records):
    kernel = host()
    engine = engine_on(records, kernel)
    lan = replace(ON, id="n0", options={"parent": "eth0"})
    engine.create_network(lan)
    with pytest.raises(NoTakeover, match="network n0 is on it"):
        engine.create_network(ON)
    engine.delete_network("n0")
    engine.create_network(ON)
    with pytest.raises(BadParent, match="Use mode=bridge with the same parent"):
        engine.create_network(lan)


@pytest.mark.parametrize(
    ("parent", "words"),
    [("br0", "it is a bridge itself. Use -o bridge=br0"), ("eth0.5", "no VLAN eth0.5")],
)
def test_what_mode_bridge_does_not_make_is_refused(records, parent, words):
    kernel = host(replace(ETH0, name="br0", kind="bridge"))
    options = {"mode": "bridge", "parent": parent}
    with pytest.raises(BadParent, match=words):
        engine_on(records, kernel).create_network(replace(ON, options=options))
    assert kernel.steps == 0


def test_a_vlan_that_is_there_can_be_taken_over(records):
    kernel = host(Device("office", "vlan", ETH0.mac, 1500, parent="eth0", vlan=5))
    engine = engine_on(records, kernel)
    for number, options in enumerate(({"parent": "eth0.5"}, {"parent": "office"})):
        options = {"mode": "bridge", **options}
        engine.create_network(replace(ON, id=f"n{number}", options=options))
    assert [t.parent for t in records.takeovers.all()] == ["office"]
    assert standing(kernel)["eth0"] == WORDS


def test_a_device_that_is_gone_is_waited_for(records):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    kernel.links.clear()
    kernel.others.clear()
    kernel.on_devices.clear()
    del kernel.strangers["eth0"]
    engine.reconcile()
    kernel.strangers["eth0"] = ETH0
    kernel.on_devices["eth0"] = list(FACTS)
    engine.reconcile()
    assert engine.preview() == ()
    assert standing(kernel) == {BRIDGE: WORDS}


@pytest.mark.parametrize("looked", [True, False])
def test_a_start_without_bridge_and_parent_is_refused_by_its_parent_s_name(
    records, looked
):
    kernel = host()
    engine = engine_on(records, kernel)
    engine.create_network(ON)
    if looked:
        engine.reconcile()
    kernel.strangers.pop("eth0")
    kernel.links.pop(BRIDGE)
    with pytest.raises(NoParent):
        engine.create_endpoint(WEB)
