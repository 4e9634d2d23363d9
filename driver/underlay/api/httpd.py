"""The HTTP server of the status sockets, separate from the one that serves Docker.

A client that stalls, sends garbage or stays connected does not delay Docker's calls: it
takes none of their threads, and no more time than the limits below.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from underlay.errors import ForeignHost
from underlay.model.text import printable

log = logging.getLogger(__name__)

# For the whole head of a request, and for the whole answer.
READ_SECONDS = SEND_SECONDS = 5.0
# If the server closes while the client still sends, the answer may be cut off.
LINGER_SECONDS = 1.0
# One more, and the oldest connection is closed.
MOST_CONNECTIONS = 32
MOST_HEAD_BYTES = 1 << 14
# Of what a client sent, at most so much is shown to it.
MOST_SHOWN = 100
# What a browser must not do with any answer: guess its type, keep it, tell others.
GUARDING = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
ANSWERING_THREADS = 2
ACCEPT_AGAIN_SECONDS = 0.5
JOIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a path: the status, the Content-Type, the body, more headers."""

    status: HTTPStatus
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Request:
    """The head of a request; `host` is None if it names none."""

    method: str
    path: str
    host: str | None


class Server:
    """Answers GET and HEAD on listening sockets, in a thread of its own.

    `answer` is called with the path, in one of a few other threads. On a port, requests
    are refused that name another host than its address or one of `names`.
    """

    def __init__(
        self, answer: Callable[[str], Answer], names: Collection[str] = ()
    ) -> None:
        self._answer = answer
        self._names = frozenset(name.lower() for name in names)
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
            local = connection.getsockname()
            address = "" if isinstance(local, str | bytes) else local[0]
            reply = await self._loop.run_in_executor(
                self._threads, self._reply, head, address
            )
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

    def _reply(self, head: bytes, address: str) -> bytes:
        """Return the answer to a request that came to an address, "" for a path."""
        found = _request(head)
        if found is None:
            return _message(_failure(HTTPStatus.BAD_REQUEST))
        host = found.host
        if address and host is not None and not _is_own(host, address, self._names):
            return _message(_foreign(host))
        if found.method not in ("GET", "HEAD"):
            return _message(Answer(HTTPStatus.METHOD_NOT_ALLOWED, "", b""))
        try:
            answer = self._answer(found.path)
        except Exception:
            log.exception("internal error")
            answer = _failure(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _message(answer, with_body=found.method == "GET")


def _request(head: bytes) -> _Request | None:
    """Return what a request asks for, or None if it is not complete HTTP/1."""
    first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    words = first.split(" ")
    is_http = len(words) == 3 and words[2] in ("HTTP/1.0", "HTTP/1.1")
    parts = (line.partition(":") for line in lines)
    hosts = [
        value.strip() for name, _, value in parts if name.strip().lower() == "host"
    ]
    if not is_http or b"\r\n\r\n" not in head or len(hosts) > 1:
        return None
    with suppress(ValueError):
        path = urlsplit(words[1]).path
        return _Request(words[0], path, hosts[0] if hosts else None)
    return None


def _is_own(host: str, address: str, names: Collection[str]) -> bool:
    """Return whether a Host header means this server, which was reached at an address.

    A web page can have a browser connect here under the name of its own site (DNS
    rebinding), and then read the answers. A browser always says that name.
    """
    if "@" in host or "/" in host:
        return False
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        mine = ip_address(address.partition("%")[0])
        mine = getattr(mine, "ipv4_mapped", None) or mine
        with suppress(ValueError):
            return ip_address(name) == mine
    except ValueError:
        return False
    return name in names or (mine.is_loopback and name == "localhost")


def _foreign(host: str) -> Answer:
    text = f"{ForeignHost(host=printable(host[:MOST_SHOWN]))}\n"
    return Answer(HTTPStatus(ForeignHost.status), "text/plain", text.encode())


def _failure(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain", f"{status.phrase}\n".encode())


def _message(answer: Answer, *, with_body: bool = True) -> bytes:
    headers = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        **({"Content-Type": answer.kind} if answer.kind else {}),
        "Content-Length": str(len(answer.body)),
        **GUARDING,
        **answer.headers,
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    first = f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"
    head = "\r\n".join([first, *lines]).encode() + b"\r\n\r\n"
    return head + answer.body if with_body else head
