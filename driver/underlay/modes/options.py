"""Reading `-o key=value`: what every mode does the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from underlay.errors import (
    BadValue,
    Contradiction,
    MtuTooSmall,
    NotYet,
    UnknownOption,
    did_you_mean,
)
from underlay.model import Network

MTU_KEYS = ("mtu", "com.docker.network.driver.mtu")
MTU_LEAST, MTU_MOST = 68, 65535
IPV6_LEAST_MTU = 1280

# Options the product promises and this version does not serve yet; the value in
# brackets is the one that asks for nothing and so is accepted.
LATER: Mapping[str, str] = {
    "vlan": "",
    "ipvlan_mode": "",
    "ipvlan_flag": "",
    "bridge": "",
    "host_access": "off",
    "gateway": "",
    "default_route": "yes",
    "masquerade": "off",
    "proxy": "",
    "table": "",
    "repair": "off",
    "missing_parent": "fail",
}


def check_known(options: Mapping[str, str], known: Collection[str], what: str) -> None:
    """Raise for a key nobody reads: a typing error must not pass silently.

    Keys under com.docker. are Docker's own, and daemon-wide defaults put any of
    them into every network.
    """
    for key, value in options.items():
        if key in known or key.startswith("com.docker."):
            continue
        if key not in LATER:
            near = [*known, *LATER] if what == "network" else known
            raise UnknownOption(
                what=what,
                key=key,
                hint=did_you_mean(key, near),
                known=", ".join(sorted(known)),
            )
        if value != LATER[key] or not value:
            raise NotYet(what=f"option {key}={value}", instead="Leave it out.")


def choice(options: Mapping[str, str], key: str, words: Collection[str]) -> str:
    """Return a value out of `words`; the first word is the default."""
    value = options.get(key) or next(iter(words))
    if value not in words:
        need = f"one of {', '.join(words)}"
        raise BadValue(key=key, value=value, need=need, hint=did_you_mean(value, words))
    return value


def mtu(options: Mapping[str, str]) -> int | None:
    """Return the MTU asked for, in bytes, by either of its two names."""
    asked = {key: options[key] for key in MTU_KEYS if options.get(key)}
    for key, value in asked.items():
        if not (value.isascii() and value.isdigit() and len(value) < 6):
            raise BadValue(key=key, value=value, need=_MTU_NEED, hint="")
        if not MTU_LEAST <= int(value) <= MTU_MOST:
            raise BadValue(key=key, value=value, need=_MTU_NEED, hint="")
    if len(set(asked.values())) > 1:
        first, second = (f"{key}={value}" for key, value in asked.items())
        raise Contradiction(first=first, second=second)
    return int(next(iter(asked.values()))) if asked else None


_MTU_NEED = f"a number of bytes from {MTU_LEAST} to {MTU_MOST}"


def check_ipv6_mtu(network: Network, size: int | None) -> None:
    """Raise if IPv6 would be switched off by an MTU below its least one."""
    if size is not None and size < IPV6_LEAST_MTU and network.speaks(6):
        raise MtuTooSmall(mtu=size)
