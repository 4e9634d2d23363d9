"""The HTTP server of the status sockets, separate from the one that serves Docker.

A client that stalls, sends garbage or stays connected does not delay Docker's calls: it
takes none of their threads, and no more time than the limits below.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

# For the whole head of a request, and for the whole answer.
READ_SECONDS = SEND_SECONDS = 5.0
# If the server closes while the client still sends, the answer may be cut off.
LINGER_SECONDS = 1.0
# One more, and the oldest connection is closed.
MOST_CONNECTIONS = 32
MOST_HEAD_BYTES = 1 << 14
ANSWERING_THREADS = 2
ACCEPT_AGAIN_SECONDS = 0.5
JOIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a path: the status, the Content-Type and the body."""

    status: HTTPStatus
    kind: str
    body: bytes


class Server:
    """Answers GET and HEAD on listening sockets, in a thread of its own.

    `answer` is called with the path, in one of a few other threads.
    """

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._open: dict[asyncio.Task[None], None] = {}
        self._threads = ThreadPoolExecutor(ANSWERING_THREADS, "status-answer")
        self._thread: threading.Thread | None = None

    def start(self, listeners: Collection[socket.socket]) -> None:
        """Start answering."""
        self._thread = threading.Thread(
            target=self._run, args=(listeners,), name="status", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and close all connections."""
        if self._thread is None:
            return
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(JOIN_SECONDS)
        self._threads.shutdown(cancel_futures=True)

    def _run(self, listeners: Collection[socket.socket]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listeners))

    async def _serve(self, listeners: Collection[socket.socket]) -> None:
        accepting = [asyncio.create_task(self._accept(one)) for one in listeners]
        await self._stopping.wait()
        for task in accepting:
            task.cancel()

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                log.warning(
                    "cannot accept a status connection, retrying",
                    extra={"error": error},
                )
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            while len(self._open) >= MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                self._open.pop(oldest)
                oldest.cancel()
            self._admit(connection)

    def _admit(self, connection: socket.socket) -> None:
        def end(done: asyncio.Task[None]) -> None:
            self._open.pop(done, None)
            connection.close()

        task = asyncio.create_task(self._attend(connection))
        self._open[task] = None
        task.add_done_callback(end)

    async def _attend(self, connection: socket.socket) -> None:
        with suppress(OSError):  # the client disconnected, or its time is over
            async with asyncio.timeout(READ_SECONDS):
                head = await self._head(connection)
            if not head:
                return
            reply = await self._loop.run_in_executor(self._threads, self._reply, head)
            async with asyncio.timeout(SEND_SECONDS):
                await self._loop.sock_sendall(connection, reply)
            connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._loop.sock_recv(connection, MOST_HEAD_BYTES):
                    pass

    async def _head(self, connection: socket.socket) -> bytes:
        """Return the head of a request, or the part that arrived."""
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MOST_HEAD_BYTES:
            more = await self._loop.sock_recv(connection, MOST_HEAD_BYTES)
            if not more:
                break
            head += more
        return head

    def _reply(self, head: bytes) -> bytes:
        found = _request(head)
        if found is None:
            return _message(_failure(HTTPStatus.BAD_REQUEST))
        method, path = found
        if method not in ("GET", "HEAD"):
            return _message(Answer(HTTPStatus.METHOD_NOT_ALLOWED, "", b""))
        try:
            answer = self._answer(path)
        except Exception:
            log.exception("internal error")
            answer = _failure(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _message(answer, with_body=method == "GET")


def _request(head: bytes) -> tuple[str, str] | None:
    """Return method and path of a request, or None if it is not complete HTTP/1."""
    words = head.decode("latin-1").partition("\r\n")[0].split(" ")
    is_http = len(words) == 3 and words[2] in ("HTTP/1.0", "HTTP/1.1")
    if not is_http or b"\r\n\r\n" not in head:
        return None
    with suppress(ValueError):
        return words[0], urlsplit(words[1]).path
    return None


def _failure(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain", f"{status.phrase}\n".encode())


def _message(answer: Answer, *, with_body: bool = True) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Connection: close",
        *([f"Content-Type: {answer.kind}"] if answer.kind else []),
        f"Content-Length: {len(answer.body)}",
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head + answer.body if with_body else head
