"""What forwarded packets pass: all chains on the hook forward, of any program.

nft lists its own chains and those of iptables-nft; of the latter it does not show every
match, so iptables lists them again. The back end legacy is listed by its own tool.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from underlay.kernel import command, iptables, ruleset
from underlay.kernel import rtnetlink as nl
from underlay.model import FAMILIES, Family
from underlay.model.objects import DOCKER_USER, IPTABLES
from underlay.model.ruleset import UNKNOWN, BaseChain, Match, Rule, Verdict

_SEES: dict[str, tuple[Family, ...]] = {
    "ip": (4,), "ip6": (6,), "inet": FAMILIES, "bridge": FAMILIES,
}  # fmt: skip
_META = {"iif": "iifname", "oif": "oifname"}
_KNOWN = ("iifname", "oifname", "iifgroup", "oifgroup")
_PROTOCOLS = {"ipv4": 4, "ipv6": 6, "ip": 4, "ip6": 6}
# Statements of nft that decide nothing.
_NEUTRAL = ("counter", "log", "mangle", "ct helper", "ct timeout", "flow", "notrack")
_VERDICTS: dict[str, Verdict] = {
    "accept": "accept", "drop": "drop", "reject": "drop", "return": "return",
    "jump": "jump", "goto": "goto", "continue": "continue",
    # Another program decides.
    "queue": "accept",
}  # fmt: skip
_TARGETS: dict[str, Verdict] = {
    "ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return",
    "QUEUE": "accept", "NFQUEUE": "accept",
}  # fmt: skip
_FORWARD = "FORWARD"
# With -t, versions before left out the sets within rules too.
_TERSE_SINCE = (1, 0, 6)
# iptables quotes comments, in which a line may end, and no names of devices.
_LINE_END = re.compile(r"\n(?=-[APN] )")
_WORD = re.compile(r'(?<!\S)"((?:[^"\\]|\\.)*)"(?!\S)|\S+', re.DOTALL)
# linux/netfilter/nf_tables.h
_SUBSYSTEM = 10 << 8
_NEWGEN, _GETGEN = _SUBSYSTEM | 15, _SUBSYSTEM | 16
_GENERATION = 1
_HEAD = struct.Struct(">BBH")


def generation() -> int:
    """Return a number that the kernel changes with each change of nftables; 0: none.

    Those of the back end nft of iptables are among them. Raises OSError.
    """
    body = _HEAD.pack(0, 0, 0)
    asked = _GETGEN, nl.NLM_F_REQUEST, _NEWGEN, body
    try:
        (told,) = list(nl.exchange(*asked, protocol=nl.NETLINK_NETFILTER))
    except OSError as error:
        if error.errno not in ruleset.NO_NFTABLES:
            raise
        return 0
    found = dict(nl.attributes(told[_HEAD.size :])).get(_GENERATION, b"\0\0\0\0")
    return int.from_bytes(found, "big")


def change_mark(own_changes: int) -> object:
    """Return what differs after each change of rules but `own_changes`.

    No program runs. The back end legacy tells of no change, and its table is read.
    Raises OSError.
    """
    legacy = [
        ruleset.legacy_filter(f) for f in FAMILIES if ruleset.has_legacy_filter(f)
    ]
    return generation() - own_changes, *legacy


def forward_chains() -> list[BaseChain]:
    """Return every chain on the hook forward; raises OSError if a tool fails."""
    with command.within():
        found = list(_native())
        tables = {chain.table for chain in found}
        for family in FAMILIES:
            table = f"table {'ip' if family == 4 else 'ip6'} filter"
            listed = _xtables("nft", family) if table in tables else None
            if listed:
                found = [chain for chain in found if chain.table != table]
            legacy = ruleset.has_legacy_filter(family)
            both = listed, _xtables("legacy", family) if legacy else None
            found += _with_ours_marked([chain for chain in both if chain], family)
    return found


def _with_ours_marked(
    chains: Collection[BaseChain], family: Family
) -> Iterator[BaseChain]:
    """Mark the one of both back ends that has, or is to have, the service's rules."""
    having = [chain for chain in chains if DOCKER_USER in chain.chains]
    if len(having) > 1:
        used = iptables.back_end(IPTABLES[family])
        having = [chain for chain in having if iptables.back_end(chain.table) == used]
    for chain in chains:
        yield replace(chain, takes_ours=chain in having)


