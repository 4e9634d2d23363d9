"""gunicorn's worker with threads, made safe against clients that stall or misbehave."""

from __future__ import annotations

import selectors
import signal
import socket
import time
from functools import partial
from typing import Any

from gunicorn.http.errors import NoMoreData
from gunicorn.workers.gthread import ThreadWorker

from underlay.errors import Malformed
from underlay.model.text import as_json, printable

# The limit for a whole request, and for each part of an answer. Without it, sixty-four
# clients that send slowly would stop every container start of the host.
READ_SECONDS = SEND_SECONDS = 5.0
# Connections without a request so far; a further one replaces the oldest.
MOST_SILENT = 256


class Late(NoMoreData):  # type: ignore[misc]
    """A request that did not arrive in time; gunicorn ends its connection."""

    def __str__(self) -> str:
        return f"it took more than {READ_SECONDS:g} seconds"


class Connection(socket.socket):
    """A connection with time limits for each request and answer."""

    _deadline: float | None = None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive; the time for the request begins with the first call.

        Bytes that have arrived are always read: they may have waited for a thread.
        """
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + READ_SECONDS
        self.settimeout(max(0.0, self._deadline - now))
        try:
            return super().recv(size, flags)
        except (BlockingIOError, TimeoutError) as error:
            raise Late from error

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all, or raise TimeoutError."""
        self.settimeout(SEND_SECONDS)
        super().sendall(data, flags)


class Worker(ThreadWorker):  # type: ignore[misc]
    """Reads with a time limit; answers malformed requests in Docker's format."""

    def init_signals(self) -> None:
        """Block HUP in all threads: one of them waits for it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        super().init_signals()

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread as soon as its request begins to arrive."""
        if conn.data_ready:
            super().enqueue_req(conn)
            return
        if len(self.pending_conns) >= MOST_SILENT:
            self.pending_conns[0].timeout = 0.0
            self.murder_pending()
        conn.sock = Connection(fileno=conn.sock.detach())
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + READ_SECONDS
        self.pending_conns.append(conn)
        handle = partial(self.on_pending_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, handle)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Close a connection at once.

        gunicorn waits here until the client has closed it too, up to two seconds and in
        the loop that accepts the others. What was sent stays readable on a Unix socket.
        """
        del fs
        self.nr_conns -= 1
        conn.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer a request that cannot even be parsed."""
        del req, addr
        refusal = Malformed(method="HTTP", why=exc)
        self.log.warning("request refused", extra={"error": refusal})
        text = printable(str(refusal))
        body = as_json({"Err": text, "Error": text}).encode()
        head = (
            f"HTTP/1.1 {refusal.status} Bad Request\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + body)
        except OSError as error:
            facts = {"error": error}
            self.log.debug("client disconnected before the answer", extra=facts)
