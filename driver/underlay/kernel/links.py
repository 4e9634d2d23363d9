"""Reading links: decoded to the few fields we use."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from underlay.kernel import rtnetlink as nl
from underlay.kernel.rtnetlink import (
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_UP,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RTM_GETLINK,
    RTM_NEWLINK,
)
from underlay.model.cache import GenerationCache
from underlay.model.objects import MARK, OWN_LINK_LOCAL, UNFINISHED_GROUP, Owner

_IPV4 = Path("/proc/sys/net/ipv4/conf")
_IFREQ, _IFNAMSIZ, _SIOCGIFINDEX = struct.Struct("=16si20x"), 16, 0x8933

# What the message of our links contains. There may be thousands of other links.
_MARKS = MARK.encode(), nl.attribute(nl.IFLA_GROUP, nl.NUMBER.pack(UNFINISHED_GROUP))
# The kinds of device that the service creates, and those of them for sandboxes.
KINDS_INSIDE = "macvlan", "ipvlan", "veth"
KINDS = *KINDS_INSIDE, "vlan", "dummy", "bridge"
# Up to so many links are read at once; beyond, the kernel filters by kind.
_FEW = 300
_BR_NF_CALL = {4: nl.IFLA_BR_NF_CALL_IPTABLES, 6: nl.IFLA_BR_NF_CALL_IP6TABLES}
_CONF = {socket.AF_INET: nl.IFLA_INET_CONF, socket.AF_INET6: nl.IFLA_INET6_CONF}
# Sysctls that a link's message contains, by their places: linux/ip.h, linux/ipv6.h. To
# read /proc for thousands of devices would take longer than all else of a look.
_SETTINGS = (
    ("net/ipv4/conf/*/rp_filter", socket.AF_INET, 7),
    ("net/ipv4/conf/*/arp_filter", socket.AF_INET, 12),
    ("net/ipv4/conf/*/arp_ignore", socket.AF_INET, 18),
    ("net/ipv4/conf/*/drop_unicast_in_l2_multicast", socket.AF_INET, 29),
    ("net/ipv6/conf/*/accept_ra", socket.AF_INET6, 3),
    ("net/ipv6/conf/*/autoconf", socket.AF_INET6, 5),
    ("net/ipv6/conf/*/accept_ra_defrtr", socket.AF_INET6, 17),
    ("net/ipv6/conf/*/proxy_ndp", socket.AF_INET6, 22),
    ("net/ipv6/conf/*/disable_ipv6", socket.AF_INET6, 26),
    ("net/ipv6/conf/*/accept_dad", socket.AF_INET6, 27),
    ("net/ipv6/conf/*/addr_gen_mode", socket.AF_INET6, 47),
)
_802_1Q = b"\x81\x00"

_MACVLAN = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_IPVLAN = {0: "l2", 1: "l3", 2: "l3s"}
MODES = {"macvlan": _MACVLAN, "macvtap": _MACVLAN, "ipvlan": _IPVLAN, "ipvtap": _IPVLAN}
IPVLAN_FLAGS = {0: "bridge", 1: "private", 2: "vepa"}


def code_of(names: Mapping[int, str], name: str | None) -> int:
    """Return the kernel's number for a name of a mode or flag."""
    return next(code for code, known in names.items() if known == name)


