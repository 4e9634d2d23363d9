"""`underlay doctor` and the status on hosts with a real engine and real containers."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.docker.conftest import GATEWAY4, Site
from tests.lab.host import Host
from tests.lab.service import Service, wait_until
from tests.lab.systemd import SystemdHost, Unit

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


def health(site):
    facts = site.service.status()
    return {e["health"] for e in (*facts["networks"], *facts["endpoints"])}


def nft(site, *words):
    site.host.outer_run("nft", *words)


def test_routed_container_behind_a_native_chain_with_a_drop_is_not_reported_ok(routed):
    """And the commands that the doctor prints make it reachable again."""
    routed.ping_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"ok"}, 10, lambda: health(routed))
    assert facts(routed)["firewall"]["level"] == "ok"
    nft(routed, "add table inet site")
    nft(routed, "add chain inet site fw { type filter hook forward priority 5;"
        " policy drop; }")  # fmt: skip
    assert not routed.reached_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"failing"}, 10, lambda: health(routed))
    (trouble,) = routed.service.status()["troubles"]
    assert trouble["error"].startswith("E-405 containers of network far are cut off")
    check = facts(routed)["firewall"]
    assert check["level"] == "failure"
    routed.host.outer_run("sh", "-ec", check["findings"][0]["remedy"])
    routed.ping_from_lan("10.78.0.5")
    wait_until(lambda: health(routed) == {"ok"}, 10, lambda: health(routed))
    assert facts(routed)["firewall"]["level"] == "ok"


def facts(site, *words):
    done = site.service.run("doctor", "--json", *words, check=False)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 1)
    return {check["id"]: check for check in told["checks"]}


def levels(found, *names):
    return {name: found[name]["level"] for name in names}


def test_healthy_host_with_containers_passes(newest):
    newest.network("lan")
    newest.run("web", "lan")
    wait_until(lambda: newest.live()[1], 5)
    found = facts(newest)
    failed = {n: c["findings"] for n, c in found.items() if c["level"] == "failure"}
    assert failed == {}
    names = (
        "service", "records", "drift", "sockets", "engine", "docker-list", "uplink",
        "same-macs", "pools", "parents", "host-access", "firewall", "disk",
    )  # fmt: skip
    assert set(levels(found, *names).values()) == {"ok"}


def test_port_locked_to_one_mac_is_told_with_the_modes_that_work(newest):
    """And a container there really reaches nothing, while a routed one does."""
    newest.network("lan", "--ip-range", "10.77.0.128/25")
    port, host = f"p-{newest.host.name}", newest.host
    mac = host.run("cat", "/sys/class/net/eth0/address").stdout.strip()
    bridge = ("bridge", "link", "set", "dev", port)
    newest.lan.run("bridge", "fdb", "replace", mac, "dev", port, "master", "static")
    newest.lan.run(*bridge, "learning", "off", "locked", "on")
    # A container has its MAC by its name: the switch may know it from before.
    flush = ("ip", "link", "set", "dev", port, "type", "bridge_slave", "fdb_flush")
    newest.lan.run(*flush)
    try:
        newest.run("web", "lan")
        ping = ("ping", "-c1", "-W1", GATEWAY4)
        assert host.exec("web", *ping, check=False).returncode != 0
        (finding,) = facts(newest)["uplink"]["findings"]
        assert (finding["level"], finding["where"]) == ("failure", "eth0")
        assert "mode=macvlan and mode=bridge: no: networks lan" in finding["why"]
        assert "mode=ipvlan (ipvlan_mode=l2) and mode=routed: yes" in finding["remedy"]
    finally:
        newest.lan.run(*bridge, "learning", "on", "locked", "off")
        newest.lan.run("bridge", "fdb", "del", mac, "dev", port, "master")
    assert facts(newest)["uplink"]["level"] == "ok"


def test_container_that_publishes_ports_in_vain_is_named(newest):
    newest.network("lan")
    newest.run("web", "lan", "-p", "80:80")
    assert facts(newest)["published-ports"]["level"] == "ok"
    newest.run("db", "lan", "-p", "127.0.0.1:5432:5432")
    (finding,) = facts(newest)["published-ports"]["findings"]
    assert (finding["level"], finding["where"]) == ("warning", "container db")
    assert "5432/tcp" in finding["what"]


def test_service_that_was_killed_is_told_with_its_stale_socket(newest):
    newest.network("lan")
    newest.service.kill()
    try:
        found = facts(newest)
        assert levels(found, "service", "sockets") == {
            "service": "failure",
            "sockets": "failure",
        }
        facts(newest, "--fix")
        assert facts(newest)["sockets"]["level"] == "ok"
    finally:
        newest.service.start()
    assert set(levels(facts(newest), "service", "sockets").values()) == {"ok"}


def test_host_without_dockerd_is_checked_all_the_same(newest):
    newest.network("lan")
    newest.host.stop_dockerd()
    try:
        found = facts(newest)
        assert levels(found, "engine", "docker-list", "service", "uplink") == {
            "engine": "warning",
            "docker-list": "skipped",
            "service": "ok",
            "uplink": "ok",
        }
    finally:
        newest.host.start_dockerd()


def test_new_network_with_a_finding_is_noticed_in_log_and_status(lan):
    """A second after `docker network create`: no call of Docker waits for it."""
    with Host(lan, "budget", "28.5", 11) as host:
        site = Site(host, Service(host, mac_budget=1))
        site.service.start()
        host.start_dockerd()
        host.load_image()
        site.network("lan")
        site.run("web", "lan")

        def carries():
            found = site.service.status()["notices"]
            return [n["text"] for n in found if "it carries 3 MACs" in n["text"]]

        # Of the host, of its access to the containers, and of this one.
        wait_until(carries, 20, lambda: site.service.status()["notices"])
        (notice,) = site.service.status()["notices"]
        assert (notice["check"], notice["where"]) == ("mac-budget", "eth0")
        assert "mac_budget is 1" in notice["text"]
        assert notice["text"] in site.service.log
        assert f"notice (mac-budget): eth0: {notice['text']}" in (
            site.service.run("status").stdout
        )


@pytest.mark.skipif(
    not shutil.which("systemctl"), reason="the command runs this machine's systemctl"
)
def test_unit_that_does_not_start_before_docker_fails(lan):
    with SystemdHost(lan, "order", 12) as host:
        site = Site(host, Unit(host))
        # The command runs in a chroot of this host's, and asks its systemd.
        site.service.env["SYSTEMD_IGNORE_CHROOT"] = "1"
        check = facts(site)["unit-order"]
        assert check["findings"][0]["what"] == "systemd has no such unit"
        site.service.start()
        assert facts(site)["unit-order"]["level"] == "ok"
        unit = "/etc/systemd/system/underlay.service"
        host.run("sed", "-i", "s/^Before=.*/After=docker.service/", unit)
        host.run("systemctl", "daemon-reload")
        check = facts(site)["unit-order"]
        assert check["level"] == "failure"
        assert check["findings"][0]["what"] == "it is not ordered before docker.service"
        host.run("sed", "-i", "s/^After=.*/Before=docker.service/", unit)
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "disable", "underlay.service")
        (finding,) = facts(site)["unit-order"]["findings"]
        assert (finding["level"], finding["what"]) == ("warning", "it is not enabled")


NETWORKD = "/etc/systemd/network"
MANAGED = "[Match]\nName=ul-*\n[Network]\nLinkLocalAddressing=no\n"
UNMANAGED = "[Match]\nName=ul-*\n[Link]\nUnmanaged=yes\n"


def test_networkd_that_manages_the_driver_s_devices_fails(lan):
    with SystemdHost(lan, "netd", 13) as host:
        host.load_image()
        site = Site(host, Unit(host))
        site.service.start()
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
            "-o", "mode=routed", "--subnet", ROUTED[0], "--gateway", ROUTED[1], "far",
        )  # fmt: skip
        site.run("web", "far")
        assert facts(site)["network-programs"]["level"] == "ok"
        write = ("sh", "-c", f"mkdir -p {NETWORKD}; cat > {NETWORKD}/$0.network")
        host.run(*write, "50-all", input=MANAGED)
        # It waits for udev, unless /sys is as in a container.
        host.run("mount", "-o", "remount,bind,ro", "/sys")
        host.run("systemd-sysusers")
        host.run("systemctl", "start", "systemd-networkd.service")

        def level():
            return facts(site)["network-programs"]["level"]

        wait_until(lambda: level() == "failure", 10, level)
        host.run(*write, "05-underlay", input=UNMANAGED)
        host.run("systemctl", "restart", "systemd-networkd.service")
        wait_until(lambda: level() == "ok", 10, level)
