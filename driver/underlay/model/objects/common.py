"""What all kernel objects of ours have in common: marks, and the order of building."""

from __future__ import annotations

import re
import shlex
from typing import Literal

TABLE = "underlay"
# A link is born in this group and leaves it when its alias is set: the kernel takes no
# alias at creation, and a death in between must not leave a link nobody owns.
UNFINISHED_GROUP = 157
# The host's ends of routed containers are in the first group ("ul"), shims in the next:
# a name that begins like ours may be somebody's, so rules of firewalls match these.
CONTAINER_GROUP = 0x756C
SHIM_GROUP = 0x756D
_protocol = 157
# What stands on links: filters before those are up, addresses before the routes that
# may need them as their source.
SHARED, TOP, FILTERS, ADDRESSES, ROUTES = 500, 1000, 1500, 2000, 3000
MAIN_TABLE = 254
# Device names that mean themselves in a rule: to iptables br+ is every name that begins
# so, and nft has words and signs of its own.
PLAIN_NAME = re.compile(r"[\w.:@-]+")
# The sysctl that says whether a device can have IPv6: 1 is not.
IPV6_SWITCH = "net/ipv6/conf/*/disable_ipv6="
# And how it makes its own link-local address: 0 is from the MAC, 1 not at all.
OWN_LINK_LOCAL = "net/ipv6/conf/*/addr_gen_mode="
# The sysctls of a device in a sandbox by which it is seen what else it may have.
HEEDED = (IPV6_SWITCH, OWN_LINK_LOCAL)
# The metric of a route to one container; the kernel has no lower one for IPv6 without
# one being given.
HOST_METRIC: dict[int, int] = {4: 0, 6: 1024}
# The metric of a whole pool, of which containers' routes are a part.
POOL_METRIC = 10
Verb = Literal["add", "del"]


def protocol() -> int:
    """Return the number that routes and neighbours of ours carry."""
    return _protocol


def use_protocol(number: int) -> None:
    """Have ours carry another number; for a process as a whole, before it looks."""
    global _protocol
    _protocol = number


def inside(sandbox: str) -> str:
    """Return the words before a command in a sandbox, if there is one."""
    return f"nsenter --net={word(sandbox)} " if sandbox else ""


def word(name: str | None) -> str:
    """Return a name as a shell reads it: a container chooses those of its devices."""
    return shlex.quote(name or "")
