"""Records lost, or replaced by an old copy: containers go on, Docker's list helps."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from tests.docker.conftest import GATEWAY4, IPAM, refused
from tests.docker.site import derived
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.service import GRACE_SECONDS, wait_until

RANGE = ("--ip-range", "10.77.0.64/27")
OTHER_RANGE = ("--ip-range", "10.77.0.128/27")
IN_RANGE, IN_OTHER_RANGE = range(64, 96), range(128, 160)
REBUILT_SECONDS = 10
LEASE_SECONDS = 20
DUAL = ("--ipv6", "--subnet", "fd77::/64", "--gateway", "fd77::1")


def state(site):
    return Path(site.service.env["UNDERLAY_STATE_DIR"])


def routed(site, name, subnet="10.88.0.0/24"):
    words = ("-o", "mode=routed", "--subnet", subnet)
    site.docker("network", "create", "-d", "underlay", *IPAM, *words, name)


@contextmanager
def nothing_lost(site, container, address=GATEWAY4):
    """A ping from a container all the while."""
    ping = pinging(site, container, address)
    yield
    assert_none_lost(site, ping)


def pinging(site, container, address):
    """Ping from a container twenty times a second; return the ping's pid and log."""
    sandbox = f"/proc/{site.host.pid_of(container)}/ns/net"
    log = f"/run/flow-{container}-{address}"
    ping = f"nsenter --net={sandbox} ping -O -i0.05 {address}"
    start = f"{ping} >{log} 2>&1 </dev/null & echo $!"
    return site.host.run("sh", "-c", start).stdout.strip(), log


def assert_none_lost(site, ping):
    pid, log = ping
    site.host.run("kill", "-INT", pid)
    wait_until(lambda: "loss" in site.host.run("cat", log).stdout, 5)
    said = site.host.run("cat", log).stdout
    missed = [n for n in said.splitlines() if not re.match(r"\d+ bytes from", n)]
    assert " 0% packet loss" in said, "\n".join(missed)


def lose_records(site, kept=None):
    """Kill the service, and start it with no records, or with those of a copy."""
    site.service.kill()
    shutil.rmtree(state(site))
    if kept:
        kept.rename(state(site))
    site.service.start()


def on_record(site):
    """Return addresses, MAC and state, by the names of container and network."""
    found = site.service.on_record()["endpoints"]
    return {
        (e["container"], e["network"]): (e["addresses"], e["mac"], e["state"])
        for e in found
    }


def assert_rebuilt(site, before):
    wait_until(
        lambda: on_record(site) == before, REBUILT_SECONDS, lambda: on_record(site)
    )
    wait_until(lambda: is_settled(site), REBUILT_SECONDS, lambda: site.service.log)


def is_settled(site):
    done = site.service.run("plan", check=False)
    return (done.returncode, done.stdout) == (0, "nothing to do\n")


def run_fresh(site, name, network):
    """Start one more container; return the last number of its address, and it."""
    used = {a.partition("/")[0] for found in on_record(site).values() for a in found[0]}
    site.run(name, network)
    address = site.attached(name, network)[0]
    assert address not in used | {GATEWAY4, "10.88.0.1"}
    return int(address.rpartition(".")[2]), address


