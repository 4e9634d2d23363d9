"""masquerade: IPv4 that leaves the host by other devices than ours has its address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from underlay.model import Network
from underlay.modes.options import choice
from underlay.objects import Chain, Owner

HOOK = "nat hook postrouting priority 100"  # srcnat


def is_on(options: Mapping[str, str]) -> bool:
    """Tell whether it is asked for; raises BadValue."""
    return choice(options, "masquerade", ("off", "on")) == "on"


def objects(network: Network) -> Iterable[Chain]:
    """Return the chain of a network, if it is asked for.

    What goes to the network's own subnets keeps its source: they may be behind other
    hosts too.
    """
    subnets = [str(s.subnet) for s in network.segments if s.subnet.version == 4]
    if not is_on(network.options) or not subnets:
        return
    owner = Owner(network.id)
    away = f'ip daddr != {{ {", ".join(subnets)} }} oifname != "ul-*" masquerade'
    rules = tuple(f"ip saddr {subnet} {away}" for subnet in subnets)
    yield Chain("ip", f"nat-{owner.device}", HOOK, rules, owner=owner)
