"""For whom an object exists, and the mark in the kernel that says so."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

MARK = "underlay:"
PREFIX = "ul-"
# Ids as Docker sends them, and names as the kernel takes them: no colon, no blank.
_ID = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}"
_NAME = r"[^/:\s]+"
_OF_DEVICE = re.compile(
    rf"{MARK}({_ID}:({_ID}(/host)?)?|:((bridge|shim)/{_NAME}|{_NAME}\.[0-9]{{1,4}}))"
)


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """The network or endpoint an object exists for.

    What several of them need (a VLAN, a shim, forwarding) exists for none of them by
    name: `shared` says what it is instead. `end` tells the host's end of an endpoint's
    pair of devices from the container's, which has "".
    """

    network: str = ""
    endpoint: str = ""
    shared: str = ""
    end: str = ""

    @property
    def mark(self) -> str:
        """Return what the object carries in the kernel; survives move and rename."""
        end = f"/{self.end}" if self.end else ""
        return f"{MARK}{self.network}:{self.shared or self.endpoint}{end}"

    @property
    def device(self) -> str:
        """Return the host-side device name, stable and within IFNAMSIZ (15)."""
        identity = self.mark.removeprefix(MARK).encode()
        return PREFIX + hashlib.sha256(identity).hexdigest()[:12]

    @property
    def host_end(self) -> Owner:
        """Return the owner of the host's end of an endpoint's pair."""
        return replace(self, end="host")

    @property
    def endpoint_owner(self) -> Owner:
        """Return for whom both ends of a pair exist."""
        return replace(self, end="") if self.end else self

    @property
    def vlan(self) -> str:
        """Return the name (eth0.50) if this is a VLAN; other shared things have a /."""
        return "" if "/" in self.shared else self.shared

    @property
    def takes_over(self) -> str:
        """Return the device whose place this has, if it is a bridge of ours."""
        what, _, name = self.shared.partition("/")
        return name if what == "bridge" else ""

    @property
    def altname(self) -> str:
        """Return the name people look for what is shared by: eth0.50, br-eth0."""
        return f"br-{self.takes_over}" if self.takes_over else self.vlan

    @classmethod
    def of_device(cls, alias: str) -> Owner | None:
        """Read the alias of a device; None unless it is a mark that devices have.

        Other people's may begin alike: the word is a common one for such networks.
        """
        return cls.parse(alias) if _OF_DEVICE.fullmatch(alias) else None

    @classmethod
    def parse(cls, mark: str) -> Owner:
        """Read a mark back, that is one."""
        network, _, rest = mark.removeprefix(MARK).partition(":")
        if not network:
            return cls(shared=rest)
        endpoint, _, end = rest.partition("/")
        return cls(network, endpoint, end=end)
