"""Every frame that passes a device, as one sees it on the wire."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from tests.lab.net import NETNS

_NEWNET = 0x40000000
_SOL_PACKET, _AUXDATA, _TAG_IS_VALID, _ALL = 263, 8, 0x10, 0x0003
# Status, lengths, offsets, then the outer VLAN tag, which the kernel takes off a frame.
_AUX = struct.Struct("=IIIHHHH")
_OUTGOING = 4
_TAGGED = 0x8100
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """Its source and destination, its VLAN tags (outermost first), and what it is."""

    source: str
    target: str
    tags: tuple[int, ...]
    kind: int
    outgoing: bool
    payload: bytes


class Capture:
    """Listens on a device of a named network namespace while it is entered."""

    def __init__(self, netns: str, device: str) -> None:
        self.frames: list[Frame] = []
        self._socket = inside(netns, lambda: _listening(device))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read)

    @property
    def sources(self) -> set[str]:
        """The MACs that frames came from, towards the namespace it listens in."""
        return {frame.source for frame in self.frames if not frame.outgoing}

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                data, extra, _, address = self._socket.recvmsg(65536, 256)
            except TimeoutError:
                continue
            self.frames.append(_frame(data, extra, address[2] == _OUTGOING))


def inside(netns: str, make: Callable[[], T]) -> T:
    """Return what `make` makes by a thread of its own in a named namespace."""
    made: list[T] = []

    def run() -> None:
        target = os.open(NETNS / netns, os.O_RDONLY | os.O_CLOEXEC)
        if _libc.setns(target, _NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {netns}")
        os.close(target)
        made.append(make())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return made[0]


def _listening(device: str) -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    found.setsockopt(_SOL_PACKET, _AUXDATA, 1)
    found.bind((device, _ALL))
    found.settimeout(0.2)
    return found


def _frame(data: bytes, extra: list[tuple[int, int, bytes]], outgoing: bool) -> Frame:
    tags = []
    for level, kind, value in extra:
        if (level, kind) == (_SOL_PACKET, _AUXDATA):
            status, *_, tag, _ = _AUX.unpack_from(value)
            if status & _TAG_IS_VALID:
                tags.append(tag & 0xFFF)
    offset = 12
    while (kind := int.from_bytes(data[offset : offset + 2])) == _TAGGED:
        tags.append(int.from_bytes(data[offset + 2 : offset + 4]) & 0xFFF)
        offset += 4
    return Frame(
        source=data[6:12].hex(":"),
        target=data[0:6].hex(":"),
        tags=tuple(tags),
        kind=kind,
        outgoing=outgoing,
        payload=data[offset + 2 :],
    )
