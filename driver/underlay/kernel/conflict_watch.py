"""Hearing which machines say on a segment that an address is theirs.

A filter in the kernel lets nothing else through, so IP traffic costs nothing here.
"""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from underlay.kernel import arp_nd
from underlay.kernel.links import index_of
from underlay.model import Family, IpAddress, Sighting

# What comes in this time after a report is reported together. A storm then costs a part
# of the time: the kernel drops what does not fit into a socket's buffer.
GATHER_SECONDS, _AT_ONCE = 0.05, 256
_PROTOCOLS: Mapping[Family, int] = {4: arp_nd.ARP, 6: arp_nd.IPV6}
# What a socket says of a device that went down, or is gone.
_AWAY = (errno.ENETDOWN, errno.ENODEV, errno.ENXIO)
_Place = tuple[str, Family]


class ConflictWatch:
    """Listens on devices of the namespace it is used in.

    One thread listens while others change the devices, hold addresses, or stop it.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._changed, self._wake = socket.socketpair()
        self._changed.setblocking(False)
        self._wake.setblocking(False)
        self._lock = threading.Lock()
        # Of the sockets. What hears a report may use them.
        self._using = threading.RLock()
        self._heard: Callable[[Collection[Sighting]], None] = lambda _: None
        self._wanted: frozenset[_Place] = frozenset()
        self._sockets: dict[_Place, tuple[int, socket.socket]] = {}
        self._failed: set[_Place] = set()

    def watch(self, devices: Mapping[str, Collection[Family]]) -> None:
        """Hear these devices from now on, and no other; for each the IP families.

        A device may be missing, and may come back as another one of its name: call this
        after every change.
        """
        wanted = frozenset((name, f) for name, fs in devices.items() for f in fs)
        with self._lock:
            self._wanted = wanted
        self._notify()

    def hold(self, device: str, address: IpAddress) -> None:
        """Tell the machines on a device that this host has leased an address.

        Those that ask for it at this moment hear that, before the address is up. Costs
        a frame, and no wait. A device that is not heard is not told.
        """
        with self._using:
            _, s = self._sockets.get((device, address.version), (0, None))
            if s:
                with suppress(OSError):  # gone meanwhile, or its queue is full
                    s.send(arp_nd.hold(s.getsockname()[4], address))

    def stop(self) -> None:
        """End the listening, for good."""
        self._stopping = True
        self._notify()

    def _notify(self) -> None:
        with suppress(OSError):  # it is about to be read already, or is closed
            self._wake.send(b"\0")

    def catch_up(self) -> None:
        """Report what was said until now to what listens, before this returns."""
        with self._using:
            places = {s: place for place, (_, s) in self._sockets.items()}
            if found := {f for s, at in places.items() for f in self._read(s, at)}:
                self._heard(found)

    def listen(self, heard: Callable[[Collection[Sighting]], None]) -> None:
        """Call `heard` with what machines say; own frames too.

        What comes first is reported at once: a machine that asks waits for 0.2 seconds.
        `heard` is called by this thread and by those that catch up, one at a time.
        """
        self._heard = heard
        try:
            self._follow()
            while not self._stopping:
                sockets = [s for _, s in self._sockets.values()]
                ready = select.select([self._changed, *sockets], [], [])[0]
                if self._changed in ready:
                    self._changed.recv(64)
                    self._follow()
                    continue
                self.catch_up()
                time.sleep(GATHER_SECONDS)
        finally:
            with self._using:
                self._close(self._sockets)
            if self._stopping:
                self._changed.close()
                self._wake.close()

    def _read(self, s: socket.socket, place: _Place) -> list[Sighting]:
        found = []
        for _ in range(_AT_ONCE):
            try:
                said = arp_nd.said(s.recv(arp_nd.LONGEST))
            except BlockingIOError:
                break
            except OSError as error:
                # A device that went down is heard again when it is up; one that is gone
                # is looked for with the next change.
                if error.errno not in _AWAY:
                    self._failed.add(place)
                    self._notify()
                break
            if said:
                found.append(Sighting(said.address, said.mac, place[0], said.kind))
        return found

    def _follow(self) -> None:
        """Open and close sockets as the devices wanted now are there."""
        with self._lock:
            wanted = self._wanted
        there = {}
        for name, family in wanted:
            with suppress(OSError):
                there[name, family] = index_of(name)
        with self._using:
            gone = {p for p, (i, _) in self._sockets.items() if there.get(p) != i}
            # What failed may be closed: the listening ended and began again.
            self._close(gone | (self._failed & self._sockets.keys()))
            self._failed = set()
        for place in there.keys() - self._sockets.keys():
            with suppress(OSError):  # gone meanwhile: a change comes
                # The kernel waits for the lock of its links (RTNL); no call may.
                s = arp_nd.opened(place[0], _PROTOCOLS[place[1]])
                with self._using:
                    self._sockets[place] = there[place], s

    def _close(self, places: Collection[_Place]) -> None:
        for place in list(places):
            _, s = self._sockets.pop(place)
            s.close()
