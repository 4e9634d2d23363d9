"""Addresses from DHCP servers: where that is possible, and what `-o` says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from underlay.errors import BadValue, NotWithDhcp
from underlay.model import Network
from underlay.modes.child_device import is_isolated
from underlay.modes.options import DHCP_KEYS, choice, number

# dnsmasq pings an address for three seconds before it offers that.
TIMEOUT_SECONDS, TIMEOUT_MOST = 12, 60
HOLD_SECONDS, HOLD_MOST = 120, 86_400


def check(network: Network, mode: str, *, has_segment: bool) -> None:
    """Raise unless DHCP servers can give addresses in a network, if they are to.

    `has_segment`: its containers are on one with the parent.
    """
    source = choice(network.options, "source", ("", "dhcp"))
    found = [segment for segment in network.subnets if segment.dhcp]
    if source and (not found or found[0].pooled):
        need = "with --ipam-driver underlay it is --ipam-opt source=dhcp, and with"
        need += " --ipam-driver null -o source=dhcp"
        raise BadValue(key="source", value=source, need=need, hint="")
    if not found:
        for key in DHCP_KEYS:
            if key in network.options:
                need, value = "it is for source=dhcp", network.options[key]
                raise BadValue(key=key, value=value, need=need, hint="")
        return
    lease_timeout(network.options)
    hold(network.options)
    host_name_is_sent(network.options)
    if not has_segment:
        raise NotWithDhcp(why=f"containers of mode={mode} have no segment of their own")
    if is_isolated(network.options):
        why = "the network has no parent, so no server. Add -o parent=<device>"
        raise NotWithDhcp(why=why)
    if network.internal:
        why = "the network is --internal, and the lease brings a gateway"
        raise NotWithDhcp(why=why)


def check_endpoint(network: Network, options: Mapping[str, str]) -> None:
    """Raise unless `identity=` names a container that nothing else names."""
    value = options.get("identity", "")
    if not value:
        return
    need = ""
    if not any(s.dhcp and not s.pooled for s in network.subnets):
        need = "it is for networks with --ipam-driver null -o source=dhcp"
    elif not re.fullmatch(r"[\w.-]{1,60}", value):
        need = "a word of letters, digits, '_', '.' and '-', at most 60"
    if need:
        raise BadValue(key="identity", value=value, need=need, hint="")


def lease_timeout(options: Mapping[str, str]) -> float:
    """Return how many seconds a start waits for a server."""
    if not options.get("lease_timeout"):
        return TIMEOUT_SECONDS
    return number(options, "lease_timeout", 1, TIMEOUT_MOST, "a number of seconds")


def hold(options: Mapping[str, str]) -> float:
    """Return for how many seconds the lease of a removed container is kept."""
    if not options.get("hold"):
        return HOLD_SECONDS
    return number(options, "hold", 0, HOLD_MOST, "a number of seconds")


def host_name_is_sent(options: Mapping[str, str]) -> bool:
    """Return whether servers are told the container's name."""
    return choice(options, "hostname", ("on", "off")) == "on"
