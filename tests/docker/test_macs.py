"""How many MACs fifty containers are on the wire."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.conftest import GATEWAY4
from tests.lab.capture import Capture

CONTAINERS = 50


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("mode", "macs"),
    [
        # The host's, and that of the shim, which asks whether addresses are free.
        pytest.param("macvlan", CONTAINERS + 2, marks=pytest.mark.needs("macvlan")),
        pytest.param("ipvlan", 1, marks=pytest.mark.needs("ipvlan")),
    ],
)
def test_fifty_containers_and_their_host_have_distinct_macs(newest, mode, macs):
    site = newest
    site.network("lan", "-o", f"mode={mode}", "--ip-range", "10.77.0.128/25")
    knock = ("sh", "-c", f"ping -c1 {GATEWAY4} && exec sleep 1000")

    def start(number):
        words = ("run", "-d", "--name", f"c{number}", "--network", "lan")
        site.docker(*words, "bb", *knock)

    with Capture(site.lan.netns, f"p-{site.host.name}") as wire:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(start, range(CONTAINERS)))
        site.host.run("ping", "-c1", "-W3", GATEWAY4)
        for number in range(CONTAINERS):
            address = site.attached(f"c{number}", "lan")[0]
            assert site.reached_from_lan(address)
    assert len(wire.sources) == macs
