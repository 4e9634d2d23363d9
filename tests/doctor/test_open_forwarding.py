"""Forwarding that the driver switched on: limited to containers, or open to all."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab import net
from underlay.kernel import sysctl
from underlay.model.owner import SysctlReason
from underlay.model.steps import Create, Delete
from underlay.networks import forwarding

pytestmark = pytest.mark.needs("nftables")


def shell(command):
    subprocess.run(["sh", "-ec", command], check=True)


@pytest.fixture
def open_host(bench):
    """A host that did not forward, until the driver noted and switched it on."""
    net.ip("addr add 10.7.0.2/24 dev eth0", "route add default via 10.7.0.1")
    shell("echo 0 > /proc/sys/net/ipv4/ip_forward")
    noted = sysctl.needed(SysctlReason("forwarding", family=4))
    with bench.records.transaction():
        bench.records.host.note_sysctls(noted)
    assert bench.check("open-forwarding") == ()  # not on yet
    shell("echo 1 > /proc/sys/net/ipv4/ip_forward")
    return bench


def test_forwarding_without_the_chain_and_with_policy_accept_fails(open_host):
    (found,) = open_host.check("open-forwarding")
    assert (found.level, found.where) == ("failure", "host")
    assert found.what.startswith("IPv4 forwarding was switched on for containers")


def test_forwarding_behind_the_driver_s_chain_passes(open_host):
    kernel, door = open_host.given["kernel"], forwarding.chain(4, ["docker0"], [])
    kernel.apply(Create(door))
    assert open_host.check("open-forwarding") == ()
    kernel.apply(Delete(door))
    assert open_host.check("open-forwarding") != ()


def test_forwarding_behind_docker_s_policy_passes(open_host):
    shell("iptables -P FORWARD DROP; iptables -A FORWARD -i docker0 -j ACCEPT")
    assert open_host.check("open-forwarding") == ()


def test_host_without_default_route_passes_behind_the_driver_s_chain(open_host):
    net.ip("route del default")
    assert open_host.check("open-forwarding") != ()
    door = forwarding.chain(4, ["docker0"], ["docker0", "br0"])
    open_host.given["kernel"].apply(Create(door))
    assert open_host.check("open-forwarding") == ()


def test_host_that_forwarded_before_the_driver_passes(bench):
    shell("echo 1 > /proc/sys/net/ipv4/ip_forward")
    noted = sysctl.needed(SysctlReason("forwarding", family=4))
    with bench.records.transaction():
        bench.records.host.note_sysctls(noted)
    assert bench.check("open-forwarding") == ()
