"""VLANs of a trunk and networks without a wire, on a real engine and a real kernel."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import IPAM, IPVLAN
from tests.lab.capture import Capture
from tests.lab.service import wait_until

OFFICE, GATEWAY = "10.50.0.0/24", "10.50.0.1"


pytestmark = pytest.mark.needs("vlan", "dummy")


@pytest.fixture
def site(newest):
    return newest


@pytest.fixture
def trunk(site):
    """VLAN 50, and VLAN 7 in it, on the LAN's side of the trunk."""
    lan = site.lan
    commands = f"""
        ip link add link br0 name v50 type vlan id 50
        ip link set v50 up
        ip addr add {GATEWAY}/24 dev v50
        ip link add link v50 name v507 type vlan id 7
        ip link set v507 up
        ip addr add 10.57.0.1/24 dev v507
    """
    lan.run("sh", "-ec", commands)
    yield lan
    lan.run("ip", "link", "del", "v50")


def create(site, name, *words, subnet=OFFICE):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "--subnet", subnet, *words, name
    )


def shown(site, device):
    return site.host.run("ip", "-d", "link", "show", device, check=False).stdout


@pytest.mark.parametrize("mode", ["macvlan", IPVLAN])
def test_trunk_port_sees_the_right_tags(site, trunk, mode):
    way = ("-o", f"mode={mode}")
    create(site, "office", *way, "-o", "parent=eth0.50", "--gateway", GATEWAY)
    create(
        site, "lab", *way, "-o", "parent=eth0.50.7", "--gateway", "10.57.0.1",
        subnet="10.57.0.0/24",
    )  # fmt: skip
    with Capture(trunk.netns, f"p-{site.host.name}") as wire:
        for name, gateway in {"office": GATEWAY, "lab": "10.57.0.1"}.items():
            site.run(f"c-{name}", name)
            site.ping_from(f"c-{name}", gateway)
            there = site.attached(f"c-{name}", name)[0]
            site.ping_from_lan(there)
    sent = {
        f.tags for f in wire.frames if not f.outgoing and f.kind in (0x0800, 0x0806)
    }
    assert sent == {(50,), (50, 7)}


@pytest.mark.usefixtures("trunk")
@pytest.mark.parametrize("first", ["one", "two"])
def test_two_networks_on_one_vlan_are_removed_in_any_order(site, first):
    second = {"one": "two", "two": "one"}[first]
    span = {"one": "10.50.0.64/27", "two": "10.50.0.96/27"}
    wish = {"one": ("parent=eth0.50",), "two": ("parent=eth0", "vlan=50")}
    for name in ("one", "two"):
        options = [word for o in wish[name] for word in ("-o", o)]
        words = ("--gateway", GATEWAY, "--ip-range", span[name])
        create(site, name, *options, *words)
        site.run(f"c-{name}", name)
    assert "vlan protocol 802.1Q id 50" in shown(site, "eth0.50")
    assert site.service.on_record()["parents"][0]["name"] == "eth0.50"
    site.docker("rm", "-f", f"c-{first}")
    site.docker("network", "rm", first)
    site.ping_from(f"c-{second}", GATEWAY)
    site.docker("rm", "-f", f"c-{second}")
    site.docker("network", "rm", second)
    assert shown(site, "eth0.50") == ""
    assert site.our_links() == []


def devices(site):
    """Every device in full, but for the carrier, which comes when it comes."""
    return re.sub(r"state \S+ ", "", site.host.run("ip", "-d", "link").stdout)


@pytest.mark.usefixtures("trunk")
def test_foreign_vlan_survives_its_networks(site):
    site.host.run(
        "sh", "-ec",
        "ip link add link eth0 name eth0.10 type vlan id 10; ip link set eth0.10 up;"
        "ip link add link eth0 name office type vlan id 50; ip link set office up",
    )  # fmt: skip
    before = devices(site)
    try:
        create(site, "ten", "-o", "parent=eth0.10", subnet="10.10.0.0/24")
        create(site, "fifty", "-o", "parent=eth0.50", "--gateway", GATEWAY)
        site.run("c1", "ten")
        site.run("c2", "fifty")
        site.ping_from("c2", GATEWAY)
        site.docker("rm", "-f", "c1", "c2")
        site.docker("network", "rm", "ten", "fifty")
        assert devices(site) == before
    finally:
        site.host.run("ip", "link", "del", "eth0.10")
        site.host.run("ip", "link", "del", "office")


@pytest.mark.usefixtures("trunk")
def test_vlan_is_back_before_the_first_container_after_a_power_cut(site):
    create(site, "office", "-o", "parent=eth0.50", "--gateway", GATEWAY)
    site.run("c1", "office", "--restart", "always", "--ip", "10.50.0.70")
    site.ping_from_lan("10.50.0.70")
    site.host.power_cut()
    site.host.start()
    assert shown(site, "eth0.50") == ""
    site.service.start()
    site.host.start_dockerd()
    wait_until(lambda: site.reached_from_lan("10.50.0.70"), 30)
    assert site.service.run("plan").stdout == "nothing to do\n"


@pytest.mark.parametrize("mode", ["macvlan", IPVLAN])
@pytest.mark.parametrize("internal", [(), ("--internal",)], ids=["plain", "internal"])
def test_network_without_a_parent_has_no_way_out(site, mode, internal):
    create(site, "alone", "-o", f"mode={mode}", *internal, subnet="10.60.0.0/24")
    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        for name in ("c1", "c2"):
            site.run(name, "alone")
        site.ping_from("c1", site.attached("c2", "alone")[0])
    assert not [f for f in wire.frames if b"\x0a\x3c\x00" in f.payload]  # 10.60.0
    assert "default" not in site.in_container("c1", "ip", "route")
    site.docker("rm", "-f", "c1", "c2")
    site.docker("network", "rm", "alone")
    assert "dummy" not in site.host.run("ip", "-d", "link").stdout


def test_isolated_network_beside_another_never_takes_the_default_route(site):
    create(site, "alone", subnet="10.60.0.0/24")
    site.network("lan", "--ip-range", "10.77.0.64/27")
    site.run("c1", "alone")
    site.docker("network", "connect", "lan", "c1")
    assert "default via 10.77.0.1" in site.in_container("c1", "ip", "route")
    site.ping_from("c1", "10.77.0.1")


@pytest.fixture
def nic(site):
    """A NIC of the host, of which the other end leads nowhere."""
    made = "ip link add nic0 type veth peer name far0; ip link set far0 up"
    site.host.run("sh", "-ec", f"{made}; ip link set nic0 up")
    yield "nic0"
    site.clear()
    site.host.run("ip", "link", "del", "nic0")


def test_container_on_a_vlan_starts_before_the_nic_below_is_up(site, nic):
    """As docs/repair.md says of boot order: neither the VLAN nor its NIC is up yet."""
    create(site, "office", "-o", f"parent={nic}.50", "--gateway", GATEWAY)
    site.host.run("ip", "link", "set", nic, "down")
    site.host.run("ip", "link", "del", f"{nic}.50")
    site.run("c1", "office")

    def state():
        return site.in_container("c1", "cat", "/sys/class/net/eth0/operstate").strip()

    assert state() == "lowerlayerdown"
    (endpoint,) = site.service.on_record()["endpoints"]
    assert endpoint["health"] == "pending", endpoint
    site.host.run("ip", "link", "set", nic, "up")
    wait_until(lambda: state() == "up", 10, state)
