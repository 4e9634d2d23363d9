"""Running containers have the MTU of what they stand on, as that changes."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import IPAM, WAYS_TO_THE_LAN
from tests.docker.site import Nic
from tests.lab.service import wait_until

SOON_SECONDS = 15
BIG, SMALL, USUAL = 9000, 1400, 1500


@pytest.fixture
def site(newest):
    return newest


@pytest.fixture
def nic(site):
    found = Nic(site, "nic0")
    found.plug()
    site.host.run("ip", "addr", "add", "10.98.0.10/24", "dev", found.name)
    yield found
    site.clear()
    found.unplug()


def mtu(text):
    return int(re.search(r" mtu (\d+) ", text)[1])


def inside(site, container):
    return mtu(site.in_container(container, "ip", "link", "show", "eth0"))


def of_ours(site):
    """Return the MTU of each device of ours that stays in the host."""
    shown = site.host.run("ip", "-o", "link").stdout
    return {mtu(x) for x in shown.splitlines() if re.match(r"\d+: ul-", x)}


def set_mtu(site, nic, size):
    site.lan.run("ip", "link", "set", f"p-{nic.name}", "mtu", str(size))
    site.host.run("ip", "link", "set", nic.name, "mtu", str(size))


@pytest.mark.parametrize("mode", WAYS_TO_THE_LAN)
def test_running_containers_follow_the_mtu_of_their_parent(site, nic, mode):
    way = ["-o", f"parent={nic.name}", "-o", f"mode={mode}"]
    way += ["-o", "takeover=yes"] if mode == "bridge" else []
    way += ["--subnet", "10.98.0.0/24", "--gateway", "10.98.0.1"]
    if mode == "proxy":
        way = ["-o", f"proxy={nic.name}", "-o", "mode=routed"]
        way += ["--subnet", "10.98.0.128/25"]
    site.docker("network", "create", "-d", "underlay", *IPAM, *way, "lan98")
    site.run("web", "lan98")
    address = site.attached("web", "lan98")[0]
    for size in (BIG, SMALL, USUAL, BIG):
        set_mtu(site, nic, size)
        wait_until(lambda s=size: inside(site, "web") == s, SOON_SECONDS)
        if mode != "bridge":
            wait_until(lambda s=size: of_ours(site) == {s}, SOON_SECONDS)
    # All on the way has it: nothing is fragmented.
    bridge = re.search(r"(ul-\w+): .* mtu 9000 ", site.host.run("ip", "link").stdout)
    assert mode != "bridge" or bridge
    ping = ("-c1", "-W3", "-Mdo", "-s8900", address)
    site.host.outer_run(*site.ping, *ping)
    wait_until(lambda: site.service.run("plan", check=False).returncode == 0, 10)


def test_requested_mtu_of_a_container_stays(site, nic):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", f"parent={nic.name}",
        "-o", "mtu=1450", "--subnet", "10.98.0.0/24", "--gateway", "10.98.0.1", "lan98",
    )  # fmt: skip
    site.run("web", "lan98")
    for size, expected in ((BIG, 1450), (SMALL, SMALL), (USUAL, 1450)):
        set_mtu(site, nic, size)
        wait_until(lambda s=size: of_ours(site) == {s}, SOON_SECONDS)
        wait_until(lambda e=expected: inside(site, "web") == e, SOON_SECONDS)
