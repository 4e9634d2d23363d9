"""An exchange with DHCP servers on a device of this thread's network namespace.

A packet socket needs no address, takes no port from the container, and no firewall of
the host or the container is in its way.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import select
import socket
import struct
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from underlay.dhcp import dhcpv6_exchange, dhcpv6_frames
from underlay.dhcp.exchange import Exchange
from underlay.dhcp.offers import Outcome

AnyExchange = Exchange | dhcpv6_exchange.Exchange
Program = Collection[tuple[int, int, int, int]]
_ALL_PROTOCOLS = 0x0003
_SOL_PACKET, _ADD_MEMBERSHIP, _UNICAST, _IGNORE_OUTGOING = 263, 1, 3, 23
_SO_ATTACH_FILTER, _SO_MARK = 26, 36
_MEMBERSHIP = struct.Struct("=iHH8s")  # index, kind, length, MAC
# A name, the family of a hardware address, and six bytes of that.
_IFREQ, _SIOCGIFHWADDR = struct.Struct("=16s2x6s16x"), 0x8927
_STEP = struct.Struct("=HBBI")
_MAC_BYTES = 6
_LONGEST = 2048  # bytes of a frame that are looked at; longer ones are no answers
# A storm of frames must not be read for ever, and what is due is sent meanwhile.
_MOST_AT_ONCE = 256
# How soon an abandoned exchange is noticed.
_SLICE_SECONDS = 0.1
# What is sent after so long without an outcome leaves by the second device: the second
# DISCOVER, and those after it.
SILENT_SECONDS = 0.8
# The queue of the device is full, or the shim's filter dropped it: like a lost frame.
_LOST = (errno.ENOBUFS, errno.EAGAIN)


def since_boot() -> float:
    """Return the seconds since the host booted, those it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def never() -> bool:
    """Return that an exchange is not abandoned."""
    return False


def run(
    exchange: AnyExchange,
    device: str,
    deadline: float,
    *,
    abandoned: Callable[[], bool] = never,
    shim: str = "",
    mark: int = 0,
) -> Outcome | dhcpv6_exchange.Outcome | None:
    """Return how an exchange ends, None if it has not at the deadline, or is abandoned.

    Times are those of since_boot(). The device passes what is for the client's MAC as
    long as this runs, also if the MAC is not its own. After a silence, the frames leave
    by its `shim`, if that is up, with the `mark` that the shim's filters let pass: the
    kernel brings them to the shim's siblings and to the segment, and from the parent to
    the segment only. Raises OSError if the device is missing, down, or goes down.
    """
    mac, began = exchange.client.mac, since_boot()
    with ExitStack() as stack:
        alone, both = exchange.FILTERS
        first = opened(device, mac, both if shim else alone, sent_too=bool(shim))
        stack.enter_context(first)
        beside = _Beside(stack, shim, mark, mac, alone)
        while not (exchange.outcome or abandoned()) and since_boot() < deadline:
            now = since_boot()
            frames = exchange.tick(now)
            is_silent = now >= began + SILENT_SECONDS
            if not (is_silent and beside.send(frames)):
                _send(first, frames)
            due = deadline if exchange.due is None else min(exchange.due, deadline)
            wait = min(max(due - since_boot(), 0), _SLICE_SECONDS)
            for s in _readable([first, *beside.sockets], wait):
                try:
                    _hear(s, exchange)
                except OSError:
                    if s is first:
                        raise
                    beside.sockets.clear()  # the shim went down: asked without it
    return exchange.outcome


@dataclass
class _Beside:
    """A second device to ask by, "" for none, opened when it is needed."""

    stack: ExitStack
    device: str
    mark: int
    mac: str
    program: Program
    sockets: list[socket.socket] = field(default_factory=list)

    def send(self, frames: Collection[bytes]) -> bool:
        """Return whether all left by it: it may be missing, down, or full."""
        if not (self.device and frames):
            return False
        with suppress(OSError):
            if not self.sockets:
                s = opened(self.device, self.mac, self.program, self.mark)
                self.sockets.append(self.stack.enter_context(s))
            return _send(self.sockets[0], frames)
        return False


