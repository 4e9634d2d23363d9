"""gunicorn's worker with threads, made safe against clients that stall or babble."""

from __future__ import annotations

import json
import signal
import socket
import struct
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from underlay.failures import Malformed

# A client that began a request and does not go on keeps a thread this long, not for
# ever: sixteen of them would otherwise stop every container start of the host.
PATIENCE_SECONDS = 5


class Worker(ThreadWorker):  # type: ignore[misc]
    """Reads with a time limit; answers what is no HTTP in Docker's own shape."""

    def init_signals(self) -> None:
        """Keep HUP for the thread that waits for it, from before there is one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        super().init_signals()

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to the threads."""
        limit = struct.pack("ll", PATIENCE_SECONDS, 0)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        super().enqueue_req(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer a request that cannot even be parsed."""
        del req, addr
        refusal = Malformed(method="HTTP", why=exc)
        self.log.warning("refused: %s", refusal)
        body = json.dumps({"Err": str(refusal), "Error": str(refusal)}).encode()
        head = (
            f"HTTP/1.1 {refusal.status} Bad Request\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError as error:
            self.log.debug("the client did not wait for it: %s", error)
