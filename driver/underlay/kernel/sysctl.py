"""Settings of the host under /proc/sys: what must be changed, and the former values."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from underlay.kernel import links
from underlay.kernel.dependents import container_bridges
from underlay.kernel.links import RawLink
from underlay.model import SysctlBackup
from underlay.model.objects import IPTABLES, Sysctl, SysctlReason

log = logging.getLogger(__name__)

SYSCTLS = Path("/proc/sys")
_LONGEST = 4096  # bytes
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
_OF_DEVICE = {
    "ipv4": "accept_local accept_redirects accept_source_route arp_announce arp_filter"
    " arp_ignore forwarding log_martians promote_secondaries proxy_arp route_localnet"
    " rp_filter secure_redirects send_redirects shared_media",
    "ipv6": "disable_ipv6 accept_ra accept_ra_defrtr accept_ra_pinfo accept_redirects"
    " autoconf forwarding proxy_ndp use_tempaddr",
}
# All settings that a device may have.
_PLACES = ("net/ipv4/conf", "net/ipv6/conf", "net/ipv4/neigh", "net/ipv6/neigh")
# Others can be set only after this one.
_FIRST = "stable_secret"
_REDIRECTS = "net/ipv4/conf/all/accept_redirects"


def read(settings: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """Return what these settings are now; those the kernel does not have are left out.

    Of a device that is gone there is nothing to set or to put back.
    """
    for wanted in settings:
        value = _value(wanted.path)
        if value is not None:
            yield Sysctl(wanted.path, value, wanted.write_order, wanted.owner)


def write(setting: Sysctl) -> None:
    """Set a value; raises OSError."""
    (SYSCTLS / setting.path).write_text(setting.value)


def needed(reason: SysctlReason) -> list[SysctlBackup]:
    """Return what is to be set for a reason, in order, with the present values.

    `forwarding/<family>`: forwarding by this host, IP family 4 or 6. With forwarding,
    the kernel ignores router advertisements, so the devices that accept them must first
    accept them in any case. When forwarding is switched off, the kernel changes
    accept_redirects, which is restored after it. `proxy/<device>/<family>`: proxy
    answers on a device, without delay. `loose/<device>/4`: loose reverse path filtering
    on a device, whose answers leave by another one.
    """
    match reason.kind:
        case "forwarding":
            wanted = _forwarding(reason.family)
        case "proxy":
            wanted = _proxy(reason.device, reason.family)
        case "loose":
            wanted = _loose(reason.device)
    found = ((path, _value(path), value) for path, value in wanted)
    return [
        SysctlBackup(reason, path, before, value, order)
        for order, (path, before, value) in enumerate(found)
        if before is not None
    ]


def differing_from_default(device: str) -> Iterator[str]:
    """Return the sysctls of a device that differ from the defaults."""
    for family, keys in _OF_DEVICE.items():
        for key in keys.split():
            value = _value(f"net/{family}/conf/{device}/{key}")
            if value is not None and value != _value(
                f"net/{family}/conf/default/{key}"
            ):
                yield f"net/{family}/conf/*/{key}={value}"


def differing_from_new(device: str, mtu: int) -> Iterator[str]:
    """Return every setting of a device that a new one in this namespace would not have.

    All that this kernel has and lets be written; not the IPv6 MTU as long as that
    follows the device's, `mtu` in bytes, nor another unit of the same value.
    """
    for place in _PLACES:
        try:
            keys = {entry.name for entry in os.scandir(SYSCTLS / place / device)}
        except OSError:
            continue  # a kernel without IPv6
        for key in sorted(keys, key=lambda k: (k != _FIRST, k)):
            twin = f"{key}_ms" in keys or f"{key}_bytes" in keys
            value = None if twin else _value(f"{place}/{device}/{key}")
            if value in (None, _of_any(place, key)):
                continue
            follows = (key, value) == ("mtu", str(mtu))
            if not follows and os.access(SYSCTLS / place / device / key, os.W_OK):
                yield f"{place}/*/{key}={value}"


def _of_any(place: str, key: str) -> str | None:
    """Return a setting as a new device has it.

    The defaults for neighbours are in the host's namespace only; the loopback device of
    another one has them too.
    """
    value = _value(f"{place}/default/{key}")
    return value if value is not None else _value(f"{place}/lo/{key}")


def set_of_device(settings: Iterable[str], device: str) -> None:
    """Set sysctls of a device; raises OSError."""
    for setting in settings:
        path, _, value = setting.partition("=")
        with suppress(FileNotFoundError):  # a kernel without IPv6
            (SYSCTLS / path.replace("*", device)).write_text(value)


def restore_of_device(settings: Iterable[str], device: str) -> None:
    """Set the sysctls of the device that this replaces, as far as the kernel lets."""
    for setting in settings:
        try:
            set_of_device((setting,), device)
        except OSError as error:
            facts = {"device": device, "setting": setting, "error": error}
            log.warning("cannot restore a sysctl", extra=facts)


def filters_bridged(family: int) -> bool:
    """Return whether iptables filters what crosses any bridge (br_netfilter)."""
    return _value(f"net/bridge/bridge-nf-call-{IPTABLES[family]}") == "1"


def _forwarding(family: int) -> Iterator[tuple[str, str]]:
    if family == 4 and _value(_FORWARDING[4]) == "0":
        yield _REDIRECTS, ""  # first in order, so last when it is put back
    if family == 6:
        inner = container_bridges()
        for link in links.all_links():
            path = f"net/ipv6/conf/{link.name}/accept_ra"
            if link.name not in inner and _hears_routers(link) and _value(path) == "1":
                yield path, "2"
    yield _FORWARDING[family], "1"


def _proxy(device: str, family: int) -> Iterator[tuple[str, str]]:
    if family == 6:
        yield f"net/ipv6/conf/{device}/proxy_ndp", "1"
    yield f"net/ipv{family}/neigh/{device}/proxy_delay", "0"


def _loose(device: str) -> Iterator[tuple[str, str]]:
    # The larger of the two counts: 1 is strict, 2 loose, 0 not at all.
    path = "net/ipv4/conf/{}/rp_filter"
    values = {_value(path.format(name)) for name in ("all", device)}
    if "1" in values and "2" not in values:
        yield path.format(device), "2"


def _hears_routers(link: RawLink) -> bool:
    """Return whether a device may hear a router; those of our containers do not."""
    ours = link.ours and link.kind != "bridge"
    return not (link.loopback or link.master or ours)


def _value(path: str) -> str | None:
    try:
        # Hundreds are read for each container; a Path or a file of Python's would take
        # longer than the kernel.
        file = os.open(f"{SYSCTLS}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _LONGEST).decode("ascii").strip()
        finally:
            os.close(file)
    except OSError:
        return None