def test_lost_records_are_rebuilt_while_containers_run_on(site):
    site.network("lan", *RANGE, *DUAL)
    site.network("other", *OTHER_RANGE, ipam=False)
    routed(site, "way")
    site.run("c1", "lan")
    site.run("c2", "lan", "--ip", "10.77.0.66")
    site.run("c3", "other")
    site.run("c4", "way")
    site.docker("network", "connect", "way", "c2")
    beside = site.attached("c2", "way")[0]
    before = on_record_soon(site, 5)
    with (
        nothing_lost(site, "c1"),
        nothing_lost(site, "c2", site.host.ipv4),
        nothing_lost(site, "c3"),
        nothing_lost(site, "c4", beside),
    ):
        lose_records(site)
        assert_rebuilt(site, before)
        number, address = run_fresh(site, "c5", "lan")
        assert number in IN_RANGE
        site.ping_from_lan(address)
        number, address = run_fresh(site, "c6", "other")
        assert number in IN_OTHER_RANGE
        site.ping_from_lan(address)
        _, address = run_fresh(site, "c7", "way")
        site.ping_from("c4", address)
    assert "rebuilt from Docker's list" in site.service.log
    site.docker("restart", "-t0", "c2")
    # Without a machine id it has another MAC now, which is announced soon.
    wait_until(lambda: site.reached_from_lan("10.77.0.66"), 5)
    site.docker("rm", "-f", "c1", "c4")
    assert not {"c1", "c4"} & {name for name, _ in on_record(site)}
    number, _ = run_fresh(site, "c8", "lan")
    assert number in IN_RANGE


def on_record_soon(site, count):
    """Return what is on record when all names are known."""
    wait_until(
        lambda: (
            len(on_record(site)) == count
            and all(name and len(network) != 12 for name, network in on_record(site))
        ),
        REBUILT_SECONDS,
        lambda: on_record(site),
    )
    return on_record(site)


def test_records_from_an_old_backup_are_brought_up_to_date(newest):
    site = newest
    site.network("lan", *RANGE)
    site.run("gone", "lan", "--ip", "10.77.0.65")
    site.run("old", "lan")
    on_record_soon(site, 2)
    site.service.stop()
    copy = state(site).with_name("copy")
    shutil.copytree(state(site), copy)
    site.service.start()
    site.docker("rm", "-f", "gone")
    site.run("heir", "lan", "--ip", "10.77.0.65")
    site.run("new", "lan")
    site.network("later", *OTHER_RANGE)
    site.run("latest", "later")
    before = on_record_soon(site, 4)
    with nothing_lost(site, "new"), nothing_lost(site, "latest", site.host.ipv4):
        lose_records(site, copy)
        assert_rebuilt(site, before)
        assert run_fresh(site, "c5", "lan")[0] in IN_RANGE
        assert run_fresh(site, "c6", "later")[0] in IN_OTHER_RANGE
    held = site.service.facts("history", "10.77.0.65")
    assert [t["container"] for t in held if not t["until"]] == ["heir"]


def test_old_backup_leases_no_used_address_before_docker_can_be_asked(newest):
    site = newest
    site.network("lan", *RANGE)
    site.run("first", "lan")
    site.service.stop()
    copy = state(site).with_name("copy")
    shutil.copytree(state(site), copy)
    site.service.start()
    site.run("second", "lan")
    on_record_soon(site, 2)
    asked = site.service.env
    site.service.env = {**asked, "UNDERLAY_DOCKER_HOST": "unix:///run/nobody.sock"}
    lose_records(site, copy)
    site.run("third", "lan")
    third = site.attached("third", "lan")[0]
    assert third not in {site.attached(c, "lan")[0] for c in ("first", "second")}
    site.service.stop()
    site.service.env = asked
    site.service.start()
    on_record_soon(site, 3)


def test_containers_run_on_without_records_while_dockerd_is_down(sites):
    site = sites("28.5")
    site.host.stop_dockerd()
    site.host.start_dockerd("--live-restore")
    try:
        site.network("lan", *RANGE)
        routed(site, "way")
        site.run("c1", "lan")
        site.run("c2", "way")
        site.run("c3", "way")
        beside = site.attached("c3", "way")[0]
        before = on_record_soon(site, 3)
        host, way = pinging(site, "c1", site.host.ipv4), pinging(site, "c2", beside)
        site.host.kill_dockerd()
        lose_records(site)
        # Longer than it takes to free what is dead, and a few passes.
        site.host.run("sleep", str(3 * GRACE_SECONDS))
        assert on_record(site) == {}
        assert is_settled(site)
        assert_none_lost(site, way)
        # As it starts, dockerd makes its FORWARD rules again, and for a moment what the
        # host routes meets the policy DROP: with no service of ours about, too.
        site.host.start_dockerd("--live-restore")
        way = pinging(site, "c2", beside)
        assert_rebuilt(site, before)
        for ping in (host, way):
            assert_none_lost(site, ping)
    finally:
        site.clear()
        site.host.stop_dockerd()
        site.host.start_dockerd()
    site.assert_nothing_left()


