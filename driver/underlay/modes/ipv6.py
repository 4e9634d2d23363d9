"""IPv6 addresses by routers and DHCPv6 servers of the segment: `ipv6=`, `suffix=`.

The kernel hears routers in the container's sandbox, and Docker is not told of the
addresses. Those that it makes from the router's prefix follow that, also while the
service does not run. With `ipv6=dhcp` a server gives one, and the service puts it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address
from math import inf

from underlay.errors import BadValue, ConflictingOptions, NotWithRouters
from underlay.model import Endpoint, Family, LearnedState, LeasedIpv6, Network
from underlay.model.objects import (
    IPV6_SECRET,
    IPV6_SWITCH,
    OWN_LINK_LOCAL,
    Lifetimes,
    Owner,
    Slaac,
)
from underlay.modes import gateway, stable_address
from underlay.modes.child_device import is_isolated
from underlay.modes.dhcp_options import is_dropped
from underlay.modes.options import choice, is_repaired
from underlay.modes.sysctls import switch_ipv6_off

KEY, SUFFIX = "ipv6", "suffix"
VALUES = ("off", "slaac", "suffix", "dhcp")
_CONF = "net/ipv6/conf/*"
# The last half of an address; the first is the router's prefix.
_SUFFIX_BITS = 64


def check(network: Network, mode: str, *, has_segment: bool) -> None:
    """Raise unless routers can give prefixes in a network, if they are to.

    `has_segment`: its containers are on one with the parent.
    """
    value = choice(network.options, KEY, VALUES)
    if value == "off":
        return
    why = ""
    subnet = next((s.subnet for s in network.subnets if s.subnet.version == 6), None)
    if not has_segment:
        why = f"containers of mode={mode} are on no segment with a router. Use --ipv6"
        why += " with an IPv6 --subnet"
    elif is_isolated(network.options):
        why = "the network has no parent, so no router. Add -o parent=<device>"
    elif network.internal:
        why = "the network is --internal, and advertisements bring a way out. Leave"
        why += " one of the two out"
    elif subnet:
        why = f"Docker gives the addresses of {subnet}. Leave --ipv6 and that subnet"
        why += f" out, or ipv6={value}"
    if why:
        raise NotWithRouters(value=value, why=why)
    _check_repaired(network, Endpoint("", network.id))


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise unless `suffix=` can end the addresses of a container."""
    value = endpoint.options.get(SUFFIX, "")
    if value and network.options.get(KEY) != "suffix":
        need = "it is for networks with -o ipv6=suffix"
        raise BadValue(key=SUFFIX, value=value, need=need, hint="")
    if value and not _is_suffix(value):
        need = "the last 64 bits of an IPv6 address, such as ::53"
        raise BadValue(key=SUFFIX, value=value, need=need, hint="")
    if is_asked(network.options):
        _check_repaired(network, endpoint)


def _check_repaired(network: Network, endpoint: Endpoint) -> None:
    """Raise if the service is not to change anything in the container's sandbox."""
    if not is_repaired(network, endpoint):
        asked = f"{KEY}={network.options[KEY]}"
        raise ConflictingOptions(first=asked, second="repair=off")


def _is_suffix(value: str) -> bool:
    try:
        given = IPv6Address("" if "%" in value else value)
    except ValueError:
        return False
    return 0 < int(given) < 1 << _SUFFIX_BITS


def is_asked(options: Mapping[str, str]) -> bool:
    """Return whether the containers of a network are to hear routers."""
    return options.get(KEY, "off") != "off"


def is_by_dhcp(options: Mapping[str, str]) -> bool:
    """Return whether the containers of a network have addresses of DHCPv6 servers."""
    return options.get(KEY) == "dhcp"


def families(network: Network) -> tuple[Family, ...]:
    """Return the IP families in which the containers of a network have addresses."""
    six: set[Family] = {6} if is_asked(network.options) else set()
    return tuple(sorted({*network.families} | six))


