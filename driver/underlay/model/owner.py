"""The owner of an object, and the mark in the kernel that names the owner.

Marks and the names of what is shared are texts in the kernel and in the records. They
are written by `__str__` and read by `parse` in this module, and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Literal, get_args

from underlay.model.ip import Family, IpNetwork

MARK = "underlay:"
PREFIX = "ul-"
OUTSIDE = ("dhcp", "docker")
SharedKind = Literal["vlan", "bridge", "shim", "port", "pool", "gate", "isolation"]
ReasonKind = Literal["forwarding", "proxy", "loose"]
_SHARED = {str(kind): kind for kind in get_args(SharedKind)}
_REASONS = {str(kind): kind for kind in get_args(ReasonKind)}
_DEVICE = re.compile(rf"{PREFIX}[0-9a-f]{{12}}")
# Ids as Docker sends them, and names as the kernel takes them: no colon, no blank.
_ID = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}"
_NAME = r"[^/:\s]+"
_OF_DEVICE = re.compile(
    rf"{MARK}({_ID}:({_ID}(/host)?)?|:((bridge|shim)/{_NAME}|{_NAME}\.[0-9]{{1,4}}))"
)


@dataclass(frozen=True, slots=True)
class SharedOwner:
    """What several networks or endpoints use together.

    `vlan`: the VLAN device known as `device` (eth0.50). `bridge`: the bridge that takes
    the place of `device`. `shim`: the host's device for its containers on the parent
    `device`. `port`: the rules for the ports of the bridge `device`. `pool`: the route
    of the pool `subnet` in the routing table `table`. `gate`: the rules for containers
    on the parent or bridge `device`; "": for routed ones. `isolation`: what keeps the
    containers of a network apart from others; `device` is the id of the network.
    """

    kind: SharedKind
    device: str = ""
    table: int = 0
    subnet: IpNetwork | None = None

    def __str__(self) -> str:
        if self.kind == "vlan":
            return self.device
        if self.kind == "pool":
            return f"pool/{self.table}/{self.subnet}"
        return f"{self.kind}/{self.device}"

    @classmethod
    def parse(cls, text: str) -> SharedOwner:
        """Read the text of a shared owner; raises KeyError for another text."""
        kind, slash, rest = text.partition("/")
        if not slash:
            return cls("vlan", text)
        if kind == "pool":
            table, _, subnet = rest.partition("/")
            return cls("pool", table=int(table), subnet=ip_network(subnet))
        return cls(_SHARED[kind], rest)

    @property
    def owner(self) -> Owner:
        """Return the owner of the objects that are shared."""
        return Owner(shared=self)


@dataclass(frozen=True, slots=True, order=True)
class SysctlReason:
    """Why sysctls of the host are set.

    `forwarding`: the host forwards packets of an IP family. `proxy`: `device` answers
    ARP or neighbour discovery for containers. `loose`: the reverse path filter of
    `device` is loose.
    """

    kind: ReasonKind
    device: str = ""
    family: Family = 4

    def __str__(self) -> str:
        device = f"{self.device}/" if self.device else ""
        return f"{self.kind}/{device}{self.family}"

    @classmethod
    def parse(cls, text: str) -> SysctlReason:
        """Read the text of a reason; raises KeyError for another text."""
        kind, *device, family = text.split("/")
        return cls(_REASONS[kind], "".join(device), 6 if family == "6" else 4)

    @property
    def owner(self) -> Owner:
        """Return the owner of the sysctls, and of the rules that go with them."""
        return Owner(shared=self)


@dataclass(frozen=True, slots=True)
class Owner:
    """The network or endpoint an object exists for.

    An object that several of them use (a VLAN, a shim, forwarding) has none of their
    ids; `shared` says what it is instead. `end` is "host" for the host's end of a
    container's veth, and "" for the container's end. Failures of what is no object of
    the kernel have others: "dhcp" of the servers of a network, "docker" of what Docker
    was asked.
    """

    network: str = ""
    endpoint: str = ""
    shared: SharedOwner | SysctlReason | None = None
    end: str = ""

    @property
    def mark(self) -> str:
        """Return the mark the object carries in the kernel; it survives a rename."""
        end = f"/{self.end}" if self.end else ""
        return f"{MARK}{self.network}:{self.shared or self.endpoint}{end}"

    @property
    def device(self) -> str:
        """Return the host-side device name, stable and within IFNAMSIZ (15)."""
        identity = self.mark.removeprefix(MARK).encode()
        return PREFIX + hashlib.sha256(identity).hexdigest()[:12]

    @staticmethod
    def is_device(name: str) -> bool:
        """Return whether a name is one that `device` may return."""
        return bool(_DEVICE.fullmatch(name))

    @property
    def host_end(self) -> Owner:
        """Return the owner of the host's end of an endpoint's veth."""
        return replace(self, end="host")

    @property
    def is_in_kernel(self) -> bool:
        """Whether it owns objects of the kernel, which passes look at."""
        return self.end not in OUTSIDE

    @property
    def endpoint_owner(self) -> Owner:
        """Return the owner of an endpoint's objects, both ends of a veth included."""
        return replace(self, end="") if self.end else self

    @property
    def vlan(self) -> str:
        """Return the name of the VLAN (eth0.50), "" if this is none."""
        return self._shared_device("vlan")

    @property
    def takes_over(self) -> str:
        """Return the device that a bridge replaces, "" if this is no bridge."""
        return self._shared_device("bridge")

    @property
    def is_of_gate(self) -> bool:
        """Return whether this is the owner of a gate of the host."""
        kinds = ("gate", "isolation")
        return isinstance(self.shared, SharedOwner) and self.shared.kind in kinds

    @property
    def altname(self) -> str:
        """Return the name that administrators look for: eth0.50, br-eth0."""
        return f"br-{self.takes_over}" if self.takes_over else self.vlan

    def _shared_device(self, kind: SharedKind) -> str:
        return self.shared.device if self.shared and self.shared.kind == kind else ""

    @classmethod
    def of_device(cls, alias: str) -> Owner | None:
        """Read the alias of a device; None unless it is a mark that devices have.

        Aliases that other programs set may begin alike: `underlay` is a common word for
        such networks.
        """
        return cls.parse(alias) if _OF_DEVICE.fullmatch(alias) else None

    @classmethod
    def parse(cls, mark: str) -> Owner:
        """Read a mark, as `mark` returns it; raises KeyError for another text."""
        network, _, rest = mark.removeprefix(MARK).partition(":")
        if not network:
            return cls(shared=_parse_shared(rest) if rest else None)
        endpoint, _, end = rest.partition("/")
        return cls(network, endpoint, end=end)


def _parse_shared(text: str) -> SharedOwner | SysctlReason:
    is_reason = text.partition("/")[0] in _REASONS and "/" in text
    return SysctlReason.parse(text) if is_reason else SharedOwner.parse(text)
