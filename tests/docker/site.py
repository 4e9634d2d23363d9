"""What tests on a lab host look at: a card that is unplugged, a container's network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


class Nic:
    """A network card of a host on the lab's LAN, and what the LAN knows behind it."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.mac = ""

    def plug(self, mac=""):
        """Put it in, with the address that it has anyway, or another one."""
        port, host = f"p-{self.name}", self.site.host
        given = ("address", mac) if mac else ()
        self.site.lan.run(
            "ip", "link", "add", port, "type", "veth",
            "peer", "name", self.name, "netns", host.netns, *given,
        )  # fmt: skip
        self.site.lan.run("ip", "link", "set", port, "master", "br0", "up")
        self.configure()
        shown = host.run("ip", "-o", "link", "show", self.name).stdout
        self.mac = re.search(r"link/ether (\S+)", shown)[1]

    def configure(self):
        """Do what a network service does when a device appears."""
        self.site.host.run("ip", "link", "set", self.name, "up")

    def unplug(self):
        self.site.host.run("ip", "link", "del", self.name)

    def rename(self, name):
        self.site.host.run(
            "sh", "-ec",
            f"ip link set {self.name} down; ip link set {self.name} name {name};"
            f" ip link set {name} up",
        )  # fmt: skip
        self.name = name


# Without records, a container's MAC and client ids follow from the id of the machine.
HAS_ID = Path("/etc/machine-id").is_file()
derived = pytest.mark.skipif(
    not HAS_ID, reason="this machine has no /etc/machine-id to derive clients from"
)
PERIOD_SECONDS = 600
RANGE = ("--ip-range", "10.77.0.64/27")


def is_settled(site):
    """Tell whether the service has seen Docker finish with the devices."""
    query = "select count(*) from sandbox where device = ''"
    found = site.host.outer_run(
        "python3", "-c",
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1])"
        ".execute(sys.argv[2]).fetchone()[0])",
        f"{site.service.env['UNDERLAY_STATE_DIR']}/underlay.db", query,
    )  # fmt: skip
    return found.stdout.strip() == "0"


def inside(site, container, *words, check=True):
    """Run a command of the lab in a container's network namespace."""
    net = f"--net=/proc/{site.host.pid_of(container)}/ns/net"
    return site.host.run("nsenter", net, *words, check=check).stdout


def face(site, container="web"):
    """Return what a container sees of its network, in ip's words; None if nothing."""
    try:
        shown = inside(
            site, container, "sh", "-ec",
            "ip -o link show dev eth0; ip -o addr show dev eth0;"
            "ip route; ip -6 route",
        )  # fmt: skip
    except subprocess.CalledProcessError:
        return None
    # What the kernel counts, and what is not ours.
    shown = re.sub(r"^\d+: (\w+)(@\w+)?:?", r"\1", shown, flags=re.MULTILINE)
    shown = re.sub(r"link-netnsid \d+|qlen \d+|if\d+|noqueue|tentative", "", shown)
    return sorted(" ".join(line.split()) for line in shown.splitlines())


def repairs(site):
    """Return the newest repairs."""
    return site.service.on_record()["repairs"]
