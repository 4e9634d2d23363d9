"""Records lost or put back from an old copy: containers stay, and Docker's list helps."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

from tests.docker.conftest import GATEWAY4
from tests.lab.service import wait_until

RANGE = ("--ip-range", "10.77.0.64/27")
FIRST, LAST = 64, 95
BUILTIN = ("-o", "macvlan_mode=bridge", "--ip-range", "10.77.0.128/27")
REBUILT_SECONDS = 10


def state(site):
    return Path(site.service.env["UNDERLAY_STATE_DIR"])


def routed(site, name):
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        "-o", "mode=routed", "--subnet", "10.88.0.0/24", name,
    )  # fmt: skip


@contextmanager
def nothing_lost(site, container, address=GATEWAY4):
    """A ping from a container all the while, twenty times a second."""
    sandbox = f"/proc/{site.host.pid_of(container)}/ns/net"
    log = f"/run/flow-{container}"
    ping = f"nsenter --net={sandbox} ping -q -i0.05 {address}"
    start = f"{ping} >{log} 2>&1 </dev/null & echo $!"
    pid = site.host.run("sh", "-c", start).stdout.strip()
    yield
    site.host.run("kill", "-INT", pid)
    wait_until(lambda: "loss" in site.host.run("cat", log).stdout, 5)
    said = site.host.run("cat", log).stdout
    assert " 0% packet loss" in said, said + site.service.log


@contextmanager
def without_records(site, kept=None):
    """The service killed, its records gone or replaced by a copy, and started."""
    site.service.kill()
    shutil.rmtree(state(site))
    if kept:
        shutil.copytree(kept, state(site))
    site.service.start()
    yield


def containers(site):
    return {e["container"] for e in site.service.facts("status")["endpoints"]}


def rebuilt(site, *names):
    wait_until(
        lambda: containers(site) == set(names),
        REBUILT_SECONDS,
        lambda: site.service.log,
    )


def fresh(site, name, network, used):
    """Start one more container, which must get an address that none has."""
    wait_until(lambda: started(site, name, network), REBUILT_SECONDS)
    address = site.attached(name, network)[0]
    assert address not in used
    return address


def started(site, name, network):
    words = ("run", "-d", "--name", name, "--network", network, "bb", "sleep", "1000")
    if site.docker(*words, check=False).returncode == 0:
        return True
    site.docker("rm", "-f", name)
    return False


def settled(site):
    """The host has just what the records want."""
    done = site.service.run("plan", check=False)
    return (done.returncode, done.stdout) == (0, "nothing to do\n")


def test_lost_records_are_rebuilt_while_containers_go_on(site):
    site.network("lan", *RANGE)
    site.run("c1", "lan")
    site.run("c2", "lan", "--ip", "10.77.0.80")
    before = {c: site.attached(c, "lan") for c in ("c1", "c2")}
    host_reached = site.in_container("c1", "ping", "-c1", "-W2", site.host.ipv4)
    assert host_reached
    with nothing_lost(site, "c1"), nothing_lost(site, "c2", site.host.ipv4):
        with without_records(site):
            rebuilt(site, "c1", "c2")
        wait_until(lambda: settled(site), REBUILT_SECONDS)
        known = {
            e["container"]: (e["addresses"], e["mac"])
            for e in site.service.facts("status")["endpoints"]
        }
        for name, (address, _, mac) in before.items():
            assert known[name] == ([f"{address}/24"], mac)
        new = fresh(site, "c3", "lan", {a for a, *_ in before.values()} | {GATEWAY4})
        assert FIRST <= int(new.rpartition(".")[2]) <= LAST
    site.ping_from("c3", before["c1"][0])
    site.ping_from_lan(new)
    assert "rebuilt from Docker's list" in site.service.log
    site.docker("rm", "-f", "c1")
    site.docker("start", "c2", check=False)
    site.docker("restart", "-t0", "c2")
    site.ping_from_lan("10.77.0.80")
