"""Firewall rules: what lets traffic pass, and what stops it."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from underlay import model
from underlay.model.objects.common import (
    CONTAINER_GROUP,
    FILTERS,
    ROUTES,
    TABLE,
    KernelObject,
    Verb,
)
from underlay.model.owner import MARK, Owner

# Docker's firewall tool of each IP family.
IPTABLES = {4: "iptables", 6: "ip6tables"}
# Docker leaves this chain to the administrator, and jumps to it first.
DOCKER_USER = "DOCKER-USER"
# What routed containers send and get, in iptables' words.
SENT = f"-m devgroup --src-group {CONTAINER_GROUP:#x}"
GOT = f"-m devgroup --dst-group {CONTAINER_GROUP:#x}"
FORWARDED = (SENT, GOT)


@dataclass(frozen=True, slots=True)
class ForwardAccept(KernelObject):
    """A rule in Docker's chain DOCKER-USER that accepts forwarded traffic of ours.

    Docker sets the policy of FORWARD to DROP, and an accept in another table does not
    override a drop. Without the chain, there is nothing to accept.
    """

    family: model.Family
    match: str
    owner: Owner | None = None

    device = ""
    build_order = ROUTES

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return ForwardAccept, self.family, self.match

    def command(self, verb: Verb) -> str:
        """Return the step in iptables' words."""
        how = "-I" if verb == "add" else "-D"
        comment = f'-m comment --comment "{MARK}"'
        tool = IPTABLES[self.family]
        return f"{tool} {how} {DOCKER_USER} {self.match} {comment} -j ACCEPT"


@dataclass(frozen=True, slots=True)
class NftChain(KernelObject):
    """A chain of the nftables table `underlay` of a family, with its rules.

    `hook` is the netfilter hook it is on; `device` the device it is bound to, if any.
    nft prints rules in its own words, so each rule carries a hash of ours as its mark.
    Of a chain that was seen, only the marks are known.
    """

    family: Literal["ip", "ip6", "netdev"]
    name: str
    hook: str
    rules: tuple[str, ...]
    device: str = ""
    owner: Owner | None = None
    marks: tuple[str, ...] = ()

    build_order = FILTERS

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", self.marks or tuple(map(_mark, self.rules)))

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return NftChain, self.family, self.name

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` has these rules in this order, on the same hook."""
        return bool((seen.hook, seen.marks) == (self.hook, self.marks))

    def command(self, verb: Verb) -> str:
        """Return the step in nft's words."""
        chain = f"{self.family} {TABLE} {self.name}"
        if verb == "del":
            return f"nft delete chain {chain}"
        rules = "; ".join(self.rules)
        return f"nft add chain {chain} {{ type {self.hooked}; {rules} }}"

    @property
    def hooked(self) -> str:
        """Return the hook in nft's words, with the device it is bound to."""
        kind, priority, number = self.hook.rpartition(" priority ")
        bound = f' device "{self.device}"' if self.device else ""
        return f"{kind}{bound}{priority}{number}"


def _mark(rule: str) -> str:
    return MARK + hashlib.sha256(rule.encode()).hexdigest()[:16]
