"""A host that routes for its containers is no router for other hosts, also at boot."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from contextlib import contextmanager
from itertools import count

import pytest

from tests.docker.conftest import Site
from tests.docker.routing import FOUR, POOL4, POOL6, SIX, routed, told
from tests.lab.host import Host
from tests.lab.net import Lan, Namespace
from tests.lab.rootfs import ENGINES
from tests.lab.service import Service, wait_until

FAR4, FAR6 = "10.98.0.2", "fd98::2"
# Docker's own bridge, and what makes it switch forwarding on by itself, or not.
OWN = ()
NO_BRIDGE = ("--bridge=none",)
NO_FIREWALL = ("--iptables=false", "--ip-forward=false")
SHOP = ("bb", "httpd", "-f", "-p", "80", "-h", "/etc")
WAYS = [(engine, OWN) for engine in ENGINES]
WAYS += [("28.5", NO_BRIDGE), ("28.5", NO_FIREWALL), ("20.10", NO_FIREWALL)]


class TwoNics(Host):
    """A host that is on a second network as well, by eth1, with a stranger there."""

    def _plug_in(self) -> None:
        super()._plug_in()
        far = f"{self.lan.tag}-far"
        subprocess.run(
            ["ip", "link", "add", "eth1", "netns", self.netns, "type", "veth",
             "peer", "name", "eth0", "netns", far],
            check=True,
        )  # fmt: skip
        commands = {
            self.netns: "ip addr add 10.98.0.1/24 dev eth1;"
            " ip addr add fd98::1/64 dev eth1 nodad; ip link set eth1 up",
            far: "ip link set eth0 up; ip addr add 10.98.0.2/24 dev eth0;"
            " ip addr add fd98::2/64 dev eth0 nodad;"
            " ip route add default via 10.98.0.1; ip -6 route add default via fd98::1",
        }
        for netns, command in commands.items():
            enter = ["nsenter", f"--net=/run/netns/{netns}", "sh", "-ec", command]
            subprocess.run(enter, check=True)

    def power_cut(self) -> None:
        super().power_cut()
        # By name too: the namespace itself goes away only some time later.
        far = f"/run/netns/{self.lan.tag}-far"
        link = ["nsenter", f"--net={far}", "ip", "link", "del", "eth0"]
        subprocess.run(link, check=False, capture_output=True)


@pytest.fixture(params=WAYS, ids=lambda way: "-".join((way[0], *way[1])))
def two(request):
    """Yield a site of two networks that know the way to each other by its host."""
    engine, args = request.param
    with (
        Lan() as lan,
        Namespace(f"{lan.tag}-far", ""),
        TwoNics(lan, "two", engine, 3) as host,
    ):
        site = Site(host, Service(host))
        boot(site, args)
        host.load_image()
        lan.run("ip", "route", "add", "10.98.0.0/24", "via", host.ipv4)
        lan.run("ip", "route", "add", "172.16.0.0/12", "via", host.ipv4)
        lan.run("ip", "-6", "route", "add", "fd98::/64", "via", host.ipv6)
        yield site, args
        site.clear()
        site.assert_nothing_left()


def boot(site, args):
    site.service.start()
    site.host.start_dockerd(*args)


@contextmanager
def watched(site, heard=None):
    """Have a stranger on one network ask another on the other all the time."""
    asking = [
        site.lan.start(
            *site.ping, "-D", "-i0.05", "-W1", address,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for address in (FAR4, FAR6)
    ]  # fmt: skip
    heard = [] if heard is None else heard
    try:
        yield heard
    finally:
        for ping in asking:
            ping.terminate()
            heard += re.findall(r".*bytes from.*ttl=.*", ping.communicate()[0])


@contextmanager
def excused(site, args, heard):
    """Leave out of what was heard what dockerd itself let pass while it started.

    With a firewall it switches forwarding on for IPv4, and then runs iptables to set
    the policy: a tenth of a second on a busy machine, and without this service too.
    Gives what is to be called when it is started.
    """
    began, shut = [], []

    def look():
        policy = ("iptables", "-S", "FORWARD")
        told = (site.host.run(*policy, check=False).stdout for _ in count())
        next(text for text in told if "-P FORWARD DROP" in text)
        shut.append(time.time())

    thread = threading.Thread(target=look, daemon=True)
    if args is OWN:
        thread.start()
    yield lambda: began.append(time.time())
    if args is OWN:
        thread.join(10)
        (start,), (end,) = began, shut

        def is_dockerd_s(line):
            sent = float(re.match(r"\[([\d.]+)\]", line)[1])
            return FAR4 in line and start <= sent <= end

        heard[:] = [line for line in heard if not is_dockerd_s(line)]


def forwards(site):
    paths = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
    return site.host.run("sysctl", "-n", *paths).stdout.split()


def test_foreign_traffic_is_not_routed_beside_containers_nor_after_a_power_cut(two):
    site, args = two
    routed(site, "r", *FOUR, *SIX)
    with told(site, POOL4, POOL6):
        with watched(site) as heard:
            site.run("web", "r", "--restart", "always")
            four, six, _ = site.attached("web", "r")
            site.ping_from_lan(four)
            site.ping_from_lan(six)
            assert forwards(site) == ["1", "1"]
        assert heard == []
        if args is OWN:
            site.docker("run", "-d", "--name", "shop", "--restart", "always", *SHOP)
        site.host.power_cut()
        site.host.start()
        heard = []
        with excused(site, args, heard) as starts, watched(site, heard):
            site.service.start()
            site.service.run("reconcile")
            # What is on record died with the last boot, and asks for nothing.
            assert forwards(site) == ["0", "0"]
            starts()
            site.host.start_dockerd(*args)
            wait_until(lambda: up(site, "web"), 60)
            for address in site.attached("web", "r")[:2]:
                wait_until(lambda a=address: site.reached_from_lan(a), 30)
            if args is OWN:
                policy = site.host.run("iptables", "-S", "FORWARD").stdout
                assert "-P FORWARD DROP" in policy
                assert_closed(site, "shop", "bridge")
        assert heard == []


def assert_closed(site, container, network):
    """Check that the LAN does not reach a port that is open, but not published."""
    page = f"http://{site.attached(container, network)[0]}/hosts"
    ask = ("curl", "-sf", "-m1", page)
    wait_until(lambda: site.host.run(*ask, check=False).stdout, 20)
    assert site.lan.run(*ask, check=False).returncode != 0


def up(site, name):
    return site.inspect(name, "{{.State.Running}}") == "true"


def test_docker_bridges_work_beside_the_closed_forward_filter(two):
    """Also those that are made when we have switched forwarding on."""
    site, args = two
    routed(site, "r", *FOUR, *SIX)
    with told(site, POOL4, POOL6):
        site.run("web", "r")
        site.docker("network", "create", "-o", "com.docker.network.bridge.name=shop",
                    "later")  # fmt: skip
        with watched(site) as heard:
            site.run("in", "later")
            if args is not NO_FIREWALL:
                site.docker("exec", "-d", "in", *SHOP[1:])
                wait_until(lambda: pings(site, "in", "10.77.0.1"), 20)
                assert_closed(site, "in", "later")
            site.ping_from_lan(site.attached("web", "r")[0])
        assert heard == []
        site.docker("rm", "-f", "web")
        # Docker found forwarding on: it stays, and with it what shuts the door.
        with watched(site) as heard:
            assert forwards(site)[0] == "1"
            if args is not NO_FIREWALL:
                wait_until(lambda: pings(site, "in", "10.77.0.1"), 20)
        assert heard == []


def pings(site, container, address):
    words = ("ping", "-c1", "-W1", address)
    return site.host.exec(container, *words, check=False).returncode == 0
