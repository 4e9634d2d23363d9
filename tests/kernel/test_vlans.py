"""VLANs of ours beside those of others, on a real kernel."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import engine_on
from tests.kernel.conftest import ip
from tests.kernel.world import STACK, die_before_the_mark
from tests.lab.service import wait_until
from tests.worlds import LAN, WEB
from underlay.kernel import link_changes, namespaces
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Owner
from underlay.model.steps import Create
from underlay.records import Records

pytestmark = [
    pytest.mark.usefixtures("namespace"),
    pytest.mark.needs("vlan"),
]
LOWER = STACK[0].name


def tagged(identity, parent="eth0.50", **options):
    return replace(LAN, id=identity, options={"parent": parent, **options})


@pytest.fixture
def engine(records):
    return engine_on(records, LinuxKernel())


def vlan(name, tag, base="eth0"):
    ip("link", "add", "link", base, "name", name, "type", "vlan", "id", str(tag))


@pytest.mark.parametrize("name", ["eth0.10", "office"])
def test_foreign_vlan_survives_its_networks_whatever_its_name(engine, name):
    vlan(name, 10)
    before = ip("-d", "link")
    engine.create_network(tagged("n1", "eth0.10"))
    engine.create_network(tagged("n2", "eth0", vlan="10"))
    engine.create_endpoint(WEB)
    assert f"@{name}" in ip("-br", "link")
    for identity in ("n1", "n2"):
        engine.delete_network(identity)
    assert engine.reconcile() == []
    assert ip("-d", "link") == before


def test_foreign_vlan_made_in_place_of_the_driver_s_survives(engine):
    engine.create_network(tagged("n1"))
    ip("link", "del", "eth0.50")
    vlan("office", 50)
    assert engine.reconcile() == []
    assert engine.preview() == ()
    engine.create_endpoint(WEB)
    assert "@office" in ip("-br", "link")
    engine.delete_network("n1")
    assert "office" in ip("-br", "link")
    assert LinuxKernel().observe() == frozenset()


def test_vlan_has_the_mtu_of_its_base_and_is_up(engine):
    ip("link", "set", "eth0", "mtu", "9000")
    engine.create_network(tagged("n1", mtu="9000"))
    shown = ip("-d", "link", "show", "eth0.50")
    assert "mtu 9000" in shown
    assert "vlan protocol 802.1Q id 50" in shown
    assert ",UP" in shown
    assert f"alias {Owner.parse('underlay::eth0.50').mark}" in shown


@pytest.mark.needs("dummy")
@pytest.mark.parametrize("parent", [{"parent": "eth0.50"}, {}], ids=["vlan", "dummy"])
def test_host_has_no_addresses_on_devices_made_for_containers(engine, parent):
    engine.create_network(replace(LAN, options=parent))
    device = engine.records.networks.get("n1").uplink.parent
    assert ip("addr", "show", device).count("inet") == 0
    settings = Path("/proc/sys/net")
    assert (settings / f"ipv6/conf/{device}/accept_ra").read_text() == "0\n"
    answering = settings / f"ipv4/conf/{device}/arp_ignore"
    assert answering.read_text() == "1\n"
    answering.write_text("0")
    step = f"sysctl -w net.ipv4.conf.{device}.arp_ignore=1"
    assert [str(s) for s in engine.preview()] == [step]
    assert engine.reconcile() == []
    assert answering.read_text() == "1\n"


def test_vlan_set_down_is_set_up_again(engine):
    engine.create_network(tagged("n1"))
    ip("link", "set", "eth0.50", "down")
    assert [str(s) for s in engine.preview()] == [f"ip link set {LOWER} up"]
    assert engine.reconcile() == []
    assert engine.preview() == ()


def test_vlans_on_a_base_that_is_down_are_made_and_come_up_with_it(engine):
    ip("link", "set", "eth0", "down")
    engine.create_network(tagged("n1", "eth0.50.7"))
    endpoint = engine.create_endpoint(WEB)
    assert engine.reconcile() == []
    assert engine.preview() == ()
    assert engine.records.networks.get("n1").uplink.cut_off_reason == (
        "eth0 is down; waiting for it"
    )
    assert ",UP" not in ip("link", "show", "eth0.50")
    ip("link", "set", "eth0", "up")
    assert engine.reconcile() == []
    for name in ("eth0.50", "eth0.50.7"):
        assert ",UP" in ip("link", "show", name)
    assert engine.records.networks.get("n1").uplink.cut_off_reason == ""
    assert endpoint.mac in ip("link")


def test_taken_vlan_name_is_no_reason_to_refuse(engine):
    ip("link", "add", "eth0.50", "type", "veth", "peer", "name", "other")
    engine.create_network(tagged("n1", "eth0", vlan="50"))
    engine.create_network(tagged("n2", "eth0", vlan="50"))
    assert [o.name for o in LinuxKernel().observe()] == [LOWER]


def test_overlong_vlan_name_is_no_reason_to_refuse(engine):
    ip("link", "set", "eth0", "down")
    ip("link", "set", "eth0", "name", "enx525400000001", "up")
    engine.create_network(tagged("n1", "enx525400000001.4094.4094"))
    assert LinuxKernel().device("enx525400000001.4094.4094").vlan == 4094


def test_death_before_the_mark_is_set_leaves_no_vlan(engine, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(link_changes, "change_link", die_before_the_mark)
        with pytest.raises(KeyboardInterrupt):
            LinuxKernel().apply(Create(STACK[0]))
    assert LinuxKernel().observe() != frozenset()
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


@pytest.mark.parametrize("address", ["192.0.2.1/24", "2001:db8::1/64"])
def test_driver_s_vlan_with_a_foreign_address_is_kept(engine, address):
    engine.create_network(tagged("n1"))
    ip("addr", "add", address, "dev", LOWER)
    engine.delete_network("n1")
    assert len(engine.reconcile()) == 1
    (failure,) = engine.records.repairs.failures()
    assert address.partition("/")[0] in failure.text
    ip("addr", "del", address, "dev", LOWER)
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


@pytest.mark.parametrize("how", ["child", "port", "vlan"])
def test_driver_s_vlan_with_foreign_children_is_kept(engine, how):
    engine.create_network(tagged("n1"))
    match how:
        case "child":
            ip("link", "add", "link", LOWER, "name", "theirs", "type", "macvlan")
        case "port":
            ip("link", "add", "theirs", "type", "bridge")
            ip("link", "set", LOWER, "master", "theirs")
        case "vlan":
            vlan("theirs", 9, LOWER)
    engine.delete_network("n1")
    assert len(engine.reconcile()) == 1
    (failure,) = engine.records.repairs.failures()
    assert "theirs" in failure.text
    ip("link", "del", "theirs")
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_vlan_of_a_running_container_survives_lost_records(engine, kind):
    ip("netns", "add", "underlay-vlan")
    try:
        engine.create_network(tagged("n1"))
        assert not LinuxKernel().has_dependents(LOWER)
        ip(
            "link", "add", "link", LOWER, "name", "c1", "netns", "underlay-vlan",
            "type", kind,
        )  # fmt: skip
        assert LinuxKernel().has_dependents(LOWER)
        engine.records.networks.remove("n1")
        assert len(engine.reconcile()) == 1
        assert "c1" in ip("-n", "underlay-vlan", "-br", "link")
    finally:
        ip("netns", "del", "underlay-vlan")
    wait_until(lambda: not LinuxKernel().has_dependents(LOWER), 5)
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


@pytest.mark.parametrize("how", ["verb", "pass"])
def test_foreign_child_on_a_stacked_vlan_keeps_the_vlans_below(engine, how):
    engine.create_network(tagged("n1", "eth0.50.7"))
    vlan("theirs", 9, STACK[1].name)
    if how == "verb":
        engine.delete_network("n1")
    else:
        engine.records.networks.remove("n1")
        assert len(engine.reconcile()) == 2
    assert "theirs" in ip("-br", "link")
    ip("link", "del", "theirs")
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


def test_unreadable_namespace_counts_as_one_that_needs_the_vlan(engine, monkeypatch):
    engine.create_network(tagged("n1"))

    def refused(path):
        raise PermissionError(errno.EPERM, f"not into {path}")

    monkeypatch.setattr(namespaces, "_enter", refused)
    assert LinuxKernel().has_dependents(LOWER)


@pytest.mark.needs("dummy")
def test_driver_s_dummy_with_foreign_children_is_kept(engine):
    engine.create_network(replace(LAN, options={}))
    dummy = engine.records.networks.get("n1").uplink.parent
    ip("link", "add", "link", dummy, "name", "theirs", "type", "macvlan")
    engine.delete_network("n1")
    assert "theirs" in ip("-br", "link")
    ip("link", "del", "theirs")
    assert engine.reconcile() == []
    assert LinuxKernel().observe() == frozenset()


def test_devices_are_listed_by_kind():
    vlan("v1", 1)
    ip("link", "add", "link", "v1", "name", "m1", "type", "macvlan", "mode", "vepa")
    (found,) = LinuxKernel().devices("vlan")
    assert (found.name, found.parent, found.vlan) == ("v1", "eth0", 1)
    assert not found.ours
    found = LinuxKernel().devices("macvlan", "vlan")
    assert [(d.name, d.flavour) for d in found] == [("m1", "vepa"), ("v1", "")]
    assert LinuxKernel().devices("nothing-such") == ()


def test_parent_in_another_namespace_is_not_taken_for_a_local_one():
    """The index of what a link stands on may be that of another namespace."""
    ip("netns", "add", "underlay-vlan")
    try:
        there = ("-n", "underlay-vlan", "link")
        ip(*there, "add", "base0", "type", "veth", "peer", "name", "base1")
        ip(*there, "add", "link", "base0", "name", "far", "type", "vlan", "id", "3")
        ip(*there, "set", "far", "netns", str(threading.get_native_id()))
        far = LinuxKernel().device("far")
        assert (far.parent, far.vlan) == ("", 3)
    finally:
        ip("netns", "del", "underlay-vlan")


def test_service_killed_between_creation_and_commit_leaves_no_orphan(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "underlay.db")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL
    assert LOWER in ip("-br", "link")
    records = Records(tmp_path / "underlay.db")
    engine = engine_on(records, LinuxKernel())
    assert records.networks.all() == []
    assert engine.reconcile() == []
    assert LOWER not in ip("-br", "link")
    records.close()


DYING = """
import os, signal, sys
from pathlib import Path
from tests.fakes import engine_on
from underlay.kernel.linux import LinuxKernel
from underlay.model import Network
from underlay.records import Records

class Dying(LinuxKernel):
    def apply(self, step):
        super().apply(step)
        os.kill(os.getpid(), signal.SIGKILL)

engine = engine_on(Records(Path(sys.argv[1])), Dying())
engine.create_network(Network("n1", {"parent": "eth0.50"}))
"""


def test_vlan_of_protocol_802_1ad_is_a_different_one(engine):
    ip(
        "link", "add", "link", "eth0", "name", "s50", "type", "vlan",
        "proto", "802.1ad", "id", "50",
    )  # fmt: skip
    engine.create_network(tagged("n1"))
    assert engine.records.networks.get("n1").uplink.vlans == ("eth0.50",)
