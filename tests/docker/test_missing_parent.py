"""A parent that is not there: containers start, and get their interface when it is."""

from __future__ import annotations

import time

import pytest

from tests.docker.conftest import IPAM, WAYS_TO_THE_LAN, refused
from tests.docker.site import RANGE, Nic, face, inside
from tests.lab.service import wait_until
from underlay.model.objects import Owner

SOON_SECONDS = 15
LATE_SECONDS = 5


@pytest.fixture
def nic(site):
    found = Nic(site, "nic0")
    found.plug()
    yield found
    if found.name in site.host.run("ip", "-br", "link").stdout:
        found.unplug()


@pytest.fixture
def card(newest):
    found = Nic(newest, "nic0")
    found.plug()
    yield found
    newest.clear()
    found.unplug()


def lan_on(site, nic, *words):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM,
        "-o", f"parent={nic.name}", "--subnet", "10.77.0.0/24",
        "--gateway", "10.77.0.1", "--ipv6", "--subnet", "fd77::/64",
        "--gateway", "fd77::1", *RANGE, *words, "lan",
    )  # fmt: skip


def health(site, container="web"):
    found = {e["container"]: e for e in site.service.on_record()["endpoints"]}
    return found.get(container, {}).get("health"), found.get(container, {}).get("error")


def has_its_own(site, container="web"):
    """Tell whether a container has the device of its network's kind."""
    shown = inside(site, container, "ip", "-d", "link", "show", "eth0", check=False)
    return "macvlan" in shown


def test_container_starts_without_its_parent_and_gets_its_interface_later(site, nic):
    lan_on(site, nic)
    mac = nic.mac
    nic.unplug()
    site.run("web", "lan")
    address, _, given = site.attached("web", "lan")
    wait_until(lambda: health(site)[0] == "pending", SOON_SECONDS, lambda: health(site))
    assert health(site)[1] == (
        f"device nic0 ({mac}) is missing; waiting for it to appear"
    )
    assert not has_its_own(site)
    assert f"inet {address}/24" in "\n".join(face(site))
    nic.plug(mac)
    wait_until(
        lambda: has_its_own(site), SOON_SECONDS, lambda: site.service.log[-3000:]
    )
    wait_until(lambda: site.reached_from_lan(address), SOON_SECONDS)
    assert site.mac_on_lan(address) == given
    site.ping_from("web", "10.77.0.1")
    site.ping_from("web", "fd77::1")
    wait_until(lambda: health(site)[0] == "repaired", SOON_SECONDS)
    # Docker takes the device for the one it moved: disconnect, connect, restart.
    site.docker("network", "disconnect", "lan", "web")
    site.docker("network", "connect", "lan", "web")
    site.docker("restart", "-t0", "web")
    site.ping_from("web", "10.77.0.1")


def test_container_that_stops_while_waiting_leaves_nothing(site, nic):
    lan_on(site, nic)
    nic.unplug()
    site.run("web", "lan")
    site.docker("rm", "-f", "web")
    wait_until(lambda: site.our_links() == [], 5, site.our_links)
    site.run("web", "lan")
    site.docker("restart", "-t0", "web")
    site.docker("network", "create", "side")
    site.docker("network", "connect", "side", "web")
    site.docker("network", "disconnect", "lan", "web")
    wait_until(lambda: site.our_links() == [], 5, site.our_links)


def test_container_that_does_not_wait_for_its_parent_is_refused(newest):
    nic = Nic(newest, "nic0")
    nic.plug()
    lan_on(newest, nic, "-o", "missing_parent=fail")
    nic.unplug()
    done = newest.docker("run", "--rm", "--network", "lan", "bb", "true", check=False)
    assert "E-123 device 'nic0' does not exist on this host." in refused(done)
    assert newest.live()[1] == []


@pytest.mark.parametrize("mode", WAYS_TO_THE_LAN)
def test_container_on_a_nic_that_is_down_works_when_the_nic_comes_up(
    newest, card, mode
):
    site, nic = newest, card
    if mode == "proxy":
        site.docker(
            "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed",
            "-o", f"proxy={nic.name}", "--subnet", "10.77.0.160/27", "lan",
        )  # fmt: skip
    else:
        takeover = ("-o", "takeover=yes") if mode == "bridge" else ()
        lan_on(site, nic, "-o", f"mode={mode}", *takeover)
    site.host.run("ip", "link", "set", nic.name, "down")
    site.run("web", "lan")
    address = site.attached("web", "lan")[0]
    waiting = ("pending", "nic0 is down; waiting for it")
    wait_until(lambda: health(site) == waiting, SOON_SECONDS, lambda: health(site))
    (parent,) = site.service.on_record()["parents"] or [None]
    assert mode == "proxy" or (parent["health"], parent["error"]) == waiting
    time.sleep(LATE_SECONDS)
    assert health(site) == waiting
    nic.configure()
    wait_until(lambda: site.reached_from_lan(address), SOON_SECONDS)
    wait_until(lambda: health(site)[0] in ("ok", "repaired"), SOON_SECONDS)


