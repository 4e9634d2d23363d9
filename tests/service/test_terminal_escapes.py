"""A device that a container calls after escape sequences: none reaches a terminal."""

from __future__ import annotations

import secrets
import subprocess
import sys
from contextlib import closing

import pytest

from tests.api.bodies import ENDPOINT, IDS, JOIN, NETWORK
from tests.lab.service import wait_until
from underlay.records import Records

# Clears the screen; turns the direction of writing; is no UTF-8.
NAMES = [b"\x1b[2J\x1b]0;x\x07", "\u202eab\x9b".encode(), b"a\xff\x80\x1bc"]


class Sandbox:
    """A container's namespace, in which root of the container does as he likes."""

    def __init__(self, daemon):
        self.name = f"uls{secrets.token_hex(3)}"
        self.path = f"/run/netns/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self._daemon = daemon

    def take(self, device):
        self._daemon.in_namespace("ip", "link", "set", device, "netns", self.name)
        self.ip("link", "set", device, "name", "eth0")
        self.ip("addr", "add", "10.0.0.5/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "add", "default", "via", "10.0.0.1")

    def ip(self, *words):
        subprocess.run(["ip", "-n", self.name, *words], check=True)

    def rename(self, name):
        # ip refuses such a name, the kernel does not. At once: the service is quick.
        subprocess.run(
            ["nsenter", f"--net={self.path}", "python3", "-c", RENAME, name.hex()],
            check=True,
        )

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)


RENAME = """
import fcntl, socket, struct, sys
name = bytes.fromhex(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
SIOCSIFNAME, SIOCSIFFLAGS = 0x8923, 0x8914
fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"eth0", 0))
fcntl.ioctl(s, SIOCSIFNAME, struct.pack("16s16s", b"eth0", name))
fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", name, 1))
"""


@pytest.fixture
def sandbox(daemon):
    found = Sandbox(daemon)
    yield found
    found.close()


def is_known_inside(daemon):
    """Whether a pass has looked into the sandbox: what goes from then on is missed."""
    with closing(Records(daemon.state / "underlay.db", readonly=True)) as records:
        return records.endpoints.get(IDS["EndpointID"]).learned


def run(daemon, *words):
    """Run the command where the service is: it looks at its own namespace."""
    namespace = f"--net=/proc/{daemon.process.pid}/ns/net"
    return subprocess.run(
        ["nsenter", namespace, sys.executable, "-m", "underlay", *words],
        env=daemon.env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def raw(text):
    """What of a text is no printable character, but for line ends."""
    return {c for c in text if not c.isprintable()} - {"\n"}


@pytest.mark.parametrize("name", NAMES, ids=["escape", "bidi", "bytes"])
def test_name_of_a_renamed_device_moves_no_terminal(daemon, sandbox, name):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    joined = {**JOIN, "SandboxKey": sandbox.path}
    device = daemon.post("NetworkDriver.Join", joined)[1]["InterfaceName"]["SrcName"]
    sandbox.take(device)
    wait_until(lambda: is_known_inside(daemon), 20, lambda: daemon.log)
    sandbox.rename(name)  # and the routes are gone

    def repaired():
        return "0.0.0.0/0" in daemon.run("history", "--repairs", "e" * 12).stdout

    wait_until(repaired, 30, lambda: daemon.log)
    commands = (
        ("status",), ("history",), ("history", "10.0.0.5"),
        ("endpoint", "ls"), ("endpoint", "show", "e" * 12), ("network", "ls"),
        ("endpoint", "show", "\x1b[2J"), ("network", "show", "\u202e"),
    )  # fmt: skip
    for words in (*commands, ("plan",)):
        done = run(daemon, *words)
        assert raw(done.stdout + done.stderr) == set(), words
        done = run(daemon, *words, "--json")
        assert done.stdout.isascii()
        assert raw(done.stdout + done.stderr) == set(), words
    assert raw(daemon.log) == set()
    for path in ("/status", "/healthz", "/metrics", "/refusals"):
        _, told, _ = daemon.request("GET", path, on=daemon.status)
        assert raw(told.decode("ascii")) == set()
    assert r"\x1b" in daemon.log or r"\u202e" in daemon.log
    daemon.post("NetworkDriver.DeleteEndpoint", IDS)
