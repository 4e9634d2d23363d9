"""Whether a segment answers a MAC that is not the host's: frames from a macvlan.

The macvlan is created in a network namespace that only a thread of this process is in,
and nothing is mounted there. So the kernel deletes namespace and macvlan when the
thread ends, and also when the process is killed: nothing is left to clean up, and no
other namespace ever shows the device (decision 0019).
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from underlay.kernel import announce, link_changes, links
from underlay.model import IpAddress
from underlay.model.ip import eui64
from underlay.model.objects import Link, Owner

SECONDS = 2.0
_MAC_CHARACTERS = 17
_NEWNET = 0x40000000  # os.unshare came only with Python 3.12
_OWNER = Owner("doctor", "uplink")
_NO_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
_LINK_LOCAL = IPv6Address("fe80::").packed[:8]
_UNSPECIFIED = ip_address("0.0.0.0")  # noqa: S104 - the sender of an ARP probe


@dataclass(frozen=True, slots=True)
class UplinkAnswers:
    """Which gateways answered the device's own MAC, and which a second one."""

    own: frozenset[IpAddress]
    second: frozenset[IpAddress]


def ask_uplink(
    device: str, gateways: Collection[IpAddress], seconds: float = SECONDS
) -> UplinkAnswers:
    """Ask gateways from the MAC of a device, and from another one by the same device.

    ARP probes (RFC 5227) and neighbour solicitations: no address is claimed, and no
    neighbour learns one but a link-local address made of the MAC. Takes up to twice
    `seconds`. Raises OSError, EBUSY where the device can have no macvlan.
    """
    own = _asked(device, gateways, seconds)
    return UplinkAnswers(own, _from_second_mac(device, own, seconds) if own else own)


def _asked(
    device: str, gateways: Collection[IpAddress], seconds: float
) -> frozenset[IpAddress]:
    found = links.link_named(device)
    mac = found.mac if found else ""
    if len(mac) != _MAC_CHARACTERS:  # a tunnel, or InfiniBand
        raise OSError(errno.EINVAL, f"{device} has no MAC of Ethernet")
    return announce.answering_gateways(
        device, {g: _speaker(mac, g) for g in gateways}, seconds
    )


def _speaker(mac: str, gateway: IpAddress) -> IpAddress:
    """Return the address that a question has as its sender."""
    if gateway.version == 4:
        return _UNSPECIFIED
    return ip_address(_LINK_LOCAL + eui64(mac))


def _from_second_mac(
    device: str, gateways: Collection[IpAddress], seconds: float
) -> frozenset[IpAddress]:
    found: list[frozenset[IpAddress]] = []
    failed: list[OSError] = []
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def run() -> None:
        try:
            room = _leave_namespace()
            try:
                _in(host, lambda: _create(device, room))
                link_changes.change_link(links.index_of(_OWNER.device), up=True)
                found.append(_asked(_OWNER.device, gateways, seconds))
            finally:
                os.close(room)
        except OSError as error:
            failed.append(error)

    # In a thread of its own, which ends there: no other is ever in that namespace.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    os.close(host)
    if failed:
        raise failed[0]
    return found[0]


def _leave_namespace() -> int:
    """Put this thread into a new namespace without IPv6 of its own; return it open."""
    _check(_libc().unshare(_NEWNET))
    with suppress(OSError):  # a kernel without IPv6
        _NO_IPV6.write_text("1")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _in(namespace: int, act: Callable[[], None]) -> None:
    """Do something in another namespace, and return to this thread's."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().setns(namespace, _NEWNET))
        try:
            act()
        finally:
            _check(_libc().setns(back, _NEWNET))
    finally:
        os.close(back)


def _create(device: str, room: int) -> None:
    # Private: a gateway that is itself a child of the device must not answer instead.
    mac = (b"\x02" + secrets.token_bytes(5)).hex(":")
    link_changes.create_link(
        Link(
            "probe", "macvlan", _OWNER, device, "private", mac=mac,
            sandbox=f"/proc/self/fd/{room}",
        )
    )  # fmt: skip


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
