"""Deaths of the service, of dockerd and of the host: traffic goes on, nothing leaks."""

from __future__ import annotations

from tests.docker.conftest import GATEWAY4
from tests.lab.service import GRACE_SECONDS, wait_until
from underlay.model.objects import Owner

RANGE = ("--ip-range", "10.77.0.64/27")
SETTLED_SECONDS = 5 * GRACE_SECONDS + 10


def test_driver_calls_work_after_the_service_is_killed_and_restarted(site):
    site.network("lan", *RANGE)
    site.run("c1", "lan", "--ip", "10.77.0.77")
    site.service.kill()
    site.service.start()
    site.run("c2", "lan")
    site.ping_from("c2", "10.77.0.77")
    site.docker("network", "disconnect", "lan", "c1")
    site.docker("network", "connect", "--ip", "10.77.0.77", "lan", "c1")
    site.ping_from_lan("10.77.0.77")


def test_no_packet_is_lost_while_the_service_is_stopped(site):
    site.network("lan", *RANGE)
    site.run("c1", "lan")
    sandbox = f"/proc/{site.host.pid_of('c1')}/ns/net"
    ping = f"nsenter --net={sandbox} ping -q -i0.05 {GATEWAY4}"
    start = f"{ping} >/run/flow 2>&1 </dev/null & echo $!"
    pid = site.host.run("sh", "-c", start).stdout.strip()
    assert site.service.stop() == 0
    site.service.start()
    site.service.kill()
    site.service.start()
    site.host.run("kill", "-INT", pid)
    wait_until(lambda: "loss" in site.host.run("cat", "/run/flow").stdout, 20)
    assert " 0% packet loss" in site.host.run("cat", "/run/flow").stdout


def test_docker_changes_made_while_the_service_was_dead_are_cleaned_up(newest):
    site = newest
    site.network("lan", *RANGE)
    for name in ("c1", "c2"):
        site.run(name, "lan")
    kept = site.attached("c2", "lan")[0]
    site.service.kill()
    site.docker("kill", "c1", check=False)  # takes the engine's 15 s of retries
    site.service.start()
    wait_until(lambda: len(site.live()[1]) == 1, SETTLED_SECONDS, site.live)
    wait_until(lambda: site.live()[2] == 1, SETTLED_SECONDS, site.live)
    assert site.attached("c2", "lan")[0] == kept
    site.ping_from_lan(kept)


def test_network_removed_while_the_service_was_dead_is_removed(newest):
    site = newest
    before = site.dump()
    site.network("lan", *RANGE)
    site.service.kill()
    # The engine tries each call for 15 s, and then does without.
    site.docker("network", "rm", "lan", check=False)
    assert "lan" not in site.docker("network", "ls", "--format", "{{.Name}}").stdout
    site.service.start()
    wait_until(lambda: site.live() == ([], [], 0), SETTLED_SECONDS, site.live)
    wait_until(lambda: not site.service.on_record()["pools"], SETTLED_SECONDS)
    assert site.dump() == before


def test_dockerd_restart_leaks_nothing_and_containers_return(site):
    site.network("lan", *RANGE)
    site.run("back", "lan", "--restart", "always")
    site.run("gone", "lan")
    site.host.stop_dockerd()
    assert site.live()[1:] == ([], 0)
    site.host.start_dockerd()
    wait_until(lambda: len(site.live()[1]) == 1, 10, site.live)
    address = site.attached("back", "lan")[0]
    wait_until(lambda: site.reached_from_lan(address), 10)


def killed_and_back(site, *words):
    """Two containers, one of which comes back; dockerd dies in between."""
    site.run("back", "lan", "--restart", "always", *words)
    site.run("gone", "lan")
    before = set(site.live()[1])
    site.host.kill_dockerd()
    site.host.start_dockerd()
    wait_until(
        lambda: len(site.live()[1]) == 1 and not before & set(site.live()[1]),
        SETTLED_SECONDS,
        site.live,
    )
    address = site.attached("back", "lan")[0]
    wait_until(lambda: site.reached_from_lan(address), 10)
    return address


