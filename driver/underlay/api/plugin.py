"""Docker's plugin protocol over HTTP: decode, call, encode, translate errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
from flask import Flask, Response, request
from werkzeug.exceptions import ClientDisconnected, HTTPException

from underlay.api import messages as m
from underlay.api.call import Call, call_id, calling
from underlay.api.methods import Method
from underlay.errors import (
    EmptyBody,
    IncompleteRequest,
    InternalError,
    Malformed,
    TooLarge,
    UnderlayError,
    UnknownMethod,
    WrongVerb,
)
from underlay.model.text import printable

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
# Docker names every port of -p in 110 bytes or so: all of TCP are 7 MB.
MAX_BYTES = 1 << 24
DRAIN_BYTES = 1 << 26
# Called after each call.
Observe = Callable[[Call], None]


def create_app(methods: Mapping[str, Method], observe: Observe) -> Flask:
    """Build the plugin's application around its method table."""
    app = Flask("underlay")
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES

    def call(name: str) -> Response:
        with calling(name if name in methods else "unknown") as one:
            answer = _response(name, methods, one)
        observe(one)
        return answer

    def http_error(error: HTTPException) -> Response:
        return _refuse(translate(error, request.path.lstrip("/")))

    app.add_url_rule("/<path:name>", "call", call, methods=["POST"])
    app.register_error_handler(HTTPException, http_error)
    return app


def _response(name: str, methods: Mapping[str, Method], call: Call) -> Response:
    try:
        answer = _answer(name, methods, call)
    except Exception as error:  # noqa: BLE001 - the one place that translates
        call.refusal = translate(error, name)
        return _refuse(call.refusal)
    return Response(msgspec.json.encode(answer), 200, content_type=CONTENT_TYPE)


def _answer(name: str, methods: Mapping[str, Method], call: Call) -> msgspec.Struct:
    method = methods.get(name)
    if method is None:
        raise UnknownMethod(method=name[:80])
    if method.takes is None:
        return method.answer(None)
    if (request.content_length or 0) > MAX_BYTES:
        _drain()
        raise TooLarge(method=name, limit=MAX_BYTES)
    try:
        body = request.get_data()
    except (ClientDisconnected, OSError) as error:
        raise IncompleteRequest(method=name, why=error) from error
    if not body:
        raise EmptyBody(method=name)
    try:
        call.asked = msgspec.json.decode(body, type=method.takes)
        return method.answer(call.asked)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Malformed(method=name, why=error) from error


def _drain() -> None:
    """Read a body that is refused: Docker would take a reset for a lost answer."""
    left = min(request.content_length or 0, DRAIN_BYTES)
    with suppress(OSError):  # the client sends too slowly
        while left > 0 and (chunk := request.environ["wsgi.input"].read(1 << 16)):
            left -= len(chunk)


def translate(error: Exception, method: str) -> UnderlayError:
    """Return the error that Docker gets for any exception, and log it."""
    if isinstance(error, UnderlayError):
        level = logging.ERROR if error.status >= 500 else logging.WARNING
        log.log(level, "request refused", extra={"method": method[:80], "error": error})
        return error
    if isinstance(error, HTTPException):
        return _of_http(error, method[:80])
    ref = call_id()
    log.error("internal error", extra={"method": method[:80]}, exc_info=error)
    return InternalError(kind=type(error).__name__, ref=ref)


def _of_http(error: HTTPException, method: str) -> UnderlayError:
    match error.code:
        case 404:
            return UnknownMethod(method=method)
        case 405:
            return WrongVerb(method=method, allowed="POST")
        case 413:
            return TooLarge(method=method, limit=MAX_BYTES)
    return Malformed(method=method, why=error.name)


def _refuse(refusal: UnderlayError) -> Response:
    text = printable(str(refusal))  # the docker command prints it unchanged
    body = msgspec.json.encode(m.Failed(text, text))
    return Response(body, refusal.status, content_type=CONTENT_TYPE)
