"""Policies while Docker starts, ends and moves containers, and beside any firewall."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.conftest import GATEWAY4, Site
from tests.docker.ports import MODES, SERVE, create, scan_ports, watched_meanwhile
from tests.lab.capture import Capture
from tests.lab.host import Host
from tests.lab.service import Service, wait_until

ONE, OTHER = "10.77.0.170", "10.77.0.171"
FOREIGN = "10.77.0.250"
OPEN = "name=lan,driver-opt=policy=open,driver-opt=strict=off"
PLACES = "lan", "peer", "host"
SHOWN = {where: ["80/tcp"] for where in PLACES}
ROUNDS = [6, pytest.param(60, marks=pytest.mark.long)]


def serve(site, name, *words):
    """Run a container that listens on all ports from its first moment on."""
    site.docker(
        "run", "-d", "--name", name, "--network", "lan", "-p", "80", *words,
        "bb", "sh", "-c", SERVE,
    )  # fmt: skip


def run_open(site, name):
    """Run a container that has no part in any gate."""
    site.docker("run", "-d", "--name", name, "--network", OPEN, "bb", "sleep", "1000")


def wait_for(site, *addresses):
    """Wait until the published port of each address answers the host."""
    for address in addresses:
        wait_until(lambda a=address: scan_ports(site, "host", a, [80], [], 0.3), 10)


def at_once(*acts):
    """Do all of it at the same time, and raise what one of it raises."""
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(act) for act in acts]:
            done.result()


def watched_both(site, act, places):
    """Return what of both addresses answered meanwhile."""
    found = {}

    def watch_other():
        found["other"] = watched_meanwhile(site, OTHER, act, places)

    found["one"] = watched_meanwhile(site, ONE, watch_other, places)
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_two_that_are_the_first_behind_a_gate_start_at_once(newest, mode, rounds):
    """Both of their starts make the table of rules, and neither is open meanwhile."""

    def act():
        for _ in range(rounds):
            create(newest, mode, "-o", "policy=published")
            at_once(
                lambda: serve(newest, "one", "--ip", ONE),
                lambda: serve(newest, "other", "--ip", OTHER),
            )
            wait_for(newest, ONE, OTHER)
            time.sleep(0.2)
            at_once(
                lambda: newest.docker("rm", "-f", "one"),
                lambda: newest.docker("rm", "-f", "other"),
            )
            newest.docker("network", "rm", "lan")

    places = "lan", "host"
    shown = {where: ["80/tcp"] for where in places}
    found = watched_both(newest, act, places)
    assert found == {"one": shown, "other": shown}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_start_while_the_last_one_behind_the_gate_ends(newest, mode, rounds):
    """The table of rules is not taken away under the one that starts."""
    create(newest, mode, "-o", "policy=published")
    run_open(newest, "peer")
    serve(newest, "one", "--ip", ONE)

    def act():
        for turn in range(rounds):
            pause = turn % 5 * 0.05
            for old, new, address in (("one", "other", OTHER), ("other", "one", ONE)):

                def end(old=old, pause=pause):
                    time.sleep(pause)
                    newest.docker("rm", "-f", old)

                def start(new=new, address=address):
                    serve(newest, new, "--ip", address)

                at_once(end, start)
                wait_for(newest, address)
            time.sleep(0.2)

    assert watched_both(newest, act, PLACES) == {"one": SHOWN, "other": SHOWN}


@pytest.fixture
def live_restoring(site):
    """A site whose containers outlive dockerd."""
    site.host.stop_dockerd()
    site.host.start_dockerd("--live-restore")
    yield site
    site.clear()
    site.host.stop_dockerd()
    site.host.start_dockerd()


@pytest.mark.parametrize("mode", MODES)
def test_closed_ports_stay_closed_whatever_docker_does_to_a_container(
    live_restoring, mode
):
    """Docker ends and is killed, pauses it, takes it off its network and back."""
    site = live_restoring
    create(site, mode, "-o", "policy=published")
    run_open(site, "peer")
    serve(site, "web", "--ip", ONE)

    def act():
        site.host.stop_dockerd()
        time.sleep(0.5)
        site.host.start_dockerd("--live-restore")
        time.sleep(0.5)
        site.host.kill_dockerd()
        time.sleep(0.5)
        site.host.start_dockerd("--live-restore")
        site.docker("pause", "web")
        time.sleep(0.5)
        site.docker("unpause", "web")
        for _ in range(3):
            site.docker("network", "disconnect", "lan", "web")
            site.docker("network", "connect", "--ip", ONE, "lan", "web")
            time.sleep(0.5)

    assert watched_meanwhile(site, ONE, act) == SHOWN
    # And after all that, as before.
    found = {}
    wait_until(
        lambda: (
            found.update(watched_meanwhile(site, ONE, lambda: time.sleep(2)))
            or found == SHOWN
        ),
        10,
        lambda: found,
    )


# How an engine is started, and the back end of its iptables.
FIREWALLS = {
    "none": ("--iptables=false", "--ip6tables=false", "--bridge=none"),
    "legacy": (),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("firewall", FIREWALLS)
def test_policies_hold_whatever_the_firewall_of_docker_is(lan, mode, firewall):
    """The gates are tables of their own."""
    with Host(lan, firewall, "28.5", 9) as host:
        if firewall == "legacy":
            use_legacy(host)
        site = Site(host, Service(host))
        site.service.start()
        host.start_dockerd(*FIREWALLS[firewall])
        host.load_image()
        create(site, mode, "-o", "policy=published", "-o", "strict=on")
        run_open(site, "peer")
        serve(site, "web", "--ip", ONE, "--cap-add", "NET_ADMIN")
        found = watched_meanwhile(site, ONE, lambda: time.sleep(1))
        assert found == SHOWN
        # All that is not its own is dropped, and the same of another one is not.
        site.docker(
            "run", "-d", "--name", "free", "--network", OPEN, "--cap-add", "NET_ADMIN",
            "bb", "sleep", "1000",
        )  # fmt: skip
        assert not sends_as(site, "web", FOREIGN)
        assert sends_as(site, "free", FOREIGN)
        closed = "name=lan,driver-opt=policy=closed"
        site.docker("rm", "-f", "web", "free")
        site.docker(
            "run", "-d", "--name", "web", "--network", closed, "--ip", ONE, "-p", "80",
            "bb", "sh", "-c", SERVE,
        )  # fmt: skip
        found = watched_meanwhile(site, ONE, lambda: time.sleep(1))
        assert found == {where: [] for where in PLACES}
        site.clear()
        site.assert_nothing_left()


def use_legacy(host):
    """Have a host's iptables write to the older tables of the kernel."""
    for tool in ("iptables", "ip6tables"):
        done = host.run(f"{tool}-legacy", "-S", check=False)
        if done.returncode:
            pytest.skip(f"this kernel has no older tables: {done.stderr.strip()}")
        for end in ("", "-save", "-restore"):
            host.run("ln", "-sf", f"{tool}-legacy{end}", f"/usr/sbin/{tool}{end}")
    assert "legacy" in host.run("iptables", "-V").stdout


def sends_as(site, container, address):
    """Tell whether a container's packets from an address reach the LAN."""
    site.in_container(container, "ip", "addr", "add", f"{address}/32", "dev", "eth0")
    packed = bytes(map(int, address.split(".")))
    with Capture(site.lan.netns, "br0") as seen:
        site.host.exec(
            container, "ping", "-c2", "-W1", "-I", address, GATEWAY4, check=False
        )
    site.in_container(container, "ip", "addr", "del", f"{address}/32", "dev", "eth0")
    return any(packed in frame.payload[:40] for frame in seen.frames)
