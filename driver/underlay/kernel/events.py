"""Kernel events of this namespace, as a wake-up and nothing more."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable

# Links, IPv4 and IPv6 addresses, settings of devices (forwarding, say) of both.
_GROUPS = 0x1 | 0x10 | 0x100 | 1 << 23 | 1 << 24
_BUFFER_BYTES = 1 << 22


def listen(wake: Callable[[], None], stop: socket.socket) -> None:
    """Call `wake` whenever a link, an address or a setting of a device changes.

    Until `stop` becomes readable. What an event says is not read: whoever is woken
    looks at everything. An overflow is one more reason to look. Binds and reads in the
    calling thread.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        s.bind((0, _GROUPS))
        while True:
            ready, _, _ = select.select([s, stop], [], [])
            if stop in ready:
                return
            try:
                s.recv(1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            wake()
