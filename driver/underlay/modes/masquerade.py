"""masquerade: IPv4 packets of containers leave the host with the host's address.

Packets of other containers that leave by a shim, which has no address, get the address
that the host has on the parent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.model import Network
from underlay.model.objects import (
    CONTAINER_GROUP,
    PLAIN_NAME,
    SHIM_GROUP,
    NftChain,
    Object,
    Owner,
)
from underlay.modes.options import choice

# The devices of routed containers, and shims.
INNER = f"{{ {CONTAINER_GROUP}, {SHIM_GROUP} }}"
HOOK = "nat hook postrouting priority 100"  # srcnat
# Before Docker and other programs masquerade what leaves their bridges: on a device
# without an address, the kernel would take the first address of any other device.
BEFORE_OTHERS = "nat hook postrouting priority 99"


def is_enabled(options: Mapping[str, str]) -> bool:
    """Return whether `masquerade=on` is set; raises BadValue."""
    return choice(options, "masquerade", ("off", "on")) == "on"


def objects(network: Network) -> Iterable[NftChain]:
    """Return the chain of a network, if `masquerade=on` is set.

    Packets to the network's own subnets keep their source: other hosts may have
    containers in these subnets too.
    """
    subnets = [str(s.subnet) for s in network.subnets if s.subnet.version == 4]
    if not is_enabled(network.options) or not subnets:
        return
    owner = Owner(network.id)
    away = f"ip daddr != {{ {', '.join(subnets)} }} oifgroup != {INNER}"
    rules = tuple(f"ip saddr {subnet} {away} masquerade" for subnet in subnets)
    yield NftChain("ip", f"nat-{owner.device}", HOOK, rules, owner=owner)


def through(network: Network, shim: Owner) -> Iterable[NftChain]:
    """Return the chain for packets that containers on other bridges send by a shim.

    Of the host's addresses on the parent, the first one of each segment counts. Packets
    from a bridge with a NIC as a port keep their source: the host routes for that LAN.
    """
    uplink = network.uplink
    known = [a for a in uplink.host_addresses if a.version == 4]
    bridges = [f'"{b}"' for b in uplink.container_bridges if PLAIN_NAME.fullmatch(b)]
    if not (known and bridges):
        return
    begin = f'iifname {{ {", ".join(bridges)} }} oifname "{shim.device}"'
    ways = [(f"ip daddr {a.network} ", a.ip) for a in known]
    # The host's address may be a /32, so the last rule has no subnet.
    rules = tuple(
        f"{begin} {to}snat to {address}" for to, address in (*ways, ("", known[0].ip))
    )
    yield NftChain("ip", f"nat-{shim.device}", BEFORE_OTHERS, rules, owner=shim)


def lists_bridges(found: Object) -> bool:
    """Return whether an object is such a chain."""
    return isinstance(found, NftChain) and found.hook == BEFORE_OTHERS
