"""What a segment told about addresses, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from underlay.model.ip import IpAddress

# What a machine says of an address: that it has it, that it is about to take it, or
# that it has given it to a container which is not up yet.
Kind = Literal["claim", "probe", "hold"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a machine said of an address on a device."""

    address: IpAddress
    mac: str
    device: str
    kind: Kind = "claim"


@dataclass(frozen=True, slots=True)
class HostUse:
    """What the host's kernel has at an address: a neighbour's `mac`, or no neighbour.

    Then it is an address of the host, or the end of another program's route.
    """

    mac: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of asking a segment for addresses.

    `used` has the MACs of those that a machine has. `contested` has those that another
    machine asks for at the same time, and comes before this host. `unasked` says why no
    answer was possible, "" if it was.
    """

    used: Mapping[IpAddress, str] = field(default_factory=dict)
    contested: Mapping[IpAddress, str] = field(default_factory=dict)
    unasked: str = ""
