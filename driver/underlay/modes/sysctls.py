"""Sysctls that the user has Docker (from engine 28 on) set on an endpoint's device."""

from __future__ import annotations

import re
from collections.abc import Mapping

from underlay.model.objects import IPV6_SWITCH

KEY = "com.docker.network.endpoint.sysctls"  # separated by commas
# Docker puts the device's name for IFNAME, and its CLI lowercases the word.
_PATH = re.compile(r"net\.(ipv[46])\.(conf|neigh)\.[^.]+\.([a-z0-9_]+)", re.IGNORECASE)
_VALUE = re.compile(r"[0-9a-f:-]+", re.IGNORECASE)


def asked(options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the sysctls in an endpoint's options, as those of its device.

    A path has dots or slashes between its parts; of two values for a path the last one
    counts. What is no sysctl of a device, or Docker would refuse, is left out.
    """
    found: dict[str, str] = {}
    for setting in options.get(KEY, "").split(","):
        path, _, value = setting.partition("=")
        parts = _PATH.fullmatch(path.strip().replace("/", "."))
        if parts and _VALUE.fullmatch(value.strip()):
            family, what, key = (part.lower() for part in parts.groups())
            found[f"net/{family}/{what}/*/{key}"] = value.strip()
    return tuple(f"{path}={value}" for path, value in found.items())


def switch_ipv6_off(options: Mapping[str, str]) -> bool:
    """Return whether an endpoint's options switch IPv6 off on its device."""
    said = (s for s in asked(options) if s.startswith(IPV6_SWITCH))
    return any(s.removeprefix(IPV6_SWITCH) != "0" for s in said)
