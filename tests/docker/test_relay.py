"""A DHCP server behind a router, which a relay on the router asks for the segment."""

from __future__ import annotations

import time

import pytest

from tests.docker.conftest import GATEWAY4, IPAM
from tests.lab.capture import Capture
from tests.lab.daemon import Daemon
from tests.lab.dhcp_servers import IscDhcpd, Kea, Scope
from tests.lab.messages import to_servers
from tests.lab.net import Far
from tests.lab.rootfs import serving
from tests.lab.service import wait_until
from underlay.dhcp.packets import MessageType

LEASE_SECONDS = 6
FAR, ROUTER_TO_FAR = "10.88.0.2", "10.88.0.1"

pytestmark = pytest.mark.needs("macvlan")


class Relay(Daemon):
    """dnsmasq as nothing but a relay, from the LAN to the machine behind the router."""

    ROOT = staticmethod(serving)

    def start(self):
        self._run(
            "/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
            "--port=0", "--user=root", "--group=root", "--log-dhcp",
            "--log-facility=-", f"--dhcp-relay={GATEWAY4},{FAR}",
        )  # fmt: skip
        self._wait_until(lambda: "DHCP relay from" in self.log)


class RelayedDhcpd(IscDhcpd):
    """It wants to know of the subnet that it is in itself."""

    def _config(self):
        return f"{super()._config()}subnet 10.88.0.0 netmask 255.255.255.252 {{ }}\n"


@pytest.fixture(params=[Kea, pytest.param(RelayedDhcpd, marks=pytest.mark.long)])
def server(request, lan):
    scope = Scope(lease_seconds=LEASE_SECONDS)
    with Far(lan) as far:
        far.run("ip", "route", "add", "10.77.0.0/24", "via", ROUTER_TO_FAR)
        with (
            request.param(far.start, scope=scope, device="eth0") as server,
            Relay(lan.start),
        ):
            yield far, server


# a_container_gets_its_address_from, a_lease_lives_through
def test_lease_of_a_relayed_server_is_given_renewed_and_given_back(newest, server):
    """What goes to the server alone goes past the relay, by the same router."""
    far, dhcp = server
    newest.docker(
        "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
        "-o", "parent=eth0", "-o", "hold=1", "lan",
    )  # fmt: skip

    def listed():
        return [lease.address for lease in dhcp.leases()]

    with Capture(far.netns, "eth0") as wire:
        newest.run("web", "lan")
        address, _, mac = newest.attached("web", "lan")
        assert listed() == [address]
        newest.ping_from("web", GATEWAY4)
        asked = {str(one.address) for one in to_servers(wire.frames, mac)}
        assert asked == {GATEWAY4}
        time.sleep(LEASE_SECONDS * 1.5)
        assert listed() == [address]
        assert newest.attached("web", "lan")[0] == address
        newest.docker("rm", "-f", "web")
        wait_until(lambda: not listed(), 15, lambda: dhcp.log)
        direct = [m for m in to_servers(wire.frames, mac) if str(m.address) == address]
    kinds = [message.kind for message in direct]
    assert kinds.count(MessageType.REQUEST) >= 2
    assert kinds[-1] == MessageType.RELEASE
    assert kinds.count(MessageType.RELEASE) == 1
    newest.clear()
