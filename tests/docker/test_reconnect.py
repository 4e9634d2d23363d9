"""Docker is told of another address of a running container: on_change=reconnect."""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, IPAM
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.service import wait_until

log = logging.getLogger(__name__)

LEASE_SECONDS = 10
MAC = "02:00:00:00:aa:09"
FIRST = Scope(lease_seconds=LEASE_SECONDS)
# What the server gives after it has forgotten its leases.
OTHER = replace(FIRST, first="10.77.0.150", last="10.77.0.160")
ALIASES = "{{json .NetworkSettings.Networks.lan.Aliases}}"
LEFT = "container not reconnected"
SLEEP = ("bb", "sleep", "1000")


@pytest.fixture
def kea(lan):
    with Kea(lan.start, scope=FIRST) as server:
        yield server


def create(site, *words, ipam=(*IPAM, "--ipam-opt", "source=dhcp")):
    site.docker(
        "network", "create", "-d", "underlay", *ipam, "-o", "parent=eth0",
        "-o", "on_change=reconnect", "-o", "hold=1", *words, "lan",
    )  # fmt: skip


def without_ipam(site, *words):
    create(site, "-o", "source=dhcp", *words, ipam=("--ipam-driver", "null"))


def forget_leases(server, scope=OTHER):
    """Have the server give other addresses from now on."""
    server.stop()
    (server.dir / "leases.csv").unlink(missing_ok=True)
    server.scope = scope
    server.start()


def of(server, mac):
    return next((x.address for x in server.leases() if x.mac == mac), "")


def is_new(address):
    return address.startswith("10.77.0.15")


def names_known(site):
    facts = site.service.facts("status")["endpoints"]
    return all(endpoint["container"] for endpoint in facts)


def wait_for_new(site, *names):
    """Wait until Docker shows an address of the server's other ones."""
    for name in names:
        wait_until(
            lambda name=name: is_new(site.attached(name, "lan")[0]),
            3 * LEASE_SECONDS,
            lambda: site.service.log[-3000:],
        )


def assert_right(site, server, name, mac):
    """Docker shows what the server has leased, and the container has that."""
    address, _, shown = site.attached(name, "lan")
    assert (shown, of(server, mac)) == (mac, address)
    assert f" {address}/24" in site.in_container(name, "ip", "-4", "-o", "addr")
    wait_until(lambda: site.reached_from_lan(address), 5)
    site.ping_from(name, GATEWAY4)
    return address


def test_docker_shows_and_resolves_the_address_that_the_server_has_changed(site, kea):
    """Though a container that does not run may be asking for one."""
    create(site)
    site.run("web", "lan", "--network-alias", "shop", "--restart", "always")
    site.run("peer", "lan")
    names = ("web", "peer")
    macs = {name: site.attached(name, "lan")[2] for name in names}
    site.docker("create", "--name", "idle", "--network", "lan", *SLEEP)
    wait_until(lambda: names_known(site), 10)
    forget_leases(kea)
    wait_for_new(site, *names)
    address = assert_right(site, kea, "web", macs["web"])
    assert_right(site, kea, "peer", macs["peer"])
    for name in ("web", "shop"):
        shown = site.in_container("peer", "ping", "-c1", "-W3", name)
        assert f"({address})" in shown
    log.info("reconnected: %s", re.findall("reconnected.*", site.service.log))
    for endpoint in site.service.facts("status")["endpoints"]:
        assert endpoint["lease"]["told"] is None
    assert site.service.facts("status")["troubles"] == []
    site.docker("rm", "idle")
    site.docker("restart", "-t", "0", "web")
    assert assert_right(site, kea, "web", macs["web"]) == address
    assert "shop" in site.inspect(
        "web", "{{json .NetworkSettings.Networks.lan.Aliases}}"
    )


def test_container_keeps_the_identity_of_the_user_s_choice(site, kea):
    """And a container that shares its sandbox has the new address too."""
    without_ipam(site)
    words = ("--network", "name=lan,driver-opt=identity=shop")
    site.docker("run", "-d", "--name", "db", *words, *SLEEP)
    site.docker("run", "-d", "--name", "beside", "--network", "container:db", *SLEEP)
    mac = site.attached("db", "lan")[2]
    wait_until(lambda: names_known(site), 10)
    forget_leases(kea)
    wait_for_new(site, "db")
    address = assert_right(site, kea, "db", mac)
    assert f" {address}/24" in site.in_container("beside", "ip", "-4", "-o", "addr")
    site.docker("restart", "-t", "0", "db")
    assert assert_right(site, kea, "db", mac) == address


def test_container_keeps_the_mac_of_the_user_s_choice(site, kea):
    """Engines from 25 on forget it when a running container is connected."""
    without_ipam(site)
    words = ("--network", "lan", "--mac-address", MAC)
    site.docker("run", "-d", "--name", "web", *words, *SLEEP)
    before = site.attached("web", "lan")[0]
    wait_until(lambda: names_known(site), 10)
    seen = len(site.service.log)
    forget_leases(kea)
    if site.host.engine.startswith("20."):
        wait_for_new(site, "web")
    else:
        wait_until(lambda: LEFT in site.service.log[seen:], 3 * LEASE_SECONDS)
        assert site.attached("web", "lan")[0] == before
        shown = site.in_container("web", "ip", "-4", "-o", "addr")
        assert f" {of(kea, MAC)}/24" in shown
        site.docker("restart", "-t", "0", "web")
    assert_right(site, kea, "web", MAC)
    site.docker("restart", "-t", "0", "web")
    assert_right(site, kea, "web", MAC)


