"""Ports on a real bridge: it keeps its MAC and MTU; what stops its frames is seen."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from tests.fakes import Clock, engine_on
from tests.kernel.conftest import ip
from tests.lab import net
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Owner, SysctlReason

pytestmark = pytest.mark.usefixtures("namespace")
ON = Network("n1", {"bridge": "br0"}, False, (Subnet(ip_network("10.0.0.0/24")),))


def fact(device, name):
    return json.loads(ip("-j", "-d", "link", "show", device))[0][name]


def identity(device="br0"):
    return fact(device, "address"), fact(device, "mtu")


@pytest.fixture
def engine(records):
    return engine_on(records, LinuxKernel(), Clock(), Clock())


@pytest.mark.parametrize("port", ["eth0 mtu 9000", "eth0 mtu 1400", ""])
def test_bridge_keeps_its_mac_and_mtu_whichever_containers_come_and_go(engine, port):
    net.ip("link add br0 type bridge", "link set br0 up")
    if port:
        net.ip(f"link set {port}", "link set eth0 master br0")
    had = identity()
    engine.create_network(ON)
    for number in range(100):
        engine.create_endpoint(Endpoint(f"e{number}", "n1", options={"mtu": "1300"}))
        assert identity() == had
    assert identity(Owner("n1", "e7").host_end.device) == had
    assert fact(Owner("n1", "e7").device, "mtu") == 1300
    for number in range(0, 100, 7):
        engine.delete_endpoint("n1", f"e{number}")
        assert identity() == had
    engine.delete_network("n1")
    if port:  # else it has none without a port: the kernel takes it away
        assert identity() == had


def test_bridge_without_a_mac_gets_the_first_port_s_and_keeps_one_it_was_given(
    engine,
):
    net.ip("link add br0 type bridge", "link set br0 up")
    engine.create_network(ON)
    for number in range(3):
        engine.create_endpoint(Endpoint(f"e{number}", "n1"))
        engine.delete_endpoint("n1", f"e{number}")
    net.ip("link set br0 address 02:00:00:00:00:0b")
    engine.create_endpoint(Endpoint("e4", "n1"))
    engine.delete_network("n1")
    assert identity()[0] == "02:00:00:00:00:0b"


def test_port_is_plugged_into_a_recreated_bridge_without_changing_it(
    engine,
):
    net.ip("link add br0 type bridge", "link set br0 up")
    engine.create_network(ON)
    engine.create_endpoint(Endpoint("e1", "n1"))
    net.ip("link del br0", "link add br0 type bridge", "link set br0 up")
    net.ip("link set eth0 mtu 1400 master br0")
    had = identity()
    assert engine.reconcile() == []
    assert fact(Owner("n1", "e1").host_end.device, "master") == "br0"
    assert identity() == had


def test_host_end_of_a_port_has_no_address(engine):
    net.ip("link add br0 type bridge", "link set br0 up")
    engine.create_network(ON)
    engine.create_endpoint(Endpoint("e1", "n1"))
    net.ip(f"link set {Owner('n1', 'e1').device} up")
    assert ip("-o", "addr", "show", "dev", Owner("n1", "e1").host_end.device) == ""


@pytest.mark.needs("ifb")
def test_container_bridges_are_distinguished_from_uplink_bridges_by_their_ports():
    net.ip(
        *(f"link add {name} type bridge" for name in ("shop", "br-lan", "way", "vms")),
        "link add nic0 type ifb",
        "link set nic0 master br-lan",
        "link set wire0 master shop",
        "tuntap add tap0 mode tap",
        "link set tap0 master vms",
        "link set way up",
        "addr add 10.0.9.1/24 dev way",
        "route add default via 10.0.9.254",
    )
    assert LinuxKernel().container_bridges() == {"shop", "vms"}
    paths = {
        s.path.split("/")[3]
        for s in LinuxKernel().sysctls_for(SysctlReason.parse("forwarding/6"))
    }
    assert {"br-lan", "way"} <= paths
    assert not {"shop", "vms"} & paths
