"""journald's own protocol: a record is one datagram of fields (systemd.io).

A field is `NAME=value` and a line end. A value with a line end in it has its length in
front, 8 bytes, little-endian. What is too large for a datagram is passed as a sealed
memory file.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
# journald takes no more, and a name may have a megabyte.
MOST_BYTES = 1 << 16


def is_stderr(stream: str) -> bool:
    """Return whether stderr leads to the journal: `stream` is JOURNAL_STREAM.

    systemd sets it to the device and inode of what it connected. A program whose stderr
    was redirected since inherits the variable too.
    """
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


class Journal:
    """A connection to journald."""

    def __init__(self, path: Path = SOCKET) -> None:
        """Connect; raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def send(self, fields: Mapping[str, str]) -> None:
        """Send a record; raises OSError."""
        data = b"".join(_field(name, value) for name, value in fields.items())
        try:
            self._socket.send(data)
        except OSError as error:
            if len(data) < MOST_BYTES:
                raise
            self._send_file(data, error)

    def _send_file(self, data: bytes, error: OSError) -> None:
        memory = os.memfd_create("journal", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            os.write(memory, data)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
            seals |= fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
            rights = array.array("i", [memory]).tobytes()
            right = (socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)
            self._socket.sendmsg([b""], [right])
        except OSError:
            raise error from None
        finally:
            os.close(memory)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
