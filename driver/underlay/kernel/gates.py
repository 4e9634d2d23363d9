"""Gates in the kernel: tables with the marks of their rules, and elements of sets.

They are read by netlink; nft's library makes them. Layout: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network

from underlay.kernel import libnftables
from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import NETLINK_NETFILTER
from underlay.kernel.ruleset import NO_NFTABLES
from underlay.model.objects import Object
from underlay.model.objects.gate import (
    BESIDE,
    GATE,
    MEMBERS,
    SETS,
    GateFamily,
    NftElements,
    NftTable,
)

_HEAD = struct.Struct(">BBH")  # family, version, resource
_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _NEWRULE, _GETRULE, _NEWSETELEM, _GETSETELEM = (
    _SUBSYSTEM | n for n in (0, 1, 6, 7, 12, 13)
)
_NAME_OF_TABLE = _TABLE_OF_RULE = _TABLE_OF_SET = 1
_DATA_OF_RULE, _NAME_OF_SET, _ELEMENTS = 7, 2, 3
_KEY, _KEY_END, _VALUE = 1, 10, 1
_COMMENT = 0  # in the user data of a rule: kind, length, text
_FAMILIES: dict[int, GateFamily] = {5: "netdev", 7: "bridge", 1: "inet"}
_NUMBERS = {name: number for number, name in _FAMILIES.items()}
# The bytes of a field of a key; each begins at a multiple of four.
_SIZES = {
    "mac": 6, "ifname": 16, "proto": 1, "port": 2, "ip4": 4, "net4": 4, "net6": 16,
    "raw6": 16, "end6": 8,
}  # fmt: skip
_JOINED = " . "
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
# All that a gate uses, so that one is not refused when a container starts.
_PROBE = """
add table netdev ul-probe
add set netdev ul-probe some { type ether_addr . ipv4_addr; flags interval; }
add set netdev ul-probe said { type ether_addr . ipv4_addr; flags dynamic,timeout; }
add chain netdev ul-probe in { type filter hook ingress device "lo" priority 0; }
add rule netdev ul-probe in ether daddr . ip saddr @some accept
add chain netdev ul-probe out { type filter hook egress device "lo" priority 0; }
add rule netdev ul-probe out update @said { ether saddr . ip daddr timeout 3m }
add table bridge ul-probe
add chain bridge ul-probe in { type filter hook forward priority 0; }
add set bridge ul-probe mine { typeof iifname . @nh,64,128; }
add rule bridge ul-probe in icmpv6 type nd-neighbor-advert iifname . @th,64,128 @mine
add rule bridge ul-probe in ether type arp arp saddr ip 192.0.2.1 counter drop
add table inet ul-probe
add chain inet ul-probe in { type filter hook forward priority 0; }
add rule inet ul-probe in oifname . meta l4proto . th dport { "lo" . tcp . 1 } accept
add rule inet ul-probe in ether saddr 02:00:00:00:00:01 oifgroup 1 accept
"""


# These mean something to nft's parser also within quotation marks, and some names have
# the library abort; the last one stands for bytes that are no text. A container with
# CAP_NET_ADMIN may give its device any name.
_NOT_IN_NAMES = frozenset('"*\\\ufffd')
# As many tables in sandboxes are remembered; the others are known by their marks.
_MOST_MADE = 20_000


class _Made:
    """A table in a sandbox as the kernel told of it when it was made.

    A container with CAP_NET_ADMIN may give its own rules our marks.
    """

    def __init__(self, made: NftTable) -> None:
        self._table = made.family, made.name
        parts = (line.split(" ", 2) for line in made.body)
        self._sets = sorted({name for kind, name, _ in parts if kind == "element"})
        self._told = self._look()

    def is_as_made(self) -> bool:
        """Return whether it has the same rules and elements."""
        return self._look() == self._told

    def _look(self) -> bytes:
        family, name = self._table
        table = nl.attribute(_TABLE_OF_RULE, name.encode() + b"\0")
        number, digest = _NUMBERS[family], hashlib.sha256()
        for _, rule in _told(_GETRULE, _NEWRULE, number, table):
            digest.update(rule)
        for of in self._sets:
            asked = table + nl.attribute(_NAME_OF_SET, of.encode() + b"\0")
            each: list[bytes] = []
            for _, told in _told(_GETSETELEM, _NEWSETELEM, number, asked):
                part = dict(nl.attributes(told)).get(_ELEMENTS, b"")
                each += (value for _, value in nl.attributes(part))
            digest.update(b"".join(sorted(each)))
        return digest.digest()


# By family and name: a sandbox has two of one name.
_made: dict[tuple[GateFamily, str], _Made] = {}


def check() -> None:
    """Raise OSError unless the library and the kernel can have gates."""
    libnftables.run(_PROBE, dry=True)


def tables() -> Iterator[NftTable]:
    """Return the gates of this namespace, without their elements; raises OSError."""
    for family, name in _tables():
        marks = tuple(_marks(family, name)) or ("",)
        made = _made.get((family, name))
        if made and not made.is_as_made():
            marks += ("changed",)
        yield NftTable(family, name, marks=marks)


def elements(table: NftTable) -> list[NftElements]:
    """Return what a gate knows of containers; raises OSError."""
    found: dict[tuple[str, bool], set[tuple[str, str]]] = defaultdict(set)
    for name, fields in (*SETS.items(), (MEMBERS, ("who",))):
        who = "mac" if table.family == "netdev" else "ifname"
        kinds = [who if field == "who" else field for field in fields]
        asked = nl.attribute(_TABLE_OF_SET, table.name.encode() + b"\0")
        asked += nl.attribute(_NAME_OF_SET, name.encode() + b"\0")
        for _, body in _told(_GETSETELEM, _NEWSETELEM, _NUMBERS[table.family], asked):
            listed = dict(nl.attributes(body)).get(_ELEMENTS, b"")
            for _, element in nl.attributes(listed):
                words = _words(kinds, dict(nl.attributes(element)))
                whose = words[0], name in BESIDE
                found[whose].add((name, _JOINED.join(words)))
    return [
        NftElements(table.family, table.name, who, frozenset(of))
        for (who, _), of in found.items()
    ]


def create(wanted: NftTable | NftElements, seen: Object | None = None) -> None:
    """Create a table or elements, or change what was seen; raises OSError."""
    if isinstance(wanted, NftElements):
        known = seen if isinstance(seen, NftElements) else None
        lines = known.script("delete", besides=wanted) if known else []
        _change(wanted, [*lines, *wanted.script(besides=known)])
        return
    _check_name(wanted.device)
    _made.pop((wanted.family, wanted.name), None)
    _make(wanted)
    if wanted.sandbox:
        if len(_made) > _MOST_MADE:
            _made.clear()
        _made[wanted.family, wanted.name] = _Made(wanted)


def is_there(wanted: NftTable) -> bool:
    """Return whether there is a table with the marks of this one."""
    return tuple(_marks(wanted.family, wanted.name)) == wanted.marks


def _make(wanted: NftTable) -> None:
    """Make a table, or make what is there into it; raises OSError."""
    kept: list[str] = []
    with suppress(OSError):
        _change(wanted, wanted.script())
        if is_there(wanted):
            return
        if not wanted.sandbox:  # there the body has the elements
            kept = [line for found in elements(wanted) for line in found.script()]
    # What is there cannot be changed into it: another kind of set, say, or a chain of
    # another program in it.
    where = f"table {wanted.family} {wanted.name}"
    anew = [f"add {where}", f"delete {where}", *wanted.script(), *kept]
    _change(wanted, anew)


def _check_name(device: str) -> None:
    if not (device.isprintable() and _NOT_IN_NAMES.isdisjoint(device)):
        raise OSError(errno.EINVAL, f"nft has no words for the name {device!r}")


def delete(doomed: NftTable | NftElements) -> None:
    """Delete a table or elements; raises OSError, FileNotFoundError if one is gone."""
    if isinstance(doomed, NftElements):
        _change(doomed, doomed.script("delete"))
    else:
        _change(doomed, [f"delete table {doomed.family} {doomed.name}"])


def _change(changed: NftTable | NftElements, script: list[str]) -> None:
    of_host = not getattr(changed, "sandbox", "")
    libnftables.run("\n".join(script), keep=of_host)


def _tables() -> Iterator[tuple[GateFamily, str]]:
    for head, body in _told(_GETTABLE, _NEWTABLE, 0, b""):
        name = nl.text(dict(nl.attributes(body)).get(_NAME_OF_TABLE, b""))
        if name.startswith(GATE) and head in _FAMILIES:
            yield _FAMILIES[head], name


def _marks(family: GateFamily, table: str) -> Iterator[str]:
    named = nl.attribute(_TABLE_OF_RULE, table.encode() + b"\0")
    for _, body in _told(_GETRULE, _NEWRULE, _NUMBERS[family], named):
        yield _comment(dict(nl.attributes(body)).get(_DATA_OF_RULE, b""))


def _comment(data: bytes) -> str:
    while len(data) >= 2:
        kind, length = data[0], data[1]
        if kind == _COMMENT:
            return nl.text(data[2 : 2 + length])
        data = data[2 + length :]
    return ""


def _words(kinds: list[str], element: dict[int, bytes]) -> list[str]:
    """Return the fields of an element's key in nft's words."""
    first = dict(nl.attributes(element.get(_KEY, b""))).get(_VALUE, b"")
    end = dict(nl.attributes(element.get(_KEY_END, b""))).get(_VALUE, b"") or first
    found, at = [], 0
    for kind in kinds:
        size = _SIZES[kind]
        found.append(_word(kind, first[at : at + size], end[at : at + size]))
        at += (size + 3) & ~3
    return found


def _word(kind: str, value: bytes, end: bytes) -> str:
    if kind == "mac":
        return value.hex(":")
    if kind == "ifname":
        return f'"{nl.text(value)}"'
    if kind in ("raw6", "end6"):
        return f"0x{value.hex()}"
    if kind in ("ip4", "net4", "net6"):
        low = int.from_bytes(value, "big")
        size = int.from_bytes(end, "big") - low + 1
        prefix = 8 * len(value) - size.bit_length() + 1
        network = ip_network((value, prefix), strict=False)
        alone = prefix == network.max_prefixlen
        return str(network.network_address if alone else network)
    number = int.from_bytes(value, "big")
    return _PROTOCOLS.get(number, str(number)) if kind == "proto" else str(number)


def _told(
    request: int, answer: int, family: int, body: bytes
) -> Iterator[tuple[int, bytes]]:
    """Return the family and the attributes of each answer; nothing without nftables."""
    asked = _HEAD.pack(family, 0, 0) + body
    try:
        found = nl.dump(request, answer, asked, protocol=NETLINK_NETFILTER)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *NO_NFTABLES):
            raise
        return
    for told in found:
        yield told[0], told[_HEAD.size :]
