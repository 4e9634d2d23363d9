"""A connect that the engine refuses half way leaves nothing in the container."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import refused
from tests.lab.service import wait_until

ON_LINK = ("-o", "gateway=198.51.100.1")
GA, GB = "10.61.0.0/24", "10.62.0.0/24"
RANGE = "10.62.0.8/30"
PAIR = ("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "far1")


def make(site, name, subnet, *words, parent="eth0"):
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", f"parent={parent}", "-o", "host_access=off", "--subnet", subnet,
        *words, name,
    )  # fmt: skip


def inside(site, container, *words, check=True):
    net = f"--net=/proc/{site.host.pid_of(container)}/ns/net"
    return site.host.run("nsenter", net, *words, check=check).stdout


def links(site, container):
    """Return what devices a container has, and what addresses, without numbers."""
    shown = inside(site, container, "sh", "-c", "ip -o link; ip -o -4 addr")
    shown = re.sub(r"^\d+: |@\S+", "", shown, flags=re.MULTILINE)
    return sorted(line.split("qdisc")[0].strip() for line in shown.splitlines())


def connect(site, network, container):
    return refused(site.docker("network", "connect", network, container, check=False))


def endpoints(site):
    return [e["addresses"] for e in site.service.on_record()["endpoints"]]


@pytest.mark.parametrize("own", ["route", "device"])
def test_connect_refused_half_way_leaves_no_device_and_no_leased_address(site, own):
    make(site, "ga", GA, *ON_LINK)
    make(site, "gb", GB, "--ip-range", RANGE, *ON_LINK)
    site.run("kk", "bridge", "--cap-add", "NET_ADMIN")
    if own == "route":
        # The engine meets it when the device is up and has its address.
        inside(site, "kk", "ip", "route", "add", "198.51.100.1/32", "dev", "eth0")
    else:
        inside(site, "kk", *PAIR)
    before = links(site, "kk")
    # More often than there are addresses; older engines take eth2 the next time.
    for _ in range(5 if own == "route" else 1):
        assert "exists" in connect(site, "gb", "kk")
        assert links(site, "kk") == before
    assert endpoints(site) == []
    site.run("other", "gb")
    assert site.attached("other", "gb")[0].startswith("10.62.0.")


@pytest.fixture
def spare(newest):
    """A host with one more device to stand on."""
    pair = ("ip", "link", "add", "pp0", "type", "veth", "peer", "name", "pp1")
    newest.host.run(*pair)
    yield newest
    newest.clear()
    newest.host.run("ip", "link", "del", "pp0")


def test_passthru_network_is_free_again_after_a_refused_connect(spare):
    site = spare
    make(site, "pt", GB, "-o", "macvlan_mode=passthru", parent="pp0")
    site.run("kk", "bridge", "--cap-add", "NET_ADMIN")
    inside(site, "kk", *PAIR)
    assert "exists" in connect(site, "pt", "kk")
    inside(site, "kk", "ip", "link", "del", "eth1")
    site.docker("network", "connect", "pt", "kk")
    assert site.attached("kk", "pt")[0].startswith("10.62.0.")


def test_two_networks_with_one_on_link_gateway_are_named_in_the_error(site):
    make(site, "ga", GA, *ON_LINK)
    make(site, "gb", GB, *ON_LINK)
    site.run("kk", "ga")
    before = links(site, "kk")
    said = connect(site, "gb", "kk")
    assert "E-134" in said
    assert "198.51.100.1" in said
    assert links(site, "kk") == before


def test_start_on_two_networks_with_one_on_link_gateway_is_refused_whole(site):
    make(site, "ga", GA, *ON_LINK)
    make(site, "gb", GB, *ON_LINK)
    site.docker("create", "--name", "kk", "--network", "ga", "bb", "sleep", "1000")
    site.docker("network", "connect", "gb", "kk")
    assert "E-134" in refused(site.docker("start", "kk", check=False))
    wait_until(lambda: endpoints(site) == [], 10, lambda: endpoints(site))
    wait_until(lambda: site.our_links() == [], 5, site.our_links)
    site.docker("network", "disconnect", "gb", "kk")
    site.docker("start", "kk")
    assert site.attached("kk", "ga")[0].startswith("10.61.0.")
