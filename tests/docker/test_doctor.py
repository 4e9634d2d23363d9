"""`underlay doctor` and the status on hosts with a real engine and real containers."""

from __future__ import annotations

import json

import pytest

from tests.lab.service import wait_until

ROUTED = "10.78.0.0/24", "10.78.0.1"


@pytest.fixture
def routed(newest):
    newest.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", "mode=routed", "--subnet", ROUTED[0], "--gateway", ROUTED[1], "far",
    )  # fmt: skip
    newest.lan.run("ip", "route", "replace", ROUTED[0], "via", newest.host.ipv4)
    newest.run("web", "far", "--ip", "10.78.0.5")
    yield newest
    newest.host.outer_run("nft", "delete", "table", "inet", "site", check=False)
    newest.lan.run("ip", "route", "del", ROUTED[0])


def found(site, check):
    done = site.service.run("doctor", "--json", check=False)
    told = json.loads(done.stdout)
    return next(c for c in told["checks"] if c["id"] == check)


def health(site):
    facts = site.service.status()
    return {e["health"] for e in (*facts["networks"], *facts["endpoints"])}


def nft(site, *words):
    site.host.outer_run("nft", *words)


def test_routed_container_behind_a_native_chain_with_a_drop_is_not_reported_ok(routed):
    """And the commands that the doctor prints make it reachable again."""
    routed.ping_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"ok"}, 10, lambda: health(routed))
    assert found(routed, "firewall")["level"] == "ok"
    nft(routed, "add table inet site")
    nft(routed, "add chain inet site fw { type filter hook forward priority 5;"
        " policy drop; }")  # fmt: skip
    assert not routed.reached_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"failing"}, 10, lambda: health(routed))
    (trouble,) = routed.service.status()["troubles"]
    assert trouble["error"].startswith("E-405 containers of network far are cut off")
    check = found(routed, "firewall")
    assert check["level"] == "failure"
    routed.host.outer_run("sh", "-ec", check["findings"][0]["remedy"])
    routed.ping_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"ok"}, 10, lambda: health(routed))
    assert found(routed, "firewall")["level"] == "ok"
