"""Other programs that configure the network, and the order in which units start."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding
from underlay.kernel import command, inspection
from underlay.model.objects import Link

_UNIT = "underlay.service"
_LATER = ("docker.service", "docker.socket")


def managing(host: Examined) -> Iterator[Finding]:
    """Find that NetworkManager or systemd-networkd manages devices of the driver."""
    ours = [o.name for o in host.kernel.observe() if isinstance(o, Link)]
    for name in sorted(ours):
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            continue  # gone meanwhile
        networkd = host.places.run / "systemd/netif/links" / str(index)
        state = inspection.keys_of(networkd).get("ADMIN_STATE", "unmanaged")
        if state not in ("unmanaged", "pending", "initialized"):
            yield _managed(
                "systemd-networkd", name,
                "sudo underlay install has it leave ul-* alone, by a file"
                " /etc/systemd/network/05-underlay.network with [Match] Name=ul-* and"
                " [Link] Unmanaged=yes; then networkctl reload",
            )  # fmt: skip
        manager = host.places.run / "NetworkManager/devices" / str(index)
        if inspection.keys_of(manager).get("managed") in ("true", "1"):
            yield _managed(
                "NetworkManager", name,
                "sudo underlay install has it leave them alone, by a file in"
                " /etc/NetworkManager/conf.d with [keyfile] and"
                " unmanaged-devices=interface-name:ul-*; then nmcli general reload",
            )  # fmt: skip


def _managed(program: str, device: str, remedy: str) -> Finding:
    return Finding(
        "failure",
        device,
        f"{program} manages it",
        "it removes addresses and routes that it does not know, may set the device"
        " down, and wait for DHCP on it at boot",
        remedy,
    )


def unit_order(host: Examined) -> Iterator[Finding]:
    """Find that systemd does not start the service before Docker."""
    if not (host.places.run / "systemd/system").is_dir():
        return  # no systemd
    facts = _unit_facts()
    if "LoadState" not in facts:
        return  # systemctl does not answer, as in a chroot
    if facts["LoadState"] != "loaded":
        yield Finding(
            "warning",
            _UNIT,
            "systemd has no such unit",
            "the service does not start by itself at boot, and containers with a"
            " restart policy do not get their network",
            "sudo underlay install",
        )
        return
    before = facts.get("Before", "").split()
    late = [unit for unit in _LATER[:1] if unit not in before]
    if late or set(_LATER) & {*facts.get("After", "").split()}:
        yield Finding(
            "failure",
            _UNIT,
            f"it is not ordered before {_LATER[0]}",
            "at boot Docker starts its containers first, waits 15 seconds for the"
            " plugin and gives them up; at shutdown the service ends too early",
            f"add Before={_LATER[0]} to [Unit], leave out After={' '.join(_LATER)}, and"
            " systemctl daemon-reload",
        )
    if facts.get("UnitFileState") not in ("enabled", "enabled-runtime", "static"):
        yield Finding(
            "warning",
            _UNIT,
            "it is not enabled",
            "the service does not start at boot",
            f"systemctl enable {_UNIT}",
        )


def _unit_facts() -> dict[str, str]:
    names = "LoadState", "UnitFileState", "Before", "After"
    words = [word for name in names for word in ("-p", name)]
    done = command.run("systemctl", "show", *words, _UNIT)
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value for key, _, value in lines}
