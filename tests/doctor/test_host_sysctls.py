"""Sysctls in a real namespace: each check fails there, and passes."""

from __future__ import annotations

import subprocess
from ipaddress import ip_network
from pathlib import Path

from tests.lab import net
from underlay.doctor.checks import fix
from underlay.model import Subnet

FOUR, SIX = Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))


def shell(command):
    subprocess.run(["sh", "-ec", command], check=True)


def sysctl(path, value):
    shell(f"echo {value} > /proc/sys/net/{path}")


def test_routed_network_without_forwarding_fails_for_each_family(bench):
    bench.network("lan", "", (FOUR, SIX), mode="routed")
    sysctl("ipv4/ip_forward", 0)
    sysctl("ipv6/conf/all/forwarding", 0)
    found = bench.check("forwarding")
    assert [f.what for f in found] == [
        "net.ipv4.ip_forward is 0",
        "net.ipv6.conf.all.forwarding is 0",
    ]
    assert all(f.level == "failure" and "networks lan" in f.why for f in found)
    sysctl("ipv4/ip_forward", 1)
    sysctl("ipv6/conf/all/forwarding", 1)
    assert bench.check("forwarding") == ()


def test_host_without_routed_networks_need_not_forward(bench):
    sysctl("ipv4/ip_forward", 0)
    bench.network("lan", "eth0", (FOUR,))
    assert bench.check("forwarding") == ()


def test_strict_reverse_path_on_two_ways_warns_routed_networks(bench):
    bench.network("lan", "", (FOUR,), mode="routed")
    net.ip(
        "addr add 10.1.0.2/24 dev eth0",
        "link add eth1 type veth peer name wire1",
        "link set eth1 up",
        "addr add 10.2.0.2/24 dev eth1",
    )
    sysctl("ipv4/conf/all/rp_filter", 0)
    for device in ("eth0", "eth1"):
        sysctl(f"ipv4/conf/{device}/rp_filter", 1)
    (found,) = bench.check("reverse-path")
    assert (found.level, found.where) == ("warning", "eth0, eth1")
    sysctl("ipv4/conf/eth1/rp_filter", 2)
    assert bench.check("reverse-path") == ()


def test_router_advertisements_that_forwarding_ignores_fail_and_are_fixed(bench):
    bench.network()
    sysctl("ipv6/conf/eth0/accept_ra", 1)
    assert bench.check("router-advertisements") == ()
    sysctl("ipv6/conf/all/forwarding", 1)
    sysctl("ipv6/conf/eth0/accept_ra", 1)
    (found,) = bench.check("router-advertisements")
    assert found.level == "warning"
    assert found.fix is None
    assert found.remedy.startswith("sysctl -w net.ipv6.conf.eth0.accept_ra=2; ")
    # As a router gives it: with an end.
    net.ip("addr add fd05::5/64 dev eth0 valid_lft 1000 preferred_lft 900 nodad")
    result = bench.result("router-advertisements")
    (found,) = result.findings
    assert (found.level, found.where) == ("failure", "eth0")
    assert list(fix([result])) == [
        ("sysctl -w net.ipv6.conf.eth0.accept_ra=2",
         "sysctl -w net.ipv6.conf.eth0.accept_ra=1", ""),
    ]  # fmt: skip
    assert bench.check("router-advertisements") == ()


def test_commands_for_a_vlan_work_although_its_name_has_a_point(bench):
    net.ip(
        "link add eth0.50 type veth peer name wire1",
        "link set eth0.50 up",
        "addr add fd05::5/64 dev eth0.50 valid_lft 1000 preferred_lft 900 nodad",
        "addr add 10.1.0.2/24 dev eth0",
        "addr add 10.2.0.2/24 dev eth0.50",
    )
    bench.network("lan", "eth0.50", (FOUR,), mode="routed")
    for device in ("eth0", "eth0.50"):
        sysctl(f"ipv4/conf/{device}/rp_filter", 1)
    sysctl("ipv6/conf/all/forwarding", 1)
    sysctl("ipv6/conf/eth0.50/accept_ra", 1)
    (found,) = bench.check("reverse-path")
    shell(found.remedy.partition(": ")[2])
    assert bench.check("reverse-path") == ()
    result = bench.result("router-advertisements")
    ((step, revert, _),) = fix([result])
    assert bench.check("router-advertisements") == ()
    shell(revert)
    assert len(bench.check("router-advertisements")) == 1
    shell(step)
    assert bench.check("router-advertisements") == ()


def test_commands_quote_the_name_of_a_device(bench):
    name = "a;false"
    net.ip(f"link add {name} type veth peer name wire1", f"link set {name} up")
    net.ip(f"addr add 10.2.0.2/24 dev {name}", "addr add 10.1.0.2/24 dev eth0")
    bench.network("lan", name, (FOUR,), mode="routed")
    for device in ("eth0", name):
        Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("1", "ascii")
    (found,) = bench.check("reverse-path")
    shell(found.remedy.partition(": ")[2])
    assert bench.check("reverse-path") == ()
    net.ip(f"link set {name} down")
    (found,) = bench.check("parents")
    shell(found.remedy)
    (found,) = bench.check("parents")
    assert found.what == "it has no carrier"


def test_bridge_behind_a_dropping_forward_chain_fails(bench):
    net.ip("link add br0 type bridge", "link set br0 up")
    bench.network("lan", "br0", (FOUR,), bridge="br0")
    shell("iptables -P FORWARD DROP")
    sysctl("bridge/bridge-nf-call-iptables", 0)
    assert bench.check("bridge-filter") == ()
    sysctl("bridge/bridge-nf-call-iptables", 1)
    (found,) = bench.check("bridge-filter")
    assert (found.level, found.where) == ("failure", "network lan")
    assert "the policy of its FORWARD is DROP" in found.what
    shell("iptables -A FORWARD -i br0 -o br0 -j ACCEPT")
    assert bench.check("bridge-filter") == ()
