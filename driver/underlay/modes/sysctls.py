"""Sysctls that Docker, from engine 28 on, is asked to set on an endpoint's device."""

from __future__ import annotations

import re
from collections.abc import Mapping

KEY = "com.docker.network.endpoint.sysctls"  # separated by commas
# For any device: Docker takes IFNAME for this one's name, and its CLI writes it small.
_IPV6_OFF = re.compile(r"net\.ipv6\.conf\.[^.]+\.disable_ipv6", re.IGNORECASE)


def switch_ipv6_off(options: Mapping[str, str]) -> bool:
    """Tell whether an endpoint's options have Docker switch IPv6 off on its device.

    A path has dots or slashes between its parts, and the last word counts.
    """
    off = False
    for setting in options.get(KEY, "").split(","):
        path, _, value = setting.partition("=")
        if _IPV6_OFF.fullmatch(path.strip().replace("/", ".")):
            off = value.strip() not in ("", "0")
    return off
