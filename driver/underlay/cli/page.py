"""`underlay page`: the status page on a port of its own, for one administrator."""

from __future__ import annotations

import hmac
import os
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from socket import create_server

import click

from underlay.api.httpd import Answer, Server
from underlay.cli.terminal import say
from underlay.errors import UnderlayError
from underlay.model.text import printable

ADDRESS = "127.0.0.1"


def serve_page(read: Callable[[], Answer], port: int) -> None:
    """Serve the page until interrupted, at a path that only its reader knows.

    Every user of the host can connect to a port of it, so the path is a secret that is
    made for this run. `port` 0 is any free one.
    """
    secret = f"/{secrets.token_urlsafe(24)}/"

    def answer(path: str) -> Answer:
        if hmac.compare_digest(path.encode(), secret.encode()):
            try:
                return read()
            except UnderlayError as error:
                text = f"{printable(str(error))}\n".encode()
                return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", text)
        text = b"Open the address that `underlay page` printed.\n"
        return Answer(HTTPStatus.FORBIDDEN, "text/plain", text)

    try:
        listener = create_server((ADDRESS, port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        words = f"port {port}: {why}. Choose another --port, or leave it out"
        raise click.UsageError(words) from error
    server = Server(answer)
    with listener:
        server.start([listener])
        say(f"http://{ADDRESS}:{listener.getsockname()[1]}{secret}")
        say("Interrupt (Ctrl-C) to end.", err=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            server.stop()
