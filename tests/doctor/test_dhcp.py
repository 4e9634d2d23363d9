"""Which DHCP servers answer on the segment of a parent."""

from __future__ import annotations

import os

import pytest

from tests.lab import net
from tests.lab.dhcp_servers import Dnsmasq, Kea, Udhcpd
from tests.lab.net import Namespace
from underlay.ipam.dhcp_claims import EVERYWHERE
from underlay.model import Subnet

DHCP = (Subnet(EVERYWHERE, pooled=True, dhcp=True),)
SWITCH = """
    ip link add br0 type bridge
    ip link set br0 up
    ip addr add 10.77.0.1/24 dev br0
"""


@pytest.fixture
def switch(bench):  # noqa: ARG001 - its namespace has the wire
    with Namespace(f"dhcp{os.getpid()}", SWITCH) as switch:
        net.ip(f"link set wire0 netns {switch.netns}")
        switch.run("ip", "link", "set", "wire0", "master", "br0", "up")
        yield switch
        switch.run("ip", "link", "del", "wire0")


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan"])
@pytest.mark.parametrize("kind", [Dnsmasq, Kea])
def test_one_server_passes_and_keeps_no_lease(bench, switch, kind, mode):
    bench.network("lan", "eth0", DHCP, mode=mode)
    with kind(switch.start) as server:
        assert bench.check("dhcp-servers") == ()
        assert server.leases() == []


def test_segment_without_a_server_fails_the_networks_on_it(bench, switch):
    del switch
    bench.network("lan", "eth0", DHCP)
    (found,) = bench.check("dhcp-servers")
    assert (found.level, found.where) == ("failure", "eth0")
    assert "no DHCP server offered an address in 6 s" in found.what
    assert "networks lan" in found.why


def test_two_servers_are_a_warning_that_names_both(bench, switch):
    bench.network("lan", "eth0", DHCP)
    commands = f"""
        ip link add br0 type veth peer name two netns {switch.netns}
        ip link set br0 up
        ip addr add 10.77.0.2/24 dev br0
    """
    with Namespace(f"{switch.netns}b", commands) as other:
        switch.run("ip", "link", "set", "two", "master", "br0", "up")
        with Kea(switch.start), Udhcpd(other.start):
            (found,) = bench.check("dhcp-servers")
    assert found.level == "warning"
    assert found.what == "2 DHCP servers offer addresses: 10.77.0.1, 10.77.0.2"


def test_networks_with_pools_are_not_asked_for(bench):
    bench.network("lan", "eth0", (Subnet(EVERYWHERE),))
    assert bench.check("dhcp-servers") == ()