def _ruleset() -> list[dict[str, Any]]:
    """Return what nft lists, without the elements of sets: these may be 100,000."""
    done = command.run("nft", "-j", "-t", "list", "ruleset")
    if done.returncode or _version(done.stdout) < _TERSE_SINCE:
        done = command.run("nft", "-j", "list", "ruleset")
    if done.returncode:
        if "Operation not supported" in done.stderr or not generation():
            return []
        raise OSError(done.returncode, done.stderr.strip())
    return list(json.loads(done.stdout or "{}").get("nftables", ()))


def _version(listed: str) -> tuple[int, ...]:
    found = re.search(r'"version": "(\d+)\.(\d+)\.(\d+)', listed)
    return tuple(map(int, found.groups())) if found else ()


def _native() -> Iterator[BaseChain]:
    listed = _ruleset() if shutil.which("nft") else []
    rules: dict[tuple[str, str], dict[str, list[Rule]]] = defaultdict(dict)
    for chain in (x["chain"] for x in listed if "chain" in x):
        rules[chain["family"], chain["table"]][chain["name"]] = []
    for rule in (x["rule"] for x in listed if "rule" in x):
        place = rules[rule["family"], rule["table"]][rule["chain"]]
        place += _rules_of(rule.get("expr", ()))
    for chain in (x["chain"] for x in listed if "chain" in x):
        family, table = chain["family"], chain["table"]
        if chain.get("hook") == "forward" and family in _SEES:
            yield BaseChain(
                table=f"table {family} {table}",
                name=chain["name"],
                policy=_VERDICTS[chain.get("policy", "accept")],
                families=_SEES[family],
                chains={k: tuple(v) for k, v in rules[family, table].items()},
                bridged=family == "bridge",
            )


def _rules_of(expressions: list[Any]) -> Iterator[Rule]:
    """Return the rules that one rule of nft is: a verdict map is several."""
    matches: list[Match] = []
    for one in expressions:
        kind, said = _taken_apart(one)
        if kind == "match":
            matches.append(_match(said))
        elif kind in _VERDICTS:
            yield Rule(tuple(matches), _VERDICTS[kind], str(said.get("target", "")))
        elif kind == "vmap":
            yield from _mapped(tuple(matches), said)
        elif kind == "xt" and said.get("type") == "target":
            yield Rule(tuple(matches), _TARGETS.get(str(said["name"]), "continue"))
        elif kind not in _NEUTRAL and said.get("name") != "comment":
            matches.append(Match(UNKNOWN))


