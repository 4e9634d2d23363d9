"""A lease from a DHCP server, as the commands show it while a container lives."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.docker.conftest import GATEWAY4, IPAM
from tests.lab.dhcp_servers import Dnsmasq, Kea, Scope
from tests.lab.service import wait_until

LEASE_SECONDS = 20
ROUTED, LATER = "198.51.100.0/24", "203.0.113.0/24"


def ways(network, hop=GATEWAY4):
    """Return routes as option 121 has them: option 3 does not count beside it."""
    return ("0.0.0.0/0", GATEWAY4), (network, hop)


# a_lease_lives_through, containers/netavark#1290, containers/netavark#1280
def test_options_of_the_lease_are_the_container_s_and_it_loses_them_with_the_lease(
    newest, lan
):
    """Routes, MTU and client id; and the address, for as long as no server answers."""

    def inside(*words):
        return newest.in_container("web", "ip", *words)

    def is_route(network):
        return f"{network} via {GATEWAY4}" in inside("route")

    scope = Scope(lease_seconds=10, mtu=1400, routes=ways(ROUTED))
    with Kea(lan.start, scope=scope) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=0", "-o", "client_id=duid",
            "-o", "lease_mtu=on", "-o", "when_lost=drop", "lan",
        )  # fmt: skip
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        (lease,) = (one for one in server.leases() if one.address == address)
        assert (lease.mac, lease.client_id[:2]) == (mac, "ff")
        assert is_route(ROUTED)
        assert f"default via {GATEWAY4}" in inside("route")
        assert "mtu 1400" in inside("link", "show", "eth0")
        server.stop()
        server.scope = replace(scope, mtu=1300, routes=ways(LATER))
        server.start()
        wait_until(lambda: is_route(LATER), 15, lambda: inside("route"))
        wait_until(lambda: not is_route(ROUTED), 5, lambda: inside("route"))
        assert "mtu 1300" in inside("link", "show", "eth0")
        server.stop()
        own = f" {address}/24"
        wait_until(lambda: own not in inside("addr"), 25, lambda: newest.service.log)
        (endpoint,) = newest.service.facts("status")["endpoints"]
        assert endpoint["addresses"] == []
        server.start()
        newest.service.run("lease", "renew", "web")  # or a minute later by itself
        wait_until(lambda: own in inside("addr"), 5, lambda: newest.service.log[-900:])
        wait_until(lambda: is_route(LATER), 5, lambda: inside("route"))
        newest.ping_from("web", GATEWAY4)
        newest.clear()


def test_lease_is_renewed_and_given_back_by_hand(newest, lan):
    """Renewed because the server says more than before, long before it is due."""

    def command(*words):
        return newest.service.run("lease", *words, check=False)

    def routes():
        return newest.in_container("web", "ip", "route")

    scope = Scope(lease_seconds=600, routes=ways(ROUTED))
    with Kea(lan.start, scope=scope) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=600", "lan",
        )  # fmt: skip
        newest.run("web", "lan")
        address = newest.attached("web", "lan")[0]
        # Docker has told the name, and a pass has seen the device.
        wait_until(lambda: not command("renew", "web").returncode, 15)
        server.stop()
        server.scope = replace(scope, routes=ways(LATER))
        server.start()
        assert f"web has {address}/24, given by" in command("renew", "web").stdout
        assert LATER in routes()
        assert ROUTED not in routes()
        assert "E-507" in command("release", "web").stderr
        newest.docker("stop", "-t", "0", "web")
        wait_until(lambda: not command("release", "web").returncode, 10)
        wait_until(lambda: server.leases() == [], 10, lambda: server.log[-900:])
        assert newest.service.facts("lease", "ls") == []
        newest.clear()


def test_name_that_a_server_registers_is_that_of_the_container(newest, lan):
    with Dnsmasq(lan.start) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=0", "-o", "hostname=register", "lan",
        )  # fmt: skip
        newest.docker(
            "create", "--name", "web", "--network", "lan", "bb", "sleep", "99"
        )
        time.sleep(1.5)  # Docker tells a new container up to 28 by an event only
        newest.docker("start", "web")
        (lease,) = server.leases()
        assert lease.hostname == "web"
        assert "option: 81" in server.log  # it answers that only where it was sent
        newest.clear()


# a_lease_lives_through, claymore666/docker-net-dhcp#353
def test_lease_is_shown_from_the_start_of_a_container_to_its_removal(newest, lan):
    def lease():
        return newest.service.facts("lease", "ls")[0]

    def becomes(state, seconds):
        wait_until(lambda: lease()["state"] == state, seconds, lease)

    def troubles():
        return [t["error"][:5] for t in newest.service.facts("status")["troubles"]]

    with Kea(lan.start, scope=Scope(lease_seconds=LEASE_SECONDS)) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=4", "lan",
        )  # fmt: skip
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        wait_until(lambda: lease()["container"] == "web", 10, lease)
        shown = newest.service.facts("lease", "show", "web")
        assert (shown["address"], shown["mac"]) == (f"{address}/24", mac)
        assert (shown["state"], shown["network"]) == ("bound", "lan")
        assert newest.service.facts("lease", "show", address)["endpoint"]
        (endpoint,) = newest.service.facts("status")["endpoints"]
        assert endpoint["lease"]["server"] == shown["server"]
        server.stop()
        becomes("unanswered", LEASE_SECONDS)
        assert troubles() == ["E-170"]
        assert newest.service.facts("status")["endpoints"][0]["health"] == "failing"
        server.start()
        becomes("bound", 90)  # a minute after the end, if it has come to that
        assert troubles() == []
        newest.docker("stop", "-t", "0", "web")
        becomes("held", 5)
        newest.docker("rm", "web")
        becomes("removed", 5)
        assert lease()["goes_back"]
        wait_until(lambda: newest.service.facts("lease", "ls") == [], 15, lease)
        newest.clear()
