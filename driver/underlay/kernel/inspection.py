"""Looks at the host that only checks take, not passes: children, promiscuity, DMI.

Nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from underlay.kernel import links, namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import RawLink

# linux/if_link.h; a bridge counts in hundredths of a second.
_BR_FORWARD_DELAY, _BR_STP_STATE, _TICKS = 1, 5, 100
_IFA_F_PERMANENT = 0x80
_IFLA_PROMISCUITY, _IFF_PROMISC = 30, 0x100
HOST = "host"


def children_on(parent: str) -> Iterator[tuple[RawLink, str]]:
    """Return the macvlan and ipvlan children on a device, and where each is.

    In the host's namespace and in all others; of several processes of a namespace, one
    is named. Raises OSError.
    """
    device = links.link_named(parent)
    if device is None:
        return
    yield from ((link, HOST) for link in _children(device.index, {None}))
    with namespaces.opened(namespaces.OWN) as host:
        for path in namespaces.others():
            try:
                found = namespaces.run_in(path, lambda: _children_of(device, host))
            except OSError as error:
                if not namespaces.is_gone(error):
                    raise
                continue
            yield from ((link, str(path)) for link in found)


def _children_of(device: RawLink, host: int) -> list[RawLink]:
    """Return the children in this thread's namespace on a device of the host."""
    candidates = _children(device.index, None)
    if not candidates:
        return []
    # Asked after the look, which gives the host a number here if it had none.
    number = namespaces.nsid_of(host)
    return [link for link in candidates if link.netnsid == number]


def _children(index: int, numbers: set[int | None] | None) -> list[RawLink]:
    return [
        link
        for kind in links.MODES
        for link in links.all_links(kind)
        if link.link == index and (numbers is None or link.netnsid in numbers)
    ]


def spanning_tree_delay(bridge: str) -> float:
    """Return the forward delay of a bridge with spanning tree in seconds, 0 without."""
    info = dict(nl.attributes(_attributes_of(bridge).get(nl.IFLA_LINKINFO, b"")))
    data = dict(nl.attributes(info.get(nl.IFLA_INFO_DATA, b"")))
    if not nl.number(data.get(_BR_STP_STATE, b"")):
        return 0.0
    return nl.number(data.get(_BR_FORWARD_DELAY, b"")) / _TICKS


def is_promiscuous(device: str) -> bool:
    """Return whether the kernel made a device promiscuous, and no administrator."""
    message = _message_of(device)
    flags = nl.IFINFO.unpack_from(message)[3] if message else _IFF_PROMISC
    counted = nl.number(_attributes_of(device).get(_IFLA_PROMISCUITY, b""))
    return bool(counted and not flags & _IFF_PROMISC)


def _attributes_of(device: str) -> dict[int, bytes]:
    """Return what the kernel says of a device, nothing if it is gone."""
    return dict(nl.attributes(_message_of(device)[nl.IFINFO.size :]))


def _message_of(device: str) -> bytes:
    body = nl.IFINFO.pack(0, 0, 0, 0, 0)
    body += nl.attribute(nl.IFLA_IFNAME, device.encode() + b"\0")
    try:
        asked = nl.exchange(nl.RTM_GETLINK, nl.NLM_F_REQUEST, nl.RTM_NEWLINK, body)
        return next(iter(list(asked)), b"")
    except OSError as error:
        if error.errno not in nl.ABSENT:
            raise
        return b""


def is_configured_by_routers(device: str) -> bool:
    """Return whether a device has a global IPv6 address from router advertisements."""
    try:
        table = Path("/proc/thread-self/net/if_inet6").read_text("ascii")
    except OSError:
        return False  # a kernel without IPv6
    for line in table.splitlines():
        _, _, _, scope, flags, name = line.split()
        if name == device and scope == "00" and not int(flags, 16) & _IFA_F_PERMANENT:
            return True
    return False


def keys_of(path: Path) -> dict[str, str]:
    """Return the keys and values of a file of lines KEY=VALUE, none if it is gone."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in lines if equals}


def first_line(path: Path) -> str:
    """Return the first line of a small file, "" if there is none to read."""
    try:
        return path.read_text("utf-8", errors="replace").strip().partition("\n")[0]
    except OSError:
        return ""
