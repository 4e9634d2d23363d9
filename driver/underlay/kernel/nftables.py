"""Our nftables tables, by the program nft.

pyroute2 offers sets and raw expressions only; nft takes a whole chain in one
transaction.
"""

from __future__ import annotations

import errno
import json
import re
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from underlay.kernel import command
from underlay.model.objects import MARK, PREFIX, TABLE, NftChain

# Each rule is on a hook that allows it: the kernel checks that if the table exists.
_PROBE = """
add table netdev ul-probe
add chain netdev ul-probe heard { type filter hook ingress device "lo" priority 0; }
add rule netdev ul-probe heard fib saddr . iif oif missing drop
add chain netdev ul-probe said { type filter hook egress device "lo" priority 0; }
add rule netdev ul-probe said drop
"""
# The names of our chains, by family. Other programs may use a table of that name.
_NAMES = {
    "ip": re.compile(rf"(nat|door)-{PREFIX}[0-9a-f]{{12}}"),
    "ip6": re.compile(rf"door-{PREFIX}[0-9a-f]{{12}}"),
    "netdev": re.compile(rf"(ingress|egress)-{PREFIX}[0-9a-f]{{12}}"),
}
# A table that was seen to be empty may not get a chain before it is deleted.
_locks = {family: threading.Lock() for family in _NAMES}
_MARK = re.compile(rf"{MARK}[0-9a-f]{{16}}")


def chains() -> Iterator[NftChain]:
    """Return our chains, with the marks of their rules.

    A chain with a name of ours is not ours if it has rules, and none with a mark.
    """
    try:
        listed = _list("tables")
    except TimeoutError:
        raise  # no answer does not mean that there are no tables
    except OSError:
        return  # no such program, or nothing in the kernel for it
    tables = (t["table"] for t in listed if "table" in t)
    there = {t["family"] for t in tables if t["name"] == TABLE}
    for family in sorted(there & _NAMES.keys()):
        listed = _list("table", family, TABLE)
        marks: dict[str, list[str]] = defaultdict(list)
        for rule in (x["rule"] for x in listed if "rule" in x):
            marks[rule["chain"]].append(rule.get("comment", ""))
        for found in (x["chain"] for x in listed if "chain" in x):
            name, device = found["name"], str(found.get("dev", ""))
            known = tuple(marks[name])
            if _is_ours(family, name, known):
                yield NftChain(family, name, _hook(found), (), device, marks=known)


def _is_ours(family: str, name: str, marks: Collection[str]) -> bool:
    named = _NAMES[family].fullmatch(name)
    return bool(named and (not marks or any(map(_MARK.fullmatch, marks))))


def _hook(chain: Mapping[str, Any]) -> str:
    """Return where a chain hangs, and what becomes of the rest if that is not usual."""
    where = "{type} hook {hook} priority {prio}".format_map(defaultdict(str, chain))
    policy = chain.get("policy", "accept")
    return where if policy == "accept" else f"{where}; policy {policy}"


def is_there() -> bool:
    """Return whether the host has nft, and a kernel with all that the service uses."""
    try:
        _run("-c", "-f", "-", script=_PROBE)
        _run("-j", "list", "tables")  # a small host may have an nft without JSON
    except TimeoutError:
        return True  # no answer does not mean that it is missing
    except OSError:
        return False
    return True


def is_word(name: str) -> bool:
    """Return whether nft takes a name of a chain or table as a word.

    Words of its own language ("drop") cannot be quoted. Other programs may use them.
    """
    with suppress(OSError):
        command_line = f"list chain inet {name} {name}"
        return "syntax error" not in command.run("nft", "-c", command_line).stderr
    return True


def create(chain: NftChain) -> None:
    """Create a chain with its rules, and its table if need be; raises OSError.

    It replaces any chain of that name in the same transaction.
    """
    where = f"{chain.family} {TABLE} {chain.name}"
    rules = [
        f'add rule {where} {rule} comment "{mark}"'
        for rule, mark in zip(chain.rules, chain.marks, strict=True)
    ]
    script = [
        f"add table {chain.family} {TABLE}",
        f"add chain {where}",
        f"delete chain {where}",
        f"add chain {where} {{ type {chain.hooked}; }}",
        *rules,
    ]
    with _locks[chain.family]:
        _run("-f", "-", script="\n".join(script))


def delete(chain: NftChain) -> None:
    """Delete a chain, and the table if that is then empty; raises OSError."""
    # What is gone already, chain or table, is as it should be.
    with _locks[chain.family], suppress(FileNotFoundError):
        _run("delete", "chain", chain.family, TABLE, chain.name)
        left = _list("table", chain.family, TABLE)
        if not any(found.keys() - {"metainfo", "table"} for found in left):
            _run("delete", "table", chain.family, TABLE)


def _list(*what: str) -> list[dict[str, Any]]:
    found = json.loads(_run("-j", "list", *what) or "{}")
    return list(found.get("nftables", ()))


def _run(*words: str, script: str = "") -> str:
    done = command.run("nft", *words, script=script)
    if done.returncode:
        text = done.stderr.strip().partition("\n")[0]
        absent = "No such file or directory" in text
        raise OSError(errno.ENOENT if absent else errno.EPERM, text or "nft failed")
    return done.stdout
