"""The device of the host that is meant: by name, `auto` or MAC; later by its identity.

A network records the identity of its device, so that the device is found again under
another name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from underlay.errors import BadParent, NoDefaultRoute, NoParent, did_you_mean
from underlay.model import MAC, Device, DeviceIdentity
from underlay.model.host import Host
from underlay.model.objects import SharedOwner
from underlay.modes.child_device import VLAN_LEAST, VLAN_MOST
from underlay.modes.parent_sharing import CHILD_KINDS

TAGGED = re.compile(r"(?P<base>.+)\.(?P<tag>[0-9]{1,9})")
# Bridges, bonds and VLANs have the MAC of a NIC, and another device may have it too.
_HAS_ITS_OWN = ("", "veth")


def select_device(wish: str, whole: str, host: Host) -> tuple[Device, list[int]]:
    """Return the device that `parent=` names, and the VLAN tags, lowest first."""
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


def has_router(options: Mapping[str, str], family: int, host: Host) -> bool:
    """Return whether the host has a default route by the parent that options name."""
    given = options.get("bridge") or options.get("parent", "")
    if options.get("vlan"):
        given = f"{given}.{options['vlan']}"
    found = host.device(given) if given else None
    names = {given, *((found.name, found.master) if found else ())}
    is_any = given == "auto" or given.startswith("mac:")
    return any(
        hop.version == family and (is_any or device in names)
        for device, hop in host.routers()
    )


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
    """Return the error for a missing device, with the nearest names."""
    hint = did_you_mean(wish, _eligible(host.devices()))
    return NoParent(parent=wish, hint=hint, known=device_list(host))


def check_usable(found: Device, wish: str, host: Host) -> Device:
    """Return a device that can be a parent; raises BadParent."""
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
        under = f". Use parent={found.parent}" if found.parent else ""
        why = f"it is a {found.kind} child itself{under}"
        raise BadParent(parent=wish, why=why, known=device_list(host))
    return found


def device_list(host: Host) -> str:
    """Return the names of the devices there are, for an error."""
    names = sorted(_eligible(host.devices()))
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "") or "none"


def _eligible(devices: Iterable[Device]) -> Iterable[str]:
    return (d.name for d in devices if not (d.loopback or d.ours))


def identity_of(device: Device) -> DeviceIdentity:
    """Return the identity of a device."""
    return DeviceIdentity(
        device.name, device.kind, device.mac, device.permanent_mac, device.vlan
    )


def device_replaced_by(bridge: str, devices: Iterable[Device]) -> Device | None:
    """Return the device whose place a bridge of the service takes, if it is there."""
    owners = ((d, SharedOwner("bridge", d.name).owner) for d in devices)
    return next((d for d, owner in owners if owner.device == bridge), None)


def find_device(
    known: DeviceIdentity,
    device: Callable[[str], Device | None],
    devices: Callable[[], Iterable[Device]],
) -> Device | None:
    """Return the device with an identity, or the one that replaced it; or None.

    The permanent MAC decides, then name and MAC together, then a MAC that only one NIC
    has. So a renamed NIC is followed, and two NICs that swapped their names are not
    confused. Otherwise it is the device of the same name: a replacement. `device` finds
    a device by its name; `devices` lists all, and is called only if that is another.
    """
    named = device(known.name)
    if named and not _is_candidate(named):
        named = None
    if named and _is_same(known, named):
        return named
    found = [d for d in devices() if _is_candidate(d) and is_same_nic(known, d)]
    return found[0] if len(found) == 1 else named


def is_same_nic(known: DeviceIdentity, device: Device) -> bool:
    """Return whether a device is the NIC with an identity, under any name."""
    if (device.kind, device.vlan) != (known.kind, known.vlan):
        return False
    if known.permanent_mac:
        return device.permanent_mac == known.permanent_mac
    return known.kind in _HAS_ITS_OWN and device.mac == known.mac != ""


def has_moved(last: DeviceIdentity, now: DeviceIdentity) -> bool:
    """Return whether a network is on another NIC than before, or on a renamed one.

    The MAC of a bridge may change with its ports, and counts for nothing.
    """
    own = last.permanent_mac or last.kind in _HAS_ITS_OWN
    other = replace(last, name="") != replace(now, name="")
    return last.name != now.name or bool(own and other)


def _is_candidate(device: Device) -> bool:
    return not (device.ours or device.loopback)


def _is_same(known: DeviceIdentity, named: Device) -> bool:
    if known.permanent_mac:
        return named.permanent_mac == known.permanent_mac
    return not known.mac or named.mac == known.mac
