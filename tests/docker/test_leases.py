"""A lease from a DHCP server, as the commands show it while a container lives."""

from __future__ import annotations

from tests.docker.conftest import IPAM
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.service import wait_until

LEASE_SECONDS = 20


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
