"""Names of containers that other machines of the LAN look up, by real name servers."""

from __future__ import annotations

import sys
import time

import pytest

from tests.docker.conftest import IPAM
from tests.lab.dhcp_servers import Dnsmasq, Scope
from tests.lab.service import wait_until

SECONDS = 2
ASK = """
import socket, sys
name, server = sys.argv[1:]
labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
head = bytes((7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((server, 53))
s.send(head + labels + bytes((0, 0, 1, 0, 1)))
said = s.recv(512)
# One answer, with four bytes at its end.
print(socket.inet_ntoa(said[-4:]) if said[7] == 1 else "")
"""

pytestmark = pytest.mark.needs("macvlan")


def asked(site, name, server):
    """Return the address that a machine of the LAN is told for a name, "" for none."""
    return site.lan.run(sys.executable, "-c", ASK, name, server).stdout.strip()


def becomes(site, name, address, server):
    def told():
        return asked(site, name, server)

    wait_until(lambda: told() == address, SECONDS, told)


def test_names_resolve_from_the_lan_in_2_s_and_vanish(newest, lan):
    """By the name server of the DHCP server: the lease has the name with it."""
    router = "10.77.0.1"
    with Dnsmasq(lan.start, scope=Scope(lease_seconds=600)) as server:
        newest.docker(
            "network", "create", "-d", "underlay", *IPAM, "--ipam-opt", "source=dhcp",
            "-o", "parent=eth0", "-o", "hold=0", "lan",
        )  # fmt: skip
        for name in "one-web-1", "two-web-1":  # `web` of two projects of Compose
            words = "--name", name, "--network", "lan", "bb", "sleep", "1000"
            newest.docker("create", *words)
            time.sleep(1.5)  # Docker tells a new container up to 28 by an event only
            newest.docker("start", name)
            becomes(newest, name, newest.attached(name, "lan")[0], router)
        newest.docker("rm", "-f", "one-web-1")
        wait_until(lambda: len(server.leases()) == 1, 10, lambda: server.log)
        becomes(newest, "one-web-1", "", router)
        becomes(newest, "two-web-1", newest.attached("two-web-1", "lan")[0], router)
        newest.clear()


class OfTheFile(Dnsmasq):
    """dnsmasq on the Docker host, for the names in the file of the service."""

    VIEW = Dnsmasq.VIEW.replace(
        "exec chroot",
        'mkdir "$root/run/names"\n'
        'mount --bind /run/underlay/hosts "$root/run/names"\n'
        "exec chroot",
    )

    def _config(self):
        return (
            f"interface={self.device}\nbind-interfaces\nexcept-interface=lo\n"
            "no-resolv\nno-hosts\nuser=root\ngroup=root\nlog-facility=-\n"
            "hostsdir=/run/names\n"
        )


# names_resolve_from_the_lan_in_2_s_and_vanish
def test_names_of_the_file_resolve_from_the_lan_in_2_s_and_vanish(newest):
    """Of two projects, renamed, and with nothing but the file between the servers."""
    newest.network("lan")
    name_server = newest.host.ipv4
    with OfTheFile(newest.host.outer, device="eth0"):
        for name in "one-web-1", "two-web-1":
            newest.run(name, "lan")
            address = newest.attached(name, "lan")[0]
            becomes(newest, name, address, name_server)
            becomes(newest, f"{name}.lan", address, name_server)
        newest.docker("rename", "two-web-1", "shop")
        becomes(newest, "shop", address, name_server)
        becomes(newest, "two-web-1", "", name_server)
        newest.docker("stop", "-t", "0", "shop")
        becomes(newest, "shop", "", name_server)
        newest.docker("start", "shop")
        becomes(newest, "shop", newest.attached("shop", "lan")[0], name_server)
        newest.docker("rm", "-f", "shop", "one-web-1")
        for name in "shop", "one-web-1.lan":
            becomes(newest, name, "", name_server)
