"""Kernel events of the host and of its sandboxes, as a wake-up and nothing more.

Layouts: linux/rtnetlink.h, linux/filter.h.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address, IPv6Interface

from underlay.kernel import namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.host_events import HostEvents, Urgency
from underlay.kernel.ip import NOT_LEARNT, interface_of
from underlay.kernel.rtnetlink import (
    NETLINK_LISTEN_ALL_NSID,
    NETLINK_NETFILTER,
    RTM_DELADDR,
    RTM_DELNEIGH,
    RTM_DELNSID,
    RTM_DELROUTE,
    RTM_NEWNEIGH,
    RTM_NEWNSID,
    RTM_NEWROUTE,
    SOL_NETLINK,
)
from underlay.model.objects import DOCKER_USER, TABLE, protocol

# Links, neighbours, addresses, routes and settings of devices (forwarding, say) of IPv4
# and IPv6, and the numbers of namespaces.
_GROUPS = (
    1 << 0 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 6 | 1 << 10 | 1 << 23 | 1 << 24 | 1 << 27
)
_NFTABLES = 1 << 6
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 1 << 22
# Of a message about a link, its name, kind and bridge are looked at. Changes of rules
# come many in one message, which is longer than a page of 4 KB where pages are longer.
_MOST_BYTES, _ANCILLARY_BYTES = 8192, socket.CMSG_SPACE(4)
# Without a pause a storm would be reported event by event; without a limit, never.
_GATHER_SECONDS, _AT_ONCE = 0.01, 20_000

_NAMES = TABLE.encode(), DOCKER_USER.encode()

_NUMBER = struct.Struct("=i")
_HEADER_BYTES, _KIND_AT, _PROTOCOL_AT = 16, 4, 21
# Behind the family, as the first attribute (linux/netconf.h).
_NETCONF_INDEX_AT = 8
_ATTRIBUTE_BYTES = 4
_LOAD_BYTE, _LOAD_HALF, _IF_EQUAL, _RETURN = 0x30, 0x28, 0x15, 0x06
_LOAD, _LOAD_NUMBER, _LOAD_BYTE_BEHIND, _TO_X, _X_NUMBER = 0x20, 0x00, 0x50, 0x07, 0x01
_FIND_ATTRIBUTE = (-0x1000 + 12) & 0xFFFFFFFF  # the X-th from A on, 0 if there is none
_ALL, _NOTHING = 0xFFFFFFFF, 0

Ancillary = list[tuple[int, int, bytes]]
Message = tuple[bytes, Ancillary]


class Listener:
    """Listens in the namespace it is used in, and in those that are watched.

    Until `stop` becomes readable. One thread may watch while another listens.
    `concerns` tells by its name whether a device of the host matters: all by default.
    """

    def __init__(
        self, stop: socket.socket, concerns: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._stop, self._host = stop, HostEvents(concerns)
        self._is_urgent = False
        self._is_doubled: Callable[[str, IPv6Address], None] = lambda *_: None
        self._lock = threading.Lock()
        self._known: dict[int, tuple[tuple[int, int], str]] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._strangers: set[int] = set()
        self._own = namespaces.NO_NSID

    def watch(self, path: str) -> None:
        """Watch the namespace pinned at a path; raises OSError if there is none.

        Call it before every look there, so that nothing is missed in between: it costs
        a stat where the namespace is known.
        """
        with self._lock:
            file = namespaces.file_of(path)
            nsid = self._numbers.get(file)
            if nsid is None:
                nsid = namespaces.assigned_nsid(path)
                self._forget(nsid)
                self._numbers[file] = nsid
            self._known[nsid] = (file, path)

    def listen(
        self,
        changed: Callable[[frozenset[str] | None, bool], None],
        rules_changed: Callable[[], None] = lambda: None,
        is_doubled: Callable[[str, IPv6Address], None] = lambda _path, _address: None,
    ) -> None:
        """Call `changed` with the sandboxes where something changed, "" for the host.

        With None if anything may have changed: at first, and after an overflow. Of an
        event in a sandbox only the place counts, not its content: but for an address
        that the kernel removes because a machine has it, of which `is_doubled` is told.
        A sandbox that is gone has changed, too. The second argument tells whether it is
        urgent: not if only other programs' devices changed. `rules_changed` is called
        after a change of any firewall rule, also of another program. Raises OSError.
        """
        with ExitStack() as stack:
            routing = stack.enter_context(_opened(socket.NETLINK_ROUTE, _GROUPS))
            _hear_sandboxes(routing)
            _filter_strangers(routing)
            tables = []
            with suppress(OSError):  # a kernel without nftables
                tables = [stack.enter_context(_opened(NETLINK_NETFILTER, _NFTABLES))]
                _hear_sandboxes(tables[0])
            self._is_doubled = is_doubled
            self._forget_all()
            changed(None, True)
            while self._stop not in _readable(self._stop, routing, *tables):
                _readable(self._stop, seconds=_GATHER_SECONDS)
                self._is_urgent = False
                paths = self._drain(routing)
                ruled = [self._ruled(m) for s in tables for m in _messages(s)]
                if any(path == "" for path, _ in ruled):
                    rules_changed()
                paths |= {path for path, is_ours in ruled if is_ours}
                if None in paths:
                    changed(None, True)
                elif paths:
                    known = frozenset(p for p in paths if p is not None)
                    changed(known, self._is_urgent or known != {""})

    def _drain(self, s: socket.socket) -> set[str | None]:
        """Return where something changed, None for everywhere."""
        paths: set[str | None] = set()
        lost = False
        for came, message in enumerate(_messages(s)):
            if message is None:
                lost = True
            else:
                paths |= self._origin(*message)
            # A storm may come as fast as it is read. After a loss all is read: the
            # kernel drops everything until then.
            if came >= _AT_ONCE and not lost:
                break
        if lost:
            self._forget_all()
            return {None}
        return paths

    def _origin(self, message: bytes, ancillary: Ancillary) -> set[str | None]:
        if len(message) < _HEADER_BYTES:
            return set()  # the kernel sends none, but a container's root may
        (kind,) = struct.unpack_from("=H", message, _KIND_AT)
        nsid = _number(ancillary)
        with self._lock:
            here = nsid in (namespaces.NO_NSID, self._own)
            if kind == RTM_DELNSID and here:
                return self._forget(namespaces.nsid_in(message[_HEADER_BYTES:]))
            if kind in (RTM_NEWNSID, RTM_DELNSID):
                return set()
            if here:
                return self._in_host(kind, message)
            if kind == RTM_DELADDR and nsid in self._known:
                address = _refused_address(message[_HEADER_BYTES:])
                if address:
                    self._is_doubled(self._known[nsid][1], address)
            return self._of(nsid)

    def _ruled(self, message: Message | None) -> tuple[str | None, bool]:
        """Return where firewall rules changed, and whether they may be ours.

        What is in no sandbox of ours is not.
        """
        if message is None:
            return "", True
        nsid = _number(message[1])
        with self._lock:
            if nsid in (namespaces.NO_NSID, self._own):
                return "", _is_of_ours(message)
            known = self._known.get(nsid)
            return (known[1], _is_of_ours(message)) if known else (None, False)

    def _in_host(self, kind: int, message: bytes) -> set[str | None]:
        urgency = self._host.urgency(kind, message[_HEADER_BYTES:])
        self._is_urgent = self._is_urgent or urgency is Urgency.NOW
        return {""} if urgency else set()

    def _of(self, nsid: int) -> set[str | None]:
        if nsid in self._known:
            return {self._known[nsid][1]}
        if nsid in self._strangers:
            return set()
        self._own = namespaces.own_nsid()
        if nsid == self._own:
            return {""}
        # No sandbox of ours, or one that a pass has yet to look into for the first
        # time: it was woken when the device left the host.
        self._strangers.add(nsid)
        return set()

    def _forget(self, nsid: int) -> set[str | None]:
        """Free a number for its next namespace; return the path of the former one."""
        self._strangers.discard(nsid)
        if nsid not in self._known:
            return set()
        file, path = self._known.pop(nsid)
        del self._numbers[file]
        return {path}

    def _forget_all(self) -> None:
        """Forget every number: that its owner is gone may have been missed."""
        with self._lock:
            self._known.clear()
            self._numbers.clear()
            self._strangers.clear()
            self._host.forget()


def _is_of_ours(rules: Message) -> bool:
    """Return whether a change of firewall rules may be one of ours.

    Each message has the name of the table and of the chain.
    """
    return any(name in rules[0] for name in _NAMES)


def _readable(
    *sockets: socket.socket, seconds: float | None = None
) -> Collection[object]:
    return select.select(sockets, [], [], seconds)[0]


def _messages(s: socket.socket) -> Iterator[Message | None]:
    """Yield all messages there are, None where some were lost.

    To the end: once it has dropped one the kernel drops all until then, and does not
    say so again.
    """
    while True:
        try:
            message, ancillary, _, _ = s.recvmsg(_MOST_BYTES, _ANCILLARY_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None
        else:
            yield message, ancillary


def _number(ancillary: Ancillary) -> int:
    """Return the number of the namespace of a message; usually none for our own."""
    for level, kind, value in ancillary:
        is_nsid = (level, kind) == (SOL_NETLINK, NETLINK_LISTEN_ALL_NSID)
        if is_nsid and len(value) == _NUMBER.size:
            number: int = _NUMBER.unpack(value)[0]
            return number
    return namespaces.NO_NSID


def _opened(protocol: int, groups: int) -> socket.socket:
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    try:
        s.setblocking(False)
        with suppress(PermissionError):  # the usual 200 KB, then
            s.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        s.bind((0, groups))
    except OSError:
        s.close()
        raise
    return s


def _hear_sandboxes(s: socket.socket) -> None:
    with suppress(PermissionError):  # without CAP_NET_BROADCAST, the host alone
        s.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)


def _filter_strangers(s: socket.socket) -> None:
    """Have the kernel drop events of routes and neighbours that are not ours.

    They neither fill the buffer nor wake the service: a host has hundreds of
    neighbours, of which some change all the time.
    """
    nl.attach(s, _of_ours())


def _of_ours() -> list[tuple[int, int, int, int]]:
    """Return the filter: operation, two ways to jump, and a number, for each step."""
    heard = (*NOT_LEARNT, protocol())
    routes = [
        (_LOAD_BYTE, 0, 0, _PROTOCOL_AT),
        *((_IF_EQUAL, len(heard) - i, 0, p) for i, p in enumerate(heard)),
        (_RETURN, 0, 0, _NOTHING),
        (_RETURN, 0, 0, _ALL),
    ]
    neighbours = [
        (_LOAD_NUMBER, 0, 0, _HEADER_BYTES + nl.NDMSG.size),
        (_X_NUMBER, 0, 0, nl.NDA_PROTOCOL),
        (_LOAD, 0, 0, _FIND_ATTRIBUTE),
        (_IF_EQUAL, 3, 0, 0),
        (_TO_X, 0, 0, 0),
        (_LOAD_BYTE_BEHIND, 0, 0, _ATTRIBUTE_BYTES),
        (_IF_EQUAL, 1, 0, protocol()),
        (_RETURN, 0, 0, _NOTHING),
        (_RETURN, 0, 0, _ALL),
    ]
    kinds = [
        (_LOAD_HALF, 0, 0, _KIND_AT),
        (_IF_EQUAL, 4, 0, _as_loaded(RTM_NEWROUTE)),
        (_IF_EQUAL, 3, 0, _as_loaded(RTM_DELROUTE)),
        (_IF_EQUAL, 2 + len(routes), 0, _as_loaded(RTM_NEWNEIGH)),
        (_IF_EQUAL, 1 + len(routes), 0, _as_loaded(RTM_DELNEIGH)),
        (_RETURN, 0, 0, _ALL),
    ]
    return kinds + routes + neighbours


def _as_loaded(kind: int) -> int:
    """Return a number of the machine's byte order as the filter sees it: big-endian."""
    return int.from_bytes(struct.pack("=H", kind), "big")


def _refused_address(message: bytes) -> IPv6Address | None:
    """Return the address of a message, if a machine has it: the kernel asked that."""
    if len(message) < nl.IFADDR.size or not message[2] & nl.IFA_F_DADFAILED:
        return None
    interface = interface_of(message)
    return interface.ip if isinstance(interface, IPv6Interface) else None
