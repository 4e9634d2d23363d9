"""Our rules in Docker's chain DOCKER-USER, by Docker's own tool.

iptables has two back ends that do not see each other's rules. Docker uses the one that
the name means on its host, so the chain is looked for in each.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Collection, Iterator

from underlay.kernel import command, ruleset
from underlay.model import Family
from underlay.model.objects import (
    CONTAINER_GROUP,
    DOCKER_USER,
    GOT,
    IPTABLES,
    MARK,
    PLAIN_NAME,
    SENT,
    ForwardAccept,
)

_BACK_ENDS = ("", "-nft", "-legacy")
_OURS = re.compile(
    rf'^-A {DOCKER_USER} (?P<match>.*?) -m comment --comment "?{MARK}"?'
    r" -j (?P<verdict>\w+)$"
)
# iptables shows the name that /etc/iproute2/group has for a number.
_GROUP = re.compile(r"(--(?:src|dst)-group) \S+")
# How rules matched containers before these had a group, and what replaces it.
_FORMER = {"-i ul-+": SENT, "-o ul-+": GOT}


def forward_rules(
    wanted: Collection[ForwardAccept], bridges: Collection[str] = ()
) -> Iterator[ForwardAccept]:
    """Return our rules, and the wanted ones where there is no chain.

    A rule without its RETURN rules for `bridges` is not complete and left out.
    So is one that another rule must replace, until that is there.
    """
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        asked = {rule.match for rule in wanted if rule.family == family}
        found = _chain(family)
        if found is None:
            yield from (ForwardAccept(family, match) for match in asked)
            continue
        ours = _ours(found[1])
        accepted = [match for match, verdict in ours if verdict == "ACCEPT"]
        due = asked.difference(accepted)
        for match in accepted:
            shielded = match != SENT or _shielded(ours) == _shields(bridges)
            whole = shielded or match not in asked
            if whole and _FORMER.get(match) not in due:
                yield ForwardAccept(family, match)


def create(wanted: ForwardAccept, bridges: Collection[str] = ()) -> None:
    """Accept traffic, unless there is no chain; raises OSError.

    All rules change at once, in an order that never accepts too much.
    """
    with command.within():
        found = _chain(wanted.family)
        if not found:
            return
        tool, rules = found
        ours = _ours(rules)
        is_there = (wanted.match, "ACCEPT") in ours
        # Behind the rules of the administrator, but before the RETURN that older
        # engines end the chain with.
        is_open = not rules or rules[-1] != f"-A {DOCKER_USER} -j RETURN"
        last = len(rules) + is_open
        places = (n for n, r in enumerate(rules, 1) if _is(r, wanted.match, "ACCEPT"))
        place = next(places, last)
        change = [] if is_there else [_inserted(place, wanted.match, "ACCEPT")]
        if wanted.match == SENT:
            due, stale = _shields(bridges), _shielded(ours)
            change += [_inserted(place, match, "RETURN") for match in due - stale]
            change += [_deleted(match, "RETURN") for match in stale - due]
        _change(tool, change)


def delete(doomed: ForwardAccept) -> None:
    """Delete a rule of ours, with its RETURN rules; raises OSError.

    What is deleted meanwhile is no error: a call of Docker and a pass may run at once.
    """
    with command.within():
        tool, due = _going(doomed)
        try:
            _change(tool, due)
        except OSError:
            tool, left = _going(doomed)
            if left == due:
                raise
            _change(tool, left)


def _going(doomed: ForwardAccept) -> tuple[str, list[str]]:
    """Return the tool to delete a rule with, and the lines to delete."""
    tool, rules = _chain(doomed.family) or ("", [])
    return tool, [
        _deleted(match, verdict)
        for match, verdict in _ours(rules)
        if doomed.match == match or _goes_with(match, doomed.match)
    ]


def _goes_with(match: str, doomed: str) -> bool:
    shields = doomed in (SENT, *_FORMER)
    return shields and (match.endswith(f" {doomed}") or match.startswith(f"{doomed} -"))


def _ours(rules: Collection[str]) -> list[tuple[str, str]]:
    """Return match and verdict of each of our rules."""
    found = (_OURS.match(rule) for rule in rules)
    as_number = rf"\1 {CONTAINER_GROUP:#x}"
    return [(_GROUP.sub(as_number, m["match"]), m["verdict"]) for m in found if m]


def _is(rule: str, match: str, verdict: str) -> bool:
    return _ours([rule]) == [(match, verdict)]


def _shields(bridges: Collection[str]) -> set[str]:
    """Return what must not be accepted: what routed containers send to bridges.

    Rules behind this chain decide which ports are open there.
    """
    return {f"-o {name} {SENT}" for name in bridges if PLAIN_NAME.fullmatch(name)}


def _shielded(ours: Collection[tuple[str, str]]) -> set[str]:
    return {m for m, verdict in ours if verdict == "RETURN" and m.endswith(SENT)}


def bridge_firewall_drops(bridge: str, family: Family) -> str:
    """Return why iptables drops a frame that crosses a bridge, or "".

    Only the policy of FORWARD counts. Rules that accept something of the bridge, or of
    all bridges, are the administrator's and taken to be right.
    """
    with command.within():
        for tool in _tools(family):
            lines = _listed(tool, "FORWARD")
            accepts = [line for line in lines if line.endswith("-j ACCEPT")]
            if "-P FORWARD DROP" in lines and not (
                "-A FORWARD -j ACCEPT" in accepts
                or any(f" {bridge} " in x or "--physdev" in x for x in accepts)
                or _listed(tool, DOCKER_USER)
            ):
                return f"{tool} filters it, and the policy of its FORWARD is DROP"
    return ""


def _listed(tool: str, chain: str) -> list[str]:
    try:
        return _run(tool, "-S", chain).splitlines()
    except OSError:
        return []  # no such chain, or a back end the kernel has not


def _chain(family: Family) -> tuple[str, list[str]] | None:
    """Return the tool that sees Docker's chain, and the chain's rules."""
    for tool in _tools(family):
        try:
            lines = _run(tool, "-S", DOCKER_USER).splitlines()
        except TimeoutError:
            raise  # no answer does not mean that there is no chain
        except OSError:
            continue  # no such chain there
        return tool, [line for line in lines if line.startswith("-A")]
    return None


def _tools(family: Family) -> Iterator[str]:
    """Return the programs of this host that may have rules."""
    for back_end in _BACK_ENDS:
        tool = IPTABLES[family] + back_end
        if shutil.which(tool) and (
            back_end != "-legacy" or ruleset.has_legacy_filter(family)
        ):
            yield tool


def tool_of(wanted: str, family: Family) -> str:
    """Return the program of a back end ("nft" or "legacy"), "" if there is none."""
    name = IPTABLES[family]
    if shutil.which(f"{name}-{wanted}"):
        return f"{name}-{wanted}"
    has_name = shutil.which(name) and back_end(name) == wanted
    return name if has_name else ""


def back_end(tool: str) -> str:
    """Return which back end a program is of; raises OSError."""
    return "nft" if "nf_tables" in command.run(tool, "-V").stdout else "legacy"


def _inserted(place: int, match: str, verdict: str) -> str:
    return f"-I {DOCKER_USER} {place} {match} -m comment --comment {MARK} -j {verdict}"


def _deleted(match: str, verdict: str) -> str:
    return f"-D {DOCKER_USER} {match} -m comment --comment {MARK} -j {verdict}"


def _change(tool: str, lines: Collection[str]) -> None:
    """Change rules of the table filter: all of them, or none."""
    if lines:
        script = "\n".join(["*filter", *lines, "COMMIT", ""])
        _run(f"{tool}-restore", "--noflush", script=script)


def _run(tool: str, *words: str, script: str = "") -> str:
    done = command.run(tool, "-w", "2", *words, script=script)
    if done.returncode:
        why = done.stderr.strip() or f"{tool} failed"
        if "xtables lock" in why:
            raise TimeoutError(errno.ETIMEDOUT, why)
        raise OSError(errno.EPERM, why)
    return done.stdout
