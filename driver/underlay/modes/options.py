"""Reading `-o key=value`, as every mode does, and the traits that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from underlay.errors import (
    BadValue,
    ConflictingOptions,
    MtuTooSmall,
    NeedsRouted,
    UnknownOption,
    did_you_mean,
)
from underlay.model import Endpoint, Family, Network
from underlay.modes.misspellings import key_meant, mode_meant
from underlay.modes.parent_sharing import ParentUse

MTU_KEYS = ("mtu", "com.docker.network.driver.mtu")
MTU_LEAST, MTU_MOST = 68, 65535
# The name of the device in the container.
NAME_KEYS = ("ifname", "com.docker.network.endpoint.ifname")
IPV6_LEAST_MTU = 1280
# Options of one mode only; with another mode they may be a misspelling.
ROUTED_KEYS = ("isolate", "masquerade", "proxy", "table")
NAMES_MODE = ("macvlan_mode", "ipvlan_mode", "ipvlan_flag", "bridge")
BRIDGE_KEYS = ("takeover",)
PARENT_KEYS = ("parent", "vlan")
MODE_KEYS = (*NAMES_MODE, *BRIDGE_KEYS, *ROUTED_KEYS, *PARENT_KEYS)
# What the service does about a device that is damaged, or cannot be made.
REPAIR_KEYS = ("repair", "missing_parent")
# The default first.
ON_OFF, OFF_ON = ("on", "off"), ("off", "on")
WAIT_FAIL = ("wait", "fail")
# `default_route`: in both IP families, in none, or in one.
DEFAULT_ROUTE = ("yes", "no", "4", "6")
# Every mode takes these, of an endpoint and of a network; and some of one of the two.
SHARED_KEYS = (
    "allow_from", "client_id", "default_route", "egress", "identity", "ping", "policy",
    "route", "strict", *MTU_KEYS, *NAME_KEYS, *REPAIR_KEYS,
)  # fmt: skip
ENDPOINT_KEYS = ("suffix", *SHARED_KEYS)
DHCP_KEYS = (
    "hold", "hostname", "lease_mtu", "lease_routes", "lease_timeout", "on_change",
    "probe", "source", "when_lost",
)  # fmt: skip
NETWORK_KEYS = (
    "mode", "host_access", "gateway", "ipv6", "mac_budget", *DHCP_KEYS, *SHARED_KEYS
)  # fmt: skip
MAC_BUDGET_MOST = 999_999
# Docker's own keys begin so.
DOCKERS = "com.docker."


@dataclass(frozen=True, slots=True)
class Traits:
    """What mode and options decide for all containers of a network alike.

    `parent_use`: what the network takes of its parent, None if it needs no parent.
    `host_objects`: objects of an endpoint stay in the host after Docker has moved its
    device. `answers_arp`: the container's device answers ARP and neighbour discovery,
    or a device of the host does for it. `reserved_gateways`: the IP families in which
    no container may have the address of the pool's gateway. `nftables_option`: the
    option that needs nftables, "" if none does. `host_prefix`: the address of a
    container has no subnet (/32, /128). `has_siblings`: not all that reaches it passes
    the host.
    """

    parent_use: ParentUse | None
    host_objects: bool
    answers_arp: bool
    reserved_gateways: tuple[Family, ...]
    nftables_option: str = ""
    host_prefix: bool = False
    has_siblings: bool = False


def check_known(options: Mapping[str, str], known: Collection[str], what: str) -> None:
    """Raise for an unknown key: a typing error must not pass silently.

    Keys under com.docker. are Docker's own, and daemon-wide defaults put any of
    them into every network: ignored_options.py names those without effect.
    """
    for key, value in options.items():
        if key in known or key.startswith(DOCKERS):
            continue
        if key in ROUTED_KEYS and what == "network":
            _refuse_routed(options, f"{key}={value}")
        hint, words = _hint(key, value, known, what), ", ".join(sorted(known))
        raise UnknownOption(what=what, key=key, hint=hint, known=words)
    choice(options, "repair", ON_OFF)
    choice(options, "missing_parent", WAIT_FAIL)
    choice(options, "default_route", DEFAULT_ROUTE)
    mac_budget(options)


def mac_budget(options: Mapping[str, str]) -> int:
    """Return how many MACs the network's parent may carry, 0 for no limit."""
    if not options.get("mac_budget"):
        return 0
    return number(options, "mac_budget", 0, MAC_BUDGET_MOST, "a number of MACs")


