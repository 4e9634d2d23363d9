"""The ports that `-p` names, as Docker tells them and as they are recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from underlay.model.ip import IpAddress

Protocol = Literal["tcp", "udp", "sctp"]
# The option of an endpoint under which Docker tells ports, and they are recorded.
PORTS_OPTION = "com.docker.network.portmap"
PROTOCOLS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}
_WORD = re.compile(r"(?:\[(.*)\]:)?(\d+):(\d+)/(\w+)")


@dataclass(frozen=True, slots=True, order=True)
class PublishedPort:
    """A port of a container, and the one by which it is reached as well.

    `published` is the same as `port` if `-p` names none. `host_ip` is the address that
    `-p` names, "" for none.
    """

    protocol: Protocol
    port: int
    published: int
    host_ip: str = ""

    def __str__(self) -> str:
        where = f"[{self.host_ip}]:" if self.host_ip else ""
        return f"{where}{self.published}:{self.port}/{self.protocol}"

    @property
    def address(self) -> IpAddress | None:
        """Return the address that `-p` names, None for all of the host's."""
        found = ip_address(self.host_ip) if self.host_ip else None
        return None if found is None or found.is_unspecified else found

    @property
    def for_host(self) -> bool:
        """Return whether only the host is to reach it: -p 127.0.0.1:8080:80."""
        return self.address is not None and self.address.is_loopback

    @property
    def families(self) -> tuple[int, ...]:
        """Return the IP families it is published in."""
        if not self.host_ip:
            return 4, 6
        return (ip_address(self.host_ip).version,)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the port numbers by which it is reached."""
        return tuple(dict.fromkeys((self.port, self.published)))


def as_option(ports: list[PublishedPort]) -> str:
    """Return ports as the value of the recorded option, "" for none."""
    return " ".join(map(str, sorted(set(ports))))


def of_option(value: str) -> tuple[PublishedPort, ...]:
    """Return the ports of a recorded option."""
    found = (_WORD.fullmatch(word) for word in value.split())
    known = {name: name for name in PROTOCOLS.values()}
    return tuple(
        PublishedPort(known[m[4]], int(m[3]), int(m[2]), m[1] or "")
        for m in found
        if m and m[4] in known
    )
