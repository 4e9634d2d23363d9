"""Which device of the host is meant: by a name, by `auto`, by an address."""

from __future__ import annotations

import re
from collections.abc import Iterable

from underlay.errors import BadParent, NoDefaultRoute, NoParent, did_you_mean
from underlay.model import MAC, Device
from underlay.model.host import Host
from underlay.modes.options import VLAN_LEAST, VLAN_MOST
from underlay.modes.parent_sharing import CHILD_KINDS

TAGGED = re.compile(r"(?P<base>.+)\.(?P<tag>[0-9]{1,9})")


def select_device(wish: str, whole: str, host: Host) -> tuple[Device, list[int]]:
    """Return the device a wish names, and the VLANs to be on it, lowest first."""
    if wish == "auto":
        return check_usable(default_device(host), whole, host), []
    if wish.startswith("mac:") and "." not in wish:
        return check_usable(_by_mac(wish, host), whole, host), []
    found = host.device(wish)
    tagged = TAGGED.fullmatch(wish)
    if found and not (found.ours and tagged):
        return check_usable(found, whole, host), []
    if not tagged:
        raise no_such_device(whole, host)
    base, tags = select_device(tagged["base"], whole, host)
    if not VLAN_LEAST <= int(tagged["tag"]) <= VLAN_MOST:
        why = f"VLAN {tagged['tag']} is not from {VLAN_LEAST} to {VLAN_MOST}"
        raise BadParent(parent=whole, why=why, known=device_list(host))
    return base, [*tags, int(tagged["tag"])]


def default_device(host: Host) -> Device:
    """Return the device of the default route; raises NoDefaultRoute."""
    name = host.default_device()
    found = host.device(name) if name else None
    if found is None:
        raise NoDefaultRoute(known=device_list(host))
    return found


def _by_mac(wish: str, host: Host) -> Device:
    mac = wish.removeprefix("mac:").lower().replace("-", ":")
    if not MAC.fullmatch(mac):
        raise BadParent(
            parent=wish, why="it is not mac:aa:bb:cc:dd:ee:ff", known=device_list(host)
        )
    # The permanent address first: a bond gives all its members one current address.
    theirs = [d for d in host.devices() if not d.ours]
    for found in (
        [d for d in theirs if d.permanent_mac == mac],
        [
            d
            for d in theirs
            if d.mac == mac and d.kind in ("", "veth", "bond", "bridge")
        ],
        [d for d in theirs if d.mac == mac],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(d.name for d in found)
            raise BadParent(
                parent=wish,
                why=f"{names} all have that address",
                known=device_list(host),
            )
    raise NoParent(parent=wish, hint="", known=device_list(host))


def no_such_device(wish: str, host: Host) -> NoParent:
    """Return the refusal for want of a device, with the nearest names."""
    hint = did_you_mean(wish, _eligible(host.devices()))
    return NoParent(parent=wish, hint=hint, known=device_list(host))


def check_usable(found: Device, wish: str, host: Host) -> Device:
    """Return a device that something may be put on; raises BadParent."""
    if found.loopback:
        raise BadParent(
            parent=wish, why="it is the loopback device", known=device_list(host)
        )
    if found.ours:
        raise BadParent(
            parent=wish,
            why="it belongs to a network of underlay",
            known=device_list(host),
        )
    if found.kind in CHILD_KINDS:
        under = f", stand on {found.parent} instead" if found.parent else ""
        why = f"it is a {found.kind} child itself{under}"
        raise BadParent(parent=wish, why=why, known=device_list(host))
    return found


def device_list(host: Host) -> str:
    """Return the names of the devices there are, for an error."""
    names = sorted(_eligible(host.devices()))
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "") or "none"


def _eligible(devices: Iterable[Device]) -> Iterable[str]:
    return (d.name for d in devices if not (d.loopback or d.ours))
