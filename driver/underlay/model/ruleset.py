"""The rules that forwarded packets pass, and what becomes of a packet, as values.

Not every rule can be judged here: a port, a set or a mark is not known. A packet is
blocked only if no rule can accept it, whatever the unknown is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from underlay.model.ip import Family, IpNetwork

Verdict = Literal["accept", "drop", "return", "jump", "goto", "continue"]
State = Literal["new", "established"]
Facts = Mapping[str, object]
UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Packet:
    """A forwarded packet, as far as it is known.

    `reads` and `leaves` are the devices it comes and goes by, "" if unknown, with their
    groups; `source` and `target` are the subnets its addresses are in.
    """

    family: Family
    state: State
    reads: str = ""
    leaves: str = ""
    from_group: int | None = None
    to_group: int | None = None
    source: IpNetwork | None = None
    target: IpNetwork | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A condition of a rule: a fact of the packet is, or is not, one of `values`.

    `fact` is iifname, oifname, iifgroup, oifgroup, state, status, family, saddr or
    daddr; any other one is UNKNOWN.
    """

    fact: str
    values: tuple[object, ...] = ()
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """All matches hold: then the verdict; `target` is the chain of a jump or goto."""

    matches: tuple[Match, ...]
    verdict: Verdict
    target: str = ""


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain on the hook forward, with all chains of its table by name.

    `table` is how its tool names it (table inet filter, iptables-nft). `families` are
    those it sees, and `bridged` tells frames that cross a bridge from packets.
    `takes_ours`: it is of the tool by which the service adds its rules.
    """

    table: str
    name: str
    policy: Verdict
    families: tuple[Family, ...]
    chains: Mapping[str, tuple[Rule, ...]] = field(hash=False)
    bridged: bool = False
    takes_ours: bool = False

    def blocks(self, packet: Packet) -> bool:
        """Return whether it drops a packet in any case."""
        if packet.family not in self.families:
            return False
        found = _outcomes(self.chains, self.name, _facts(packet), ())
        if "return" in found:
            found = found - {"return"} | {self.policy}
        return found == {"drop"}


def _outcomes(
    chains: Mapping[str, tuple[Rule, ...]],
    name: str,
    packet: Facts,
    above: tuple[str, ...],
) -> frozenset[str]:
    """Return how a packet may leave a chain: accept, drop or return."""
    if name in above or name not in chains:
        return frozenset({"return"})
    found: set[str] = set()
    for rule in chains[name]:
        holds = _holds(rule, packet)
        if holds is False or rule.verdict == "continue":
            continue
        if rule.verdict in ("jump", "goto"):
            below = _outcomes(chains, rule.target, packet, (*above, name))
            back = {"return"} if rule.verdict == "goto" else set()
            found |= below - ({"return"} - back)
            is_end = "return" not in below or rule.verdict == "goto"
        else:
            found.add(rule.verdict)
            is_end = True
        if holds and is_end:
            return frozenset(found)
    return frozenset(found | {"return"})


def _facts(packet: Packet) -> Facts:
    """Return what matches ask about a packet, None for what is not known."""
    return {
        "iifname": packet.reads or None,
        "oifname": packet.leaves or None,
        "iifgroup": packet.from_group,
        "oifgroup": packet.to_group,
        "state": packet.state,
        "status": "none",  # no address of a container is translated on the way to it
        "family": packet.family,
        "saddr": packet.source,
        "daddr": packet.target,
    }


def _holds(rule: Rule, packet: Facts) -> bool | None:
    """Return whether a rule matches a packet; None if that is not known."""
    known: bool | None = True
    for match in rule.matches:
        found = _matches(match, packet)
        if found is False:
            return False
        known = known and found
    return known


def _matches(match: Match, packet: Facts) -> bool | None:
    value = packet.get(match.fact)
    if value is None:
        return None
    results = list(_compared(value, match.values))
    found = True if True in results else None if None in results else False
    return found if found is None or not match.negated else not found


def _compared(value: object, given: Collection[object]) -> Iterator[bool | None]:
    for one in given:
        if one == UNKNOWN:
            yield None
        elif isinstance(value, str) and isinstance(one, str):
            wild = one.endswith(("*", "+"))
            yield value.startswith(one[:-1]) if wild else value == one
        elif hasattr(value, "subnet_of") and hasattr(one, "subnet_of"):
            yield _inside(value, one)
        else:
            yield value == one


def _inside(value: object, other: object) -> bool | None:
    """Return whether a subnet is inside another; None if only a part of it is."""
    if value.version != other.version:  # type: ignore[attr-defined]
        return False
    if value.subnet_of(other):  # type: ignore[attr-defined]
        return True
    return None if value.overlaps(other) else False  # type: ignore[attr-defined]
