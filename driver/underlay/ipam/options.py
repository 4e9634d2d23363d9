"""What --ipam-opt asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from underlay.errors import (
    BadValue,
    ConflictingOptions,
    UnknownOption,
    did_you_mean,
)
from underlay.ipam.subnets import Span, check_domain
from underlay.model import Source

OPTIONS = ("domain", "probe", "slice", "source")
# What the addresses of a DHCP server do not have.
_OF_POOLS = ("domain", "slice")


def domain_of(options: Mapping[str, str]) -> str:
    """Return the domain of a claim; raises UnknownOption, BadValue."""
    for key, value in options.items():
        if key not in OPTIONS:
            raise UnknownOption(
                what="IPAM",
                key=key,
                hint=did_you_mean(key, OPTIONS),
                known=", ".join(OPTIONS),
            )
        for choice, words in (("probe", ("on", "off")), ("source", ("pool", "dhcp"))):
            if key == choice and value not in words:
                raise BadValue(
                    key=key,
                    value=value,
                    need=" or ".join(words),
                    hint=did_you_mean(value, words),
                )
    for key in _OF_POOLS if source_of(options) == "dhcp" else ():
        if key in options:
            raise ConflictingOptions(
                first="source=dhcp", second=f"{key}={options[key]}"
            )
    domain = options.get("domain", "default")
    check_domain(domain)
    return domain


def narrowed(options: Mapping[str, str], span: Span) -> Span:
    """Return the part of a range that `slice=2/4` names; raises BadValue."""
    text = options.get("slice", "")
    if not text:
        return span
    first, last = span
    size = int(last) - int(first) + 1
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts <= size:
        need = f"a part and how many there are, as 2/4, of {size} addresses"
        raise BadValue(key="slice", value=text, need=need, hint="")
    low, high = size * (part - 1) // parts, size * part // parts - 1
    return first + low, first + high


def is_probing(options: Mapping[str, str]) -> bool:
    """Return whether segments are asked for addresses."""
    return options.get("probe") != "off"


def source_of(options: Mapping[str, str]) -> Source:
    """Return where addresses come from."""
    return "dhcp" if options.get("source") == "dhcp" else "pool"
