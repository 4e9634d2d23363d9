"""ipvlan networks on a real engine, on kernels that have it (tests/uml boots them)."""

from __future__ import annotations

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, refused
from tests.lab.capture import Capture
from tests.lab.net import ip

BLUE4, RED4 = "10.81.0.0/24", "10.82.0.0/24"
BLUE6 = "fd81::/64"
FAR = "10.99.0.2"


pytestmark = pytest.mark.needs("ipvlan")


def create(site, name, *words, ipam=True, parent="eth0"):
    site.docker(
        "network", "create", "-d", "underlay", *(IPAM if ipam else ()),
        "-o", f"parent={parent}", *words, name,
    )  # fmt: skip


def routed(site, name, subnet, mode="l3", *words):
    create(site, name, "-o", f"ipvlan_mode={mode}", "--subnet", subnet, *words)


def address(site, container, network):
    return site.attached(container, network)[0]


def mac_of_host(site):
    return site.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()


@pytest.mark.parametrize("ipam", [True, False], ids=["ours", "docker"])
def test_l2_containers_are_hosts_of_the_lan_behind_one_mac(site, ipam):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    create(site, "lan", "-o", "mode=ipvlan", *words, ipam=ipam)
    site.run("c1", "lan")
    site.run("c2", "lan")
    one, two = address(site, "c1", "lan"), address(site, "c2", "lan")
    site.ping_from("c1", GATEWAY4)
    site.ping_from("c1", two)
    site.ping_from_lan(one)
    assert site.mac_on_lan(one) == mac_of_host(site)
    assert site.attached("c1", "lan")[2] == ""
    assert mac_of_host(site) in site.in_container("c1", "ip", "link", "show", "eth0")
    assert f"default via {GATEWAY4}" in site.in_container("c1", "ip", "route")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_l3_containers_of_different_subnets_reach_each_other_without_gateways(
    site, mode
):
    routed(site, "blue", BLUE4, mode)
    routed(site, "red", RED4, mode)
    site.run("c1", "blue")
    site.run("c2", "red")
    assert site.service.facts("pool", "show", BLUE4)["gateway"] == []
    site.ping_from("c1", address(site, "c2", "red"))
    routes = site.in_container("c1", "ip", "route")
    assert "default dev eth0 scope link" in routes
    assert "via" not in routes
    assert "eth1" not in site.in_container("c1", "ip", "link")


def test_l3_networks_work_in_both_families(newest):
    six = ("--ipv6", "--subnet", BLUE6)
    routed(newest, "blue", BLUE4, "l3", *six)
    newest.run("c1", "blue")
    newest.run("c2", "blue")
    other = newest.attached("c2", "blue")
    newest.ping_from("c1", other[0])
    newest.ping_from("c1", other[1])
    assert "default dev eth0" in newest.in_container("c1", "ip", "-6", "route")


@pytest.fixture
def far(newest):
    """A host beyond the LAN's router, and the router's way back to the containers."""
    lan, name = newest.lan, f"{newest.lan.tag}-far"
    ip(f"netns add {name}")
    try:
        ip(f"link add far0 netns {lan.netns} type veth peer name eth0 netns {name}")
        lan.run("ip", "addr", "add", "10.99.0.1/24", "dev", "far0")
        lan.run("ip", "link", "set", "far0", "up")
        lan.run("ip", "route", "add", BLUE4, "via", newest.host.ipv4)
        ip_far = ("ip", "-n", name)
        lan.run(*ip_far, "addr", "add", f"{FAR}/24", "dev", "eth0")
        lan.run(*ip_far, "link", "set", "eth0", "up")
        lan.run(*ip_far, "route", "add", "default", "via", "10.99.0.1")
        yield name
    finally:
        lan.run("ip", "route", "del", BLUE4, check=False)
        lan.run("ip", "link", "del", "far0", check=False)
        ip(f"netns del {name}")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_l3_containers_are_reached_across_a_router_behind_the_host_s_mac(
    newest, far, mode
):
    routed(newest, "blue", BLUE4, mode)
    for number in range(3):
        newest.run(f"c{number}", "blue")
    with Capture(newest.lan.netns, f"p-{newest.host.name}") as wire:
        for number in range(3):
            newest.ping_from(f"c{number}", FAR)
            there = address(newest, f"c{number}", "blue")
            newest.lan.run(
                "nsenter", f"--net=/var/run/netns/{far}",
                *newest.ping, "-c1", "-W3", there,
            )  # fmt: skip
    assert wire.sources == {mac_of_host(newest)}


def test_an_internal_network_has_neighbours_and_no_way_out(newest):
    routed(newest, "blue", BLUE4, "l3", "--internal")
    routed(newest, "red", RED4)
    newest.run("c1", "blue")
    newest.run("c2", "blue")
    newest.run("c3", "red")
    newest.ping_from("c1", address(newest, "c2", "blue"))
    assert "default" not in newest.in_container("c1", "ip", "route")
    away = ("ping", "-c1", "-W1", address(newest, "c3", "red"))
    assert newest.host.exec("c1", *away, check=False).returncode != 0