@dataclass(frozen=True, slots=True, eq=False)
class RawLink:
    """A link as the kernel reports it; the same message gives the same object.

    `link` is the index of what it stands on: in another namespace if that is
    `elsewhere`, which has the number `netnsid` here (-1: none). `master` is that of the
    bridge or bond it is a port of. `flavour` and `flag` are the mode of a macvlan or
    ipvlan child, `queue` how many broadcasts wait for a macvlan child at most, if the
    kernel tells; `vlan` a tag of 802.1Q. `filtered` are the IP families that a bridge,
    of its own, shows to iptables; `active` is the index of the one port that a bond
    sends by. `settings` are sysctls of a link of ours, as far as it
    has that IP family, and `token` (::53) ends the addresses that it makes from router
    advertisements; `altnames` are its alternative names.
    """

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    permanent_mac: str = ""
    mtu: int = 0
    link: int = 0
    netnsid: int | None = None
    alias: str = ""
    group: int = 0
    loopback: bool = False
    up: bool = False
    carrier: bool = False
    master: int = 0
    flavour: str = ""
    flag: str = ""
    queue: int | None = None
    vlan: int = 0
    filtered: tuple[int, ...] = ()
    active: int = 0
    owner: Owner | None = None
    settings: tuple[str, ...] = ()
    token: str = ""
    altnames: tuple[str, ...] = ()
    # Whether it is ours, in the host: it has our mark, and the name for the mark. Or it
    # is unfinished: created by a process that died before it set the mark. Found out
    # once, for a pass asks for thousands.
    ours: bool = field(init=False)

    def __post_init__(self) -> None:
        marked = self.owner is not None and self.owner.device == self.name
        object.__setattr__(self, "ours", marked or self._is_unfinished)

    @property
    def elsewhere(self) -> bool:
        """Whether what it stands on is in another namespace."""
        return self.netnsid is not None

    @property
    def ours_inside(self) -> bool:
        """Whether it is ours, in a sandbox: there it may have any name."""
        inside = self.kind in KINDS_INSIDE and self.owner and self.owner.endpoint
        return bool(inside) or self._is_unfinished

    @property
    def has_slaac(self) -> bool:
        """Whether it makes IPv6 addresses by a token or a secret."""
        return bool(self.token) or f"{OWN_LINK_LOCAL}2" in self.settings

    @property
    def _is_unfinished(self) -> bool:
        created = self.group == UNFINISHED_GROUP and self.kind in KINDS
        return bool(created and not self.alias and Owner.is_device(self.name))


def link_named(name: str) -> RawLink | None:
    """Return one link by its name or alternative name."""
    if not 0 < len(name.encode(errors="replace")) < 128 or "\0" in name:
        return None
    # Whichever of the two carries it, the kernel looks among all names.
    return _get(nl.IFLA_IFNAME if len(name) < _IFNAMSIZ else nl.IFLA_ALT_IFNAME, name)


def is_there(name: str) -> bool:
    """Return whether a device of this name is there, if IPv4 can be on it.

    Without RTNL, as below. A netlink request for an unknown name would start modprobe.
    """
    return (_IPV4 / name).exists()


def index_of(name: str) -> int:
    """Return the index of a link; raises OSError ENODEV.

    Without the lock of the kernel's links (RTNL), which every netlink request for one
    waits for. While many containers start, it is held for most of the time.
    """
    short = name.encode(errors="replace")
    if 0 < len(short) < _IFNAMSIZ and "\0" not in name:
        index = _index_of(short)
    else:
        found = link_named(name)
        index = found.index if found else 0
    if not index:
        raise OSError(errno.ENODEV, f"no device {name}")
    return index


def _index_of(name: bytes) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        try:
            found = fcntl.ioctl(s, _SIOCGIFINDEX, _IFREQ.pack(name, 0))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return 0
    return int(_IFREQ.unpack(found)[1])


def all_links(kind: str = "") -> tuple[RawLink, ...]:
    """Return every link of this namespace, or those of one kind.

    The kernel picks out a kind itself, if it knows it. Raises OSError EINTR if they
    keep changing while they are read.
    """
    found = map(_link, _links_told(kind, lambda _: True))
    return tuple(link for link in found if kind in ("", link.kind))


def ports_of(master: int) -> tuple[RawLink, ...]:
    """Return the ports of a bridge or bond, given by index, as the kernel picks them.

    Raises OSError as above.
    """
    request, answer, body = _links_asked_for()
    body += nl.attribute(nl.IFLA_MASTER, nl.NUMBER.pack(master))
    found = map(_link, nl.dump(request, answer, body))
    return tuple(link for link in found if link.master == master)


def our_links() -> tuple[RawLink, ...]:
    """Return our links in the host; raises OSError as above."""
    return tuple(link for link in _with_marks(KINDS) if link.ours)


def our_links_inside() -> tuple[RawLink, ...]:
    """Return our links in a sandbox; raises OSError as above."""
    return tuple(link for link in _with_marks(KINDS_INSIDE) if link.ours_inside)