def hears_routers(network: Network, endpoint: Endpoint) -> bool:
    """Return whether a container hears routers: not one that has IPv6 off."""
    return is_asked(network.options) and not switch_ipv6_off(endpoint.options)


def takes_default(network: Network, endpoint: Endpoint) -> bool:
    """Return whether a router may become the way out of a container."""
    said = {**network.options, **endpoint.options}
    may = 6 in gateway.default_families(said) and 6 not in gateway.named(said)
    return may and hears_routers(network, endpoint)


def lacks_secret(network: Network, endpoint: Endpoint) -> bool:
    """Return whether a container has no secret yet, and needs one."""
    known = endpoint.learned
    lacks = known and not (_secret(known) or endpoint.options.get(SUFFIX))
    return bool(lacks and hears_routers(network, endpoint))


def lifetimes(network: Network, leased: LeasedIpv6) -> Lifetimes:
    """Return how long the kernel is to use an address of a DHCPv6 server.

    After its time it stays, unless the network has it dropped then: the kernel takes it
    away, also while the service does not run.
    """
    valid = leased.valid if is_dropped(network.options) else inf
    return Lifetimes(leased.since, leased.preferred, valid)


def slaac(network: Network, endpoint: Endpoint, known: LearnedState) -> Slaac | None:
    """Return how a container makes addresses; None: not, or its secret is unknown.

    With a DHCPv6 server it makes only the link-local one.
    """
    suffix, secret = endpoint.options.get(SUFFIX, ""), _secret(known)
    source: tuple[str, ...]
    if not hears_routers(network, endpoint) or not (suffix or secret):
        return None
    if network.options[KEY] == "suffix":
        token = last_half(IPv6Address(suffix or secret))
        source = (f"{OWN_LINK_LOCAL}0",)
    else:
        # The kernel takes this way of making addresses only after the secret.
        token, source = "", (f"{IPV6_SECRET}{secret}", f"{OWN_LINK_LOCAL}2")
    return Slaac(
        known.device,
        token,
        (
            *source,
            # Usable at once; not every kernel has the two.
            f"{_CONF}/optimistic_dad=1",
            f"{_CONF}/use_optimistic=1",
            f"{_CONF}/accept_ra=1",
            f"{_CONF}/autoconf={int(not is_by_dhcp(network.options))}",
            f"{_CONF}/accept_ra_defrtr={int(6 in known.default_families)}",
            # Last, for now the kernel asks the routers.
            f"{IPV6_SWITCH}0",
        ),
        Owner(network.id, endpoint.id),
        endpoint.sandbox,
    )


def last_half(address: IPv6Address) -> str:
    """Return what an address ends with behind a router's prefix, as ::53."""
    return str(IPv6Address(int(address) % (1 << _SUFFIX_BITS)))


def own_link_local(network: Network, endpoint: Endpoint) -> IPv6Address | None:
    """Return the link-local address that a container makes from its secret, if so."""
    secret = _secret(endpoint.learned) if endpoint.learned else ""
    if network.options.get(KEY) not in ("slaac", "dhcp") or not secret:
        return None
    return stable_address.link_local(secret)


def own_end(network: Network, endpoint: Endpoint) -> IPv6Address | None:
    """Return what a container's addresses end with in each prefix, if it is fixed."""
    secret = _secret(endpoint.learned) if endpoint.learned else ""
    source = endpoint.options.get(SUFFIX, "") or secret
    is_fixed = network.options.get(KEY) == "suffix" and source
    return IPv6Address(last_half(IPv6Address(source))) if is_fixed else None


def at_birth(sysctls: tuple[str, ...]) -> tuple[str, ...]:
    """Return the sysctls of a new device that is to make its addresses only later."""
    others = (s for s in sysctls if not s.startswith((IPV6_SECRET, IPV6_SWITCH)))
    return (*others, f"{IPV6_SWITCH}1")


def _secret(known: LearnedState) -> str:
    found = (s for s in known.sysctls if s.startswith(IPV6_SECRET))
    return next(found, "").removeprefix(IPV6_SECRET)
