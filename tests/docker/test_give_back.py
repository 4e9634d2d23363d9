"""Which leases go back to the server and when, and what the segment hears of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.docker.conftest import IPAM
from tests.lab.capture import Capture
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.messages import to_servers
from tests.lab.service import wait_until
from underlay.dhcp.packets import MessageType, Option

HOLD_SECONDS = 2
AT_ONCE = 10
WIDE = Scope("10.77.0.0/22", "10.77.1.0", "10.77.2.255", lease_seconds=3600)

pytestmark = pytest.mark.needs("macvlan")


def create(site, *words, ipam=IPAM):
    asked = ("--ipam-opt", "source=dhcp") if ipam == IPAM else ("-o", "source=dhcp")
    site.docker(
        "network", "create", "-d", "underlay", *ipam, *asked,
        "-o", "parent=eth0", *words, "lan",
    )  # fmt: skip


# containernetworking/plugins#1278
def test_a_stop_sends_nothing_and_a_removal_releases_once_after_hold(newest, lan):
    """With the client id, and the address and server that RFC 2131 has in it."""
    port = f"p-{newest.host.name}"
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        create(newest, "-o", f"hold={HOLD_SECONDS}")
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        # Docker has told the name, which the server has to know, too.
        wait_until(lambda: newest.service.facts("lease", "ls")[0]["container"], 10)
        time.sleep(1)
        with Capture(lan.netns, port) as wire:
            newest.docker("stop", "-t", "0", "web")
            time.sleep(HOLD_SECONDS + 2)
            assert to_servers(wire.frames) == []
            newest.docker("rm", "web")
            removed = time.monotonic()
            wait_until(lambda: to_servers(wire.frames), HOLD_SECONDS + 5)
            assert time.monotonic() - removed > HOLD_SECONDS - 0.5
            time.sleep(2)
            (message,) = to_servers(wire.frames)
        assert server.leases() == []
        assert message.kind == MessageType.RELEASE
        assert str(message.packet.ciaddr) == str(message.address) == address
        assert message.client == (mac, mac, bytes.fromhex(f"01{mac.replace(':', '')}"))
        assert message.packet.options[Option.SERVER]
        newest.clear()


# a_stop_sends_nothing_and_a_removal_releases_once_after_hold, containers/netavark#1271,
# kubernetes-sigs/dranet#304
@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.long)])
def test_removal_of_many_short_lived_containers_leaves_the_server_s_pool_full(
    newest, lan, count
):
    """Those that Docker removes by itself, killed at once, without a word before."""
    with Kea(lan.start, scope=WIDE) as server:
        create(newest, "-o", "hold=0", ipam=("--ipam-driver", "null"))
        names = [f"c{number}" for number in range(count)]

        def start(name):
            network = f"name=lan,driver-opt=identity={name}"
            words = "--rm", "--name", name, "--network", network
            newest.docker("run", "-d", *words, "bb", "sleep", "1000")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(start, names))
        assert len({lease.address for lease in server.leases()}) == count
        newest.docker("rm", "-f", *names)
        wait_until(lambda: not server.leases(), 60, lambda: len(server.leases()))
        assert newest.service.facts("lease", "ls") == []
        newest.clear()


@pytest.mark.long  # Docker waits for a service that does not answer
def test_container_removed_while_the_service_is_dead_gives_its_lease_back(newest, lan):
    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        create(newest, "-o", "hold=1")
        newest.run("web", "lan")
        wait_until(lambda: newest.service.facts("lease", "ls")[0]["container"], 10)
        newest.service.kill()
        try:
            newest.docker("rm", "-f", "web")
            assert server.leases()
        finally:
            newest.service.start()
        wait_until(lambda: not server.leases(), 20, lambda: newest.service.log[-900:])
        newest.clear()
