"""Docker's part in a container's network, without Docker: devices moved in and out."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path

from tests.lab.net import NETNS, ip
from underlay.model import Endpoint, IpInterface, JoinAnswer


class Dock:
    """A sandbox: a pinned namespace that devices of this thread's are moved into."""

    def __init__(self, netns: str) -> None:
        self.netns = netns
        ip(f"netns add {netns}")
        self.ip("link set lo up")

    @property
    def path(self) -> str:
        """Return what Docker calls the sandbox's key."""
        return str(Path("/run/netns") / self.netns)

    def ip(self, *lines: str, check: bool = True) -> str:
        """Run several `ip` commands in it, in one process; return what they say."""
        batch = "".join(f"{line}\n" for line in lines)
        force = [] if check else ["-force"]
        done = subprocess.run(
            ["ip", "-n", self.netns, *force, "-batch", "-"],
            input=batch, capture_output=True, text=True,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"ip: {done.stderr.strip()}")
        return done.stdout

    def take(
        self,
        given: JoinAnswer,
        endpoint: Endpoint,
        device: str,
        *,
        default: bool = True,
    ) -> None:
        """Move a device in and set it up as Join's answer says, in Docker's order.

        `default`: the container has its default route by this network.
        """
        ip(f"link set {given.device} netns {self.netns}")
        self.ip(
            f"link set {given.device} name {device}",
            *(_address(a, device) for a in endpoint.addresses),
            f"link set {device} up",
            *_ways(given, device, default=default),
        )

    def give_back(self, device: str, name: str) -> None:
        """Move a device out again, under the name it came with; it may be gone."""
        here = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        self.ip(
            f"link set {device} down",
            f"link set {device} name {name}",
            f"link set {name} netns {here}",
            check=False,
        )

    def close(self) -> None:
        """Remove it, with what is in it."""
        if (NETNS / self.netns).exists():
            ip(f"netns del {self.netns}")


def _address(address: IpInterface, device: str) -> str:
    if address.version == 6:
        return f"addr add {address} dev {device} nodad"
    broadcast = " brd +" if address.network.prefixlen < 31 else ""
    return f"addr add {address}{broadcast} dev {device}"


def _ways(given: JoinAnswer, device: str, *, default: bool) -> Iterable[str]:
    for to in given.on_link:
        yield f"route add {to} dev {device}"
    for to, hop in given.via:
        yield f"route add {to} via {hop} dev {device}"
    for gateway in (given.gateway4, given.gateway6) if default else ():
        if gateway:
            anywhere = "default" if gateway.version == 4 else "::/0"
            yield f"route add {anywhere} via {gateway} dev {device}"
