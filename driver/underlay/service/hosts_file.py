"""The names and addresses of containers in a file, for a name server of the LAN.

In the format of /etc/hosts, which dnsmasq (hostsdir) and CoreDNS (hosts) read again
after a change. Names are known once Docker has told them: engine 29 does before Join.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from underlay.errors import UnderlayError
from underlay.records import Records

_LONGEST_LABEL = 63
_OTHERS = ("localhost",)  # no container is that
_HEAD = "# containers of underlay: written by its service\n"
# Any name server may read it.
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class HostsFile:
    """Writes the file when its text has changed; the folder of `path` is its own.

    One thread updates it, others add to it.
    """

    def __init__(self, records: Records, path: Path) -> None:
        self._records, self._path = records, path
        self._seen: object = None
        self._written = ""
        # Lines that were added since an update began to read the records.
        self._added: list[str] = []
        self._lock = threading.Lock()

    def add(self, endpoint: str) -> None:
        """Add the lines of an endpoint, at the end; what fails is left to an update.

        Its cost does not grow with the number of endpoints.
        """
        with suppress(OSError, UnderlayError):
            if lines := list(entries(self._records, endpoint)):
                with self._lock:
                    self._added += lines
                    with self._path.open("r+", encoding="ascii") as file:
                        file.seek(0, os.SEEK_END)
                        file.write("".join(lines))

    def update(self) -> None:
        """Write the file if need be; raises OSError and UnderlayError."""
        seen = self._records.change_counter()
        if seen == self._seen and self._path.exists():
            return
        with self._lock:
            before, self._added = self._added, []
        lines = set(entries(self._records))
        with self._lock:
            text = _HEAD + "".join(sorted(lines.union(self._added)))
            if before or text != self._written or not self._path.exists():
                self._write(text)
        self._seen, self._written = seen, text

    def _write(self, text: str) -> None:
        folder = self._path.parent
        folder.mkdir(exist_ok=True)
        folder.chmod(_FOLDER_MODE)
        # Hidden: dnsmasq does not read it before it is whole.
        half = folder / f".{self._path.name}"
        half.write_text(text, "ascii")
        half.chmod(_FILE_MODE)
        half.replace(self._path)


def entries(records: Records, endpoint: str = "") -> Iterator[str]:
    """Return a line for each address of a running container whose name is known.

    Of one endpoint, or of all. The names are the container's, and the container's in
    its network.
    """
    labels: dict[str, str] = {}
    for container, network, address in records.endpoints.named(endpoint):
        if name := label_of(container):
            if network not in labels:
                known = records.networks.get(network)
                labels[network] = label_of(known.name) if known else ""
            within = labels[network]
            names = f"{name} {name}.{within}" if within else name
            yield f"{address.partition('/')[0]} {names}\n"


def label_of(name: str) -> str:
    """Return a name as DNS has it: letters, digits and hyphens, 63 at the most.

    "" if nothing of it can be one.
    """
    plain = re.sub(r"[^a-z0-9-]", "-", name.lower())[:_LONGEST_LABEL].strip("-")
    return "" if plain in _OTHERS else plain