def _with_marks(kinds: Collection[str]) -> Iterator[RawLink]:
    """Return the links that may have our mark, at least those of these kinds."""
    try:
        found = nl.dump(*_links_asked_for(), wanted=_may_be_ours, most=_FEW)
    except nl.TooManyError:
        # A link may change its name meanwhile, but not its kind.
        found = [m for kind in kinds for m in _links_told(kind, _may_be_ours)]
    return map(_link, found)


def _links_told(kind: str, wanted: nl.Wanted) -> list[bytes]:
    """Return the messages about links of a kind that are wanted."""
    mark = nl.attribute(nl.IFLA_INFO_KIND, kind.encode() + b"\0")[: 5 + len(kind)]

    def of_kind(message: bytes) -> bool:
        if kind and mark not in message:
            raise LookupError
        return wanted(message)

    try:
        return nl.dump(*_links_asked_for(kind), wanted=of_kind)
    except LookupError:
        return []  # a kernel without the kind would send all links


def _links_asked_for(kind: str = "") -> tuple[int, int, bytes]:
    """Return the request for all links, or for those of a kind."""
    body = nl.IFINFO.pack(0, 0, 0, 0, 0) + nl.attribute(
        nl.IFLA_EXT_MASK, nl.NUMBER.pack(nl.RTEXT_FILTER_SKIP_STATS)
    )
    return RTM_GETLINK, RTM_NEWLINK, body + (kind_attribute(kind) if kind else b"")


def _may_be_ours(message: bytes) -> bool:
    return any(mark in message for mark in _MARKS)


def names_are_known() -> bool:
    """Return whether the kernel knows alternative names, as those from 5.5 on do.

    The request is for no link: a kernel that knows it refuses that.
    """
    try:
        nl.request(nl.RTM_NEWLINKPROP, 0, nl.IFINFO.pack(0, 0, 0, 0, 0))
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def kind_is_known(kind: str) -> bool:
    """Return whether the kernel has a kind of link, or a module of it to load.

    The request is for a link that cannot be: every kind refuses one without a parent or
    with an address of one byte, with EINVAL.
    """
    body = nl.IFINFO.pack(0, 0, 0, 0, 0) + nl.attribute(nl.IFLA_ADDRESS, b"\0")
    body += kind_attribute(kind)
    try:
        nl.request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def kind_attribute(kind: str, data: bytes = b"") -> bytes:
    """Return what a message says of the kind of a link."""
    info = nl.attribute(nl.IFLA_INFO_KIND, kind.encode() + b"\0")
    if data:
        info += nl.attribute(nl.IFLA_INFO_DATA, data)
    return nl.attribute(nl.IFLA_LINKINFO, info)


def _get(key: int, name: str) -> RawLink | None:
    named = nl.attribute(key, os.fsencode(name) + b"\0")  # as if_indextoname has it
    body = nl.IFINFO.pack(0, 0, 0, 0, 0) + named
    try:
        for message in nl.exchange(RTM_GETLINK, NLM_F_REQUEST, RTM_NEWLINK, body):
            return _link(message)
    except OSError as error:
        # ENODEV: none of that name; EINVAL, ERANGE: the kernel takes no such name.
        if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
            raise
    return None


def next_generation() -> None:
    """Begin to read all links; the cache forgets what was not read for two times."""
    _our_link.next_generation()


def _link(message: bytes) -> RawLink:
    return _our_link(message) if _may_be_ours(message) else _new_link(message)


