"""What breaks without each of the unit's capabilities, as docs/security.md has it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, refused
from tests.lab.service import wait_until

ROOT = Path(__file__).parents[2]
DROP_IN = "/etc/systemd/system/underlay.service.d/90-test.conf"
PERIOD = 12
UNIT = (ROOT / "systemd/underlay.service").read_text()
[GIVEN] = re.findall(r"^CapabilityBoundingSet=(.+)$", UNIT, re.MULTILINE)
CAPABILITIES = GIVEN.split()


@pytest.fixture(scope="module")
def host_with_lan(operated):
    """A host with the service installed, whose passes are far apart, and a network."""
    operated.host.run("mkdir", "-p", "/etc/underlay")
    settings = f"period = {PERIOD}\ngrace = 2\n"
    operated.host.run("sh", "-c", "cat >/etc/underlay/underlay.toml", input=settings)
    operated.service.run("install")
    operated.network("lan")
    yield operated
    operated.clear()
    operated.assert_nothing_left()


@pytest.fixture
def site(host_with_lan):
    yield host_with_lan
    host_with_lan.clear_containers()
    limit(host_with_lan, "")


def limit(site, text):
    """Restart the service with or without a line about its capabilities."""
    site.host.run("sh", "-c", f"cat >{DROP_IN}", input=f"[Service]\n{text}\n")
    site.service.systemctl("daemon-reload")
    site.service.systemctl("restart", "underlay.service")


def without(site, capability):
    limit(site, f"CapabilityBoundingSet=~{capability}")


def settle(site):
    """Start a container, and wait until nothing is left to do about it."""
    site.run("c1", "lan")
    site.ping_from("c1", GATEWAY4)
    time.sleep(4)


def repaired_after(site, most):
    """Delete the container's route; return the seconds until it is back, or `most`."""
    sandbox = site.inspect("c1", "{{.NetworkSettings.SandboxKey}}")
    inside = ("nsenter", f"--net={sandbox}", "ip", "route")
    site.host.run(*inside, "del", "default")
    began = time.monotonic()
    while time.monotonic() - began < most:
        if "default" in site.host.run(*inside).stdout:
            return time.monotonic() - began
        time.sleep(0.1)
    return most


def announced(site):
    [sent] = re.findall(
        r"^underlay_announcements_total (\S+)$", site.service.metrics(), re.MULTILINE
    )
    return float(sent)


def namespaces(site, *lacking):
    """Return how many other namespaces a process with the unit's rights can find."""
    look = "from underlay.kernel.namespaces import others; print(len([*others()]))"
    given = (c.removeprefix("CAP_").lower() for c in CAPABILITIES if c not in lacking)
    rights = ",".join(["-all", *(f"+{name}" for name in given)])
    python = ("/opt/underlay/bin/python", "-c", look)
    return int(site.host.run("setpriv", "--bounding-set", rights, *python).stdout)


def test_table_of_the_security_page_has_the_unit_s_capabilities():
    page = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"^\| `(CAP_\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(CAPABILITIES)
    explained = re.findall(r"^# (CAP_\w+): ", UNIT, re.MULTILINE)
    assert sorted(explained) == sorted(CAPABILITIES)


def test_confined_service_repairs_at_once_announces_and_finds_namespaces(site):
    settle(site)
    assert repaired_after(site, PERIOD) < 2
    assert announced(site) > 0
    # The container's namespace is found by its file and by its process.
    assert namespaces(site) > 0


def test_no_container_starts_without_cap_net_admin(site):
    without(site, "CAP_NET_ADMIN")
    starting = ("run", "--rm", "--network", "lan", "bb", "true")
    said = refused(site.docker(*starting, check=False))
    assert re.search(r"E-400 the kernel refused .*\(EPERM\)", said)
    assert site.service.run("status").stdout.count("lan") > 1


def test_nothing_inside_containers_is_repaired_without_cap_sys_admin(site):
    without(site, "CAP_SYS_ADMIN")
    settle(site)
    most = 1.5 * PERIOD
    assert repaired_after(site, most) == most


def test_repair_inside_containers_waits_for_the_period_without_cap_net_broadcast(site):
    without(site, "CAP_NET_BROADCAST")
    settle(site)
    assert 2 < repaired_after(site, 2 * PERIOD) < 2 * PERIOD


def test_no_address_is_announced_without_cap_net_raw(site):
    without(site, "CAP_NET_RAW")
    settle(site)
    assert announced(site) == 0


def test_namespaces_that_no_file_pins_are_not_found_without_cap_sys_ptrace(site):
    start = "unshare --net setpriv --reuid 1000 --clear-groups sleep 100"
    command = f"{start} >/dev/null 2>&1 </dev/null & echo $!"
    pid = site.host.run("sh", "-c", command).stdout.strip()
    try:
        wait_until(lambda: namespaces(site) == 1, 10, lambda: namespaces(site))
        assert namespaces(site, "CAP_SYS_PTRACE") == 0
    finally:
        site.host.run("kill", pid)
