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
from underlay.model.ipam import (
    Claim,
    ClientKind,
    DhcpLease,
    Former,
    Lease,
    Origin,
    Pool,
    Reservation,
    Role,
    Source,
)
from underlay.model.network import (
    Endpoint,
    JoinAnswer,
    LearnedState,
    LeftoverDevice,
    Network,
    Subnet,
    Uplink,
    as_leased,
    difference,
)
from underlay.model.wire import HostUse, Kind, Sighting, Verdict

__all__ = [
    "FAMILIES",
    "MAC",
    "BridgeTakeover",
    "Claim",
    "ClientKind",
    "Device",
    "DeviceIdentity",
    "DhcpLease",
    "Endpoint",
    "Failure",
    "Family",
    "Former",
    "HostEntry",
    "HostUse",
    "IpAddress",
    "IpInterface",
    "IpNetwork",
    "JoinAnswer",
    "Kind",
    "LearnedState",
    "Lease",
    "LeftoverDevice",
    "LinkFault",
    "Network",
    "Notice",
    "Obstacle",
    "Origin",
    "Pool",
    "Repair",
    "Reservation",
    "Role",
    "Sighting",
    "Source",
    "Subnet",
    "SysctlBackup",
    "Uplink",
    "Verdict",
    "as_leased",
    "difference",
    "host_network",
]
