"""Compose files of other drivers, moved as docs/moving.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, refused
from tests.lab import rootfs
from tests.lab.dhcp_servers import Dnsmasq, Kea, Scope
from tests.lab.net import Namespace

GUIDE = Path(__file__).parents[2] / "docs/moving.md"
MAC, RESERVED = "02:42:c0:a8:01:07", "10.77.0.207"
FILE = "/tmp/moving.yaml"
COMPOSE = ("compose", "-p", "moving", "-f", FILE)
# The words of udhcpc for the client id that docker-net-dhcp 2 makes of the MAC.
OPAQUE = ("-C", "-x", f"0x3d:00{MAC.replace(':', '')}")


def both():
    """Return the plugin's compose file in the guide, before the move and after it."""
    found, *_ = re.findall(r"```diff\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    before, after = (
        "".join(re.findall(rf"^[ {sign}](.*\n)", found, re.MULTILINE)) for sign in "-+"
    )
    return before.replace("nginx", "bb"), after.replace("nginx", "bb")


def write(site, text):
    text = text.replace("image: bb\n", "image: bb\n    command: sleep 1000\n")
    site.host.run("sh", "-c", f"cat >{FILE}", input=text)


def up(site, *, check=True):
    return site.docker(*COMPOSE, "up", "-d", "--pull", "never", check=check)


def lease_elsewhere(lan, *words):
    """Lease an address for the MAC as another driver did, with words of udhcpc."""
    commands = f"""
        ip link add eth0 address {MAC} type veth peer name p-old netns {lan.netns}
        ip link set eth0 up
    """
    udhcpc = str(rootfs.serving() / "usr/bin/busybox"), "udhcpc", "-i", "eth0"
    once = ("-fnq", "-t5", "-T2", "-s", "/bin/true")
    with Namespace(f"{lan.tag}-old", commands) as old:
        lan.run("ip", "link", "set", "p-old", "master", "br0", "up")
        old.run(*udhcpc, *once, *words)


@pytest.fixture
def server(request, lan):
    scope = Scope(reservations={MAC: RESERVED}, lease_seconds=600)
    with getattr(request, "param", Kea)(lan.start, scope=scope) as server:
        yield server


def has_reservation(site):
    address, _, mac = site.attached("moving-web-1", "moving_lan")
    assert (address, mac) == (RESERVED, MAC)
    site.ping_from("moving-web-1", GATEWAY4)
    assert site.reached_from_lan(RESERVED)


# migrate_from_docker_net_dhcp, lxc/lxc#4593, lxc/incus#1265
@pytest.mark.parametrize(
    ("server", "words"),
    [(Kea, ()), (Dnsmasq, ()), (Dnsmasq, OPAQUE)],
    indirect=["server"],
)
@pytest.mark.usefixtures("bridged", "server")
def test_moved_container_keeps_its_mac_and_the_server_s_reservation(newest, lan, words):
    lease_elsewhere(lan, *words)
    write(newest, both()[1])
    up(newest)
    has_reservation(newest)
    newest.docker(*COMPOSE, "down", "-t", "0")
    up(newest)
    has_reservation(newest)


@pytest.mark.usefixtures("server")
def test_macvlan_options_of_the_plugin_are_those_of_this_driver(newest):
    after = both()[1].replace("bridge: br0", "mode: macvlan\n      parent: eth0")
    write(newest, after)
    up(newest)
    has_reservation(newest)


@pytest.mark.usefixtures("bridged")
def test_refusals_lead_from_the_file_of_the_plugin_to_that_of_the_guide(newest):
    before, after = both()
    text = re.sub(r"driver: \S+docker-net-dhcp\S+", "driver: underlay", before)
    for said, wrong, right in (
        ("Leave it out", '      ignore_conflicts: "true"\n', ""),
        ("source=dhcp", "lease_timeout: 30s", "lease_timeout: 30s\n      source: dhcp"),
        ("a number of seconds from 1", "30s", '"30"'),
    ):
        write(newest, text)
        assert said in refused(up(newest, check=False))
        text = text.replace(wrong, right)
    assert text == after


def test_null_ipam_without_a_source_is_in_the_log(newest):
    before = len(newest.service.log)
    newest.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "null",
        "-o", "parent=eth0", "bare",
    )  # fmt: skip
    assert "-o source=dhcp" in newest.service.log[before:]
