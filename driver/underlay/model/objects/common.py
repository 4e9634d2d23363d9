"""What all kernel objects have in common: keys, marks, and the order of building."""

from __future__ import annotations

import re
import shlex
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import Any, Literal

from underlay.model.text import as_sysctl

TABLE = "underlay"
# A link is created in this group and leaves it when its alias is set: the kernel takes
# no alias at creation, and a crash in between must not leave a link without an owner.
UNFINISHED_GROUP = 157
# The host's ends of routed containers are in the first group ("ul"), shims in the next.
# Firewall rules match these: a name with our prefix may be another program's.
CONTAINER_GROUP = 0x756C
SHIM_GROUP = 0x756D
_protocol = 157
# The build order. Filters exist before the links they guard are up, addresses before
# the routes that may need them as their source. IPv6 is on before it has addresses.
SHARED, GATES, TOP, FILTERS, SLAAC, ADDRESSES = 500, 600, 1000, 1500, 1800, 2000
ROUTES, NAMES = 3000, 4000
MAIN_TABLE = 254
# Device names that mean themselves in a rule: to iptables br+ is every name that begins
# so, and nft has words and signs of its own.
PLAIN_NAME = re.compile(r"[\w.:@-]+")
# The sysctl that switches IPv6 off on a device: 1 is off.
IPV6_SWITCH = "net/ipv6/conf/*/disable_ipv6="
# How the device makes its link-local address: 0 is from the MAC, 1 not at all, 2 from
# a secret. With 0 and 2, it so makes addresses from routers' prefixes as well.
OWN_LINK_LOCAL = "net/ipv6/conf/*/addr_gen_mode="
# The secret, written as an IPv6 address. The kernel tells it in /proc only.
IPV6_SECRET = "net/ipv6/conf/*/stable_secret="  # noqa: S105 - a path
# The sysctls of a device in a sandbox that decide which addresses it can have.
ADDRESS_SYSCTLS = (IPV6_SWITCH, OWN_LINK_LOCAL)
# The metric of a route to one container: the kernel's default.
HOST_METRIC: dict[int, int] = {4: 0, 6: 1024}
# The metric of a whole pool, of which containers' routes are a part.
POOL_METRIC = 10
Verb = Literal["add", "change", "del"]


class KernelObject:
    """A kernel object as a value. Desired and observed ones are paired by `key`."""

    __slots__ = ()

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        raise NotImplementedError

    def __hash__(self) -> int:
        return hash(self.key)

    def is_amendable_from(self, seen: Any) -> bool:
        """Return whether `seen` can be changed into this in place."""
        return bool(seen.key == self.key)

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` is as this must be."""
        return self.is_amendable_from(seen)


def protocol() -> int:
    """Return the protocol number of our routes and neighbours."""
    return _protocol


def use_protocol(number: int) -> None:
    """Set that protocol number for this process, before its first look."""
    global _protocol
    _protocol = number


def nsenter(sandbox: str) -> str:
    """Return the prefix of a command that runs in a sandbox; "" for the host."""
    return f"nsenter --net={word(sandbox)} " if sandbox else ""


def word(name: str | None) -> str:
    """Return a name quoted for a shell: a container chooses its devices' names."""
    return shlex.quote(name or "")


@lru_cache  # thousands of devices have the same ones
def differing(wanted: tuple[str, ...], shown: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sysctls of a device that are shown with another value."""
    values = dict(setting.split("=") for setting in shown)
    pairs = ((setting, *setting.split("=")) for setting in wanted)
    return tuple(s for s, path, value in pairs if values.get(path, value) != value)


def sysctl_command(settings: Iterable[str], device: str) -> str:
    """Return the command that makes settings of a device, "" for none.

    It is shown and logged: a secret (RFC 7217) stands in it as `hidden`.
    """
    shown = (
        f"{IPV6_SECRET}hidden" if setting.startswith(IPV6_SECRET) else setting
        for setting in settings
    )
    pairs = (setting.partition("=") for setting in shown)
    words = [
        word(f"{as_sysctl(path.replace('*', device))}={value}")
        for path, _, value in pairs
    ]
    return " ".join(["sysctl -w", *words]) if words else ""
