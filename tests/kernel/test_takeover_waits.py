"""Containers that wait for the card a bridge is in the place of: a real kernel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.conftest import ip
from tests.kernel.containers import L2, WEB2, Room, Wire, calm, given
from tests.lab import net
from underlay.errors import NoParent
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Owner

TAKEN = {"mode": "bridge", "parent": "eth0", "takeover": "yes"}
BRIDGE = Owner.parse("underlay::bridge/eth0").device
MTU = 4000


class Card(Wire):
    """eth0 on a segment with large frames; addresses come when it is configured."""

    def plug(self, mac=""):
        address = f"address {mac} " if mac else ""
        ends = f"mtu {MTU} type veth peer name wire0 mtu {MTU} netns {self.far.netns}"
        net.ip(f"link add eth0 {address}{ends}", "link set eth0 up")
        router = given(("10.0.0.1/24", "fd00::1/64"), "wire0")
        self.far.ip("link set wire0 up", *router)


@pytest.fixture
def card(request):
    request.getfixturevalue("namespace")
    found = Card()
    yield found
    found.far.close()


@pytest.fixture
def engine(records, request):
    request.getfixturevalue("card")
    return engine_on(records, LinuxKernel(), Clock())


@pytest.fixture
def room():
    with Room() as found:
        yield found


def own_bridge(name="br0"):
    """Make a bridge as the host's configuration would."""
    net.ip(f"link add {name} type bridge", f"link set {name} up",
           f"link set eth0 master {name}")  # fmt: skip
    net.ip(*given(Wire.host_addresses, name))


def mtu_of(room):
    return f"mtu {MTU} " in room.show("link", "show", "eth0")


def absent(engine):
    return engine.records.networks.get("n1").uplink.parent_missing


def test_container_started_without_the_card_joins_its_bridge_when_the_card_appears(
    engine, card, room
):
    card.configure()
    engine.create_network(replace(L2, options=TAKEN))
    calm(engine)
    mac = card.mac
    card.unplug()
    ip("link", "del", BRIDGE)
    room.start(engine, WEB2)
    assert absent(engine) == (
        f"device eth0 ({mac}) is missing; waiting for it to appear"
    )
    assert "NO-CARRIER" in room.show("link", "show", "eth0")
    refused = {"missing_parent": "fail"}
    other = replace(WEB2, id="e3", ipv4=ip_interface("10.0.0.7/24"), ipv6=None)
    with pytest.raises(NoParent, match="'eth0'"):
        engine.create_endpoint(replace(other, options=refused))
    card.plug()
    calm(engine)
    assert absent(engine) == ""
    card.configure()
    calm(engine)
    assert "10.0.0.2/24" in ip("addr", "show", BRIDGE)
    assert ip("-4", "addr", "show", "eth0") == ""
    assert mtu_of(room)
    assert engine.records.endpoints.get("e1").mac in room.show("link")
    card.assert_reaches(WEB2)
    room.give_back("eth0", Owner("n1", WEB2.id).device)
    engine.delete_endpoint("n1", WEB2.id)
    engine.delete_network("n1")
    assert "10.0.0.2/24" in ip("addr", "show", "eth0")
    assert "ul-" not in ip("link")


def test_running_container_stays_on_the_bridge_while_the_card_is_missing(
    engine, card, room
):
    card.configure()
    engine.create_network(replace(L2, options=TAKEN))
    room.start(engine, WEB2)
    before, links = room.face(), ip("-br", "link", "show", "type", "veth")
    mac = card.mac
    card.unplug()
    calm(engine)
    assert absent(engine)
    assert engine.records.repairs.failures() == []
    assert room.face() == before
    card.plug(mac)
    card.configure()
    calm(engine)
    assert absent(engine) == ""
    assert room.face() == before
    port = Owner("n1", WEB2.id).host_end.device
    assert port in links
    assert port in ip("-br", "link", "show", "master", BRIDGE)
    card.assert_reaches(WEB2)


def test_container_started_without_a_host_bridge_joins_it_when_it_appears(
    engine, card, room
):
    own_bridge()
    engine.create_network(replace(L2, options={"bridge": "br0"}))
    calm(engine)
    card.unplug()
    ip("link", "del", "br0")
    room.start(engine, WEB2)
    assert "device br0 (" in absent(engine)
    card.plug()
    own_bridge()
    calm(engine)
    assert absent(engine) == ""
    assert mtu_of(room)
    card.assert_reaches(WEB2)
