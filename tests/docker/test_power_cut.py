"""A power cut: systemd boots the host again, and every container is back on the LAN."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, Site
from tests.lab.net import NETNS
from tests.lab.service import GRACE_SECONDS, wait_until
from tests.lab.systemd import SystemdHost, Unit

RANGE = "10.77.0.128/26"  # a draw begins anywhere in it, not at what is FIXED
FIXED = {f"fixed{n}": f"10.77.0.{200 + n}" for n in range(25)}
DRAWN = [f"drawn{n}" for n in range(25)]
AT_ONCE = 10  # clients of the engine's
SETTLED_SECONDS = 5 * GRACE_SECONDS + 10


@pytest.fixture
def site(lan):
    """A host that systemd boots, Docker and the service along with it."""
    with SystemdHost(lan, "power", 9) as host:
        host.load_image()
        site = Site(host, Unit(host))
        site.service.start()
        yield site
        site.clear()
        site.assert_nothing_left()


def start_all(site):
    """Start 50 containers that come back, half of them with an address of their own."""
    asked = {name: ("--ip", address) for name, address in FIXED.items()}
    always = ("lan", "--restart", "always")
    with ThreadPoolExecutor(AT_ONCE) as clients:
        started = [
            clients.submit(site.run, name, *always, *asked.get(name, ()))
            for name in (*FIXED, *DRAWN)
        ]
    assert [one.result() for one in started] == [None] * len(started)


def running(site):
    """Return the address of every running container, as docker inspect has it."""
    ids = site.docker("ps", "-q").stdout.split()
    told = json.loads(site.docker("inspect", *ids).stdout) if ids else []
    return {
        one["Name"].strip("/"): one["NetworkSettings"]["Networks"]["lan"]["IPAddress"]
        for one in told
    }


def recorded(site):
    """Return the addresses that endpoints have on record."""
    endpoints = site.service.on_record()["endpoints"]
    return sorted(a.split("/")[0] for e in endpoints for a in e["addresses"])


# devplayer0/docker-net-dhcp#2, devplayer0/docker-net-dhcp#23,
# devplayer0/docker-net-dhcp#44
def test_all_containers_return_with_their_addresses_after_a_power_cut(site):
    site.network("lan", "--ip-range", RANGE)
    start_all(site)
    before = set(site.live()[1])
    site.host.power_cut()
    site.host.start()
    found = running(site)
    assert set(found) == {*FIXED, *DRAWN}
    # Docker keeps an address that was asked for with --ip. The others it draws again
    # at every start: free ones of the range, in no order.
    assert {name: found[name] for name in FIXED} == FIXED
    assert len(set(found.values())) == len(found)
    assert all(ip_address(found[name]) in ip_network(RANGE) for name in DRAWN)
    for address in found.values():
        assert site.reached_from_lan(address), address
    # What ran before is dead, and dockerd says nothing of it to a driver.
    wait_until(lambda: len(site.live()[1]) == len(found), SETTLED_SECONDS, site.live)
    assert not before & set(site.live()[1])
    assert recorded(site) == sorted(found.values())
    wait_until(lambda: site.live()[2] == len(found), SETTLED_SECONDS, site.live)
    [pool] = site.service.on_record()["pools"]
    assert (pool["gateway"], pool["aux"]) == ([GATEWAY4], [])
    assert len(site.our_links()) == 1  # by which the host itself reaches containers
    plan = site.service.run("plan", check=False)
    assert (plan.returncode, plan.stdout) == (0, "nothing to do\n")
    # It never waited for the plugin.
    assert not re.search("plugin.*retrying in", site.host.dockerd_log())
    assert "level=error" not in site.service.log


def test_closed_systemd_host_leaves_nothing(lan):
    with SystemdHost(lan, "gone", 8) as host:
        host.load_image()
        host.docker("run", "-d", "--restart", "always", "bb", "sleep", "1000")
        cgroups = [found for found in host.cgroups() if found.exists()]
        pids = {int(p) for c in cgroups for p in tasks(c)}
        assert len(pids) >= 6  # systemd, journald, containerd, dockerd, shim, sleep
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not [found for found in cgroups if found.exists()]
    assert host.netns not in Path("/proc/self/mountinfo").read_text()
    assert not (NETNS / host.netns).exists()
    assert not host.dir.exists()


def tasks(cgroup):
    """Return the machine's pids of all that runs in a cgroup and below."""
    found = cgroup.rglob("cgroup.procs")
    return [pid for procs in found for pid in procs.read_text().split()]