def test_ipvlan_containers_survive_connect_disconnect_stop_start_and_rm(newest):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    create(newest, "lan", "-o", "ipvlan_mode=l2", *words)
    create(newest, "shut", "--internal", "-o", "ipvlan_mode=l2", "--subnet", RED4)
    newest.run("c1", "lan", "--ip", "10.77.0.70")
    newest.docker("network", "connect", "shut", "c1")
    newest.run("c2", "shut")
    newest.ping_from("c1", address(newest, "c2", "shut"))
    newest.docker("network", "disconnect", "shut", "c1")
    assert "eth1" not in newest.in_container("c1", "ip", "link")
    newest.docker("stop", "-t", "0", "c1")
    newest.docker("start", "c1")
    newest.ping_from("c1", GATEWAY4)
    newest.ping_from_lan("10.77.0.70")
    newest.docker("rm", "-f", "c1", "c2")
    newest.docker("network", "rm", "lan", "shut")
    assert newest.our_links() == []


def test_network_of_another_kind_needs_the_first_one_removed(newest):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    mine = (
        "network", "create", "-d", "underlay", *IPAM, "-o", "parent=eth0", *words,
        "-o", "mode=ipvlan", "lan",
    )  # fmt: skip
    create(newest, "mac", *words)
    assert "E-120" in refused(newest.docker(*mine, check=False))
    newest.docker("network", "rm", "mac")
    newest.docker(*mine)
    newest.run("c1", "lan")
    newest.host.run("ping", "-c1", "-W3", address(newest, "c1", "lan"))


@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_ipvlan_private_and_vepa_keep_containers_apart(newest, flag):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    create(newest, "lan", "-o", f"ipvlan_flag={flag}", *words)
    newest.run("c1", "lan")
    newest.run("c2", "lan")
    newest.ping_from("c1", GATEWAY4)
    away = ("ping", "-c1", "-W1", address(newest, "c2", "lan"))
    assert newest.host.exec("c1", *away, check=False).returncode != 0


def test_dual_stack_l2_containers_are_reached_in_both_families(newest):
    newest.dual("lan", "-o", "mode=ipvlan", "--ip-range", "10.77.0.64/27")
    newest.run("c1", "lan", "--ip6", "fd77::aaaa")
    newest.ping_from("c1", GATEWAY6)
    newest.ping_from_lan("fd77::aaaa")


def test_option_that_would_change_other_ipvlan_containers_is_refused(newest):
    routed(newest, "blue", BLUE4)
    newest.run("c1", "blue")
    newest.run("c2", "blue")
    before = newest.host.run("ip", "-d", "link").stdout
    asked = ("network", "create", "-d", "underlay", *IPAM, "--subnet", RED4)
    eth0 = ("-o", "parent=eth0")
    cases = {
        ("-o", "ipvlan_mode=l2"): "E-127 eth0 has ipvlan devices with"
        " ipvlan_mode=l3 ipvlan_flag=bridge (network blue)",
        ("-o", "ipvlan_mode=l3", "-o", "ipvlan_flag=private"): "E-127 eth0",
        (
            "-o",
            "mode=macvlan",
        ): "E-120 eth0 has ipvlan devices already (network blue), and the kernel allows"
        " either macvlan or ipvlan on one parent, not both. Use mode=ipvlan, or another"
        " parent.",
    }
    newest.host.docker("network", "ls")
    for words, text in cases.items():
        assert text in refused(newest.docker(*asked, *eth0, *words, "no", check=False))
    mac = ("--mac-address", "02:00:00:00:00:05")
    done = newest.docker("run", "--network", "blue", *mac, "bb", "true", check=False)
    assert "E-145 MAC '02:00:00:00:00:05' cannot be used: an ipvlan" in refused(done)
    assert newest.host.run("ip", "-d", "link").stdout == before
    newest.ping_from("c1", address(newest, "c2", "blue"))


def test_ipvlan_child_of_another_program_is_not_switched(newest):
    add = "link add link eth0 name theirs type ipvlan mode l3"
    newest.host.run("ip", *add.split())
    try:
        asked = ("network", "create", "-d", "underlay", *IPAM, "--subnet", RED4)
        l2 = ("-o", "parent=eth0", "-o", "ipvlan_mode=l2")
        done = newest.docker(*asked, *l2, "no", check=False)
        assert "(device theirs, not of underlay)" in refused(done)
        shown = newest.host.run("ip", "-d", "link", "show", "theirs").stdout
        assert "ipvlan  mode l3 " in shown
    finally:
        newest.host.run("ip", "link", "del", "theirs")
