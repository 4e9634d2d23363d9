"""Mode routed on real engines: the host is the router of its containers."""

from __future__ import annotations

import pytest

from tests.docker.conftest import GATEWAY4

POOL4, GW4 = "10.64.0.0/24", "10.64.0.1"
POOL6, GW6 = "fd64::/64", "fd64::1"
IPAM = ("--ipam-driver", "underlay")
FOUR = ("--subnet", POOL4, "--gateway", GW4)
SIX = ("--ipv6", "--subnet", POOL6, "--gateway", GW6)


def routed(site, name, *words):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed", *words, name
    )


@pytest.fixture
def known_to_the_lan(site):
    """Tell the LAN's router the way to the pools of a site's host."""
    ways = [(POOL4, site.host.ipv4), (POOL6, site.host.ipv6)]
    for pool, host in ways:
        site.lan.run("ip", "route", "add", pool, "via", host)
    yield
    for pool, _ in ways:
        site.lan.run("ip", "route", "del", pool)


@pytest.mark.usefixtures("known_to_the_lan")
def test_routed_containers_are_reached_by_their_own_addresses_both_ways(site):
    routed(site, "r", *FOUR, *SIX)
    site.run("web", "r")
    four, six, _ = site.attached("web", "r")
    assert site.inspect("web", "{{.NetworkSettings.Networks.r.IPPrefixLen}}") == "32"
    for address in (four, six):
        site.ping_from_lan(address)
    site.ping_from("web", GATEWAY4)
    site.ping_from("web", "fd77::1")
