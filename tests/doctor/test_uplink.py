"""A gateway behind a switch port: open, or locked to the MAC of the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.lab import net
from tests.lab.net import Namespace
from tests.lab.service import wait_until
from underlay.kernel import inspection
from underlay.kernel.uplink_probe import ask_uplink
from underlay.model import Subnet

pytestmark = pytest.mark.needs("macvlan")
GATEWAYS = ip_address("10.9.0.1"), ip_address("fd09::1")
SUBNETS = (
    Subnet(ip_network("10.9.0.0/24"), GATEWAYS[0]),
    Subnet(ip_network("fd09::/64"), GATEWAYS[1]),
)
GATEWAY_MAC = "02:00:00:00:09:01"


class Switch(Namespace):
    """A bridge with the gateway's address; the host's eth0 is on its port wire0."""

    def __init__(self) -> None:
        super().__init__(
            f"sw{os.getpid()}",
            f"""
            ip link add sw0 address {GATEWAY_MAC} type bridge
            ip link set sw0 up
            ip addr add {GATEWAYS[0]}/24 dev sw0
            ip addr add {GATEWAYS[1]}/64 dev sw0 nodad
            """,
        )
        net.ip(f"link set wire0 netns {self.netns}")
        self.run("ip", "link", "set", "wire0", "master", "sw0", "up")

    def close(self) -> None:
        subprocess.run(
            [*net.enter(self.netns), "ip", "link", "del", "wire0"], check=False
        )
        super().close()


@pytest.fixture
def switch(bench):
    with Switch() as switch:
        bench.network("lan", "eth0", SUBNETS)
        yield switch


def host_mac():
    shown = subprocess.run(
        ["ip", "-j", "link", "show", "eth0"], capture_output=True, check=True
    )
    return json.loads(shown.stdout)[0]["address"]


def lock(switch):
    """As a switch with port security: frames of unknown MACs are dropped."""
    switch.run("bridge", "fdb", "replace", host_mac(), "dev", "wire0", "master",
               "static")  # fmt: skip
    switch.run("bridge", "link", "set", "dev", "wire0", "learning", "off", "locked",
               "on")  # fmt: skip


def filter_macs(switch):
    """As a virtual switch without forged transmits."""
    rules = f"""
        add table bridge guard
        add chain bridge guard in {{ type filter hook prerouting priority 0; }}
        add rule bridge guard in iifname wire0 ether saddr != {host_mac()} drop
    """
    command = [*net.enter(switch.netns), "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True)


def test_segment_that_answers_every_mac_passes_quickly(bench, switch):  # noqa: ARG001
    began = time.monotonic()
    assert bench.check("uplink") == ()
    assert time.monotonic() - began < 1.5
    found = ask_uplink("eth0", GATEWAYS)
    assert found.own == found.second == frozenset(GATEWAYS)


@pytest.mark.parametrize("how", [lock, filter_macs])
def test_port_locked_to_one_mac_fails_macvlan_and_names_the_modes_that_work(
    bench, switch, how
):
    how(switch)
    (found,) = bench.check("uplink")
    assert (found.level, found.where) == ("failure", "eth0")
    assert found.what == "10.9.0.1, fd09::1 answers the host, but no frame from a" + (
        " second MAC"
    )
    assert "mode=macvlan and mode=bridge: no: networks lan" in found.why
    assert found.remedy.startswith("mode=ipvlan (ipvlan_mode=l2) and mode=routed: yes")


def test_filter_of_one_ip_family_fails_for_its_gateway_only(bench, switch):
    rules = f"""
        add table bridge guard
        add chain bridge guard in {{ type filter hook prerouting priority 0; }}
        add rule bridge guard in ether type arp ether saddr != {host_mac()} drop
    """
    command = [*net.enter(switch.netns), "nft", "-f", "-"]
    subprocess.run(command, input=rules, text=True, check=True)
    (found,) = bench.check("uplink")
    assert found.what.startswith("10.9.0.1 answers the host")


def test_silent_gateway_is_reported_as_not_tested(bench, switch):
    switch.run("ip", "addr", "flush", "dev", "sw0")
    (found,) = bench.check("uplink")
    assert found.level == "warning"
    assert "10.9.0.1, fd09::1 does not answer the host either" in found.what


def test_device_that_was_asked_for_is_tested_by_its_default_route(bench):
    with Switch() as switch:
        assert bench.check("uplink") == ()
        (found,) = bench.check("uplink", asked_for=("eth0",))
        assert found.what == "not tested: it has no gateway to ask"
        net.ip("addr add 10.9.0.9/24 dev eth0", "route add default via 10.9.0.1")
        assert bench.check("uplink", asked_for=("eth0",)) == ()
        lock(switch)
        (found,) = bench.check("uplink", asked_for=("eth0",))
        assert found.level == "failure"


def test_parents_of_ipvlan_and_routed_networks_are_not_probed(bench):
    with Switch() as switch:
        bench.network("far", "", SUBNETS, mode="routed")
        bench.network("l2", "eth0", SUBNETS, mode="ipvlan")
        lock(switch)
        assert bench.check("uplink") == ()


def test_bridge_with_an_uplink_is_probed_through_the_bridge(bench):
    with Switch() as switch:
        net.ip(
            "link add br0 type bridge",
            "link set eth0 master br0",
            f"link set br0 address {host_mac()} up",
        )
        bench.network("lan", "br0", SUBNETS, bridge="br0")
        assert bench.check("uplink") == ()
        lock(switch)
        (found,) = bench.check("uplink")
        assert (found.level, found.where) == ("failure", "br0")


def test_parent_that_takes_no_macvlan_is_reported_as_not_tested(bench, switch):
    switch.run("true")
    net.ip("link add all0 link eth0 type macvlan mode passthru")
    (found,) = bench.check("uplink")
    assert found.level == "warning"
    assert "the kernel refuses a macvlan on it" in found.what


def test_probe_sends_questions_only_and_vanishes(bench, switch):
    before = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True)
    assert bench.check("uplink") == ()
    after = subprocess.run(["ip", "-o", "link"], capture_output=True, check=True)
    assert after.stdout == before.stdout
    neighbours = switch.run("ip", "-j", "neigh", "show", "dev", "sw0").stdout
    known = [n["dst"] for n in json.loads(neighbours)]
    assert all(address.startswith("fe80::") for address in known), known


def test_killed_command_leaves_no_device_behind(bench, switch):
    """In the seconds in which it waits for the answer to the second MAC."""
    lock(switch)
    script = (
        "from ipaddress import ip_address as a; from underlay.kernel.uplink_probe"
        " import ask_uplink; ask_uplink('eth0', [a('10.9.0.1')], 60)"
    )
    probing = subprocess.Popen([sys.executable, "-c", script])
    try:
        # The kernel counts what stands on a device, wherever that is.
        wait_until(lambda: uppers() == 1, 20, uppers)
        assert list(inspection.children_on("eth0")) == []
        probing.send_signal(signal.SIGKILL)
        probing.wait()
        wait_until(lambda: uppers() == 0, 10, uppers)
    finally:
        probing.kill()
        probing.wait()
    assert bench.examined().kernel.observe() == frozenset()


def uppers():
    """Return how many MACs beside its own the host's device must receive."""
    shown = subprocess.run(
        ["bridge", "-j", "fdb", "show", "dev", "eth0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    known = [e["mac"] for e in json.loads(shown.stdout) if "self" in e.get("flags", [])]
    return sum(mac.startswith("02:") for mac in known)


def test_device_without_a_mac_is_refused(namespace):  # noqa: ARG001
    if not Path("/dev/net/tun").exists():
        pytest.skip("this kernel has no tun")
    net.ip("tuntap add tun9 mode tun", "link set tun9 up")
    with pytest.raises(OSError, match="tun9 has no MAC of Ethernet"):
        ask_uplink("tun9", GATEWAYS, 0.1)