def test_container_with_an_address_of_the_user_s_choice_is_not_reconnected(newest, kea):
    create(newest, "--subnet", "10.77.0.0/24", "--ip-range", "10.77.0.208/28")
    newest.run("web", "lan", "--ip", "10.77.0.120")
    seen = len(newest.service.log)
    forget_leases(kea)
    wait_until(lambda: LEFT in newest.service.log[seen:], 3 * LEASE_SECONDS)
    assert newest.attached("web", "lan")[0] == "10.77.0.120"
    assert "Docker believes 10.77.0.120/24" in newest.service.run("status").stdout
    newest.ping_from("web", GATEWAY4)


def notes_of(site):
    folder = Path(site.service.env["UNDERLAY_STATE_DIR"])
    return folder / "underlay.db.reconnects"


def test_container_is_connected_after_a_death_of_the_service_meanwhile(site, kea):
    create(site)
    site.run("web", "lan", "--network-alias", "shop")
    mac = site.attached("web", "lan")[2]
    wait_until(lambda: names_known(site), 10)
    notes, until = notes_of(site), time.monotonic() + 3 * LEASE_SECONDS
    forget_leases(kea)
    while not notes.exists() and time.monotonic() < until:
        time.sleep(0.001)
    site.service.kill()
    assert notes.exists(), site.service.log[-3000:]
    site.service.start()
    wait_for_new(site, "web")
    assert_right(site, kea, "web", mac)
    wait_until(lambda: not notes.exists(), 10)
    assert "shop" in site.inspect("web", ALIASES)


def test_container_that_docker_does_not_connect_is_a_failure_until_it_does(newest, kea):
    """As a service leaves one that dies after Docker has disconnected it."""
    site = newest
    create(site, "-o", "lease_timeout=2")
    site.run("web", "lan")
    mac = site.attached("web", "lan")[2]
    wait_until(lambda: names_known(site), 10)
    (endpoint,) = site.service.facts("status")["endpoints"]
    note = {
        "container": site.inspect("web", "{{.Id}}"),
        "network": site.docker(
            "network", "inspect", "-f", "{{.Id}}", "lan"
        ).stdout.strip(),
        "endpoint": endpoint["id"],
        "kind": "name",
        "value": "web",
        "name": "web",
        "address": "10.77.0.150/24",
        "settings": {"Aliases": ["shop"]},
    }
    kea.stop()
    site.docker("network", "disconnect", "lan", "web")
    site.service.stop()
    notes_of(site).write_text(json.dumps([note]))
    site.service.start()

    def troubles():
        found = site.service.facts("status")["troubles"]
        return [t["error"] for t in found if "E-171" in t["error"]]

    wait_until(troubles, 20, lambda: site.service.log[-3000:])
    assert troubles()[0].startswith(
        "E-171 container web is not connected to network lan"
    )
    kea.start()
    site.service.stop()
    site.service.start()  # which tries at once
    wait_until(lambda: not troubles(), 20, lambda: site.service.log[-3000:])
    assert not notes_of(site).exists()
    assert_right(site, kea, "web", mac)
    assert "shop" in site.inspect("web", ALIASES)


def test_note_of_a_container_that_is_gone_or_connected_is_dropped(newest, kea):
    site = newest
    create(site)
    site.run("web", "lan")
    before = site.attached("web", "lan")
    network = site.docker("network", "inspect", "-f", "{{.Id}}", "lan").stdout.strip()
    facts = {
        "endpoint": "e",
        "kind": "name",
        "value": "",
        "name": "",
        "address": "",
        "settings": {},
    }
    ids = site.inspect("web", "{{.Id}}"), "0" * 64
    notes = [{"container": one, "network": network, **facts} for one in ids]
    site.service.stop()
    notes_of(site).write_text(json.dumps(notes))
    site.service.start()
    wait_until(lambda: not notes_of(site).exists(), 10)
    assert site.attached("web", "lan") == before
    assert kea.leases()


@pytest.mark.long
def test_container_is_reconnected_once_in_a_minute(newest, kea):
    """A server may change its mind again and again; the container has each address."""
    site = newest
    create(site)
    site.run("web", "lan")
    mac = site.attached("web", "lan")[2]
    wait_until(lambda: names_known(site), 10)
    forget_leases(kea)
    wait_for_new(site, "web")
    second, began = site.attached("web", "lan")[0], time.monotonic()
    forget_leases(kea, replace(OTHER, first="10.77.0.170", last="10.77.0.180"))

    def shown():
        return site.in_container("web", "ip", "-4", "-o", "addr")

    wait_until(lambda: " 10.77.0.17" in shown(), 3 * LEASE_SECONDS, shown)
    time.sleep(5)
    assert site.attached("web", "lan")[0] == second
    wait_until(lambda: site.attached("web", "lan")[0] != second, 75)
    assert time.monotonic() - began > 50
    assert_right(site, kea, "web", mac)
