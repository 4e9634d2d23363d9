"""Routed networks and the fabric around them, configured as docs/routing.md says."""

from __future__ import annotations

import re
import shlex
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, GATEWAY6
from tests.lab.net import Far
from tests.lab.routers import Bird, Frr
from tests.lab.service import wait_until

PAGE = Path(__file__).parents[2] / "docs/routing.md"
POOL4, POOL6 = "10.90.0.0/24", "fd90::/64"
BIRD = "12"  # as the protocol of a route
FAR = """
router id 10.88.0.2;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
template bgp router { local as 65001; connect delay time 1; }
protocol bgp router4 from router {
    neighbor 10.88.0.1 as 65000; ipv4 { import all; export none; };
}
protocol bgp router6 from router {
    neighbor fd88::1 as 65000; ipv6 { import all; export none; };
}
"""
# The router's other side: what it learned from hosts, it tells the rest.
BEYOND = """
template bgp beyond { local as 65000; connect delay time 1; }
protocol bgp far4 from beyond {
    neighbor 10.88.0.2 as 65001; ipv4 { import none; export where source = RTS_BGP; };
}
protocol bgp far6 from beyond {
    neighbor fd88::2 as 65001; ipv6 { import none; export where source = RTS_BGP; };
}
"""


def page(title):
    """Return the block of the page that begins with a comment of these words."""
    found = re.findall(
        rf"^```\w*\n[#!] {re.escape(title)}\n(.*?)^```$",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert len(found) == 1, title
    return found[0]


def option(title, key):
    """Return the words that a file of settings for a daemon gives it."""
    (value,) = re.findall(rf"^{key}=(.*)$", page(title), re.MULTILINE)
    return shlex.split("".join(shlex.split(value)))


def frr(start):
    options = option("/etc/frr/daemons on the host", "zebra_options")
    return Frr(start, page("/etc/frr/frr.conf on the host"), *options)


def bird(start):
    options = option("/etc/bird/envvars on the host", "BIRD_ARGS")
    return Bird(start, page("/etc/bird/bird.conf on the host"), *options)


DAEMONS = {"frr": frr, "bird": bird}


def test_every_configuration_block_of_the_page_is_run_by_a_test():
    titles = re.findall(r"^```\w*\n[#!] (.*)$", PAGE.read_text(), re.MULTILINE)
    assert len(titles) == PAGE.read_text().count("```") / 2
    assert not [t for t in titles if f'"{t}"' not in Path(__file__).read_text()]


class Fabric:
    """The daemon on the host, the LAN's router, and a machine behind that."""

    def __init__(self, daemon, router, far):
        self.daemon, self.router, self.far = daemon, router, far

    def learned(self):
        """Return where the far machine has been told a way to."""
        found = set()
        for family in ("-4", "-6"):
            shown = self.far.run("ip", family, "route", "show", "proto", BIRD).stdout
            found |= {line.split()[0] for line in shown.splitlines()}
        return found

    def wait_for(self, *learned):
        wait_until(lambda: self.learned() == set(learned), 20, self.told)

    def sessions(self):
        """Return how many sessions the router has with hosts."""
        shown = self.router.ask("birdc", "-s", "/run/bird.ctl", "show", "protocols")
        return len(re.findall(r"^host\d_\d+ .* Established", shown, re.MULTILINE))

    def told(self):
        return f"{self.learned()}\n{self.daemon.log}\n{self.router.log}"


@contextmanager
def only_the_static_default(host):
    """The host's default route is where BGP's comes above it; afterwards as before."""
    usual = {"-4": f"default via {GATEWAY4}", "-6": f"default via {GATEWAY6}"}
    for family, route in usual.items():
        host.run("ip", family, "route", "del", *route.split())
    host.run("sh", "-ec", page("on the host: the default route under BGP's"))
    try:
        yield
    finally:
        # What daemons leave behind on purpose; first FRR's, which is by next hops.
        host.run("ip", "nexthop", "flush")
        for family, route in usual.items():
            host.run("ip", family, "route", "flush", "default")
            host.run("ip", family, "route", "add", *route.split())


@pytest.fixture(scope="module", params=DAEMONS)
def fabric(request, sites, lan):
    host = sites("28.5").host
    router = page("/etc/bird/bird.conf on the router") + BEYOND
    with ExitStack() as stack:
        stack.enter_context(only_the_static_default(host))
        far = stack.enter_context(Far(lan))
        stack.enter_context(Bird(far.start, FAR))
        beside = stack.enter_context(Bird(lan.start, router))
        daemon = stack.enter_context(DAEMONS[request.param](host.outer))
        yield Fabric(daemon, beside, far)


@pytest.fixture
def services(newest):
    """The network of the page."""
    newest.host.run("sh", "-ec", page("on the host: the network"))
    return newest


def addresses(site, container):
    return site.attached(container, "services")[:2]


def ping(site, where, address, *words):
    done = where.run(*site.ping, "-c2", "-i0.1", "-W2", *words, address, check=False)
    return done.stdout


@contextmanager
def no_packet_lost(site, far, targets):
    """Ping from far away, 20 times a second, all the time."""
    flows = [
        far.start(*site.ping, "-q", "-i0.05", target, stdout=-1, text=True)
        for target in targets
    ]
    told = []
    try:
        yield
        for flow in flows:
            flow.send_signal(signal.SIGINT)
            told.append(flow.communicate(timeout=10)[0])
    finally:
        for flow in flows:
            flow.kill()
            flow.communicate()
    for text in told:
        sent = re.search(r"(\d+) packets transmitted", text)
        assert int(sent[1]) > 10, text
        assert " 0% packet loss" in text, text


def test_remote_machine_learns_the_pools_only_and_reaches_a_container(services, fabric):
    services.run("web", "services")
    fabric.wait_for(POOL4, POOL6)
    for address in addresses(services, "web"):
        assert " 0% packet loss" in ping(services, fabric.far, address)
    for address in ("10.88.0.2", "fd88::2"):
        services.ping_from("web", address)


def test_pool_is_announced_without_containers_and_withdrawn_with_its_network(
    services, fabric
):
    fabric.wait_for(POOL4, POOL6)
    services.docker("network", "rm", "services")
    fabric.wait_for()


def test_packets_to_a_removed_container_end_on_its_host(services, fabric):
    services.run("web", "services")
    fabric.wait_for(POOL4, POOL6)
    given = addresses(services, "web")
    services.docker("rm", "-f", "web")
    for address in given:
        # In a loop, both the router and the host would be the last to have it.
        for limit in ("20", "21"):
            told = ping(services, fabric.far, address, "-t", limit, "-W0.5")
            assert " 100% packet loss" in told
            assert "exceeded" not in told


def test_no_routed_packet_is_lost_while_the_service_is_killed_and_restarted(
    services, fabric
):
    services.run("web", "services")
    fabric.wait_for(POOL4, POOL6)
    with no_packet_lost(services, fabric.far, addresses(services, "web")):
        services.service.kill()
        services.service.start()
        time.sleep(1)  # a restart takes less than half a second
        # The first pass after a start is the one that removes what is surplus.
        plan = services.service.run("plan", check=False)
        assert plan.stdout == "nothing to do\n"


def test_no_packet_is_lost_while_the_routing_daemon_is_killed_and_restarted(
    services, fabric
):
    services.run("web", "services")
    fabric.wait_for(POOL4, POOL6)
    with no_packet_lost(services, fabric.far, addresses(services, "web")):
        fabric.daemon.kill()
        wait_until(lambda: fabric.sessions() == 0, 10, fabric.told)
        fabric.daemon.start()
        wait_until(lambda: fabric.sessions() == 2, 20, fabric.told)
    fabric.wait_for(POOL4, POOL6)


def test_static_routes_on_the_router_lead_to_the_containers(services):
    commands = page("on the router: static routes")
    services.run("web", "services")
    services.lan.run("sh", "-ec", commands)
    try:
        for address in addresses(services, "web"):
            assert " 0% packet loss" in ping(services, services.lan, address)
    finally:
        services.lan.run("sh", "-ec", commands.replace(" add ", " del "))


def test_host_without_routes_to_it_answers_arp_and_ndp_for_containers(newest):
    newest.host.run(
        "sh", "-ec", page("on the host: a network behind proxy ARP and NDP")
    )
    newest.run("web", "services")
    shown = newest.host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    for address in addresses(newest, "web"):
        assert " 0% packet loss" in ping(newest, newest.lan, address)
        assert newest.mac_on_lan(address) == shown
    for address in (GATEWAY4, GATEWAY6):
        newest.ping_from("web", address)
