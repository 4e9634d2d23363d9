"""Devices of the host, and what is recorded of them before it is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from underlay.model.owner import SysctlReason

Halt = Literal["", "down", "no carrier"]


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What tells a device of the host from others when its name is no help.

    `permanent_mac` is burnt in, "" where nothing is; `vlan` is a tag (802.1Q).
    """

    name: str
    kind: str = ""
    mac: str = ""
    permanent_mac: str = ""
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class SysctlBackup:
    """A host sysctl that keeps `value` while a recorded object needs it.

    `path` is under /proc/sys, `before` what it was; without a `value` it is only to be
    put back. `turn` is its place in the order of writing, and backwards afterwards.
    """

    reason: SysctlReason
    path: str
    before: str
    value: str
    write_order: int = 0


@dataclass(frozen=True, slots=True)
class HostEntry:
    """An address or route on a device, with all it has: the kernel's message in hex.

    `words` tell it from others, in iproute2's words; `via` is a next hop, `why` what
    speaks against moving it to another device.
    """

    what: Literal["address", "route"]
    words: str
    payload: str
    via: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class BridgeTakeover:
    """A bridge of ours that has, or is to have, what stood on its parent.

    `facts` are on their way: to the bridge while it is `on`, else back to the parent,
    because it is not proven yet (`trying`) or not needed any more (`back`). `settings`
    are sysctls of the parent (`net/ipv4/conf/*/rp_filter=1`), for the bridge to be born
    with.
    """

    parent: str
    bridge: str
    state: Literal["trying", "on", "back"]
    entries: tuple[HostEntry, ...] = ()
    sysctls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this host as the kernel lists it.

    `parent` is the device it stands on, if that is in the same namespace, `master` the
    bridge or bond it is a port of; `flavour` and `flag` are a child's mode, `vlan` the
    tag (802.1Q) of a VLAN. `ours`: it has our mark. A VLAN of ours then has the `label`
    people know it by, and a bridge that of the device whose place it has. `halt` is why
    nothing passes it now; `active` is the port that a bond sends by, where that is one.
    """

    name: str
    kind: str
    mac: str
    mtu: int
    loopback: bool = False
    permanent_mac: str = ""
    parent: str = ""
    flavour: str = ""
    flag: str = ""
    vlan: int = 0
    ours: bool = False
    master: str = ""
    label: str = ""
    link_fault: Halt = ""
    active_port: str = ""
