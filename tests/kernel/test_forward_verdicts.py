"""Rules made by chance: what is said of a packet is what the kernel does with it."""

from __future__ import annotations

import random
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network

import pytest

from tests.lab import net
from underlay.kernel import namespaces
from underlay.kernel.linux import LinuxKernel
from underlay.model import Network, Subnet, Uplink
from underlay.networks.forward_path import blocked

pytestmark = pytest.mark.needs("nftables")
# A dropped packet takes so long; one that passes takes less than a millisecond.
PATIENCE_SECONDS = 0.1
# As the judged packets have it.
PORT, GROUP = "ul-000000000000", 0x756C
SUBNET, CONTAINER, GATEWAY = ip_network("10.9.0.0/24"), "10.9.0.5", "10.77.0.1"
NETWORK = Network("n", {"mode": "routed"}, False, (Subnet(SUBNET),), Uplink(), "n")
DEVICES = '"eth0"', f'"{PORT}"', '"ul-*"', '"e*"', '"docker0"'
MATCHES = (
    *(f"{way}name{no} {name}" for way in ("iif", "oif") for no in ("", " !=")
      for name in DEVICES),
    *(f"{way}group{no} {GROUP}" for way in ("iif", "oif") for no in ("", " !=")),
    'iifname { "eth0", "docker0" }', f'oifname != {{ "docker0", "{PORT}" }}',
    "ct state new", "ct state established,related", "ct state != { new, invalid }",
    "meta nfproto ipv4", "meta nfproto != ipv4", "",
)  # fmt: skip
VERDICTS = "accept", "drop", "accept", "drop", "return", "jump", "goto", "counter"
MAPS = (
    "ct state vmap {{ new : {}, established : {} }}",
    'iifname vmap {{ "eth0" : {}, "ul-*" : {} }}',
    'oifname vmap {{ "eth0" : {} }}',
)


class Path:
    """A container, the host in this thread's namespace, and its gateway, which echoes.

    `passes` sends a packet on a new connection, and waits for the answer.
    """

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.container = net.Namespace(f"ulct{mark}", "")
        self.gateway = net.Namespace(f"ulgw{mark}", "")
        net.ip(
            f"link set wire0 netns {self.gateway.netns}",
            f"link add {PORT} group {GROUP} type veth peer name c0"
            f" netns {self.container.netns}",
            f"link set {PORT} up",
            "addr add 10.77.0.9/24 dev eth0",
            f"route add default via {GATEWAY}",
            f"route add {CONTAINER} dev {PORT}",
        )
        self.container.run(
            "sh", "-ec", f"ip link set c0 up; ip addr add {CONTAINER}/32 dev c0;"
            " ip route add default dev c0",
        )  # fmt: skip
        self.gateway.run(
            "sh", "-ec", f"ip link set wire0 up; ip addr add {GATEWAY}/24 dev wire0;"
            f" ip route add {SUBNET} via 10.77.0.9",
        )  # fmt: skip
        for setting in ("ip_forward", f"conf/{PORT}/proxy_arp"):
            words = f"echo 1 > /proc/sys/net/ipv4/{setting}"
            subprocess.run(["sh", "-ec", words], check=True)
        self._echo = self._socket(self.gateway, GATEWAY)
        self._port = self._echo.getsockname()[1]
        threading.Thread(target=self._answer, daemon=True).start()

    def _socket(self, place, address):
        def make():
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        made = namespaces.run_in(net.NETNS / place.netns, make)
        made.bind((address, 0))
        return made

    def _answer(self):
        with suppress(OSError):  # it is closed
            while True:
                text, sender = self._echo.recvfrom(64)
                if text == b"end":
                    return
                self._echo.sendto(text, sender)

    def passes(self, seconds=PATIENCE_SECONDS):
        with self._socket(self.container, CONTAINER) as s:
            s.settimeout(seconds)
            try:
                s.sendto(b"?", (GATEWAY, self._port))
                return s.recv(64) == b"?"
            except OSError:
                return False

    def close(self):
        with self._socket(self.gateway, GATEWAY) as s:
            s.sendto(b"end", (GATEWAY, self._port))
        self._echo.close()
        self.container.close()
        self.gateway.close()


@pytest.fixture
def path(namespace):  # noqa: ARG001
    found = Path()
    try:
        assert any(found.passes(1.0) for _ in range(5))  # neighbours are known then
        yield found
    finally:
        found.close()


def ruleset(chance: random.Random) -> Iterator[str]:
    policy = chance.choice(["accept", "drop"])
    yield "flush ruleset; add table inet t; add chain inet t c3"
    yield "add chain inet t c2; add chain inet t c1"
    yield "add chain inet t c0 { type filter hook forward priority 0;"
    yield f" policy {policy}; }}"
    for depth in (3, 2, 1, 0):
        for _ in range(chance.randrange(4)):
            words = [chance.choice(MATCHES) for _ in range(chance.randrange(3))]
            yield f"add rule inet t c{depth} {' '.join(words)} {end(chance, depth)}"


def end(chance: random.Random, depth: int) -> str:
    """Return how a rule ends: with a verdict, or a map of verdicts."""

    def verdict():
        word = chance.choice(VERDICTS[:-1])
        if word in ("jump", "goto"):
            return f"{word} c{depth + 1}" if depth < 3 else "drop"
        return word

    if chance.random() < 0.2:
        return chance.choice(MAPS).format(verdict(), verdict())
    return chance.choice([verdict(), VERDICTS[-1]])


@pytest.mark.parametrize("seed", range(4))
def test_verdict_on_a_packet_is_that_of_the_kernel(path, seed):
    chance, kernel, found = random.Random(seed), LinuxKernel(), set()
    for _ in range(40):
        rules = "\n".join(ruleset(chance)).replace("\n policy", " policy")
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        chains = kernel.forward_chains()
        is_blocked = any(blocked(NETWORK, chains, kernel, "eth0", way="out"))
        # The group of the uplink is not known, so what depends on it may pass.
        if is_blocked or "group" not in rules:
            assert path.passes() != is_blocked, rules
        found.add(is_blocked)
    assert found == {True, False}
