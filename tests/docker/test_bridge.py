"""Mode bridge on real engines: containers are ports of a bridge that stays as it is."""

from __future__ import annotations

import shlex
import sys

import pytest

from tests.docker.bridged import (
    COUNTED,
    FOUR,
    SIX,
    changes,
    lines,
    links,
    site_iptables,
)
from tests.docker.conftest import GATEWAY4, GATEWAY6, IPAM, refused
from tests.lab.service import wait_until

pytestmark = pytest.mark.usefixtures("bridged")


def plugged(site, name, *words, bridge="br0"):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", f"bridge={bridge}",
        *FOUR, *words, name,
    )  # fmt: skip


def bridge_state(site):
    """What attaching containers must not change."""
    found = {
        "links": links(site),
        "ports": lines(site, "bridge", "link"),
        "vlans": lines(site, "bridge", "vlan"),
        "addresses": lines(site, "ip", "-o", "addr", unless=r"scope link"),
        "routes": lines(site, "ip", "route", "show", "table", "all"),
        "rules": lines(site, "ip", "rule"),
        "routes6": lines(site, "ip", "-6", "route", "show", "table", "all"),
        "sysctls": lines(site, "grep", "-rs", ".", "/proc/sys/net", unless=COUNTED),
    }
    fdb = lines(site, "bridge", "fdb", "show", "br", "br0")
    return {**found, "fdb": [x for x in fdb if "permanent" in x]}


def whole_state(site):
    """What must be as before when everything is removed."""
    return {
        **bridge_state(site),
        "iptables": site_iptables(site),
        "nft": lines(site, "nft", "list", "ruleset"),
    }


def fetch(run, address, port):
    """Take a page by TCP, with the words of `run`; it fails if there is none."""
    shown = f"[{address}]" if ":" in address else address
    return run(f"http://{shown}:{port}/")


def by_busybox(site, container):
    return lambda url: site.host.exec(container, "wget", "-qO-", "-T", "3", url)


def by_curl(site):
    return lambda url: site.host.run("curl", "-gsSf", "--max-time", "3", url)


@pytest.fixture
def page(bridged):
    """A page at port 8080 of the host."""
    server = bridged.host.outer(sys.executable, "-m", "http.server", "8080", "-b", "::")
    bridged.host.run("sh", "-c", "until curl -s localhost:8080 >/dev/null; do :; done")
    yield 8080
    server.kill()
    server.wait()


def test_bridged_containers_lan_and_host_reach_each_other_without_changing_the_bridge(
    site, page
):
    # A port that is new on a bridge learns for a while.
    eth0 = ("bridge", "link", "show", "dev", "eth0")
    wait_until(lambda: "state forwarding" in site.host.run(*eth0).stdout, 40)
    before = whole_state(site)
    plugged(site, "b", *SIX)
    site.run("web", "b")
    site.run("db", "b", "--ip", "10.77.0.200")
    assert changes(before, bridge_state(site)) == {}
    site.host.exec("web", "sh", "-c", "mkdir /w && echo hi >/w/index.html")
    site.host.exec("web", "httpd", "-p", "80", "-h", "/w")
    four, six, mac = site.attached("web", "b")
    for address in (four, six):
        site.ping_from_lan(address)
        assert site.mac_on_lan(address) == mac.lower()
        site.host.outer_run(*site.ping, "-c1", "-W3", address)
        fetch(by_curl(site), address, 80)
        fetch(by_busybox(site, "db"), address, 80)
    for address in (GATEWAY4, GATEWAY6, site.host.ipv4, site.host.ipv6, "10.77.0.200"):
        site.ping_from("web", address)
    for address in (site.host.ipv4, site.host.ipv6):
        fetch(by_busybox(site, "web"), address, page)
    site.docker("rm", "-f", "web", "db")
    site.docker("network", "rm", "b")
    assert changes(before, whole_state(site)) == {}


def test_rule_in_docker_s_chain_lets_bridged_frames_pass_iptables(
    newest,
):
    shown = newest.host.run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables").stdout
    policy = newest.host.run("iptables", "-S", "FORWARD").stdout
    assert (shown, "-P FORWARD DROP" in policy) == ("1\n", True)
    plugged(newest, "b")
    newest.run("web", "b")
    address, _, _ = newest.attached("web", "b")
    newest.ping_from_lan(address)
    rules = newest.host.run("iptables", "-S", "DOCKER-USER").stdout
    ours = next(x for x in rules.splitlines() if "-i br0 -o br0" in x)
    newest.service.stop()
    newest.host.run("iptables", *shlex.split(ours.replace("-A", "-D", 1)))
    assert not newest.reached_from_lan(address)
    newest.service.start()  # whose first pass puts it back
    wait_until(lambda: newest.reached_from_lan(address), 5)


def test_internal_bridge_network_has_no_way_out_and_its_own_mtu(
    newest,
):
    plugged(newest, "b", "--internal", "-o", "mtu=1400")
    newest.run("web", "b")
    assert "default" not in newest.in_container("web", "ip", "route")
    assert "mtu 1400" in newest.in_container("web", "ip", "link", "show", "eth0")
    newest.ping_from("web", GATEWAY4)
    found = links(newest)
    assert (found["br0"]["mtu"], found["eth0"]["mtu"]) == (1500, 1500)


def test_bridged_containers_survive_the_service_and_are_plugged_in_again(
    newest,
):
    plugged(newest, "b")
    newest.run("web", "b")
    address, _, _ = newest.attached("web", "b")
    newest.service.kill()
    newest.ping_from_lan(address)
    newest.service.start()
    newest.ping_from_lan(address)
    port = newest.our_links()[0]
    newest.host.run("ip", "link", "set", port, "nomaster")
    wait_until(lambda: newest.reached_from_lan(address), 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bridge": "br00"}, "E-128 bridge 'br00' cannot be used: this host has"
         " no device of that name. Did you mean 'br0'? Bridges: br0."),
        ({"bridge": "eth0"}, "E-128 bridge 'eth0' cannot be used: it is a veth"
         " device. To put containers on it without a bridge, use -o parent= instead."),
        ({"bridge": "docker0"}, "E-128 bridge 'docker0' cannot be used: Docker"
         " made it, and sets its addresses and firewall. Bridges: br0."),
        ({"bridge": "br0", "parent": "eth0"}, "E-104 bridge=br0 and parent=eth0"),
        ({"bridge": "br0", "mtu": "1501"}, "E-105 mtu 1501 is larger than the MTU of"),
        ({"bridge": "br0", "host_access": "off"}, "E-101 host_access='off' is not"),
    ],
)  # fmt: skip
def test_unusable_bridge_is_refused_when_the_network_is_made(newest, options, words):
    said = [w for key, value in options.items() for w in ("-o", f"{key}={value}")]
    done = newest.docker(
        "network", "create", "-d", "underlay", *IPAM, *said, *FOUR, "no", check=False
    )
    assert words in refused(done)
