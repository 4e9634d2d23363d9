"""Devices of the host, and what is recorded of them before it is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from underlay.model.owner import SysctlReason

LinkFault = Literal["", "down", "no carrier"]


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What identifies a device of the host when its name may have changed.

    `permanent_mac` is burnt in, "" if there is none; `vlan` is a tag (802.1Q).
    """

    name: str
    kind: str = ""
    mac: str = ""
    permanent_mac: str = ""
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class SysctlBackup:
    """A host sysctl that keeps `value` while a recorded object needs it.

    `path` is under /proc/sys, `before` its former value; without a `value` it is only
    restored. Sysctls are written in `write_order`, and restored in reverse.
    """

    reason: SysctlReason
    path: str
    before: str
    value: str
    write_order: int = 0


@dataclass(frozen=True, slots=True)
class HostEntry:
    """An address or route on a device, with all it has: the kernel's message in hex.

    `words` identify it, in iproute2's words; `via` is a next hop; `obstacle` is why it
    cannot be moved to another device.
    """

    what: Literal["address", "route"]
    words: str
    payload: str
    via: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class BridgeTakeover:
    """A bridge of ours that has, or is to get, the addresses and routes of its parent.

    `entries` are to move: to the bridge while it is `on`, else back to the parent,
    because it is not proven yet (`trying`) or not needed any more (`back`). `sysctls`
    of the parent (`net/ipv4/conf/*/rp_filter=1`) are set when the bridge is created.
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
    tag (802.1Q) of a VLAN. `ours`: it has our mark. Then the `label` of a VLAN is the
    name people know, and that of a bridge the device it replaces. `link_fault` is why
    nothing passes it now; `active_port` is the one port that a bond sends by, if any.
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
    link_fault: LinkFault = ""
    active_port: str = ""
