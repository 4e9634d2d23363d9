"""The table of docs/modes.md that says what can reach what, row by row, as measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, LAN4
from tests.lab.capture import Capture

MODES = Path(__file__).parents[2] / "docs/modes.md"
OTHER = "10.83.0.0/24"
FIRST, SECOND, THIRD = "10.77.0.70", "10.77.0.71", "10.83.0.70"
HOST = "10.77.0.250"
FLAVOURS = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}
# Broadcast packets that arrived: the 14th number of the line.
COUNT = "awk '/^IpExt:/ {n++; if (n == 2) print $15}' /proc/net/netstat"


@pytest.fixture
def wide(newest):
    """A second NIC of the host, of which passthru may take all."""
    site, port = newest, "p-wide"
    lan = site.lan
    lan.run(
        "sh", "-ec",
        f"ip link add {port} type veth peer name wide0 netns {site.host.netns};"
        f"ip link set {port} master br0 up",
    )  # fmt: skip
    site.host.run("ip", "link", "set", "wide0", "up")
    yield "wide0", port
    site.clear()
    lan.run("ip", "link", "del", port)


@pytest.mark.parametrize(
    ("mode", "flavour"),
    [
        pytest.param(mode, flavour, marks=pytest.mark.needs(mode))
        for mode, flavours in FLAVOURS.items()
        for flavour in flavours
    ],
)
def test_documented_mode_table_equals_the_measured_one(newest, wide, mode, flavour):
    row = measured(newest, wide, mode, flavour)
    pattern = rf"^\| `{mode}` \| `{flavour}` \|.*$"
    assert re.findall(pattern, MODES.read_text(), re.MULTILINE) == [row]


def measured(site, wide, mode, flavour):
    """Put two containers on the LAN and one on another subnet of the same parent."""
    parent, port = wide
    alone = flavour == "passthru"
    way = ("-o", f"parent={parent}", "-o", f"{mode}_mode={flavour}")
    create = ("network", "create", "-d", "underlay", *IPAM, *way)
    site.docker(*create, "--subnet", LAN4, "--gateway", GATEWAY4, "lan")
    site.run("c1", "lan", "--ip", FIRST)
    own = site.host.run("cat", f"/sys/class/net/{parent}/address").stdout.strip()
    if not alone:
        site.run("c2", "lan", "--ip", SECOND)
        site.docker(*create, "--subnet", OTHER, "other")
        site.run("c3", "other", "--ip", THIRD)
    with Capture(site.lan.netns, port) as wire:
        reach(site, "c1", GATEWAY4)
        if not alone:
            reach(site, "c2", GATEWAY4)
        by_arp = site.reached_from_lan(FIRST)
    by_route = not by_arp and with_route(site, parent)
    before = int(in_sandbox(site, COUNT))
    site.lan.run(*site.ping, "-b", "-c1", "-W1", "10.77.0.255", check=False)
    heard = int(in_sandbox(site, COUNT)) > before
    cells = [
        "the parent's" if wire.sources <= {own} else "one each",
        "by ARP" if by_arp else "by a route to the host" if by_route else "no",
        "only one" if alone else yes(reach(site, "c1", SECOND)),
        "only one" if alone else yes(reach(site, "c1", THIRD)),
        yes(heard),
        yes(from_host(site, parent)),
    ]
    return f"| `{mode}` | `{flavour}` | {' | '.join(cells)} |"


def yes(is_so):
    return "yes" if is_so else "no"


def reach(site, container, address):
    command = ("ping", "-c1", "-W1", address)
    return site.host.exec(container, *command, check=False).returncode == 0


def in_sandbox(site, command):
    inside = ("nsenter", f"--target={site.host.pid_of('c1')}", "--net")
    return site.host.run(*inside, "sh", "-c", command).stdout


def with_route(site, parent):
    """Tell whether the LAN reaches a container once it is told by which host."""
    site.lan.run("ip", "neigh", "flush", "all")
    site.lan.run("ip", "route", "add", f"{FIRST}/32", "via", HOST)
    site.host.run("ip", "addr", "add", f"{HOST}/32", "dev", parent)
    try:
        return site.reached_from_lan(FIRST)
    finally:
        site.lan.run("ip", "route", "del", f"{FIRST}/32")
        site.host.run("ip", "addr", "del", f"{HOST}/32", "dev", parent)


def from_host(site, parent):
    """Tell whether the host reaches a container by the parent, given an address there.

    Not by its other NIC and the LAN: hence the route, which one of ours comes before.
    """
    route = (f"{FIRST}/32", "dev", parent, "metric", "5")
    site.host.run("ip", "addr", "add", f"{HOST}/32", "dev", parent)
    site.host.run("ip", "route", "add", *route)
    try:
        command = ("ping", "-c6", "-i0.5", "-W1", FIRST)
        return site.host.run(*command, check=False).returncode == 0
    finally:
        site.host.run("ip", "route", "del", *route)
        site.host.run("ip", "addr", "del", f"{HOST}/32", "dev", parent)