def check_endpoint_options(network: Network, endpoint: Endpoint) -> None:
    """Raise unless the options of an endpoint make sense."""
    check_known(endpoint.options, ENDPOINT_KEYS, "endpoint")
    check_ipv6_mtu(network, mtu(endpoint.options))


def _hint(key: str, value: str, known: Collection[str], what: str) -> str:
    if what != "network":
        return did_you_mean(key, known)
    if key == "suffix":
        return " It is for one container: --network name=lan,driver-opt=suffix=::53."
    if key in BRIDGE_KEYS:
        return " It is for mode=bridge with parent=."
    return key_meant(key, value, [*known, *MODE_KEYS])


def _refuse_routed(options: Mapping[str, str], option: str) -> NoReturn:
    given = [f"{k}={options[k]}" for k in ("mode", *NAMES_MODE) if k in options]
    if given:
        raise ConflictingOptions(first=given[0], second=option)
    raise NeedsRouted(option=option)


def is_repaired(network: Network, endpoint: Endpoint) -> bool:
    """Return whether the service repairs an endpoint's device in its sandbox."""
    return choice({**network.options, **endpoint.options}, "repair", ON_OFF) == "on"


def waits_for_parent(network: Network, endpoint: Endpoint) -> bool:
    """Return whether a container may start while its parent is missing."""
    said = {**network.options, **endpoint.options}
    return choice(said, "missing_parent", WAIT_FAIL) == "wait"


def choice(options: Mapping[str, str], key: str, words: Collection[str]) -> str:
    """Return a value out of `words`; the first word is the default."""
    value = options.get(key) or next(iter(words))
    if value not in words:
        need = f"one of {', '.join(filter(None, words))}"
        near = did_you_mean(value, words)
        hint = mode_meant(value, words, key) if key in NAMES_MODE else near
        raise BadValue(key=key, value=value, need=need, hint=hint)
    return value


def always_on(options: Mapping[str, str], key: str, why: str) -> None:
    """Raise if an option switches off what is always on."""
    if options.get(key, "on") != "on":
        raise BadValue(
            key=key,
            value=options[key],
            need=f"only on is possible, because {why}",
            hint="",
        )


def mtu(options: Mapping[str, str]) -> int | None:
    """Return the MTU asked for, in bytes, by either of its two names."""
    for key in MTU_KEYS:
        if options.get(key):
            number(options, key, MTU_LEAST, MTU_MOST, "a number of bytes")
    size = one_of_keys(options, MTU_KEYS)[1]
    return int(size) if size else None


def one_of_keys(options: Mapping[str, str], keys: tuple[str, str]) -> tuple[str, str]:
    """Return which of two keys of one meaning is given, and its value; "" for none.

    Raises ConflictingOptions if both are, with different values.
    """
    given = [(key, options[key]) for key in keys if options.get(key)]
    if len({value for _, value in given}) > 1:
        first, second = (f"{key}={value}" for key, value in given)
        raise ConflictingOptions(first=first, second=second)
    return given[0] if given else ("", "")


def number(
    options: Mapping[str, str], key: str, least: int, most: int, what: str
) -> int:
    """Return a value that is a number between two others, plain digits only."""
    value = options[key]
    plain = value.isascii() and value.isdigit() and len(value) < 12
    if not (plain and least <= int(value) <= most):
        need = f"{what} from {least} to {most}"
        raise BadValue(key=key, value=value, need=need, hint="")
    return int(value)


def check_ipv6_mtu(network: Network, size: int | None) -> None:
    """Raise if IPv6 would be switched off by an MTU below its least one."""
    has_ipv6 = network.speaks(6) or network.options.get("ipv6", "off") != "off"
    if size is not None and size < IPV6_LEAST_MTU and has_ipv6:
        raise MtuTooSmall(mtu=size)