def send(
    frames: Collection[bytes], device: str, later: ExitStack, *, mark: int = 0
) -> None:
    """Send frames that get no answer; raises OSError.

    Does not wait: the socket is closed `later`, which takes the kernel 15 ms.
    """
    socket.if_nametoindex(device)  # without it there is no socket to close
    nothing = Exchange.FILTERS[0]  # of what no socket without a protocol hears
    _send(later.enter_context(_socket(device, 0, mark, nothing)), frames)


def speaker(device: str) -> tuple[str, IPv6Address] | None:
    """Return MAC and link-local address that the kernel speaks from on a device.

    None while it has none: IPv6 is off there, or it still asks whether the address is
    free. Nothing is sent. Raises OSError if the device is missing.
    """
    to = str(dhcpv6_frames.ALL_SERVERS), dhcpv6_frames.SERVER_PORT, 0
    index = socket.if_nametoindex(device)
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.connect((*to, index))
        found = IPv6Address(s.getsockname()[0].partition("%")[0])
        told = fcntl.ioctl(s, _SIOCGIFHWADDR, _IFREQ.pack(device.encode(), b""))
        mac = _IFREQ.unpack(told)[1]
        return (mac.hex(":"), found) if found.is_link_local else None
    return None


def opened(
    device: str, mac: str, program: Program, mark: int = 0, *, sent_too: bool = False
) -> socket.socket:
    """Return a socket that does not block, and hears what DHCP servers tell a MAC.

    The `program` filters that. Not what has the tag of a VLAN, nor what the host itself
    sends. With `sent_too`, that as well: what a child of the device tells a MAC that no
    child has leaves there. Raises OSError.
    """
    s = _socket(device, _ALL_PROTOCOLS, mark, program, sent_too=sent_too)
    try:
        wanted = bytes.fromhex(mac.replace(":", ""))
        if wanted != s.getsockname()[4]:
            index = socket.if_nametoindex(device)
            membership = _MEMBERSHIP.pack(index, _UNICAST, _MAC_BYTES, wanted)
            s.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
    except BaseException:
        s.close()
        raise
    return s


def _socket(
    device: str, protocol: int, mark: int, program: Program, *, sent_too: bool = False
) -> socket.socket:
    with ExitStack() as stack:
        # Without a protocol, it hears nothing before it has its filter.
        s = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        s.setblocking(False)
        attach(s, program)
        with suppress(OSError):  # from Linux 4.20 on; the filter drops them too
            s.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, int(not sent_too))
        if mark:
            with suppress(PermissionError):
                s.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        s.bind((device, protocol))
        if len(s.getsockname()[4]) != _MAC_BYTES:
            raise OSError(errno.EOPNOTSUPP, f"{device} is no Ethernet device")
        stack.pop_all()
    return s


def attach(s: socket.socket, program: Program) -> None:
    """Have the kernel drop what a filter of classic BPF drops."""
    code = b"".join(_STEP.pack(*step) for step in program)
    steps = ctypes.create_string_buffer(code, len(code))
    block = struct.pack("@HP", len(program), ctypes.addressof(steps))
    s.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, block)


def _readable(
    sockets: Collection[socket.socket], seconds: float
) -> list[socket.socket]:
    """Return those with something to read, after at most so long."""
    poll, by_number = select.poll(), {s.fileno(): s for s in sockets}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(seconds * 1000)]


def _send(s: socket.socket, frames: Collection[bytes]) -> bool:
    """Return whether no frame was lost here."""
    are_sent = True
    for frame in frames:
        try:
            s.send(frame)
        except OSError as error:
            if error.errno not in _LOST:
                raise
            are_sent = False
    return are_sent


def _hear(s: socket.socket, exchange: AnyExchange) -> None:
    for _ in range(_MOST_AT_ONCE):
        try:
            frame = s.recv(_LONGEST)
        except BlockingIOError:
            return
        exchange.feed(frame, since_boot())
        if exchange.outcome:
            return