def test_containers_are_announced_when_their_cable_is_plugged_in_again(newest, card):
    site, nic = newest, card
    lan_on(site, nic)
    site.run("web", "lan")
    address, _, mac = site.attached("web", "lan")
    wait_until(lambda: site.reached_from_lan(address), SOON_SECONDS)
    wait_until(lambda: health(site)[0] == "ok", SOON_SECONDS, lambda: health(site))
    time.sleep(LATE_SECONDS)  # most of what is told of a new one is over
    site.lan.run("ip", "link", "set", f"p-{nic.name}", "down")
    cut_off = ("pending", "nic0 has no carrier; waiting for it")
    wait_until(lambda: health(site) == cut_off, SOON_SECONDS, lambda: health(site))
    wrong = ("02:00:00:00:de:ad", "nud", "stale", "dev", "br0")
    site.lan.run("ip", "neigh", "replace", address, "lladdr", *wrong)
    site.lan.run("ip", "link", "set", f"p-{nic.name}", "up")
    wait_until(lambda: site.mac_on_lan(address) == mac, SOON_SECONDS)
    wait_until(lambda: health(site)[0] == "ok", SOON_SECONDS, lambda: health(site))


def test_routed_container_runs_without_its_proxy_and_gets_its_entries_later(site, nic):
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=routed",
        "-o", f"proxy={nic.name}", "--subnet", "10.77.0.160/27",
        "--ipv6", "--subnet", "fd77::2:0/112", "lan",
    )  # fmt: skip
    mac = nic.mac
    nic.unplug()
    site.run("web", "lan")
    four, six, _ = site.attached("web", "lan")
    wait_until(lambda: health(site)[0] == "pending", SOON_SECONDS, lambda: health(site))
    assert health(site)[1] == (
        f"proxy device nic0 ({mac}) is missing; waiting for it to appear"
    )
    for address in (four, six):
        site.host.run("ping", "-c1", "-W3", address)
        assert not site.reached_from_lan(address)
    nic.plug(mac)
    for address in (four, six):
        wait_until(lambda a=address: site.reached_from_lan(a), SOON_SECONDS)
        assert site.mac_on_lan(address) == mac
    wait_until(lambda: health(site)[0] == "repaired", SOON_SECONDS)


def test_takeover_bridge_is_made_on_a_nic_that_appears_after_its_containers(site, nic):
    lan_on(site, nic, "-o", "mode=bridge", "-o", "takeover=yes")
    bridge, mac = Owner.parse("underlay::bridge/nic0").device, nic.mac
    # As after a boot: neither is there.
    nic.unplug()
    site.host.outer_run("ip", "link", "del", bridge)
    site.run("web", "lan")
    address, _, given = site.attached("web", "lan")
    wait_until(lambda: health(site)[0] == "pending", SOON_SECONDS, lambda: health(site))
    assert health(site)[1] == (
        f"device nic0 ({mac}) is missing; waiting for it to appear"
    )
    assert "NO-CARRIER" in inside(site, "web", "ip", "link", "show", "eth0")
    nic.plug(mac)
    wait_until(lambda: site.reached_from_lan(address), SOON_SECONDS)
    assert site.mac_on_lan(address) == given
    site.ping_from("web", "10.77.0.1")
    site.ping_from("web", "fd77::1")
    wait_until(lambda: health(site)[0] == "repaired", SOON_SECONDS)
    assert bridge in site.host.run("ip", "-o", "link", "show", "nic0").stdout
    # A NIC that is away for a while costs no more than that.
    nic.unplug()
    wait_until(lambda: health(site)[0] == "pending", SOON_SECONDS, lambda: health(site))
    nic.plug(mac)
    wait_until(lambda: site.reached_from_lan(address), SOON_SECONDS)
    site.docker("network", "disconnect", "lan", "web")
    site.docker("network", "connect", "lan", "web")
    site.docker("restart", "-t0", "web")
    site.ping_from("web", "10.77.0.1")