def test_takeover_bridge_is_recognized_after_the_records_are_lost(newest):
    site = newest
    site.docker(
        "network", "create", "-d", "underlay", *IPAM, "-o", "mode=bridge",
        "-o", "takeover=yes", "-o", "parent=eth0",
        "--subnet", "10.77.0.0/24", "--gateway", GATEWAY4,
        *RANGE, "lan",
    )  # fmt: skip
    site.run("c1", "lan")
    before = on_record_soon(site, 1)
    with nothing_lost(site, "c1"), nothing_lost(site, "c1", site.host.ipv4):
        lose_records(site)
        assert_rebuilt(site, before)
    assert "eth0" in site.service.on_record()["parents"][0]["name"]
    site.clear()
    assert site.host.ipv4 in site.host.run("ip", "addr", "show", "dev", "eth0").stdout


def test_lost_records_of_a_network_with_ipam_only_are_rebuilt(newest):
    site = newest
    site.docker(
        "network", "create", "-d", "bridge", *IPAM, "--subnet", "10.99.0.0/24",
        "--ip-range", "10.99.0.64/27", "--aux-address", "x=10.99.0.65", "theirs",
    )  # fmt: skip
    site.run("c1", "theirs")
    first = site.attached("c1", "theirs")[0]
    lose_records(site)
    wait_until(lambda: site.service.on_record()["pools"], REBUILT_SECONDS)
    site.run("c2", "theirs")
    second = site.attached("c2", "theirs")[0]
    assert second not in (first, "10.99.0.1", "10.99.0.65")
    assert int(second.rpartition(".")[2]) in IN_RANGE
    site.docker("rm", "-f", "c1")

    def live():
        (pool,) = site.service.on_record()["pools"]
        return pool["live"]

    wait_until(lambda: live() == 1, 5, live)


def test_lost_records_of_a_network_with_dhcp_are_rebuilt(site, lan):
    with Kea(lan.start, scope=Scope(lease_seconds=LEASE_SECONDS)) as server:
        words = ("-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp")
        site.docker("network", "create", *words, "-o", "parent=eth0", "lan")
        site.run("c1", "lan")
        site.run("c2", "lan")
        before, attached = on_record_soon(site, 2), site.attached("c1", "lan")
        address, mac = attached[0], attached[2]
        routes = site.in_container("c1", "ip", "route")
        with nothing_lost(site, "c1"):
            lose_records(site)
            assert_rebuilt(site, before)
            assert site.in_container("c1", "ip", "route") == routes
            # Only one that knows the lease renews it.
            site.host.run("sleep", str(1.5 * LEASE_SECONDS))
            assert (mac, address) in {(x.mac, x.address) for x in server.leases()}
            assert site.in_container("c1", "ip", "route") == routes
            run_fresh(site, "c3", "lan")
        site.docker("restart", "-t0", "c1")
        assert site.attached("c1", "lan") == attached
        site.clear()
        wait_until(lambda: not site.service.on_record()["pools"], 5)


