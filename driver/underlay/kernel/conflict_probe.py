"""Asking a segment whether a machine has an address, before a container gets it.

By frames (RFC 5227, RFC 4862), not by the kernel's neighbour table: no entry is made,
no address is needed, and thousands of neighbours do not matter.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import cache

from underlay.kernel import arp_nd
from underlay.model import IpAddress, Verdict
from underlay.modes.host_access import PROBE_MARK

# A machine that is awake answers in 0.1 ms. RFC 5227 waits up to nine seconds, which no
# start of a container can.
ANSWER_SECONDS = 0.2
# Until when answers to each question are awaited, as parts of that time. There are
# several, because a frame may be lost.
_UNTIL = (0.3, 0.6, 1.0)
# A storm of frames must not be read for ever.
_MOST_LATE = 256
_SO_MARK = 36


def ask(
    devices: Collection[str],
    addresses: Collection[IpAddress],
    is_ours: Callable[[str], bool],
    seconds: float = ANSWER_SECONDS,
) -> Verdict:
    """Ask for addresses on devices of one segment; a MAC that `is_ours` is passed by.

    The first device is the parent; if nothing passes it, nothing is asked. Another one
    that is missing is left out. From each device asks its own MAC: the kernel brings
    the answers of its siblings to no other. Returns once all are answered for.

    Of two hosts that ask for an address at the same time, the one with the lowest MAC
    goes on, and tells the other so by asking again.
    """
    parent = next(iter(devices))
    with ExitStack() as stack:
        sockets = {}
        for device in devices:
            try:
                s = stack.enter_context(_opened(device))
            except OSError as error:
                if device == parent:
                    return Verdict(unasked=error.strerror or str(error))
            else:
                sockets[s] = s.getsockname()[4]
        mine = {mac.hex(":") for mac in sockets.values()}
        wanted = frozenset(addresses)
        used, contested = _asked(
            sockets, wanted, cache(lambda mac: mac in mine or is_ours(mac)), seconds
        )
        return Verdict(used, contested)


def _opened(device: str) -> socket.socket:
    if why := arp_nd.why_silent(device):
        raise OSError(errno.ENETDOWN, why)
    s = arp_nd.opened(device, arp_nd.EVERYTHING)
    with suppress(PermissionError):
        s.setsockopt(socket.SOL_SOCKET, _SO_MARK, PROBE_MARK)
    return s


def _asked(
    sockets: dict[socket.socket, bytes],
    addresses: frozenset[IpAddress],
    is_ours: Callable[[str], bool],
    seconds: float,
) -> tuple[dict[IpAddress, str], dict[IpAddress, str]]:
    """Return the MACs of machines that have addresses, and that may take them first."""
    used: dict[IpAddress, str] = {}
    contested: dict[IpAddress, str] = {}
    lowest = min(mac.hex(":") for mac in sockets.values())
    began = time.monotonic()
    for until in _UNTIL:
        _send(sockets, addresses - used.keys() - contested.keys())
        told: set[arp_nd.Said] = set()
        for said in _heard(sockets, began + until * seconds):
            if said.address not in addresses or is_ours(said.mac):
                continue
            if said.kind != "probe":
                used.setdefault(said.address, said.mac)
                contested.pop(said.address, None)
            elif said.address in used.keys() | contested.keys():
                continue
            elif said.mac < lowest:
                contested[said.address] = said.mac
            elif said not in told:  # once: it may answer each question by its own
                told.add(said)
                _send(sockets, {said.address})
            # While the other host waits for answers, asking again would be lost too.
            if len(used) == len(addresses):
                return used, contested
    return used, contested


def _send(
    sockets: Mapping[socket.socket, bytes], addresses: Collection[IpAddress]
) -> None:
    for s, mac in sockets.items():
        for address in addresses:
            with suppress(OSError):  # a queue may be full, a device gone meanwhile
                s.send(arp_nd.probe(mac, address))


def _heard(sockets: Collection[socket.socket], end: float) -> Iterator[arp_nd.Said]:
    """Yield what is said until a moment, also if it is read later on a busy host."""
    late = 0
    while late < _MOST_LATE:
        rest = end - time.monotonic()
        ready = select.select(sockets, [], [], max(rest, 0))[0]
        if not ready:
            return
        late += rest <= 0
        for s in ready:
            with suppress(OSError):
                if said := arp_nd.said(s.recv(arp_nd.LONGEST)):
                    yield said
