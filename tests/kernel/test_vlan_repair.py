"""VLANs and what stands on them follow their base, and come back: a real kernel.

Few and long tests, for each takes seconds on the kernels that have VLANs.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.containers import L2, NEW, WEB2, Room, Wire, calm, without
from tests.lab import net
from underlay.errors import BadParent, NoParent
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Owner

pytestmark = pytest.mark.needs("vlan", "ipvlan")
OFFICE, LAB = (
    Owner.parse(f"underlay::{name}").device for name in ("eth0.50", "eth0.50.7")
)
WEB6 = {"ipv4": ip_interface("10.0.0.6/24"), "ipv6": ip_interface("fd00::6/64")}
OTHER = replace(WEB2, id="e2", network="n2", **WEB6)


class Trunk(Wire):
    """eth0 without an address, on which the router is in VLANs."""

    host_addresses = ()
    tags = ("50",)

    def carry(self, *tags):
        """Have the router in VLAN in VLAN."""
        self.tags = tags
        self.unplug()
        self.plug()


@pytest.fixture
def trunk(request):
    request.getfixturevalue("namespace")
    found = Trunk()
    yield found
    found.far.close()


@pytest.fixture
def engine(records, request):
    request.getfixturevalue("trunk")
    return engine_on(records, LinuxKernel(), Clock())


@pytest.fixture
def room():
    with Room() as found:
        yield found


def on(parent="eth0.50", mode="macvlan", identity="n1"):
    return replace(L2, id=identity, options={"parent": parent, "mode": mode})


def office():
    """Make a VLAN as another program would."""
    net.ip("link add link eth0 name office type vlan id 50", "link set office up")


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
def test_vlans_and_children_are_recreated_in_one_pass(engine, trunk, room, mode):
    trunk.carry("50", "7")
    engine.create_network(on("eth0.50.7", mode))
    room.start(engine, WEB2)
    before = room.face()
    trunk.assert_reaches(WEB2)
    for lost in (LAB, OFFICE):
        net.ip(f"link del {lost}")
        assert not room.has(mode)
        calm(engine)
        assert room.face() == before
    trunk.assert_reaches(WEB2)


def test_vlan_base_that_is_down_is_waited_for(engine, trunk, room):
    engine.create_network(on(mode="ipvlan"))
    room.start(engine, WEB2)
    before, mac = room.face(), trunk.mac
    net.ip("link set eth0 down")
    calm(engine)
    assert engine.records.networks.get("n1").uplink.link_fault == "down"
    trunk.configure()
    calm(engine)
    assert room.face() == before
    trunk.unplug()
    calm(engine)
    trunk.plug(mac)
    net.ip("link set eth0 down")
    calm(engine)
    trunk.configure()
    calm(engine)
    assert room.face() == before
    trunk.assert_reaches(WEB2)


@pytest.mark.parametrize(
    ("parent", "mode"),
    [("eth0.50", "ipvlan"), ("eth0.50", "macvlan"), ("office", "ipvlan")],
)
def test_recreated_vlan_base_has_all_its_vlans_and_children_again(
    engine, trunk, room, parent, mode
):
    make = office if parent == "office" else lambda: None
    make()
    engine.create_network(on(parent, mode))
    room.start(engine, WEB2)
    before = without(room.face(), trunk.mac)
    trunk.unplug()
    trunk.plug()
    make()
    calm(engine)
    assert without(room.face(), trunk.mac) == before
    trunk.assert_reaches(WEB2)
    trunk.unplug()
    calm(engine)
    assert room.has("veth")
    trunk.plug(NEW)
    if parent == "office":
        calm(engine)
        assert room.has("veth")
    make()
    calm(engine)
    assert without(room.face(), trunk.mac) == before
    trunk.assert_reaches(WEB2)


def test_vlan_keeps_its_name_when_its_base_is_renamed(engine, trunk, room):
    engine.create_network(on(mode="ipvlan"))
    room.start(engine, WEB2)
    before = room.face()
    trunk.rename("lan0")
    calm(engine)
    assert room.face() == before
    engine.create_network(on("lan0.50", "ipvlan", "n2"))
    known = engine.records.networks.get("n2").uplink
    assert (known.parent, known.vlans) == (OFFICE, ("eth0.50",))
    with Room() as beside:
        beside.start(engine, OTHER)
        net.ip(f"link del {OFFICE}")
        calm(engine)
        assert room.face() == before
        trunk.assert_reaches(WEB2)
        trunk.assert_reaches(OTHER)
    engine.delete_network("n2")
    net.ip("link add eth0 type veth peer name other", "link set eth0 up")
    with pytest.raises(BadParent, match=r"n1 has a VLAN of that name on another"):
        engine.create_network(on("eth0.50", "ipvlan", "n3"))
    calm(engine)
    trunk.assert_reaches(WEB2)


def test_container_started_without_a_vlan_base_gets_its_interface_later(
    engine, trunk, room
):
    engine.create_network(on())
    trunk.unplug()
    room.start(engine, WEB2)
    assert room.has("veth")
    refused = {"missing_parent": "fail"}
    with pytest.raises(NoParent):
        engine.create_endpoint(replace(WEB2, id="e3", options=refused))
    trunk.plug()
    calm(engine)
    assert room.has("macvlan")
    trunk.assert_reaches(WEB2)


def bond():
    net.ip("link set eth0 down", "link add bond0 type bond mode active-backup")


def fill():
    net.ip("link set eth0 master bond0", "link set bond0 up")


@pytest.mark.needs("bond")
@pytest.mark.parametrize(
    ("parent", "mode"), [("bond0", "ipvlan"), ("bond0.50", "macvlan")]
)
def test_bond_rebuilt_under_its_name_has_all_its_children_again(
    engine, trunk, room, parent, mode
):
    trunk.carry(*parent.split(".")[1:])
    bond()
    fill()
    engine.create_network(on(parent, mode))
    room.start(engine, WEB2)
    before = room.face()
    net.ip("link del bond0")
    bond()
    fill()
    calm(engine)
    assert room.face() == before
    trunk.assert_reaches(WEB2)
    net.ip("link del bond0")
    calm(engine)
    bond()
    engine.reconcile()
    fill()
    calm(engine)
    assert room.face() == before
    trunk.assert_reaches(WEB2)


@pytest.mark.needs("dummy")
def test_recreated_dummy_has_all_its_children_again(engine, room):
    lines = "link add quiet type dummy", "link set quiet up"
    net.ip(*lines)
    engine.create_network(on("quiet", "ipvlan"))
    room.start(engine, WEB2)
    before = without(room.face(), LinuxKernel().device("quiet").mac)
    net.ip("link del quiet")
    calm(engine)
    net.ip(*lines)
    calm(engine)
    assert without(room.face(), LinuxKernel().device("quiet").mac) == before