@derived
def test_lost_records_of_a_network_with_dhcp_and_no_ipam_driver_are_rebuilt(
    newest, lan
):
    site = newest
    with Kea(lan.start, scope=Scope(lease_seconds=LEASE_SECONDS)) as server:
        words = ("-d", "underlay", "--ipam-driver", "null", "-o", "source=dhcp")
        site.docker("network", "create", *words, "-o", "parent=eth0", "lan")
        for name, known_as in (("c1", "shop"), ("c2", "store")):
            on = ("--network", f"name=lan,driver-opt=identity={known_as}")
            site.docker("run", "-d", "--name", name, *on, "bb", "sleep", "1000")
        before = on_record_soon(site, 2)
        attached = site.attached("c1", "lan")
        with nothing_lost(site, "c1"):
            lose_records(site)
            assert_rebuilt(site, before)
            # Only one that knows the lease renews it.
            site.host.run("sleep", str(1.5 * LEASE_SECONDS))
            known = {(x.mac, x.address) for x in server.leases()}
            assert (attached[2], attached[0]) in known
        site.docker("restart", "-t0", "c1")
        assert site.attached("c1", "lan") == attached
        site.clear()


def test_network_removed_after_a_loss_takes_no_address_of_another(site):
    """Docker names no network when it gives a pool up, and two have this one."""
    site.network("lan", *RANGE)
    site.network("empty", *OTHER_RANGE)
    site.network("third", *OTHER_RANGE)
    site.run("c1", "lan", "--ip", "10.77.0.66")
    before = on_record_soon(site, 1)
    with nothing_lost(site, "c1"):
        lose_records(site)
        assert_rebuilt(site, before)
        site.docker("network", "rm", "empty")
        site.docker("network", "rm", "third")
        held = site.service.facts("history", "10.77.0.66")
        assert [t["container"] for t in held if not t["until"]] == ["c1"]
        (pool,) = site.service.on_record()["pools"]
        assert (pool["live"], pool["gateway"]) == (1, [GATEWAY4])
        assert len(pool["claims"]) == 1
        run = ("run", "-d", "--name", "c2", "--network", "lan", "--ip", "10.77.0.66")
        assert "E-140" in refused(site.docker(*run, "bb", "true", check=False))
        site.docker("rm", "-f", "c2")
        number, _ = run_fresh(site, "c3", "lan")
        assert number in IN_RANGE
    site.docker("restart", "-t0", "c1")
    # Without a machine id it has another MAC now, which is announced soon.
    wait_until(lambda: site.reached_from_lan("10.77.0.66"), 5)


def test_network_recreated_since_a_backup_works_and_the_old_one_goes(newest):
    site = newest
    site.network("lan", *OTHER_RANGE)
    site.run("old", "lan")
    on_record_soon(site, 1)
    site.service.stop()
    copy = state(site).with_name("copy")
    shutil.copytree(state(site), copy)
    site.service.start()
    site.docker("rm", "-f", "old")
    site.docker("network", "rm", "lan")
    site.network("lan", *RANGE)
    site.run("new", "lan")
    on_record_soon(site, 1)
    with nothing_lost(site, "new"):
        lose_records(site, copy)
        known = lambda: {name for name, _ in on_record(site)}  # noqa: E731
        wait_until(lambda: "new" in known(), REBUILT_SECONDS, known)
        assert run_fresh(site, "c2", "lan")[0] in IN_RANGE
        gone = lambda: len(site.service.on_record()["networks"]) == 1  # noqa: E731
        wait_until(gone, 6 * GRACE_SECONDS + 30, lambda: site.service.log)
        wait_until(
            lambda: len(site.service.on_record()["pools"][0]["claims"]) == 1,
            4 * GRACE_SECONDS + 30,
            lambda: site.service.on_record()["pools"],
        )
    assert run_fresh(site, "c3", "lan")[0] in IN_RANGE


def test_error_for_a_taken_address_names_the_container_at_once(site):
    site.network("lan", *RANGE)
    site.run("web", "lan", "--ip", "10.77.0.66")
    run = ("run", "--rm", "--network", "lan", "--ip", "10.77.0.66", "bb", "true")

    def said():
        return refused(site.docker(*run, check=False))

    said()  # a request that is too quick has Docker asked
    wait_until(lambda: "container web of network lan has it" in said(), 1.0, said)
