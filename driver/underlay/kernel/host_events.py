"""Which events of the host's namespace matter to the service, and how soon.

When Docker starts a container on its own bridge, the kernel reports dozens of changes.
None of them touches a device of ours, a parent, or what a bridge leads to.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from underlay.kernel import links
from underlay.kernel import rtnetlink as nl
from underlay.kernel.dependents import INNER_KINDS
from underlay.kernel.rtnetlink import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELNETCONF,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWNETCONF,
    RTM_NEWROUTE,
)
from underlay.model.objects import MARK

_PROTOCOL_AT = 5  # in the head of a route (linux/rtnetlink.h)
# Behind the family, as the first attribute (linux/netconf.h).
_NETCONF_INDEX_AT = 8
_INDEX = struct.Struct("=i")
# What the kernel says of a device that has just come: all of its flags have changed.
_NEW = 0xFFFFFFFF


class Urgency(IntEnum):
    """How soon an event is to be looked at: never, within a second, or at once."""

    NEVER = 0
    SOON = 1
    NOW = 2


@dataclass(frozen=True, slots=True)
class _Device:
    """What an event told of a device. `is_inner`: it leads to no cable."""

    name: str
    master: bytes
    is_inner: bool
    is_ours: bool


class HostEvents:
    """Rates events, by what earlier ones told of the same device.

    `concerns` tells by its name whether a device matters: a parent, or one of ours.
    """

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        self._concerns = concerns
        self._known: dict[int, _Device] = {}

    def forget(self) -> None:
        """Forget all devices: events were missed."""
        self._known.clear()

    def urgency(self, kind: int, body: bytes) -> Urgency:
        """Rate an event by its kind (RTM_NEWLINK, say) and the body of its message."""
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            # The kernel's own routes come with an address, which has an event too.
            by_kernel = body[_PROTOCOL_AT : _PROTOCOL_AT + 1] == bytes(
                [nl.RTPROT_KERNEL]
            )
            return Urgency.NEVER if by_kernel else Urgency.NOW
        if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) > nl.IFINFO.size:
            return self._of_link(kind, body)
        if kind in (RTM_NEWADDR, RTM_DELADDR) and len(body) >= nl.IFADDR.size:
            return self._on_device(nl.IFADDR.unpack_from(body)[4])
        is_whole = len(body) >= _NETCONF_INDEX_AT + _INDEX.size
        if kind in (RTM_NEWNETCONF, RTM_DELNETCONF) and is_whole:
            (index,) = _INDEX.unpack_from(body, _NETCONF_INDEX_AT)
            return self._on_device(index) if index > 0 else Urgency.NOW
        return Urgency.NOW

    def _of_link(self, kind: int, body: bytes) -> Urgency:
        family, _, index, _, change = nl.IFINFO.unpack_from(body)
        if family == socket.AF_BRIDGE:
            return self._on_device(index)  # of a port: its own event tells the rest
        found = dict(nl.attributes(body[nl.IFINFO.size :]))
        if nl.IFLA_IFNAME not in found:
            return Urgency.NOW
        info = dict(nl.attributes(found.get(nl.IFLA_LINKINFO, b"")))
        device = _Device(
            nl.text(found[nl.IFLA_IFNAME]),
            found.get(nl.IFLA_MASTER, b""),
            nl.text(info.get(nl.IFLA_INFO_KIND, b"")) in INNER_KINDS,
            found.get(nl.IFLA_IFALIAS, b"").startswith(MARK.encode()),
        )
        last = self._known.pop(index, None)
        if kind == RTM_NEWLINK:
            self._known[index] = device
        if device.is_ours or self._concerns(device.name):
            return Urgency.NOW
        if last and (last.is_ours or self._concerns(last.name)):
            return Urgency.NOW  # it was renamed, or lost its mark
        if kind == RTM_NEWLINK and last is None and change != _NEW:
            return Urgency.SOON  # a parent may have been renamed, of whatever kind
        is_news = kind == RTM_DELLINK or device != last
        return Urgency.SOON if is_news and not device.is_inner else Urgency.NEVER

    def _on_device(self, index: int) -> Urgency:
        device = self._known.get(index) or self._look(index)
        if device is None:
            return Urgency.NEVER  # it is gone, as its own event tells
        if device.is_ours or self._concerns(device.name):
            return Urgency.NOW
        return Urgency.NEVER if device.is_inner else Urgency.SOON

    def _look(self, index: int) -> _Device | None:
        """Return a device of which no event told yet.

        Of a new one, the kernel tells the settings first.
        """
        try:
            found = links.link_named(socket.if_indextoname(index))
        except OSError:
            return None
        if found is None:
            return None
        device = _Device(
            found.name,
            nl.NUMBER.pack(found.master) if found.master else b"",
            found.kind in INNER_KINDS,
            found.ours,
        )
        self._known[index] = device
        return device
