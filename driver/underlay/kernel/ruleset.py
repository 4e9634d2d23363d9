"""Whether the firewall's rules changed, told by the kernel without a program.

`nft` and `iptables` take milliseconds of processor time to list rules, and most passes
have nothing new to learn from them. What a function returns changes whenever a list by
the program would.

Layouts: linux/netfilter/nfnetlink.h, nf_tables.h, x_tables.h, ipv4/ip_tables.h.
"""

from __future__ import annotations

import ctypes
import errno
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import NETLINK_NETFILTER, NLM_F_REQUEST
from underlay.model import Family
from underlay.model.objects import TABLE, NftChain

_HEAD = struct.Struct(">BBH")  # family, version, resource
_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _NEWCHAIN, _GETCHAIN = (_SUBSYSTEM | n for n in (0, 1, 3, 4))
_NEWRULE, _GETRULE = (_SUBSYSTEM | n for n in (6, 7))
_NAME_OF_TABLE, _TABLE, _NAME_OF_CHAIN, _CHAIN_OF_RULE = 1, 1, 3, 2
_FAMILIES = {"ip": 2, "ip6": 10, "netdev": 5}
# What a kernel without nftables, or without a family of it, says.
NO_NFTABLES = (
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.EPROTONOSUPPORT,
    errno.EAFNOSUPPORT,
)
# The expression `counter` of a rule: its name, and two numbers in a nest.
_COUNTED = re.compile(rb"counter\0.{28}", re.DOTALL)

# Of the back end legacy: the level and options of a socket, the sizes of a rule's match
# on addresses, and where its counters are.
_LEVEL = {4: socket.SOL_IP, 6: 41}
_DOMAIN = {4: socket.AF_INET, 6: socket.AF_INET6}
_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")
_ASKED = struct.Struct("=32sI4x")
_NEXT = struct.Struct("=H")
_NEXT_AT, _COUNTERS_AT = {4: 90, 6: 142}, {4: 96, 6: 152}
_COUNTERS_SIZE = 16
# The tables that exist in this namespace: to ask for another one makes it.
_LEGACY_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}


def our_tables(known: Iterable[NftChain]) -> bytes:
    """Return what the kernel tells of our tables, in which these chains were seen.

    A table counts its chains, so another chain shows in the table. Raises OSError.
    """
    return b"".join(_of_our_tables(known))


def _of_our_tables(known: Iterable[NftChain]) -> Iterator[bytes]:
    table = nl.attribute(_NAME_OF_TABLE, TABLE.encode() + b"\0")
    for family in _FAMILIES:
        yield from _one(_GETTABLE, _NEWTABLE, family, table)
        yield from _rules(family, "")
    for chain in known:
        named = nl.attribute(_NAME_OF_CHAIN, chain.name.encode() + b"\0")
        yield from _one(_GETCHAIN, _NEWCHAIN, chain.family, table + named)


def filter_chain(family: Family, chain: str) -> bytes:
    """Return what the kernel tells of a chain in the table `filter` of iptables.

    Of both back ends, without the counters. Of the back end legacy: of all chains.
    Raises OSError.
    """
    name = "ip" if family == 4 else "ip6"
    table = nl.attribute(_TABLE, b"filter\0")
    named = nl.attribute(_NAME_OF_CHAIN, chain.encode() + b"\0")
    told = *_one(_GETCHAIN, _NEWCHAIN, name, table + named), *_rules(name, chain)
    legacy = legacy_filter(family) if has_legacy_filter(family) else b""
    return _COUNTED.sub(b"", b"".join(told)) + legacy


def has_legacy_filter(family: Family) -> bool:
    """Return whether the back end legacy has a table `filter` in this namespace."""
    try:
        tables = Path(f"/proc/thread-self/net/{_LEGACY_TABLES[family]}")
        return "filter" in tables.read_text("ascii").split()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not to be known


def legacy_filter(family: Family) -> bytes:
    """Return the rules of the table `filter`, with counters of 0; raises OSError."""
    with socket.socket(_DOMAIN[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        level, table = _LEVEL[family], b"filter"
        asked = _INFO.pack(table, *[0] * 13)
        size = _INFO.unpack(_option(s, level, _GET_INFO, asked))[-1]
        asked = _ASKED.pack(table, size) + b"\0" * size
        rules = bytearray(_option(s, level, _GET_ENTRIES, asked)[_ASKED.size :])
    at = 0
    while at < len(rules):
        counters = at + _COUNTERS_AT[family]
        rules[counters : counters + _COUNTERS_SIZE] = b"\0" * _COUNTERS_SIZE
        (length,) = _NEXT.unpack_from(rules, at + _NEXT_AT[family])
        at += max(length, 1)
    return bytes(rules)


def _option(s: socket.socket, level: int, option: int, asked: bytes) -> bytes:
    """Return an option of a socket that depends on what its buffer says."""
    buffer = ctypes.create_string_buffer(asked, len(asked))
    length = ctypes.c_uint(len(asked))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.getsockopt(s.fileno(), level, option, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "the kernel does not tell its rules")
    return buffer.raw[: length.value]


def _rules(family: str, chain: str) -> list[bytes]:
    """Return the rules of a chain in the table `filter`, "": all of our own table."""
    table = "filter" if chain else TABLE
    body = nl.attribute(_TABLE, table.encode() + b"\0")
    if chain:
        body += nl.attribute(_CHAIN_OF_RULE, chain.encode() + b"\0")
    head = _HEAD.pack(_FAMILIES[family], 0, 0)
    try:
        found = nl.dump(_GETRULE, _NEWRULE, head + body, protocol=NETLINK_NETFILTER)
    except OSError as error:
        if error.errno not in NO_NFTABLES:
            raise
        return []
    return [told[_HEAD.size :] for told in found]


def _one(request: int, answer: int, family: str, body: bytes) -> list[bytes]:
    """Return one answer, nothing if there is no such thing.

    The head is left out: it counts the changes to all tables of the namespace.
    """
    head = _HEAD.pack(_FAMILIES[family], 0, 0)
    asked = request, NLM_F_REQUEST, answer, head + body
    try:
        found = list(nl.exchange(*asked, protocol=NETLINK_NETFILTER))
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NO_NFTABLES):
            raise
        return []
    return [told[_HEAD.size :] for told in found]
