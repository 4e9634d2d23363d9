"""ipvlan networks on a real engine, on kernels that have it (tests/uml boots them)."""

from __future__ import annotations

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, LAN4, LAN6, refused
from tests.lab.capture import Capture
from tests.lab.net import ip

BLUE4, RED4 = "10.81.0.0/24", "10.82.0.0/24"
BLUE6 = "fd81::/64"
FAR = "10.99.0.2"


pytestmark = pytest.mark.needs("ipvlan")


@pytest.fixture
def site(newest):
    return newest


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
    assert address(site, "c1", "blue") == "10.81.0.1"  # no address spent on a gateway
    site.ping_from("c1", address(site, "c2", "red"))
    routes = site.in_container("c1", "ip", "route")
    assert "default dev eth0 scope link" in routes
    assert "via" not in routes
    assert "eth1" not in site.in_container("c1", "ip", "link")


def test_l3_works_in_both_families(site):
    six = ("--ipv6", "--subnet", BLUE6)
    routed(site, "blue", BLUE4, "l3", *six)
    site.run("c1", "blue")
    site.run("c2", "blue")
    other = site.attached("c2", "blue")
    site.ping_from("c1", other[0])
    site.ping_from("c1", other[1])
    assert "default dev eth0" in site.in_container("c1", "ip", "-6", "route")


@pytest.fixture
def far(site):
    """A host beyond the LAN's router, and the router's way back to the containers."""
    lan, name = site.lan, f"{site.lan.tag}-far"
    ip(f"netns add {name}")
    try:
        ip(f"link add far0 netns {lan.netns} type veth peer name eth0 netns {name}")
        lan.run("ip", "addr", "add", "10.99.0.1/24", "dev", "far0")
        lan.run("ip", "link", "set", "far0", "up")
        lan.run("ip", "route", "add", BLUE4, "via", site.host.ipv4)
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
def test_l3_is_reached_across_a_router_and_only_the_host_s_mac_is_seen(site, far, mode):
    routed(site, "blue", BLUE4, mode)
    for number in range(3):
        site.run(f"c{number}", "blue")
    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        for number in range(3):
            site.ping_from(f"c{number}", FAR)
            there = address(site, f"c{number}", "blue")
            site.lan.run(
                "nsenter", f"--net=/var/run/netns/{far}",
                *site.ping, "-c1", "-W3", there,
            )  # fmt: skip
    assert wire.sources == {mac_of_host(site)}


def test_an_internal_network_has_neighbours_and_no_way_out(site):
    routed(site, "blue", BLUE4, "l3", "--internal")
    routed(site, "red", RED4)
    site.run("c1", "blue")
    site.run("c2", "blue")
    site.run("c3", "red")
    site.ping_from("c1", address(site, "c2", "blue"))
    assert "default" not in site.in_container("c1", "ip", "route")
    away = ("ping", "-c1", "-W1", address(site, "c3", "red"))
    assert site.host.exec("c1", *away, check=False).returncode != 0


def test_connect_disconnect_stop_start_and_rm(site):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    create(site, "lan", "-o", "ipvlan_mode=l2", *words)
    create(site, "shut", "--internal", "-o", "ipvlan_mode=l2", "--subnet", RED4)
    site.run("c1", "lan", "--ip", "10.77.0.70")
    site.docker("network", "connect", "shut", "c1")
    site.run("c2", "shut")
    site.ping_from("c1", address(site, "c2", "shut"))
    site.docker("network", "disconnect", "shut", "c1")
    assert "eth1" not in site.in_container("c1", "ip", "link")
    site.docker("stop", "-t", "0", "c1")
    site.docker("start", "c1")
    site.ping_from("c1", GATEWAY4)
    site.ping_from_lan("10.77.0.70")
    site.docker("rm", "-f", "c1", "c2")
    assert site.our_links() == []


@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_private_and_vepa_keep_containers_apart(site, flag):
    words = ("--subnet", LAN4, "--gateway", GATEWAY4, "--ip-range", "10.77.0.64/27")
    create(site, "lan", "-o", f"ipvlan_flag={flag}", *words)
    site.run("c1", "lan")
    site.run("c2", "lan")
    site.ping_from("c1", GATEWAY4)
    away = ("ping", "-c1", "-W1", address(site, "c2", "lan"))
    assert site.host.exec("c1", *away, check=False).returncode != 0


def test_dual_stack_l2(site):
    site.dual("lan", "-o", "mode=ipvlan", "--ip-range", "10.77.0.64/27")
    site.run("c1", "lan", "--ip6", "fd77::aaaa")
    site.ping_from("c1", GATEWAY6)
    site.ping_from_lan("fd77::aaaa")
    assert LAN6


def test_what_would_change_the_others_is_refused_and_they_go_on(site):
    routed(site, "blue", BLUE4)
    site.run("c1", "blue")
    site.run("c2", "blue")
    before = site.host.run("ip", "-d", "link").stdout
    asked = ("network", "create", "-d", "underlay", *IPAM, "--subnet", RED4)
    eth0 = ("-o", "parent=eth0")
    cases = {
        ("-o", "ipvlan_mode=l2"): "E-127 eth0 carries ipvlan children with"
        " ipvlan_mode=l3 ipvlan_flag=bridge (network blue)",
        ("-o", "ipvlan_mode=l3", "-o", "ipvlan_flag=private"): "E-127 eth0",
        ("-o", "mode=macvlan"): "E-120 eth0 carries ipvlan children (network blue): the"
        " kernel allows macvlan or ipvlan on one parent, not both. Use mode=ipvlan, or"
        " another parent.",
    }
    site.host.docker("network", "ls")
    for words, text in cases.items():
        assert text in refused(site.docker(*asked, *eth0, *words, "no", check=False))
    mac = ("--mac-address", "02:00:00:00:00:05")
    done = site.docker("run", "--network", "blue", *mac, "bb", "true", check=False)
    assert "E-145 MAC '02:00:00:00:00:05' cannot be used: an ipvlan" in refused(done)
    assert site.host.run("ip", "-d", "link").stdout == before
    site.ping_from("c1", address(site, "c2", "blue"))


def test_a_child_of_another_program_is_not_switched(site):
    add = "link add link eth0 name theirs type ipvlan mode l3"
    site.host.run("ip", *add.split())
    try:
        asked = ("network", "create", "-d", "underlay", *IPAM, "--subnet", RED4)
        l2 = ("-o", "parent=eth0", "-o", "ipvlan_mode=l2")
        done = site.docker(*asked, *l2, "no", check=False)
        assert "(device theirs, not of underlay)" in refused(done)
        shown = site.host.run("ip", "-d", "link", "show", "theirs").stdout
        assert "ipvlan  mode l3 " in shown
    finally:
        site.host.run("ip", "link", "del", "theirs")


def test_docker_s_own_driver_with_our_ipam_and_a_second_network_on_the_parent(site):
    """What one parent cannot do for Docker's own driver: more than one network."""
    for name, subnet in {"blue": BLUE4, "red": RED4}.items():
        routed(site, name, subnet, "l3s")
        site.run(f"c-{name}", name)
    site.docker("network", "rm", "-f", "blue", check=False)  # in use: refused
    site.ping_from("c-blue", address(site, "c-red", "red"))
