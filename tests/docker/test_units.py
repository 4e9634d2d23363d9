"""The installed units in operation: faults, kills, hangs, restarts and reboots."""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.conftest import GATEWAY4, refused
from tests.lab.pings import Pings
from tests.lab.service import wait_until

STATE = "/var/lib/underlay"
DB = f"{STATE}/underlay.db"
DROP_IN = "/etc/systemd/system/underlay.service.d/90-test.conf"
PING_SECONDS = 1.0
ALWAYS = ("--restart", "always")


@pytest.fixture
def site(operated):
    """The units installed and running, no container and no network on the host."""
    operated.service.start()
    yield operated
    operated.host.run("rm", "-f", DROP_IN)
    operated.service.start()
    operated.clear()
    operated.assert_nothing_left()


def run(site, command):
    return site.host.run("sh", "-ec", command).stdout


def drop_in(site, *lines):
    """Add lines to the unit, and start the service with them."""
    text = "\n".join(lines)
    site.host.run("sh", "-c", f"cat >{DROP_IN}", input=f"[Service]\n{text}\n")
    site.service.systemctl("daemon-reload")
    site.service.systemctl("restart", "underlay.service")


def shown(site, what, unit="underlay.service"):
    return site.service.systemctl("show", "--value", "-p", what, unit).strip()


def is_well(site):
    return (site.service.healthz() or {"ok": False})["ok"]


def in_parallel(jobs, at_once=6):
    with ThreadPoolExecutor(at_once) as clients:
        return [one.result() for one in [clients.submit(job) for job in jobs]]


