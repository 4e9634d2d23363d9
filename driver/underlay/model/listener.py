"""What listens in a container, and the devices by which it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from underlay.model.ip import Family, IpAddress, IpInterface
from underlay.model.ports import Protocol


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections, or datagrams from any sender.

    `address` is the one it is bound to, the unspecified one for all of `families`: a
    socket on :: takes IPv4 as well, unless it is for IPv6 only. `device` is the index
    of the device that it is bound to, 0 for none.
    """

    protocol: Protocol
    port: int
    address: IpAddress
    families: tuple[Family, ...]
    device: int = 0


@dataclass(frozen=True, slots=True)
class DeviceInside:
    """A device of ours in a container: its index, and all its addresses."""

    index: int
    addresses: tuple[IpInterface, ...] = ()


@dataclass(frozen=True, slots=True)
class Listening:
    """What listens in a sandbox, and our devices there by the marks of endpoints."""

    listeners: frozenset[Listener] = frozenset()
    devices: Mapping[str, DeviceInside] = field(default_factory=dict)
