"""Gates: what connections of containers the host's firewall lets pass, as values.

A gate is an nftables table of its own, with sets that say of which containers. The
rules are the same for all containers behind it, so a start adds elements only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from underlay.model.objects.common import (
    FILTERS,
    GATES,
    TABLE,
    KernelObject,
    Verb,
    nsenter,
)
from underlay.model.owner import MARK, PREFIX, Owner

GateFamily = Literal["netdev", "bridge", "inet"]
# The name of every such table begins so.
GATE = f"{TABLE}-{PREFIX}"
# The sets with an element for each container that an option is about, and their keys:
# `who` is the container, by its MAC or device. A set of networks (`net`) has intervals.
# `raw6` is an IPv6 address as nft takes one anywhere in a packet: 0x and 32 digits;
# `end6` is the last half of one.
SETS: dict[str, tuple[str, ...]] = {
    "closed": ("who",),
    "bounded": ("who",),
    "unpinged": ("who",),
    "published4": ("who", "proto", "port"),
    "published6": ("who", "proto", "port"),
    "limited4": ("who", "proto", "port"),
    "limited6": ("who", "proto", "port"),
    "hosted4": ("who", "proto", "port"),
    "hosted6": ("who", "proto", "port"),
    "hosts4": ("who", "net4"),
    "hosts6": ("who", "net6"),
    "allowed4": ("who", "net4"),
    "allowed6": ("who", "net6"),
    "near4": ("who", "net4"),
    "near6": ("who", "net6"),
    "strict": ("who",),
    "macs": ("who", "mac"),
    "mine4": ("who", "ip4"),
    "mine6": ("who", "raw6"),
    "ends6": ("who", "end6"),
    "beside4": ("who", "ip4"),
    "beside6": ("who", "raw6"),
}
# What follows the addresses that a container has, also while it runs.
FOLLOWING = ("mine4", "mine6", "ends6", "near4", "near6", "beside4", "beside6")
# The addresses that a container has in its other networks.
BESIDE = ("beside4", "beside6")
# The one set of a table that keeps the containers of a network apart from others.
MEMBERS = "members"


@dataclass(frozen=True, slots=True)
class NftTable(KernelObject):
    """An nftables table with its sets, chains and rules, made in one transaction.

    `body` is in nft's words, without the table: "set closed { type ether_addr; }",
    "chain in { type filter hook ...; }", "rule in drop", "element closed { ... }". nft
    prints rules in its own words, so each carries a hash of the body as its mark. Of a
    table that was seen, only the marks are known. `device` is the one of its hooks. One
    that is `optional` is left out on a host that can have no gates.
    """

    family: GateFamily
    name: str
    body: tuple[str, ...] = ()
    device: str = ""
    owner: Owner | None = None
    sandbox: str = ""
    marks: tuple[str, ...] = ()
    optional: bool = field(default=False, compare=False)

    @property
    def build_order(self) -> int:
        """Return the build order: in the host, before the devices it guards."""
        return FILTERS if self.sandbox else GATES

    def __post_init__(self) -> None:
        rules = sum(line.startswith("rule ") for line in self.body)
        digest = hashlib.sha256("\n".join(self.body).encode()).hexdigest()[:16]
        marks = self.marks or (f"{MARK}{digest}",) * rules
        object.__setattr__(self, "marks", marks)

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return NftTable, self.family, self.name, self.sandbox

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` has rules with these marks."""
        return bool(seen.marks == self.marks)

    @property
    def mark(self) -> str:
        """Return the mark of every rule."""
        return next(iter(self.marks), "")

    def command(self, verb: Verb) -> str:
        """Return the step in nft's words; its rules by their mark."""
        where = nsenter(self.sandbox)
        if verb == "del":
            return f"{where}nft delete table {self.family} {self.name}"
        rules = f"{len(self.marks)} rules {self.mark}"
        return f"{where}nft add table {self.family} {self.name} # with {rules}"

    def script(self) -> list[str]:
        """Return the commands that make it, or make what is there into it.

        Sets keep their elements, unless the body names these: no connection notices.
        """
        table = f"{self.family} {self.name}"
        parts = [line.split(" ", 2) for line in self.body]
        filled = {name for kind, name, _ in parts if kind == "element"}
        commands = [f"add table {table}"]
        for kind, name, words in parts:
            if kind == "rule":
                commands.append(
                    f'add rule {table} {name} {words} comment "{self.mark}"'
                )
                continue
            commands.append(f"add {kind} {table} {name} {words}")
            if kind == "chain" or (kind == "set" and name in filled):
                commands.append(f"flush {kind} {table} {name}")
        return commands


@dataclass(frozen=True, slots=True)
class NftElements(KernelObject):
    """What a gate in the host knows of one container: elements of its sets.

    What is known of its other networks (`BESIDE`) is an object of its own.

    `who` is the container in nft's words, its MAC or its device; `elements` are pairs
    of a set and the words of an element, which begin with it. Those that are `optional`
    are left out on a host that can have no gates.
    """

    family: GateFamily
    table: str
    who: str
    elements: frozenset[tuple[str, str]]
    owner: Owner | None = None
    optional: bool = field(default=False, compare=False)

    device = ""

    @property
    def build_order(self) -> int:
        """Return the build order: the other networks first, so that nothing is cut."""
        return GATES + (1 if self.is_beside else 2)

    @property
    def key(self) -> Hashable:
        """Return its identity."""
        return NftElements, self.family, self.table, self.who, self.is_beside

    @property
    def is_beside(self) -> bool:
        """Return whether it is what is known of the container's other networks."""
        return any(name in BESIDE for name, _ in self.elements)

    def satisfied_by(self, seen: Any) -> bool:
        """Return whether `seen` has the same elements."""
        return bool(seen.elements == self.elements)

    def command(self, verb: Verb) -> str:
        """Return the step in nft's words."""
        lines = self.script() if verb == "add" else self.script("delete")
        return f"nft -f - <<< '{'; '.join(lines)}'"

    def script(self, verb: str = "add", besides: Any = None) -> list[str]:
        """Return the commands that add or delete them, in their order.

        But not those of another such object.
        """
        kept = besides.elements if besides else frozenset()
        where = f"{self.family} {self.table}"
        return [
            f"{verb} element {where} {name} {{ {words} }}"
            for name, words in sorted(self.elements - kept)
        ]
