"""Hold the service's two sockets and start it again whenever it ends, as systemd would.

For engines whose lab host systemd does not boot. Run as `python -m tests.lab.held`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from pathlib import Path

PATHS = "/run/docker/plugins/underlay.sock", "/run/underlay/status.sock"


def main() -> None:
    """Hold the sockets until TERM."""
    held = [listening(path) for path in PATHS]
    service = 0

    def end(*_: object) -> None:
        os.kill(service, signal.SIGTERM)
        os.waitpid(service, 0)
        for path in PATHS:
            Path(path).unlink()
        os._exit(0)

    while True:
        service = os.fork()
        if service == 0:
            serve([one.fileno() for one in held])
        signal.signal(signal.SIGTERM, end)
        os.waitpid(service, 0)
        time.sleep(0.5)


def listening(path: str) -> socket.socket:
    """Listen on a path, out of the way of descriptors 3 and 4."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    one.listen(64)
    with one:
        return socket.socket(fileno=fcntl.fcntl(one, fcntl.F_DUPFD, 10))


def serve(held: list[int]) -> None:
    """Be the service."""
    for number, file in enumerate(held, start=3):
        os.dup2(file, number)
    os.environ |= {"LISTEN_FDS": str(len(held)), "LISTEN_PID": str(os.getpid())}
    words = [sys.executable, "-m", "underlay", "serve"]
    os.execv(words[0], words)  # noqa: S606 - there is nothing for a shell to do


if __name__ == "__main__":
    main()