def _new_link(message: bytes) -> RawLink:
    _, _, index, flags, _ = nl.IFINFO.unpack_from(message)
    found = dict(nl.attributes(message[nl.IFINFO.size :]))
    info = dict(nl.attributes(found.get(nl.IFLA_LINKINFO, b"")))
    alias = nl.text(found.get(nl.IFLA_IFALIAS, b""))
    facts = _of_kind(info)
    owner = Owner.of_device(alias) if facts["kind"] in KINDS else None
    return RawLink(
        index=index,
        name=nl.text(found.get(nl.IFLA_IFNAME, b"")),
        mac=found.get(nl.IFLA_ADDRESS, b"").hex(":"),
        permanent_mac=found.get(nl.IFLA_PERM_ADDRESS, b"").hex(":"),
        mtu=nl.number(found.get(nl.IFLA_MTU, b"")),
        link=nl.number(found.get(nl.IFLA_LINK, b"")),
        netnsid=_signed(found[nl.IFLA_LINK_NETNSID])
        if nl.IFLA_LINK_NETNSID in found
        else None,
        alias=alias,
        owner=owner,
        settings=_settings(found.get(nl.IFLA_AF_SPEC, b"")) if owner else (),
        token=_token(found.get(nl.IFLA_AF_SPEC, b"")) if owner else "",
        altnames=_altnames(found.get(nl.IFLA_PROP_LIST, b"")) if owner else (),
        group=nl.number(found.get(nl.IFLA_GROUP, b"")),
        loopback=bool(flags & IFF_LOOPBACK),
        up=bool(flags & IFF_UP),
        carrier=bool(flags & IFF_LOWER_UP),
        master=nl.number(found.get(nl.IFLA_MASTER, b"")),
        **facts,
    )


_our_link = GenerationCache(_new_link)


def _altnames(properties: bytes) -> tuple[str, ...]:
    found = nl.attributes(properties)
    return tuple(nl.text(name) for key, name in found if key == nl.IFLA_ALT_IFNAME)


def _signed(value: bytes) -> int:
    return int.from_bytes(value[:4], sys.byteorder, signed=True)


def _of_kind(info: dict[int, bytes]) -> dict[str, Any]:
    """Return what the kind of a link adds to it."""
    kind = nl.text(info.get(nl.IFLA_INFO_KIND, b""))
    facts: dict[str, Any] = {"kind": kind}
    data = dict(nl.attributes(info.get(nl.IFLA_INFO_DATA, b"")))
    if kind in MODES:
        facts["flavour"] = MODES[kind].get(
            nl.number(data.get(nl.IFLA_MACVLAN_MODE, b"")), ""
        )
    if kind == "macvlan" and nl.IFLA_MACVLAN_BC_QUEUE_LEN in data:
        facts["queue"] = nl.number(data[nl.IFLA_MACVLAN_BC_QUEUE_LEN])
    if kind in ("ipvlan", "ipvtap"):
        flags = nl.number(data.get(nl.IFLA_IPVLAN_FLAGS, b""))
        facts["flag"] = IPVLAN_FLAGS.get(flags, "")
    if kind == "vlan" and data.get(nl.IFLA_VLAN_PROTOCOL, _802_1Q) == _802_1Q:
        facts["vlan"] = nl.number(data.get(nl.IFLA_VLAN_ID, b""))
    if kind == "bond":
        facts["active"] = nl.number(data.get(nl.IFLA_BOND_ACTIVE_SLAVE, b""))
    if kind == "bridge":
        shown = (f for f, key in _BR_NF_CALL.items() if data.get(key, b"\0") != b"\0")
        facts["filtered"] = tuple(shown)
    return facts


def _token(spec: bytes) -> str:
    six = dict(nl.attributes(spec)).get(socket.AF_INET6, b"")
    token = dict(nl.attributes(six)).get(nl.IFLA_INET6_TOKEN, b"")
    return str(IPv6Address(token)) if len(token) == 16 and any(token) else ""


def _settings(spec: bytes) -> tuple[str, ...]:
    families = dict(nl.attributes(spec))
    blocks = {
        family: dict(nl.attributes(families.get(family, b""))).get(key, b"")
        for family, key in _CONF.items()
    }
    values = (blocks[family][4 * at : 4 * at + 4] for _, family, at in _SETTINGS)
    return _as_settings(tuple(nl.number(v) if v else None for v in values))


@lru_cache  # those of thousands of devices are alike
def _as_settings(values: tuple[int | None, ...]) -> tuple[str, ...]:
    pairs = zip(_SETTINGS, values, strict=True)
    return tuple(f"{path}={v}" for (path, _, _), v in pairs if v is not None)