def test_killed_dockerd_leaks_no_endpoint_and_no_address(site):
    site.network("lan", *RANGE)
    killed_and_back(site)
    wait_until(lambda: site.live()[2] == 1, SETTLED_SECONDS, site.live)


def test_killed_dockerd_leaks_nothing_with_docker_s_own_ipam(site):
    # Here dockerd forgets its stale endpoints without a word to the driver.
    site.network("lan", *RANGE, ipam=False)
    # What it forgot must not refuse its successor the same MAC.
    killed_and_back(site, "--mac-address", "02:42:0a:4d:00:63")


def test_container_that_died_while_dockerd_was_down_is_freed(sites):
    site = sites("28.5")
    site.host.stop_dockerd()
    site.host.start_dockerd("--live-restore")
    try:
        site.network("lan", *RANGE)
        for name in ("dead", "alive"):
            site.run(name, "lan")
        kept = site.attached("alive", "lan")[0]
        dead = site.host.pid_of("dead")
        site.host.kill_dockerd()
        site.host.run("kill", "-9", str(dead))
        site.host.start_dockerd("--live-restore")
        wait_until(
            lambda: [len(site.live()[1]), site.live()[2]] == [1, 1],
            SETTLED_SECONDS,
            site.live,
        )
        site.ping_from_lan(kept)
    finally:
        site.clear()
        site.host.stop_dockerd()
        site.host.start_dockerd()
    site.assert_nothing_left()


def test_live_restored_containers_are_never_freed(sites):
    site = sites("28.5")
    site.host.stop_dockerd()
    site.host.start_dockerd("--live-restore")
    try:
        site.network("lan", *RANGE)
        site.run("c1", "lan")
        address = site.attached("c1", "lan")[0]
        before = site.live()
        site.host.kill_dockerd()
        site.service.kill()
        site.service.start()
        # Longer than it takes to free what is dead: dockerd cannot be asked.
        site.host.run("sleep", str(3 * GRACE_SECONDS))
        assert site.live() == before
        site.host.start_dockerd("--live-restore")
        site.host.run("sleep", str(3 * GRACE_SECONDS))
        assert site.live() == before
        site.ping_from_lan(address)
    finally:
        site.clear()
        site.host.stop_dockerd()
        site.host.start_dockerd()
    site.assert_nothing_left()


def test_power_cut_keeps_networks_and_frees_running_endpoints(sites):
    site = sites("28.5")
    site.network("lan", *RANGE)
    site.run("back", "lan", "--restart", "always")
    site.run("gone", "lan")
    site.host.power_cut()
    site.host.start()
    site.service.start()
    site.host.start_dockerd()
    wait_until(lambda: len(site.live()[1]) == 1, SETTLED_SECONDS, site.live)
    wait_until(lambda: site.live()[2] == 1, SETTLED_SECONDS, site.live)
    address = site.attached("back", "lan")[0]
    wait_until(lambda: site.reached_from_lan(address), 10)
    site.clear()
    site.assert_nothing_left()


def test_link_of_a_dead_endpoint_is_deleted_and_similar_foreign_links_stay(newest):
    newest.network("lan", *RANGE)
    dead = Owner("gone", "gone")
    aliases = {dead.device: dead.mark, "ul-named": dead.mark, "ul-theirs": ""}
    for name, alias in aliases.items():
        newest.host.run(
            "ip", "link", "add", "link", "eth0", "name", name, "type", "macvlan"
        )
        newest.host.run("ip", "link", "set", name, "alias", alias)

    def links():
        return newest.host.run("ip", "-o", "link").stdout

    try:
        wait_until(lambda: dead.device not in links(), 20, links)
        assert "ul-named" in links()
        assert "ul-theirs" in links()
    finally:
        for name in aliases:
            newest.host.run("ip", "link", "del", name, check=False)
