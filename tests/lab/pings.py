"""How long Docker's API takes to answer, asked all the time beside a test."""

from __future__ import annotations

import socket
import threading
import time
from typing import Self

from tests.lab.host import Host

PAUSE_SECONDS = 0.05


class Pings:
    """Asks dockerd for /_ping again and again; `worst` is the longest wait, seconds."""

    def __init__(self, host: Host) -> None:
        self._path = str(host.docker_socket)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.worst, self.count = 0.0, 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(PAUSE_SECONDS):
            began = time.monotonic()
            if self._answered():
                self.worst = max(self.worst, time.monotonic() - began)
                self.count += 1
            else:
                self.refused += 1

    def _answered(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            try:
                client.connect(self._path)
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                return b" 200 " in client.recv(64)
            except OSError:
                return False
