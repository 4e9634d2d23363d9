"""The LAN that the lab's hosts are on, and the router side of it."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NETNS = Path("/var/run/netns")


def ip(*lines: str) -> None:
    """Run several `ip` commands in one process."""
    batch = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["ip", "-batch", "-"], input=batch, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"ip: {done.stderr.strip()}")


def enter(netns: str) -> list[str]:
    """The words before a command that is to run in this network namespace."""
    # Not `ip netns exec`: that mounts a new /sys, which hides the cgroups.
    return ["nsenter", f"--net={NETNS / netns}"]


class Namespace:
    """A network namespace, and what runs in it until it is closed."""

    def __init__(self, netns: str, commands: str) -> None:
        self.netns = netns
        self._started: list[subprocess.Popen[Any]] = []
        ip(f"netns add {netns}")
        try:
            self.run("sh", "-ec", f"ip link set lo up\n{commands}")
        except BaseException:
            self.close()
            raise

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine there."""
        command = [*enter(self.netns), *argv]
        return subprocess.run(
            command, check=check, timeout=timeout, capture_output=True, text=True
        )

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a long-running command (a DHCP server, say) there; close() ends it."""
        process = subprocess.Popen([*enter(self.netns), *argv], **options)
        self._started.append(process)
        return process

    def close(self) -> None:
        """Remove the namespace and what runs in it."""
        for process in self._started:
            process.kill()
            process.wait()
        if (NETNS / self.netns).exists():
            ip(f"netns del {self.netns}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Lan(Namespace):
    """Bridge br0, 10.77.0.1/24 and fd77::1/64, that forwards.

    Its hosts must be closed before it is. It has a MAC of its own, as routers have: a
    bridge's would change with its ports, which hosts do not expect of their gateway.
    """

    def __init__(self) -> None:
        # Of the process and random: neither a second run on this machine nor the
        # leftovers of a killed one with the same pid can have these names.
        self.tag = f"ul{os.getpid():x}{secrets.token_hex(2)}"
        commands = """
            ip link add br0 address 02:00:00:00:77:01 type bridge
            ip link set br0 up
            ip addr add 10.77.0.1/24 dev br0
            ip addr add fd77::1/64 dev br0 nodad
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        """
        super().__init__(f"{self.tag}-lan", commands)


class Far(Namespace):
    """A machine behind the LAN's router: 10.88.0.2 and fd88::2, with no default route.

    It reaches beyond the router only what it has been given a route to.
    """

    def __init__(self, lan: Lan) -> None:
        commands = f"""
            ip link add eth0 type veth peer name far netns {lan.netns}
            ip link set eth0 up
            ip addr add 10.88.0.2/30 dev eth0
            ip addr add fd88::2/64 dev eth0 nodad
        """
        super().__init__(f"{lan.tag}-far", commands)
        self._lan = lan
        router = """
            ip link set far up
            ip addr add 10.88.0.1/30 dev far
            ip addr add fd88::1/64 dev far nodad
        """
        try:
            lan.run("sh", "-ec", router)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove it, and its link by name: the namespace itself goes later."""
        self._lan.run("ip", "link", "del", "far", check=False)
        super().close()
