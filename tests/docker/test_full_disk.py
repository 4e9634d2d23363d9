"""Disconnects while the disk is full: a disconnected container stays so."""

from __future__ import annotations

import sys

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, LAN4, Site, refused
from tests.lab.host import Host
from tests.lab.service import GRACE_SECONDS, PERIOD_SECONDS, Service, wait_until

RANGE = ("--ip-range", "10.77.0.64/27")
SEVERAL_PASSES = str(4 * PERIOD_SECONDS)
# The log that SQLite writes to first has no room left in it, either.
FILL = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/underlay.db", timeout=10)
assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
with open(sys.argv[1] + "/filler", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
"""
NETWORKS = {
    "macvlan": ("parent=eth0",),
    "ipvlan": ("parent=eth0", "mode=ipvlan"),
    "routed": ("mode=routed", "proxy=eth0"),
    "bridge": ("bridge=br0",),
}


class SmallDisk(Site):
    """A site whose records are on a disk of a megabyte."""

    def __init__(self, host, service, disk):
        super().__init__(host, service)
        self.disk = disk

    def fill(self):
        self.host.outer_run(sys.executable, "-c", FILL, str(self.disk))

    def make_room(self):
        self.host.outer_run("rm", "-f", str(self.disk / "filler"))

    def create(self, mode, *, ipam):
        options = [word for o in NETWORKS[mode] for word in ("-o", o)]
        self.docker(
            "network", "create", "-d", "underlay", *(IPAM if ipam else ()), *options,
            "--subnet", "10.77.0.64/27" if mode == "routed" else LAN4,
            *(() if mode == "routed" else ("--gateway", GATEWAY4, *RANGE)), "lan",
        )  # fmt: skip

    def devices(self, container):
        return self.in_container(container, "ls", "/sys/class/net").split()

    def wait(self):
        self.host.run("sleep", SEVERAL_PASSES)

    def unwritten(self):
        return [ending.split()[0] for ending in self.service.healthz()["unwritten"]]


@pytest.fixture(scope="module")
def small(lan):
    with Host(lan, "disk", "28.5", 6) as host:
        disk = host.dir / "small"
        mount = f"mkdir {disk} && mount -t tmpfs -o size=1m none {disk}"
        host.outer_run("sh", "-ec", mount)
        host.run("sh", "-ec", "ip link add br0 type bridge && ip link set br0 up")
        service = Service(host)
        service.env["UNDERLAY_STATE_DIR"] = str(disk)
        service.start()
        host.start_dockerd()
        host.load_image()
        yield SmallDisk(host, service, disk)


@pytest.fixture
def site(small):
    yield small
    small.make_room()
    small.clear()
    small.assert_nothing_left()


# Addresses of our IPAM or Docker's own, which routed cannot do with.
CASES = [
    pytest.param("macvlan", True),
    pytest.param("macvlan", False),
    pytest.param("ipvlan", False, marks=pytest.mark.needs("ipvlan")),
    pytest.param("routed", True),
    pytest.param("bridge", False),
]


@pytest.mark.parametrize(("mode", "ipam"), CASES)
def test_disconnected_container_stays_disconnected_on_a_full_disk(site, mode, ipam):
    site.create(mode, ipam=ipam)
    site.run("c1", "lan")
    address = site.attached("c1", "lan")[0]
    assert site.devices("c1") == ["eth0", "lo"]
    site.fill()
    site.docker("network", "disconnect", "lan", "c1")
    site.wait()
    assert site.devices("c1") == ["lo"]
    expected = ["Leave", "DeleteEndpoint", *(["ReleaseAddress"] if ipam else [])]
    assert site.unwritten() == expected
    assert site.live()[1] == []
    words = ("run", "-d", "--network", "lan", "bb", "sleep", "1000")
    assert "E-504 " in refused(site.docker(*words, check=False))
    site.make_room()
    wait_until(lambda: site.service.healthz()["ok"], 20, site.service.healthz)
    # Docker's own IPAM gives the next one the same address; ours if asked.
    site.run("c2", "lan", "--ip", address)
    if mode != "bridge":  # which has nothing but containers on it
        wait_until(lambda: site.reached_from_lan(address), 10)
    site.wait()
    assert site.devices("c1") == ["lo"]
    assert len(site.live()[1]) == 1


def test_teardown_lost_with_the_service_is_found_from_docker_s_list(site):
    site.create("macvlan", ipam=False)
    site.run("c1", "lan")
    site.run("c0", "lan")
    address, kept = site.attached("c1", "lan")[0], site.attached("c0", "lan")[0]
    site.fill()
    site.docker("network", "disconnect", "lan", "c1")
    assert site.unwritten() == ["Leave", "DeleteEndpoint"]
    site.service.kill()
    site.service.start()
    site.wait()
    # Another process asks Docker as well.
    site.service.run("reconcile")
    assert site.devices("c1") == ["lo"]
    # Either it was freed after two checks already, which is remembered again, or not.
    assert site.unwritten() in ([], ["DeleteEndpoint"])
    assert site.devices("c1") == ["lo"]
    site.make_room()
    wait_until(lambda: len(site.live()[1]) == 1, 5 * GRACE_SECONDS + 10, site.live)
    site.run("c2", "lan", "--ip", address)
    wait_until(lambda: site.reached_from_lan(address), 10)
    assert site.reached_from_lan(kept)
    assert site.devices("c1") == ["lo"]
    assert len(site.live()[1]) == 2


def test_network_is_removed_while_the_disk_is_full(site):
    site.create("macvlan", ipam=True)
    site.run("c1", "lan")
    site.fill()
    site.docker("rm", "-f", "c1")
    site.docker("network", "rm", "lan")
    site.wait()
    assert site.our_links() == []
    assert site.live()[:2] == ([], [])
    assert {"DeleteNetwork", "ReleasePool"} <= set(site.unwritten())
    site.make_room()
    wait_until(lambda: site.service.on_record()["pools"] == [], 20)
