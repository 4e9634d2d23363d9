"""Devices of ours are born: by raw netlink, for a container waits for each of them.

pyroute2 takes ten times as long for it (1.4 ms against 0.13), and drops the flags of
ipvlan. Layouts: linux/if_link.h, linux/veth.h.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack

from underlay.kernel import links
from underlay.kernel import rtnetlink as raw
from underlay.model.objects import UNFINISHED_GROUP, Link, Owner

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_NUMBER, _SHORT = struct.Struct("=I"), struct.Struct("=H")
_NEWLINK, _UP = 16, 0x1
ADDRESS, IFNAME, MTU, MASTER, ALIAS, GROUP = 1, 3, 4, 10, 20, 27
_LINK, _LINKINFO, _NET_NS_FD = 5, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_MODE, _IPVLAN_FLAGS, _VLAN_ID, _VETH_PEER = 1, 2, 1, 1


def create_link(link: Link) -> None:
    """Make a link, unfinished: of our group, but without its mark; raises OSError.

    One in a sandbox gets its name there only with its mark: any name may be a
    stranger's.
    """
    with ExitStack() as files:
        body = _IFINFO.pack(0, 0, 0, 0, 0) + _named(link, files)
        if link.parent:
            body += raw.attribute(_LINK, _NUMBER.pack(links.index_of(link.parent)))
        kind = raw.attribute(_INFO_KIND, link.kind.encode() + b"\0")
        if data := _data(link, files):
            kind += raw.attribute(_INFO_DATA, data)
        body += raw.attribute(_LINKINFO, kind)
        raw.request(_NEWLINK, raw.CREATE | raw.EXCLUSIVE, body)


def mark_link(link: Link, owner: Owner) -> None:
    """Give a link in the host its mark, and all that it may have then."""
    change = [
        raw.attribute(ALIAS, owner.mark.encode()),
        raw.attribute(GROUP, _NUMBER.pack(link.group or 0)),
    ]
    if link.master:
        change.append(raw.attribute(MASTER, _NUMBER.pack(links.index_of(link.master))))
    up = link.up and not link.up_after_filters
    change_link(links.index_of(link.name), *change, up=up)


def change_link(index: int, *change: bytes, up: bool | None) -> None:
    """Change attributes of a link, and set it up if asked to; raises OSError."""
    flags = (_UP, _UP) if up else (0, 0)
    raw.request(_NEWLINK, 0, _IFINFO.pack(0, 0, index, *flags) + b"".join(change))


def _named(link: Link, files: ExitStack) -> bytes:
    away = link.sandbox and link.owner
    name = link.owner.device if away and link.owner else link.name
    body = raw.attribute(IFNAME, name.encode() + b"\0")
    body += raw.attribute(GROUP, _NUMBER.pack(UNFINISHED_GROUP))
    if away:
        namespace = os.open(link.sandbox, os.O_RDONLY | os.O_CLOEXEC)
        files.callback(os.close, namespace)
        body += raw.attribute(_NET_NS_FD, _NUMBER.pack(namespace))
    if link.mac:
        body += raw.attribute(ADDRESS, bytes.fromhex(link.mac.replace(":", "")))
    if link.mtu:
        body += raw.attribute(MTU, _NUMBER.pack(link.mtu))
    return body


def _data(link: Link, files: ExitStack) -> bytes:
    """Return what the kind of a link takes."""
    if link.peer:
        peer = _IFINFO.pack(0, 0, 0, 0, 0) + _named(link.peer, files)
        return raw.attribute(_VETH_PEER, peer)
    if link.vlan:
        return raw.attribute(_VLAN_ID, _SHORT.pack(link.vlan))
    if link.kind == "ipvlan":
        flag = links.code_of(links.IPVLAN_FLAGS, link.flag)
        mode = links.code_of(links.MODES["ipvlan"], link.flavour)
        return raw.attribute(_MODE, _SHORT.pack(mode)) + raw.attribute(
            _IPVLAN_FLAGS, _SHORT.pack(flag)
        )
    if link.flavour:
        mode = links.code_of(links.MODES[link.kind], link.flavour)
        return raw.attribute(_MODE, _NUMBER.pack(mode))
    return b""
