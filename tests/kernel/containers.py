"""A container without Docker: its namespace, and what Docker does with a device.

Processes are dear in the kernels of tests/uml: 40 ms each. So `ip` is given many lines
at once, and what can be read without one is.
"""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from tests.lab import net
from tests.lab.sandbox import Dock
from tests.lab.service import wait_until
from underlay.kernel import namespaces
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet


class Place(Dock):
    """A pinned namespace."""

    def __init__(self, prefix) -> None:
        super().__init__(f"{prefix}{secrets.token_hex(3)}")

    def show(self, *words):
        command = ["ip", "-n", self.netns, *words]
        return subprocess.run(command, capture_output=True, text=True).stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def given(addresses, device):
    """The commands that give addresses to a device, as Docker and others do it."""
    for address in addresses:
        how = "nodad" if ":" in str(address) else "brd +"
        yield f"addr replace {address} dev {device} {how}"


class Room(Place):
    """The namespace of a container, as a sandbox."""

    def __init__(self) -> None:
        super().__init__("ulr")

    def start(self, engine, endpoint):
        """Do as Docker does when a container starts, until that is at rest."""
        engine.create_endpoint(endpoint)
        self.take(
            engine.join(endpoint.network, endpoint.id, self.path), endpoint, "eth0"
        )
        calm(engine)

    def face(self):
        """What the container sees of its network: in ip's words, and the routes."""
        shown = self.show("-d", "addr", "show", "dev", "eth0")
        # What the kernel counts, what comes of a MAC, and the state of a wire.
        volatile = r"^\d+: |@\S+|link-netns\S* \S+|fe80::[^/ ]+|permaddr \S+|tentative"
        volatile += r"|qlen \d+|state \S+|noqueue|,?(M-DOWN|LOWER_UP|NO-CARRIER)"
        shown = re.sub(volatile, "", shown, flags=re.MULTILINE)
        lines = (" ".join(line.split()) for line in shown.splitlines())
        return sorted(
            (*lines, *namespaces.run_in(Path(self.path), lambda: list(_routes())))
        )

    def has(self, words):
        """Tell whether the container sees these words."""
        return words in " ".join(self.face())


def _routes():
    """The routes of this namespace by eth0, but those that come with every device."""
    tables = Path("/proc/thread-self/net")
    four, six = ((tables / n).read_text().split("\n") for n in ("route", "ipv6_route"))
    for name, to, hop, _, _, _, metric, mask, *_ in map(str.split, four[:-1]):
        if name == "eth0":
            yield f"{to}/{mask} via {hop} metric {metric}"
    for to, length, _, _, hop, metric, _, _, _, name in map(str.split, six[:-1]):
        if name == "eth0" and not to.startswith(("fe80", "ff")):
            yield f"{to}/{length} via {hop} metric {metric}"


def calm(engine):
    """One pass without a refusal, after which there is nothing to do."""
    assert engine.reconcile() == []
    assert engine.preview() == ()


def without(face, mac):
    return [line.replace(mac, "") for line in face]


def reached(address, path="/proc/thread-self/ns/net"):
    """Whether an address answers a namespace, if only by refusing."""

    def look():
        try:
            socket.create_connection((str(address), 9), timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True

    return namespaces.run_in(Path(path), look)


class Wire:
    """eth0 of this namespace with the host's addresses, and a router behind it."""

    host_addresses = ("10.0.0.2/24", "fd00::2/64")
    tags = ()

    def __init__(self) -> None:
        net.ip("link del eth0")
        self.far = Place("ulf")
        self.name = "eth0"
        self.plug()

    def plug(self, mac=""):
        """Put a card in, and do as a network service does then."""
        self.name = "eth0"
        address = f"address {mac} " if mac else ""
        peer = f"peer name wire0 netns {self.far.netns}"
        net.ip(f"link add eth0 {address}type veth {peer}", *self._configured())
        device, lines = "wire0", ["link set wire0 up"]
        for tag in self.tags:
            above = f"{device}.{tag}"
            lines += [f"link add link {device} name {above} type vlan id {tag}"]
            lines += [f"link set {above} up"]
            device = above
        lines += given(("10.0.0.1/24", "fd00::1/64"), device)
        if self.host_addresses:
            lines += ["route add 10.81.0.0/24 via 10.0.0.2"]
            lines += ["route add fd81::/64 via fd00::2"]
        self.far.ip(*lines)

    def _configured(self):
        return f"link set {self.name} up", *given(self.host_addresses, self.name)

    def configure(self):
        net.ip(*self._configured())

    def unplug(self):
        net.ip(f"link del {self.name}")

    def rename(self, name):
        lines = f"link set {self.name} down", f"link set {self.name} name {name}"
        self.name = name
        net.ip(*lines, *self._configured())

    @property
    def mac(self):
        return LinuxKernel().device(self.name).mac

    def assert_reaches(self, endpoint):
        """The router reaches a container, and so does the host where it has a way."""
        for address in (a.ip for a in endpoint.addresses):
            for path in (self.far.path, *self._own()):
                wait_until(
                    lambda a=address, p=path: reached(a, p), 5, lambda a=address: a
                )

    def _own(self):
        return ("/proc/thread-self/ns/net",) if self.host_addresses else ()


OPTIONS = {"parent": "eth0", "mode": "ipvlan", "host_access": "on"}
L2 = Network(
    "n1", OPTIONS, False,
    (
        Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1")),
        Subnet(ip_network("fd00::/64"), ip_address("fd00::1")),
    ),
)  # fmt: skip
WEB2 = Endpoint("e1", "n1", ip_interface("10.0.0.5/24"), ip_interface("fd00::5/64"))
NEW = "02:00:00:00:00:99"
