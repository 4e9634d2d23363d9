"""Programs that manage what they should leave alone, and the order of units."""

from __future__ import annotations

import socket

import pytest

from tests.kernel.world import bring_about
from underlay.model.objects import Link, Owner

MINE = Owner("n1", "e1")


@pytest.fixture
def managed(bench):
    """A host with a device of the driver; what programs say of it is in files."""
    kernel = bench.given["kernel"]
    peer = MINE.host_end
    link = Link(
        peer.device, "veth", peer, peer=Link(MINE.device, "veth", MINE), up=True
    )
    bring_about(kernel, link)
    index = socket.if_nametoindex(MINE.device)

    def say(place, text):
        path = bench.folder / "run" / place / str(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return bench, say


@pytest.mark.parametrize(
    ("place", "alone", "taken", "program"),
    [
        (
            "systemd/netif/links",
            "ADMIN_STATE=unmanaged\nOPER_STATE=carrier\n",
            "ADMIN_STATE=configuring\nOPER_STATE=carrier\n",
            "systemd-networkd",
        ),
        (
            "NetworkManager/devices",
            "[device]\nmanaged=false\n",
            "[device]\nmanaged=true\nconnection-uuid=1\n",
            "NetworkManager",
        ),
    ],
)
def test_device_that_a_network_program_manages_fails(
    managed, place, alone, taken, program
):
    bench, say = managed
    assert bench.check("network-programs") == ()
    say(place, alone)
    assert bench.check("network-programs") == ()
    say(place, taken)
    (found,) = bench.check("network-programs")
    assert (found.level, found.where) == ("failure", MINE.device)
    assert found.what == f"{program} manages it"
    assert "ul-*" in found.remedy


def test_host_without_systemd_has_no_order_of_units(bench):
    assert bench.check("unit-order") == ()
