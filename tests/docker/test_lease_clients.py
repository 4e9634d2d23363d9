"""One client of a DHCP server, whatever ends and starts a container, or the host."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, IPAM, make_site
from tests.docker.site import HAS_ID
from tests.lab.capture import Capture
from tests.lab.dhcp_servers import Kea, Scope
from tests.lab.messages import to_servers
from tests.lab.service import wait_until
from underlay.dhcp.packets import MessageType, Option

FILE = "/home/clients.yaml"  # on the disk, which outlives a reboot
COMPOSE = ("compose", "-p", "clients", "-f", FILE)
NAME, NETWORK = "clients-web-1", "lan"
TEXT = """
services:
  web:
    image: bb
    command: sleep 1000
    init: true
    networks: [lan]
networks: {lan: {external: true}}
"""

pytestmark = pytest.mark.needs("macvlan")


@pytest.fixture
def site(lan):
    site = make_site(lan, "clients", "28.5", 7)
    yield site
    site.host.close()


class Project:
    """One container of a Compose file, and what is done to it."""

    def __init__(self, site):
        self.site, self.docker = site, site.docker
        site.host.run("sh", "-c", f"mkdir -p /home; cat >{FILE}", input=TEXT)
        self.create_network()

    def create_network(self):
        """Not by Compose: before August 2026 it passes on no options of IPAM."""
        self.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", NETWORK,
        )  # fmt: skip

    def compose(self, *words):
        self.docker(*COMPOSE, *words)

    def up(self, *words):
        self.compose("create", "--pull", "never", *words)
        time.sleep(1.5)  # Docker tells a new container up to 28 by an event only
        self.compose("start")

    def restart(self):
        self.compose("restart", "-t", "0")

    def replace(self):
        self.compose("rm", "-sf")
        self.up()

    def recreate(self):
        self.up("--force-recreate")

    def down_and_up(self):
        before = self.network_id()
        self.compose("down", "-t", "0")
        self.docker("network", "rm", NETWORK)
        self.create_network()
        self.up()
        assert self.network_id() != before

    def network_id(self):
        return self.docker("network", "inspect", "-f", "{{.Id}}", NETWORK).stdout

    def lose_records(self):
        service = self.site.service
        service.kill()
        shutil.rmtree(Path(service.env["UNDERLAY_STATE_DIR"]))
        service.start()

    def lose_records_of_a_running_container(self):
        self.lose_records()
        wait_until(lambda: self.named() == [NAME], 15, self.named)
        self.restart()

    def lose_records_between(self):
        self.compose("down", "-t", "0")
        self.lose_records()
        self.up()

    def named(self):
        return [e["container"] for e in self.site.service.on_record()["endpoints"]]

    def reboot(self):
        self.site.host.power_cut()
        self.site.host.start()
        self.site.service.start()
        self.site.host.start_dockerd()
        self.compose("start")


WAYS = (
    Project.restart, Project.replace, Project.recreate, Project.down_and_up,
    Project.lose_records_of_a_running_container, Project.lose_records_between,
    Project.reboot, Project.restart,
)  # fmt: skip


WAYS_WITH_RECORDS = tuple(way for way in WAYS if "lose" not in way.__name__)


# claymore666/docker-net-dhcp#370, claymore666/docker-net-dhcp#402,
# claymore666/docker-net-dhcp#371, containers/netavark#1130, kube-vip/kube-vip#871,
# containernetworking/plugins#709
def test_the_same_name_gets_the_same_mac_address_and_client_id(site, lan):
    """To the byte, in all that the server is told, and so it has one lease."""
    project = Project(site)
    with (
        Kea(lan.start, scope=Scope(lease_seconds=600)) as server,
        Capture(lan.netns, "br0") as wire,
    ):
        project.up()
        before = site.attached(NAME, NETWORK)
        for way in WAYS if HAS_ID else WAYS_WITH_RECORDS:
            # Docker has told the name, which decides at the next start.
            wait_until(lambda: project.named() == [NAME], 15, project.named)
            heard = len(to_servers(wire.frames))
            way(project)
            assert site.attached(NAME, NETWORK) == before, way.__name__
            assert len(to_servers(wire.frames)) > heard, way.__name__
            site.ping_from(NAME, GATEWAY4)
        (lease,) = server.leases()
    address, _, mac = before
    own = bytes.fromhex(f"01{mac.replace(':', '')}")
    assert (lease.address, lease.mac, lease.client_id) == (address, mac, own.hex())
    said = to_servers(wire.frames)
    # A new network only asks which servers there are.
    others = {m.kind for m in said if m.client != (mac, mac, own)}
    assert others <= {MessageType.DISCOVER}
    said = [m for m in said if m.client == (mac, mac, own)]
    told = {m.packet.options[Option.HOST_NAME] for m in said if named(m)}
    assert told == {NAME.encode()}
    # No stop and no removal has given it back.
    assert not [m for m in said if m.kind == MessageType.RELEASE]


def named(message):
    return Option.HOST_NAME in message.packet.options


# devplayer0/docker-net-dhcp#2, devplayer0/docker-net-dhcp#23,
# devplayer0/docker-net-dhcp#44
def test_containers_of_a_boot_have_their_leases_before_the_server_is_there(site, lan):
    """The router boots more slowly after a power cut; Docker waits for no server."""
    names = ["web", "db", "mail"]

    def attached():
        return [site.attached(name, "lan") for name in names]

    with Kea(lan.start, scope=Scope(lease_seconds=600)) as server:
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "null",
            "-o", "source=dhcp", "-o", "parent=eth0", "lan",
        )  # fmt: skip
        for name in names:
            site.run(
                name, f"name=lan,driver-opt=identity={name}", "--restart", "always"
            )
        before = attached()
        server.stop()
        site.host.power_cut()
        site.host.start()
        site.service.start()
        site.host.start_dockerd()
        assert attached() == before
        server.start()
        for name, (address, _, mac) in zip(names, before, strict=True):
            wait_until(
                lambda n=name: (
                    not site.service.run("lease", "renew", n, check=False).returncode
                ),
                15,
            )
            site.ping_from(name, GATEWAY4)
            assert (address, mac) in {(x.address, x.mac) for x in server.leases()}
