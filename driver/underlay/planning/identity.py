"""Finding a device of the host again, whatever it is called by now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from underlay.model import Device, DeviceIdentity
from underlay.model.objects import SharedOwner

# Bridges, bonds and VLANs have the MAC of a card, and another one may have it too.
_HAS_ITS_OWN = ("", "veth")


def identity_of(device: Device) -> DeviceIdentity:
    """Return what tells a device from others."""
    return DeviceIdentity(
        device.name, device.kind, device.mac, device.permanent_mac, device.vlan
    )


def device_replaced_by(bridge: str, devices: Iterable[Device]) -> Device | None:
    """Return which of these a bridge of ours is in the place of."""
    owners = ((d, SharedOwner("bridge", d.name).owner) for d in devices)
    return next((d for d, owner in owners if owner.device == bridge), None)


def find_device(
    known: DeviceIdentity,
    device: Callable[[str], Device | None],
    devices: Callable[[], Iterable[Device]],
) -> Device | None:
    """Return the device an identity was taken of, or the one in its place; or None.

    A permanent address decides, then name and address together, then an address that
    only one card has: a renamed NIC is followed, and two that swapped
    their names are not confused. What is left is a device of the same name: another one
    in the place of the old. `device` finds one by its name; `devices`, all of the
    host's, are asked for only if that is not the one.
    """
    named = device(known.name)
    if named and not _is_candidate(named):
        named = None
    if named and _is_same(known, named):
        return named
    found = [d for d in devices() if _is_candidate(d) and is_same_nic(known, d)]
    return found[0] if len(found) == 1 else named


def is_same_nic(known: DeviceIdentity, device: Device) -> bool:
    """Tell whether a device is the card an identity was taken of, by whatever name."""
    if (device.kind, device.vlan) != (known.kind, known.vlan):
        return False
    if known.permanent_mac:
        return device.permanent_mac == known.permanent_mac
    return known.kind in _HAS_ITS_OWN and device.mac == known.mac != ""


def has_moved(last: DeviceIdentity, now: DeviceIdentity) -> bool:
    """Tell whether a network is on another card than last, or on one that was renamed.

    A bridge may have another MAC with each of its ports.
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
