"""Sockets that listen in a namespace, as the kernel lists them.

Layouts: linux/inet_diag.h, linux/sctp.h. The kernel picks out the states, so that a
server with ten thousand connections costs no more than an idle one.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from underlay.kernel import ip, links, namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.links import RawLink
from underlay.kernel.rtnetlink import NETLINK_SOCK_DIAG
from underlay.model import FAMILIES, Family, IpAddress, IpInterface
from underlay.model.listener import DeviceInside, Listener, Listening
from underlay.model.ports import PROTOCOLS, Protocol

_SOCK_DIAG_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, extensions, states, socket id
# Family, state, and of the socket id: port, address and device.
_ANSWER = struct.Struct("!BBxxH2x16s16x4s28x")
_SKV6ONLY, _LOCALS = 11, 12
_CLOSE, _LISTEN = 7, 10
# A UDP socket that speaks to one machine only is in another state.
_STATES = {6: 1 << _LISTEN, 17: 1 << _CLOSE, 132: 1 << _LISTEN}
_SCTP = 132
_STORAGE = 128  # struct sockaddr_storage


def look(sandbox: str) -> Listening:
    """Return what listens in a sandbox; raises OSError, also if that is gone."""
    return namespaces.run_in(Path(sandbox), _look)


def _look() -> Listening:
    ours = (link for link in links.our_links_inside() if link.owner)
    devices = {
        link.owner.mark: DeviceInside(link.index, _addresses(link))
        for link in ours
        if link.owner
    }
    return Listening(frozenset(listeners()), devices)


def _addresses(link: RawLink) -> tuple[IpInterface, ...]:
    """Return every address on a link, link-local ones too."""
    return tuple(found.interface for found in ip.addresses({link.index: link.name}))


def listeners() -> Iterator[Listener]:
    """Return what listens in the namespace of this thread; raises OSError."""
    for number, protocol in PROTOCOLS.items():
        for family in FAMILIES:
            for answer in _answers(family, number):
                yield from _listeners(protocol, answer)


def _answers(family: Family, protocol: int) -> list[bytes]:
    """Return the sockets of a protocol; raises OSError if the kernel lists none of it.

    Without SCTP in the kernel, nothing can listen on it.
    """
    body = _REQUEST.pack(nl.FAMILIES[family], protocol, 0, _STATES[protocol])
    try:
        return nl.dump(
            _SOCK_DIAG_BY_FAMILY,
            _SOCK_DIAG_BY_FAMILY,
            body,
            protocol=NETLINK_SOCK_DIAG,
            empty=(errno.ENOENT,) if protocol == _SCTP else (),
        )
    except FileNotFoundError as error:
        lacking = f"this kernel lists no {PROTOCOLS[protocol]} sockets (inet_diag)"
        raise OSError(errno.EOPNOTSUPP, lacking) from error


def _listeners(protocol: Protocol, answer: bytes) -> Iterator[Listener]:
    family, _, port, source, device = _ANSWER.unpack_from(answer)
    more = dict(nl.attributes(answer[_ANSWER.size :]))
    six_only = any(more.get(_SKV6ONLY, b""))
    # An SCTP socket may have several addresses.
    bound = list(_bound(more.get(_LOCALS, b""))) or [_address(family, source)]
    for address in bound:
        families = _families(address, six_only=six_only)
        # One of IPv4 that an IPv6 socket is bound to.
        mapped = getattr(address, "ipv4_mapped", None)
        yield Listener(protocol, port, mapped or address, families, nl.number(device))


def _families(address: IpAddress, *, six_only: bool) -> tuple[Family, ...]:
    if address.version == 4 or address.ipv4_mapped:
        return (4,)
    return FAMILIES if address.is_unspecified and not six_only else (6,)


def _address(family: int, packed: bytes) -> IpAddress:
    return IPv4Address(packed[:4]) if family == socket.AF_INET else IPv6Address(packed)


def _bound(listed: bytes) -> Iterator[IpAddress]:
    """Return the addresses in a list of struct sockaddr_storage."""
    for at in range(0, len(listed) - _STORAGE + 1, _STORAGE):
        family = nl.number(listed[at : at + 2])
        start, size = (4, 4) if family == socket.AF_INET else (8, 16)
        yield _address(family, listed[at + start : at + start + size])
