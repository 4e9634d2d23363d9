"""A container without IPv6, on a network that has it: in order, and looked after."""

from __future__ import annotations

import pytest

from tests.docker.conftest import make_site
from tests.docker.site import inside, is_settled, repairs
from tests.lab.service import wait_until

RANGE = ("--ip-range", "10.77.0.96/27")
OFF = "com.docker.network.endpoint.sysctls=net.ipv6.conf.IFNAME.disable_ipv6=1"
# Engine 28 announces addresses that the device has not got, and fails over it.
QUIET = ("-o", "com.docker.network.advertise_addr_nmsgs=0")
POOL4, POOL6 = "10.89.0.0/24", "fd89::/64"


@pytest.fixture(scope="module")
def calm(lan):
    """A host whose service looks only when something changes."""
    made = make_site(lan, "off6", "28.5", 12, period=600)
    yield made
    made.host.close()


@pytest.fixture
def site(calm):
    yield calm
    calm.clear()
    calm.assert_nothing_left()


def routed(site, name):
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay", "-o",
        "mode=routed", *QUIET, "--ipv6", "--subnet", POOL4, "--subnet", POOL6,
        "--gateway", "10.89.0.1", "--gateway", "fd89::1", name,
    )  # fmt: skip


def in_order(site):
    facts = site.service.on_record()
    plan = site.service.run("plan", check=False).stdout
    return facts["troubles"] == [] and plan == "nothing to do\n"


def shown(site, name):
    return inside(
        site, name, "sh", "-c", "ip addr show dev eth0; ip route; ip -6 route"
    )


def assert_repaired(site, name, words):
    """What is taken of its IPv4 comes back, and soon."""
    assert words in shown(site, name)
    inside(site, name, "ip", "addr", "flush", "dev", "eth0")
    wait_until(lambda: words in shown(site, name), 10, lambda: shown(site, name))
    wait_until(lambda: in_order(site), 10, lambda: site.service.on_record()["troubles"])


@pytest.mark.parametrize("mode", ["macvlan", "routed"])
def test_endpoint_with_ipv6_disabled_by_docker_starts_and_is_repaired(site, mode):
    if mode == "macvlan":
        site.dual("dual", *RANGE, *QUIET)
    else:
        routed(site, "dual")
    site.run("web", f"name=dual,driver-opt={OFF}", "--cap-add", "NET_ADMIN")
    # At once, not after the half minute that is given Docker at the most.
    wait_until(lambda: is_settled(site), 10, lambda: site.service.log)
    wait_until(lambda: in_order(site), 5, lambda: site.service.log)
    four = site.attached("web", "dual")[0]
    assert_repaired(site, "web", f"inet {four}/")
    assert "inet6 fd" not in shown(site, "web")
    for entry in repairs(site):
        assert entry["error"] == ""


def test_ipv6_switched_off_and_on_in_a_container_is_followed(site):
    site.dual("dual", *RANGE)
    site.run("vpn", "dual", "--privileged")
    wait_until(lambda: is_settled(site), 20, lambda: site.service.log)
    six = site.attached("vpn", "dual")[1]
    switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
    site.host.exec("vpn", "sh", "-c", f"echo 1 > {switch}")
    four = site.attached("vpn", "dual")[0]
    wait_until(lambda: in_order(site), 10, lambda: site.service.on_record()["troubles"])
    assert_repaired(site, "vpn", f"inet {four}/")
    # Its device is made again without IPv6, and does not have it for a moment.
    inside(site, "vpn", "ip", "link", "del", "eth0")
    wait_until(lambda: f"inet {four}/" in shown(site, "vpn"), 10)
    assert "inet6" not in shown(site, "vpn")
    wait_until(lambda: in_order(site), 10, lambda: site.service.on_record()["troubles"])
    assert all(entry["error"] == "" for entry in repairs(site))
    site.host.exec("vpn", "sh", "-c", f"echo 0 > {switch}")
    wait_until(lambda: f"inet6 {six}/" in shown(site, "vpn"), 10)
    wait_until(
        lambda: "default via fd77::1" in shown(site, "vpn"), 10,
        lambda: shown(site, "vpn"),
    )  # fmt: skip
    wait_until(lambda: in_order(site), 10, lambda: site.service.on_record()["troubles"])


def test_container_with_ipv6_disabled_at_start_is_left_in_order(site):
    site.dual("dual", *RANGE)
    site.run(
        "vpn", "dual", "--cap-add", "NET_ADMIN",
        "--sysctl", "net.ipv6.conf.all.disable_ipv6=1",
    )  # fmt: skip
    wait_until(lambda: is_settled(site), 10, lambda: site.service.log)
    wait_until(lambda: in_order(site), 10, lambda: site.service.on_record()["troubles"])
    four = site.attached("vpn", "dual")[0]
    assert_repaired(site, "vpn", f"inet {four}/")
