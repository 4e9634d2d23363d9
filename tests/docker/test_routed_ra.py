"""A host whose IPv6 default route comes from router advertisements keeps it."""

from __future__ import annotations

import time

import pytest

from tests.docker.conftest import GATEWAY6, Site
from tests.lab.host import Host
from tests.lab.net import Lan
from tests.lab.routers import Radvd
from tests.lab.service import Service, wait_until

LIFETIME_SECONDS = 8
# As short as radvd does it.
ADVERTISEMENTS = f"""
interface br0 {{
    AdvSendAdvert on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    AdvDefaultLifetime {LIFETIME_SECONDS};
}};
"""
SETTINGS = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.conf.default.forwarding",
    "net.ipv6.conf.eth0.forwarding",
    "net.ipv6.conf.all.accept_ra",
    "net.ipv6.conf.default.accept_ra",
    "net.ipv6.conf.eth0.accept_ra",
]


def settings(host):
    shown = host.run("sysctl", *SETTINGS).stdout
    return dict(line.split(" = ") for line in shown.splitlines())


def default_route(host):
    return host.run("ip", "-6", "route", "show", "default", "proto", "ra").stdout


@pytest.fixture
def advertised():
    """A site of its own: advertisements are for every host on a LAN.

    Docker has no bridge there, for which forwarding would have to stay on.
    """
    with Lan() as lan, Host(lan, "ra", "28.5", 3) as host:
        host.run("ip", "-6", "route", "del", "default")
        with Radvd(lan.start, ADVERTISEMENTS) as radvd:
            wait_until(lambda: default_route(host), 10, lambda: radvd.log)
            site = Site(host, Service(host))
            site.service.start()
            host.start_dockerd("--bridge=none")
            host.load_image()
            yield site
            site.clear()
            site.assert_nothing_left()


def test_default_route_from_advertisements_survives_enabled_forwarding(
    advertised,
):
    site, host = advertised, advertised.host
    before = settings(host)
    assert before["net.ipv6.conf.all.forwarding"] == "0"
    assert before["net.ipv6.conf.eth0.accept_ra"] == "1"
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", "mode=routed", "--subnet", "10.90.0.0/24",
        "--ipv6", "--subnet", "fd90::/64", "services",
    )  # fmt: skip
    site.run("web", "services")
    assert settings(host)["net.ipv6.conf.all.forwarding"] == "1"
    site.lan.run("ip", "-6", "route", "add", "fd90::/64", "via", host.ipv6)
    # Nothing else than time makes a route expire.
    heard_no_more = time.monotonic() + LIFETIME_SECONDS + 1
    while time.monotonic() < heard_no_more:
        assert default_route(host)
        time.sleep(0.5)
    site.ping_from("web", GATEWAY6)
    site.docker("rm", "-f", "web")
    wait_until(lambda: settings(host) == before, 10, lambda: settings(host))
    assert default_route(host)
