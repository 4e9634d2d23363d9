"""Addresses from DHCP servers: where that is possible, and what `-o` says of it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from underlay.errors import (
    BadValue,
    ConflictingOptions,
    NotWithDhcp,
    OneClientForAll,
)
from underlay.model import Network
from underlay.modes import leased
from underlay.modes.child_device import is_isolated
from underlay.modes.options import DHCP_KEYS, ON_OFF, choice, number

# dnsmasq pings an address for three seconds before it offers that.
TIMEOUT_SECONDS, TIMEOUT_MOST = 12, 60
HOLD_SECONDS, HOLD_MOST = 120, 86_400
HOST_NAME = ("on", "off", "register")
# Those of DHCPv6 servers too.
SIX_KEYS = ("hold", "hostname", "when_lost")
CLIENT_ID_SORTS, CLIENT_ID_MOST = ("mac", "duid"), 60


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
    _check_probe(network, is_null=bool(found) and not found[0].pooled)
    if not found:
        both = SIX_KEYS if network.options.get("ipv6") == "dhcp" else ()
        if both:
            hold(network.options)
            host_name_is_sent(network.options)
            _check_may_drop(network.options)
        for key in (*DHCP_KEYS, "client_id"):
            if key in network.options and key not in both:
                need, value = "it is for source=dhcp", network.options[key]
                need += " or ipv6=dhcp" if key in SIX_KEYS else ""
                raise BadValue(key=key, value=value, need=need, hint="")
        return
    lease_timeout(network.options)
    hold(network.options)
    host_name_is_sent(network.options)
    _check_may_drop(network.options)
    is_reconnected(network.options)
    leased.takes_routes(network.options)
    leased.takes_mtu(network.options)
    _check_client_id(network.options, mode)
    if not has_segment:
        raise NotWithDhcp(why=f"containers of mode={mode} have no segment of their own")
    if is_isolated(network.options):
        why = "the network has no parent, so no server. Add -o parent=<device>"
        raise NotWithDhcp(why=why)
    if network.internal:
        why = "the network is --internal, and the lease brings a gateway"
        raise NotWithDhcp(why=why)


def _check_probe(network: Network, *, is_null: bool) -> None:
    """Raise if `probe` is not where it belongs; `is_null`: no IPAM driver gives it."""
    is_probed(network.options)
    value = network.options.get("probe")
    if value and not is_null:
        need = f"with --ipam-driver underlay it is --ipam-opt probe={value}, and with"
        need += f" --ipam-driver null -o source=dhcp -o probe={value}"
        raise BadValue(key="probe", value=value, need=need, hint="")


def _check_may_drop(options: Mapping[str, str]) -> None:
    """Raise if the service is to take addresses out of sandboxes it leaves alone."""
    if is_dropped(options) and choice(options, "repair", ON_OFF) == "off":
        raise ConflictingOptions(first="when_lost=drop", second="repair=off")


def _check_client_id(options: Mapping[str, str], mode: str) -> None:
    """Raise if all containers of a network would have one client id."""
    value = client_id(options)
    _check_mac_is_own(value, mode)
    if client_text(options):
        why = "a text is the same for each of them"
        way = (
            "mac or duid here, and the text for one container, in a network with"
            " --ipam-driver null -o source=dhcp: --network"
            f" name=NETWORK,driver-opt=client_id={value}"
        )
        raise OneClientForAll(value=value, why=why, way=way)


def _check_mac_is_own(value: str, mode: str) -> None:
    if value == "mac" and mode == "ipvlan":
        why = "in mode ipvlan they all have the MAC of the parent"
        raise OneClientForAll(value=value, why=why, way="duid, or mode=macvlan")


def check_endpoint(network: Network, options: Mapping[str, str], mode: str) -> None:
    """Raise unless `identity=` and `client_id=` make sense, and are known in time.

    With an IPAM driver Docker tells them after it has got the address.
    """
    is_known = any(s.dhcp and not s.pooled for s in network.subnets)
    for key in ("identity", "client_id"):
        value = options.get(key, "")
        if value and not is_known:
            need = "it is for networks with --ipam-driver null -o source=dhcp"
            need += ", because elsewhere Docker tells it after it has got the address"
            raise BadValue(key=key, value=value, need=need, hint="")
    _check_may_drop({**network.options, **options})
    name, text = options.get("identity", ""), client_id(options)
    if name and not re.fullmatch(r"[\w.-]{1,60}", name):
        need = "a word of letters, digits, '_', '.' and '-', at most 60"
        raise BadValue(key="identity", value=name, need=need, hint="")
    if len(text.encode()) > CLIENT_ID_MOST:
        need = f"mac, duid, or a text of at most {CLIENT_ID_MOST} bytes"
        raise BadValue(key="client_id", value=text, need=need, hint="")
    _check_mac_is_own(text, mode)


def client_id(options: Mapping[str, str]) -> str:
    """Return what servers know a container by: mac, duid, a text, "" for the usual."""
    return options.get("client_id", "")


def client_text(options: Mapping[str, str]) -> str:
    """Return the client id that is a text of the user's, "" if it is none."""
    value = client_id(options)
    return "" if value in CLIENT_ID_SORTS else value


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


def is_dropped(options: Mapping[str, str]) -> bool:
    """Return whether a container loses the address of a lease that has ended."""
    return choice(options, "when_lost", ("keep", "drop")) == "drop"


def is_reconnected(options: Mapping[str, str]) -> bool:
    """Return whether Docker is told another address of a running container."""
    return choice(options, "on_change", ("repair", "reconnect")) == "reconnect"


def is_probed(options: Mapping[str, str]) -> bool:
    """Return whether other machines are listened to, without an IPAM driver."""
    return choice(options, "probe", ON_OFF) == "on"


def host_name_is_sent(options: Mapping[str, str]) -> bool:
    """Return whether servers are told the container's name."""
    return choice(options, "hostname", HOST_NAME) != "off"


def is_registered(options: Mapping[str, str]) -> bool:
    """Return whether servers are asked to have the container's name in the DNS."""
    return choice(options, "hostname", HOST_NAME) == "register"
