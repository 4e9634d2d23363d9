"""The LAN that the lab's hosts are on, and the router side of it."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

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


class Lan:
    """A namespace with bridge br0, 10.77.0.1/24 and fd77::1/64, that forwards."""

    def __init__(self) -> None:
        # Of the process and random: neither a second run on this machine nor the
        # leftovers of a killed one with the same pid can have these names.
        self.tag = f"ul{os.getpid():x}{secrets.token_hex(2)}"
        self.netns = f"{self.tag}-lan"
        self._started: list[subprocess.Popen[Any]] = []
        ip(f"netns add {self.netns}")
        try:
            self._configure()
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        commands = """
            ip link set lo up
            ip link add br0 type bridge
            ip link set br0 up
            ip addr add 10.77.0.1/24 dev br0
            ip addr add fd77::1/64 dev br0 nodad
            echo 1 > /proc/sys/net/ipv4/ip_forward
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
        """
        self.run("sh", "-ec", commands)

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine on the router side."""
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
        """Remove the LAN; its hosts must have been closed before."""
        for process in self._started:
            process.kill()
            process.wait()
        if (NETNS / self.netns).exists():
            ip(f"netns del {self.netns}")

    def __enter__(self) -> Lan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