def _taken_apart(expression: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of an expression of nft, and what it says."""
    if not isinstance(expression, dict):
        return str(expression), {}
    ((kind, said),) = expression.items()
    return str(kind), said if isinstance(said, dict) else {}


def _mapped(matches: tuple[Match, ...], said: Mapping[str, Any]) -> Iterator[Rule]:
    data = said.get("data")
    entries = data.get("set") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        # A named map, which may change at any time.
        yield Rule((*matches, Match(UNKNOWN)), "accept")
        return
    for value, verdict in entries:
        kind, target = _taken_apart(verdict)
        match = _match({"op": "==", "left": said.get("key"), "right": value})
        given: Verdict = _VERDICTS.get(kind, "accept")
        yield Rule((*matches, match), given, str(target.get("target", "")))


def _match(said: Mapping[str, Any]) -> Match:
    left, op, right = said.get("left"), said.get("op"), said.get("right")
    fact = _fact(left) if isinstance(left, dict) else UNKNOWN
    if op not in ("==", "!=", "in"):
        return Match(UNKNOWN)
    values = right.get("set") if isinstance(right, dict) and "set" in right else right
    given = values if isinstance(values, list) else [values]
    return Match(fact, tuple(_value(fact, v) for v in given), negated=op == "!=")


def _fact(left: Mapping[str, Any]) -> str:
    ((kind, about),) = left.items()
    if not isinstance(about, dict):
        return UNKNOWN
    key = about.get("key") or about.get("field")
    if kind == "meta":
        key = _META.get(str(key), key)
        if key in ("nfproto", "protocol"):
            return "family"
        return str(key) if key in _KNOWN else UNKNOWN
    if kind == "ct" and key in ("state", "status"):
        return str(key)
    ip = kind == "payload" and about.get("protocol") in ("ip", "ip6")
    return str(key) if ip and key in ("saddr", "daddr") else UNKNOWN


def _value(fact: str, given: object) -> object:
    """Return a value as a packet has it, UNKNOWN if it may be anything."""
    if fact == "family":
        return _PROTOCOLS.get(str(given), UNKNOWN)
    if fact in ("iifgroup", "oifgroup"):
        return given if isinstance(given, int) else UNKNOWN
    if fact in ("saddr", "daddr"):
        return _subnet(given)
    return given if isinstance(given, str) and not given.startswith("@") else UNKNOWN


def _subnet(given: object) -> object:
    if isinstance(given, dict) and "prefix" in given:
        given = f"{given['prefix']['addr']}/{given['prefix']['len']}"
    try:
        return ip_network(str(given), strict=False)
    except ValueError:
        return UNKNOWN


def _xtables(back_end: str, family: Family) -> BaseChain | None:
    """Return the chain FORWARD of a back end of iptables, None without its tool.

    Raises OSError if rules of legacy are not listed; those of nft were, by nft.
    """
    name = iptables.tool_of(back_end, family)
    if not name:
        return None
    done = command.run(name, "-w", "2", "-S")
    if done.returncode and back_end == "nft":
        return None
    if done.returncode:
        raise OSError(errno.EPERM, done.stderr.strip() or f"{name} failed")
    policy: Verdict = "accept"
    chains: dict[str, list[Rule]] = defaultdict(list)
    for line in _LINE_END.split(done.stdout.strip()):
        words = [m[1] or m[0] for m in _WORD.finditer(line)]
        if words[:2] == ["-P", _FORWARD]:
            policy = _TARGETS.get(words[2], "accept")
        elif words[:1] == ["-A"]:
            chains[words[1]].append(_rule(words[2:]))
        elif words[:1] == ["-N"]:
            chains[words[1]] = []
    found = {chain: tuple(rules) for chain, rules in {_FORWARD: [], **chains}.items()}
    return BaseChain(name, _FORWARD, policy, (family,), found)


_OPTIONS = {
    "-i": "iifname", "-o": "oifname", "-s": "saddr", "-d": "daddr",
    "--src-group": "iifgroup", "--dst-group": "oifgroup",
    "--ctstate": "state", "--state": "state", "--ctstatus": "status",
}  # fmt: skip


def _rule(words: list[str]) -> Rule:
    """Return a rule as `iptables -S` prints it."""
    matches: list[Match] = []
    rest, negated = iter(words), False
    for word in rest:
        if word in ("-j", "-g"):
            target = next(rest)
            jump: Verdict = "jump" if word == "-j" else "goto"
            # Other targets (LOG, MARK) are no chains of the table, and decide nothing.
            return Rule(tuple(matches), _TARGETS.get(target, jump), target)
        if word == "!":
            negated = True
            continue
        if word in _OPTIONS:
            fact = _OPTIONS[word]
            given = next(rest).split(",")
            values = tuple(_option_value(fact, one) for one in given)
            matches.append(Match(fact, values, negated))
        elif word in ("-m", "--comment"):
            next(rest)
        elif word.startswith("-"):
            matches.append(Match(UNKNOWN))
        negated = False
    return Rule(tuple(matches), "continue")


def _option_value(fact: str, text: str) -> object:
    if fact in ("state", "status"):
        return text.lower()
    if fact in ("iifgroup", "oifgroup"):
        try:
            return int(text, 0)
        except ValueError:
            return UNKNOWN  # a name of /etc/iproute2/group
    return _value(fact, text)
