"""One byte there and back over TCP, again and again; both ends, for any namespace.

`serve PORT` answers until it is killed; `ask ADDRESS PORT SECONDS` prints the
microseconds of every round trip as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time


def serve(port: int) -> None:
    with socket.create_server(("", port)) as listening:
        while True:
            client, _ = listening.accept()
            with client:
                _send_at_once(client)
                while byte := client.recv(1):
                    client.send(byte)


def ask(address: str, port: int, seconds: float) -> list[float]:
    spent = []
    with socket.create_connection((address, port), timeout=5) as server:
        _send_at_once(server)
        # A socket with a timeout asks the kernel twice for every byte.
        server.settimeout(None)
        began = time.perf_counter_ns()
        end = began + int(seconds * 1e9)
        while began < end:
            server.send(b"x")
            server.recv(1)
            now = time.perf_counter_ns()
            spent.append((now - began) / 1000)
            began = now
    return spent


def _send_at_once(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "serve":
        serve(int(words[0]))
    address, port, seconds = words
    json.dump(ask(address, int(port), float(seconds)), sys.stdout)