VERSION = "import sqlite3; sqlite3.connect('{}').execute('PRAGMA user_version = {}')"
# Each: what breaks the records of a stopped service, the id, and what mends it.
FAULTS = {
    "damaged": (
        f"cp {DB} /root/good; head -c 9000 /dev/urandom >{DB}",
        "E-501",
        f"cp /root/good {DB}",
    ),
    "too new": (
        f'cp {DB} /root/good; python3 -c "{VERSION.format(DB, 99)}"',
        "E-502",
        f"cp /root/good {DB}",
    ),
    "of another user": (f"chown nobody {DB}", "E-508", f"chown root {DB}"),
    "full disk": (
        f"cp -a {STATE} /root/good; mount -t tmpfs -o size=1M disk {STATE};"
        f" cp -a /root/good/. {STATE}; cat /dev/zero >{STATE}/underlay.db.zero || :",
        "E-504",
        f"rm {STATE}/underlay.db.zero",
    ),
    "wrong settings": (
        "echo 'perod = 1' >>/etc/underlay/underlay.toml",
        "E-505",
        "sed -i /perod/d /etc/underlay/underlay.toml",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_docker_run_shows_why_the_service_cannot_work(site, fault):
    breaks, identity, mends = FAULTS[fault]
    site.network("lan")
    site.service.systemctl("stop", "underlay.service")
    run(site, f"rm -rf /root/good; rm -f {DB}-*; {breaks}")
    site.service.systemctl("start", "underlay.service")
    began = time.monotonic()
    with Pings(site.host) as pings:
        starting = ("run", "--rm", "--network", "lan", "bb", "true")
        said = refused(site.docker(*starting, check=False))
        assert time.monotonic() - began < 5
        assert f"IpamDriver.RequestAddress: {identity} " in said
        assert "\n" not in said.split("Run 'docker")[0].strip()
        health = site.service.healthz()
        assert not health["ok"]
        assert health["error"].startswith(identity)
        assert shown(site, "StatusText").startswith(identity)
        # Docker restarts meanwhile, and learns what it must know of the driver.
        site.service.systemctl("restart", "docker.service")
        assert identity in refused(site.docker(*starting, check=False))
        run(site, mends)
        wait_until(lambda: is_well(site), 20)
    site.docker(*starting)
    assert pings.worst < PING_SECONDS + 2  # it waits while dockerd restarts
    if fault == "full disk":
        site.service.systemctl("stop", "underlay.service")
        run(site, f"rm -rf /root/good; cp -a {STATE} /root/good; umount {STATE}")
        run(site, f"cp -a /root/good/. {STATE}")
        site.service.systemctl("start", "underlay.service")
    run(site, "rm -rf /root/good")
    site.docker("network", "rm", "lan")


def test_calls_of_docker_wait_for_a_service_that_is_stopped(site):
    site.network("lan")
    inode = run(site, "stat -c %i /run/docker/plugins/underlay.sock")
    site.service.systemctl("stop", "underlay.service")
    assert run(site, "stat -c %i /run/docker/plugins/underlay.sock") == inode
    with Pings(site.host) as pings:
        site.run("c1", "lan")  # which starts it
        pids = shown(site, "MainPID"), *run(site, "pgrep -f 'underlay serve'").split()
        run(site, f"kill -STOP {' '.join(pids)}")
        with ThreadPoolExecutor() as clients:
            started = [
                clients.submit(site.run, name, "lan") for name in ("c2", "c3", "c4")
            ]
            time.sleep(6)
            assert not any(one.done() for one in started)
            run(site, f"kill -CONT {' '.join(pids)}")
            assert [one.result() for one in started] == [None] * 3
    for name in ("c1", "c2", "c3", "c4"):
        site.ping_from(name, GATEWAY4)
    assert pings.count > 50
    assert pings.worst < PING_SECONDS
    site.clear()


@pytest.mark.timeout(600)
def test_kills_during_parallel_starts_and_stops_leave_every_container_connected(site):
    dice = random.Random(16)
    site.network("lan", "--ip-range", "10.77.0.128/25")
    names = [f"c{n}" for n in range(12)]
    in_parallel(lambda n=n: site.run(n, "lan", *ALWAYS) for n in names)
    done = []

    def restart(name):
        for _ in range(3):
            site.docker("restart", "-t0", name, check=False)
        done.append(name)

    with Pings(site.host) as pings, ThreadPoolExecutor(6) as clients:
        restarted = [clients.submit(restart, name) for name in names]
        kills = 0
        while len(done) < len(names):
            time.sleep(dice.uniform(0.3, 2.0))
            # The master, the worker, or both at once.
            all_pids = run(site, "pgrep -f 'underlay serve' || :").split()
            chosen = dice.sample(all_pids, dice.randint(1, len(all_pids) or 1))
            run(site, f"kill -KILL {' '.join(chosen)} 2>/dev/null || :")
            kills += 1
        assert [one.result() for one in restarted] == [None] * len(names)
    assert kills >= 3
    assert pings.worst < PING_SECONDS
    wait_until(lambda: is_well(site), 20)
    # A start that was cut off is Docker's to try again.
    in_parallel(lambda n=n: site.docker("start", n) for n in names)
    for name in names:
        site.ping_from(name, GATEWAY4)
    wait_until(lambda: site.live()[2] == len(names), 30, site.live)


def test_all_containers_are_back_after_a_reboot(site):
    site.network("lan", "--ip-range", "10.77.0.128/25")
    fixed = {f"c{n}": f"10.77.0.{200 + n}" for n in range(20)}
    in_parallel(
        lambda n=n, a=a: site.run(n, "lan", "--ip", a, *ALWAYS)
        for n, a in fixed.items()
    )
    site.host.power_cut()
    site.host.start()
    with Pings(site.host) as pings:
        names = site.docker("ps", "--format", "{{.Names}}").stdout.split()
        assert set(names) == set(fixed)
        for name, address in fixed.items():
            assert site.attached(name, "lan")[0] == address
            assert site.reached_from_lan(address), name
    assert pings.worst < PING_SECONDS
    assert not re.search("plugin.*retrying in", site.host.dockerd_log())
    wait_until(lambda: site.live()[2] == len(fixed), 30, site.live)
    began = time.monotonic()
    site.service.systemctl("restart", "docker.service")
    with Pings(site.host) as pings:
        names = site.docker("ps", "--format", "{{.Names}}").stdout.split()
        assert set(names) == set(fixed)
    assert time.monotonic() - began < 60
    assert pings.worst < PING_SECONDS
    for address in fixed.values():
        assert site.reached_from_lan(address), address


def test_containers_of_a_boot_wait_for_a_service_that_appears_late(site):
    site.network("lan", "--ip-range", "10.77.0.128/25")
    names = [f"c{n}" for n in range(4)]
    in_parallel(lambda n=n: site.run(n, "lan", *ALWAYS) for n in names)
    # It cannot start eight times, which takes about five seconds.
    tries = "echo >>/run/tries; [ $(wc -l </run/tries) -gt 8 ]"
    late = f"[Service]\nExecStartPre=/bin/sh -c '{tries}'\n"
    site.host.run("sh", "-c", f"cat >{DROP_IN}", input=late)
    site.host.power_cut()
    site.host.start()
    with Pings(site.host) as pings:
        assert int(run(site, "wc -l </run/tries")) == 9
        running = site.docker("ps", "--format", "{{.Names}}").stdout.split()
        assert set(running) == set(names)
        for name in names:
            site.ping_from(name, GATEWAY4)
    assert pings.worst < PING_SECONDS
    wait_until(lambda: site.live()[2] == len(names), 30, site.live)


def failed_starts(site):
    told = json.loads(site.service.run("doctor", "--json", check=False).stdout)
    (check,) = [c for c in told["checks"] if c["id"] == "failed-starts"]
    return check["findings"]


def test_container_that_could_not_start_without_the_service_is_found_afterwards(site):
    """Docker does not start it again, whatever its restart policy."""
    site.network("lan")
    for name in ("web", "other"):
        site.run(name, "lan", *ALWAYS)
    site.docker("stop", "-t0", "web")
    site.service.systemctl("stop", "underlay.socket")
    refused(site.docker("start", "web", check=False))
    site.service.systemctl("start", "underlay.socket", "underlay.service")
    wait_until(lambda: is_well(site), 20)
    (finding,) = failed_starts(site)
    assert finding["where"] == "container web"
    assert "underlay.sock" in finding["what"]
    run(site, finding["remedy"].rpartition("then ")[2])
    site.ping_from("web", GATEWAY4)
    assert failed_starts(site) == []


# In place of a defect: as long as /run/hang is there, a pass does not go on.
HANG = """
import os, time
from underlay.reconcile.reconciler import Reconciler
go_on = Reconciler.run_pass
def hang(*words):
    while os.path.exists("/run/hang"):
        time.sleep(0.05)
    return go_on(*words)
Reconciler.run_pass = hang
"""


def test_watchdog_restarts_a_service_whose_pass_hangs_but_none_that_waits(site):
    site.network("lan")
    run(site, "mkdir -p /run/defect")
    site.host.run("sh", "-c", "cat >/run/defect/sitecustomize.py", input=HANG)
    seconds = 4
    drop_in(
        site, f"WatchdogSec={seconds}", "Environment=PYTHONPATH=/run/defect",
        "Environment=UNDERLAY_PERIOD=3600",
    )  # fmt: skip
    before = shown(site, "MainPID")
    time.sleep(3 * seconds)
    assert shown(site, "MainPID") == before
    run(site, "touch /run/hang")
    site.service.systemctl("reload", "underlay.service")  # a pass begins
    with Pings(site.host) as pings:
        began = time.monotonic()
        wait_until(lambda: shown(site, "MainPID") not in (before, "0"), 20)
        assert time.monotonic() - began < 2 * seconds + 2
        run(site, "rm /run/hang")
        wait_until(lambda: is_well(site), 20)
        site.run("c1", "lan")
    assert pings.worst < PING_SECONDS
    assert "watchdog" in site.host.dockerd_log().lower()
    site.ping_from("c1", GATEWAY4)


def test_sockets_go_when_the_service_cannot_even_start(site):
    site.network("lan")
    site.host.run("sh", "-c", f"cat >{DROP_IN}", input=(
        "[Service]\nExecStart=\nExecStart=/opt/nowhere/underlay serve\n"
    ))  # fmt: skip
    run(site, f"echo '[Unit]\nStartLimitBurst=5' >>{DROP_IN}")  # 30 take longer
    site.service.systemctl("daemon-reload")
    site.host.run("systemctl", "restart", "underlay.service", check=False)
    there = ("test", "-e", "/run/docker/plugins/underlay.sock")
    with Pings(site.host) as pings:
        wait_until(lambda: site.host.run(*there, check=False).returncode, 60)
        began = time.monotonic()
        starting = ("run", "--rm", "--network", "lan", "bb", "true")
        said = refused(site.docker(*starting, check=False))
    assert time.monotonic() - began < 40
    assert "underlay" in said
    assert pings.worst < PING_SECONDS
    run(site, f"rm {DROP_IN}; systemctl daemon-reload; systemctl reset-failed")
    site.service.run("install")
    site.run("c1", "lan")


def test_devices_of_containers_are_repaired_by_the_confined_service(site):
    """It sees namespaces that were made after its own mounts, and enters them."""
    site.network("lan")
    site.run("c1", "lan")
    before = site.attached("c1", "lan")
    sandbox = site.inspect("c1", "{{.NetworkSettings.SandboxKey}}")
    learned = ("history", "--repairs")
    time.sleep(2)
    run(site, f"nsenter --net={sandbox} ip link del eth0")
    wait_until(lambda: "link add" in site.service.run(*learned).stdout, 10)
    # Its addresses and routes follow.
    ping = ("ping", "-c1", "-W1", GATEWAY4)
    wait_until(lambda: site.host.exec("c1", *ping, check=False).returncode == 0, 10)
    assert site.attached("c1", "lan") == before
    run(site, "systemctl is-active systemd-journald")
    master = shown(site, "MainPID")
    mounted = run(site, f"nsenter -t {master} -m cat /proc/self/mountinfo")
    assert sandbox.removeprefix("/var") in mounted
    site.docker("rm", "-f", "c1")
    mounted = run(site, f"nsenter -t {master} -m cat /proc/self/mountinfo")
    assert sandbox.removeprefix("/var") not in mounted


# It would give each of our devices an address, were it not told to leave them alone.
GREEDY = "[Match]\nName=ul-*\n\n[Network]\nAddress=192.0.2.77/32\n"
NETWORKD = "/etc/systemd/system/systemd-networkd.service.d"


def test_networkd_leaves_our_devices_alone_because_of_the_installed_file(site):
    site.network("lan")
    site.run("c1", "lan")
    [shim] = site.our_links()
    # /sys as in a container: no udev runs here.
    run(site, f"""
        mkdir -p {NETWORKD}
        printf '[Service]\nReadOnlyPaths=/sys\n' >{NETWORKD}/sys.conf
        printf '{GREEDY}' >/etc/systemd/network/90-greedy.network
        systemctl daemon-reload
        systemctl restart systemd-networkd
    """)  # fmt: skip
    addresses = f"ip -4 -o addr show dev {shim}"
    try:
        time.sleep(3)
        assert run(site, addresses) == ""
        site.ping_from("c1", GATEWAY4)
        run(site, "rm /etc/systemd/network/05-underlay.network")
        run(site, "systemctl restart systemd-networkd")
        wait_until(lambda: "192.0.2.77" in run(site, addresses), 15)
    finally:
        run(site, "systemctl stop systemd-networkd.socket systemd-networkd")
        run(site, f"rm -r /etc/systemd/network/90-greedy.network {NETWORKD}")


# Of the rest of the host, it does not take care.
NETWORK_MANAGER = "/etc/systemd/system/NetworkManager.service.d"
KEPT_OFF = "[device-lab]\nmatch-device=interface-name:eth0\nmanaged=0\n"


def test_network_manager_leaves_our_devices_alone_because_of_the_installed_file(site):
    site.network("lan")
    site.run("c1", "lan")
    [shim] = site.our_links()
    # It takes over what has an address, were it not told to leave that alone.
    run(site, f"""
        ip addr add 192.0.2.77/32 dev {shim}
        mkdir -p {NETWORK_MANAGER}
        printf '[Service]\nReadOnlyPaths=/sys\n' >{NETWORK_MANAGER}/sys.conf
        printf '{KEPT_OFF}' >/etc/NetworkManager/conf.d/10-lab.conf
        systemctl daemon-reload
        systemctl start dbus.socket
        systemctl restart NetworkManager
    """)  # fmt: skip
    state = f"nmcli -g GENERAL.STATE device show {shim}"
    try:
        wait_until(lambda: "unmanaged" in run(site, state), 15)
        run(site, "systemctl restart NetworkManager")
        wait_until(lambda: "unmanaged" in run(site, state), 15)
        assert site.our_links() == [shim]
        site.ping_from("c1", GATEWAY4)
        run(site, "rm /etc/NetworkManager/conf.d/90-underlay.conf")
        run(site, "systemctl restart NetworkManager")
        wait_until(lambda: "connected" in run(site, state), 15)
    finally:
        run(site, "systemctl stop NetworkManager dbus.socket dbus.service")
        run(site, f"rm -r /etc/NetworkManager/conf.d/10-lab.conf {NETWORK_MANAGER}")


# claymore666/docker-net-dhcp#103
def test_udev_keeps_name_and_mac_of_our_devices_because_of_the_installed_file(site):
    site.network("lan")
    [shim] = site.our_links()
    file = "/etc/systemd/network/05-underlay.link"
    asked = f"udevadm test-builtin net_setup_link /sys/class/net/{shim} 2>&1"
    assert f"ID_NET_LINK_FILE={file}" in run(site, asked)
    run(site, f"rm {file}")
    assert file not in run(site, asked)
