"""A call of a plugin's method, as Docker makes it."""

from __future__ import annotations

import json
import socket
from pathlib import Path


def post(path: Path, method: str, body: dict[str, object]) -> dict[str, str]:
    """Call a plugin over a connection of its own: the service keeps none."""
    content = json.dumps(body).encode()
    head = f"POST /{method} HTTP/1.1\r\nHost: bench\r\nContent-Length: "
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{head}{len(content)}\r\n\r\n".encode() + content)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    top, _, text = answer.partition(b"\r\n\r\n")
    if b" 200 " not in top[:16]:
        raise RuntimeError(f"{method}: {answer.decode(errors='replace')}")
    return dict(json.loads(text))
