"""The parent: which device of the host a network stands on, and who may share it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from underlay.errors import BadParent, NoDefaultDevice, NoParent, NotYet, did_you_mean
from underlay.model import MAC, Device
from underlay.objects import PREFIX

VLAN = re.compile(r"(?P<base>.+)\.(?P<vlan>\d+)")


class Host(Protocol):
    """What may be asked of the host; asking changes nothing."""

    def device(self, name: str) -> Device | None:
        """Return a device by its name or alternative name."""

    def devices(self) -> tuple[Device, ...]:
        """Return every device of the host namespace."""

    def default_device(self) -> str | None:
        """Return the name of the device the default route leaves by."""


def resolve(wish: str, host: Host) -> Device:
    """Return the device a `parent=` wish names: a name, `auto`, or `mac:<address>`.

    Raises NoParent, BadParent, NoDefaultDevice; NotYet for what has to be made first.
    """
    if not wish:
        raise NotYet(
            what="a network without a parent (isolated from every wire)",
            instead=f"Name a device: -o parent=<device>. Devices: {_known(host)}.",
        )
    if wish == "auto":
        return _usable(_default(host), wish, host)
    if wish.startswith("mac:"):
        return _usable(_by_mac(wish, host), wish, host)
    found = host.device(wish)
    if found is None:
        raise _missing(wish, host)
    return _usable(found, wish, host)


def _default(host: Host) -> Device:
    name = host.default_device()
    found = host.device(name) if name else None
    if found is None:
        raise NoDefaultDevice(known=_known(host))
    return found


def _by_mac(wish: str, host: Host) -> Device:
    mac = wish.removeprefix("mac:").lower().replace("-", ":")
    if not MAC.fullmatch(mac):
        raise BadParent(
            parent=wish, why="it is not mac:aa:bb:cc:dd:ee:ff", known=_known(host)
        )
    # The permanent address first: a bond gives all its members one current address.
    ours = [d for d in host.devices() if not d.name.startswith(PREFIX)]
    for found in (
        [d for d in ours if d.permanent_mac == mac],
        [d for d in ours if d.mac == mac and d.kind in ("", "veth", "bond", "bridge")],
        [d for d in ours if d.mac == mac],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(d.name for d in found)
            raise BadParent(
                parent=wish, why=f"{names} all have that address", known=_known(host)
            )
    raise NoParent(parent=wish, hint="", known=_known(host))


def _missing(wish: str, host: Host) -> Exception:
    vlan = VLAN.fullmatch(wish)
    if vlan and host.device(vlan["base"]):
        return NotYet(
            what=f"making VLAN {vlan['vlan']} on {vlan['base']}",
            instead=f"Make it yourself: ip link add link {vlan['base']} name {wish}"
            f" type vlan id {vlan['vlan']} && ip link set {wish} up.",
        )
    names = [d.name for d in host.devices()]
    return NoParent(parent=wish, hint=did_you_mean(wish, names), known=_known(host))


def _usable(found: Device, wish: str, host: Host) -> Device:
    if found.loopback:
        raise BadParent(
            parent=wish, why="it is the loopback device", known=_known(host)
        )
    if found.name.startswith(PREFIX):
        raise BadParent(
            parent=wish, why="it belongs to a container of underlay", known=_known(host)
        )
    return found


def _known(host: Host) -> str:
    names = sorted(_eligible(host.devices()))
    return ", ".join(names[:12]) + (" ..." if len(names) > 12 else "") or "none"


def _eligible(devices: Iterable[Device]) -> Iterable[str]:
    return (d.name for d in devices if not d.loopback and not d.name.startswith(PREFIX))
