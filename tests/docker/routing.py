"""Routed networks on a lab host, and a router that has routes to them."""

from __future__ import annotations

from contextlib import contextmanager

from tests.docker.conftest import IPAM

POOL4, GW4 = "10.64.0.0/24", "10.64.0.1"
POOL6, GW6 = "fd64::/64", "fd64::1"
FOUR = ("--subnet", POOL4, "--gateway", GW4)
SIX = ("--ipv6", "--subnet", POOL6, "--gateway", GW6)


def routed(site, name, *words):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed", *words, name
    )


@contextmanager
def told(site, *pools):
    """Tell the LAN's router the way to pools of a site's host."""
    ways = [(p, site.host.ipv6 if ":" in p else site.host.ipv4) for p in pools]
    for pool, host in ways:
        site.lan.run("ip", "route", "replace", pool, "via", host)
    try:
        yield
    finally:
        for pool, _ in ways:
            site.lan.run("ip", "route", "del", pool)
