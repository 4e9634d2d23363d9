"""The records as values, kernel objects as values, and the steps between them."""

from __future__ import annotations

from underlay.model.device import (
    BridgeTakeover,
    Device,
    DeviceIdentity,
    HostEntry,
    LinkFault,
    SysctlBackup,
)
from underlay.model.health import Failure, Notice, Obstacle, Repair
from underlay.model.ip import (
    FAMILIES,
    MAC,
    Family,
    IpAddress,
    IpInterface,
    IpNetwork,
    host_network,
)
from underlay.model.ipam import Claim, Lease, Pool, Role
from underlay.model.network import (
    Endpoint,
    JoinAnswer,
    LearnedState,
    LeftoverDevice,
    Network,
    Subnet,
    Uplink,
    difference,
)

__all__ = [
    "FAMILIES",
    "MAC",
    "BridgeTakeover",
    "Claim",
    "Device",
    "DeviceIdentity",
    "Endpoint",
    "Failure",
    "Family",
    "HostEntry",
    "IpAddress",
    "IpInterface",
    "IpNetwork",
    "JoinAnswer",
    "LearnedState",
    "Lease",
    "LeftoverDevice",
    "LinkFault",
    "Network",
    "Notice",
    "Obstacle",
    "Pool",
    "Repair",
    "Role",
    "Subnet",
    "SysctlBackup",
    "Uplink",
    "difference",
    "host_network",
]
