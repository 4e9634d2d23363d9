"""The server of the status sockets: clients that stall, babble, or take nothing."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager, suppress
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.service import wait_until
from underlay.api import httpd
from underlay.api.httpd import Answer, Server

BIG = 8 << 20


def told(path):
    match path:
        case "/big":
            return Answer(HTTPStatus.OK, "text/plain", b"x" * BIG)
        case "/fault":
            raise RuntimeError(path)
    return Answer(HTTPStatus.NOT_FOUND, "text/plain", path.encode())


@pytest.fixture(params=["unix", "tcp"])
def address(request, tmp_path):
    """Serve on a socket; give where."""
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
    else:
        listener = socket.socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    server = Server(told)
    server.start([listener])
    yield listener.getsockname()
    server.stop()
    listener.close()


@contextmanager
def client(address, words=b""):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as s:
        s.settimeout(20)
        s.connect(address)
        s.sendall(words)
        yield s


def whole(s):
    found = b""
    while chunk := s.recv(1 << 16):
        found += chunk
    return found


def ask(address, words):
    with client(address, words) as s:
        head, _, body = whole(s).partition(b"\r\n\r\n")
        return int(head.split()[1]), head, body


def is_dropped(s):
    """Tell whether the server has closed a connection, whatever it said first."""
    s.settimeout(0.01)
    try:
        while s.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_head_answers_the_length_of_get_without_its_body(address):
    code, head, body = ask(address, b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (code, body) == (404, b"/a")
    for line in (b"Content-Length: 2", b"Connection: close", b"Content-Type: text/pl"):
        assert line in head
    code, again, body = ask(address, b"HEAD /a HTTP/1.0\r\n\r\n")
    assert (code, body) == (404, b"")
    assert b"Content-Length: 2" in again


def test_absolute_url_with_a_host_is_understood(address):
    assert ask(address, b"GET http://x:1/b HTTP/1.1\r\n\r\n")[2] == b"/b"


def test_other_methods_are_refused_with_their_bodies(address):
    body = b"x" * 100_000
    head = b"POST /a HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"
    assert ask(address, head + body)[0] == 405


@pytest.mark.parametrize(
    "words",
    [b"\0" * 300, b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\xff" * 40_000,
     b"GET http://[ HTTP/1.1\r\n\r\n", b"{}\n"],
)  # fmt: skip
def test_request_that_is_no_http_gets_an_error(address, words):
    with client(address, words) as s:
        s.shutdown(socket.SHUT_WR)
        assert whole(s).startswith(b"HTTP/1.1 400 ")


def test_internal_error_is_answered_without_details(address, caplog):
    code, _, body = ask(address, b"GET /fault HTTP/1.1\r\n\r\n")
    assert (code, body) == (500, b"Internal Server Error\n")
    assert "RuntimeError" in caplog.text


def test_slow_request_is_ended_in_time(address, monkeypatch):
    monkeypatch.setattr(httpd, "READ_SECONDS", 0.3)
    with client(address, b"GET /a HTTP/1.1\r\nX: ") as s:
        for _ in range(200):
            try:
                s.sendall(b"y")
            except OSError:  # it is ended already
                return
            time.sleep(0.05)
            if is_dropped(s):
                return
    pytest.fail("it was heard for ten seconds")


def test_unread_answer_is_dropped_in_time(address, monkeypatch):
    monkeypatch.setattr(httpd, "SEND_SECONDS", 0.3)
    with client(address, b"GET /big HTTP/1.1\r\n\r\n") as s:
        time.sleep(0.6)
        assert len(whole_or_reset(s)) < BIG


def whole_or_reset(s):
    found = b""
    with suppress(ConnectionResetError):
        while chunk := s.recv(1 << 16):
            found += chunk
    return found


def test_client_that_stays_after_the_answer_is_closed_in_time(address, monkeypatch):
    monkeypatch.setattr(httpd, "LINGER_SECONDS", 0.3)
    with client(address, b"GET /a HTTP/1.1\r\n\r\n") as s:
        assert whole(s).endswith(b"/a")
        with suppress(OSError):
            for _ in range(200):
                s.sendall(b"more")
                time.sleep(0.05)
            pytest.fail("it was listened to for ten seconds")


def test_new_client_is_served_however_many_are_silent(address):
    silent = [client(address) for _ in range(3 * httpd.MOST_CONNECTIONS)]
    opened = [s.__enter__() for s in silent]
    assert ask(address, b"GET /a HTTP/1.1\r\n\r\n")[2] == b"/a"
    wait_until(lambda: is_dropped(opened[0]), 10)
    assert not is_dropped(opened[-1])
    for s in opened:
        s.close()


OWN_NAMES = [
    ("127.0.0.1", "127.0.0.1:80"),
    ("127.0.0.1", "localhost"),
    ("::1", "[::1]:9157"),
    ("::1", "localhost:9157"),
    ("192.0.2.5", "192.0.2.5"),
    ("::ffff:192.0.2.5", "192.0.2.5:9157"),
    ("fe80::1%eth0", "[fe80::1]"),
    ("192.0.2.5", "Metrics.Example."),
]
FOREIGN_NAMES = [
    ("127.0.0.1", "evil.example"),
    ("127.0.0.1", "127.0.0.2"),
    ("127.0.0.1", "127.1"),
    ("127.0.0.1", "2130706433"),
    ("127.0.0.1", "localhost.evil.example"),
    ("127.0.0.1", "evil@localhost"),
    ("127.0.0.1", "evil/localhost"),
    ("127.0.0.1", "[::1"),
    ("127.0.0.1", ""),
    ("192.0.2.5", "localhost"),
    ("192.0.2.5", "192.0.2.6"),
]


@pytest.mark.parametrize(("address", "host"), OWN_NAMES)
def test_host_header_with_a_name_of_the_server_is_its_own(address, host):
    assert httpd._is_own(host, address, {"metrics.example"})


@pytest.mark.parametrize(("address", "host"), FOREIGN_NAMES)
def test_host_header_with_another_name_is_foreign(address, host):
    assert not httpd._is_own(host, address, {"metrics.example"})


@settings(max_examples=500, deadline=None)
@given(host=st.text(max_size=60))
def test_no_text_in_a_host_header_is_an_error(host):
    own = httpd._is_own(host, "127.0.0.1", {"metrics.example"})
    known = ("127.0.0.1", "localhost", "metrics.example")
    assert not own or any(name in host.lower() for name in known)
