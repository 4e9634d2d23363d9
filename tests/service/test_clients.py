"""Clients that stay, stall or drip: what they cost other clients."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from tests.service.conftest import whole_answer

WHERE = pytest.mark.parametrize("where", ["plugin", "status"])
# What a call takes at most beside them, on a busy machine; it is two milliseconds.
AT_ONCE = 1.5
# The time for a request is 5 s, and the wait for a thread is as long.
READ_SECONDS = 5
WHOLE = {
    "plugin": b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "status": b"GET /healthz HTTP/1.1\r\n\r\n",
}


@contextmanager
def clients(daemon, where, count, words=b""):
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            s = stack.enter_context(socket.socket(socket.AF_UNIX))
            s.connect(str(getattr(daemon, where)))
            s.sendall(words)
            found.append(s)
        time.sleep(0.2)
        yield found


@contextmanager
def dripping(found):
    """Have clients send a byte every now and then, for ever."""
    stopping = threading.Event()

    def drip():
        while not stopping.wait(0.5):
            for s in found:
                with suppress(OSError):
                    s.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    stopping.set()
    thread.join()


def seconds_of_a_call(daemon):
    started = time.monotonic()
    assert daemon.post("Plugin.Activate")[0] == 200
    return time.monotonic() - started


def seconds_of_a_look(daemon):
    started = time.monotonic()
    code, told, _ = daemon.request("GET", "/healthz", on=daemon.status)
    assert (code, json.loads(told)["ok"]) == (200, True)
    return time.monotonic() - started


@WHERE
def test_client_that_stays_connected_delays_no_other(daemon, where):
    with clients(daemon, where, 5, WHOLE[where]):
        assert seconds_of_a_call(daemon) < AT_ONCE
        assert seconds_of_a_look(daemon) < AT_ONCE


@WHERE
def test_silent_client_delays_no_other(daemon, where):
    with clients(daemon, where, 64):
        assert seconds_of_a_call(daemon) < AT_ONCE
        assert seconds_of_a_look(daemon) < AT_ONCE


def test_silent_client_on_the_plugin_socket_gives_way_to_others(daemon):
    with clients(daemon, "plugin", 300) as found:
        assert seconds_of_a_call(daemon) < AT_ONCE
        found[0].settimeout(10)
        assert found[0].recv(1) == b""


def test_slow_client_on_the_status_socket_delays_no_docker_call(daemon):
    begun = b"GET /healthz HTTP/1.1\r\nX: "
    with clients(daemon, "status", 64, begun) as found, dripping(found):
        for _ in range(3):
            assert seconds_of_a_call(daemon) < AT_ONCE
            assert seconds_of_a_look(daemon) < AT_ONCE
            time.sleep(1)


@pytest.mark.parametrize("head", ["X-Drip: ", "Content-Length: 5000\r\n\r\n{"])
def test_slow_client_on_the_plugin_socket_is_read_for_five_seconds(daemon, head):
    begun = f"POST /NetworkDriver.Join HTTP/1.1\r\n{head}".encode()
    with clients(daemon, "plugin", 64, begun) as found, dripping(found):
        assert seconds_of_a_call(daemon) < 2 * READ_SECONDS
        found[0].settimeout(10)
        with suppress(ConnectionResetError):
            whole_answer(found[0])
    assert "Traceback" not in daemon.log


def test_request_that_waited_for_a_thread_is_still_read(daemon):
    begun = b"POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"
    with clients(daemon, "plugin", 64, begun), clients(daemon, "plugin", 40) as late:
        for s in late:
            s.sendall(WHOLE["plugin"])
        for s in late:
            s.settimeout(20)
            assert whole_answer(s).startswith(b"HTTP/1.1 200 ")


@WHERE
def test_sigterm_does_not_wait_for_idle_or_slow_clients(daemon, where):
    begun = WHOLE[where][:-2]
    with (
        clients(daemon, where, 5, WHOLE[where]),
        clients(daemon, where, 5),
        clients(daemon, where, 5, begun) as found,
        dripping(found),
    ):
        started = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 2 * READ_SECONDS
    assert not daemon.plugin.exists()
    assert not daemon.status.exists()


ASK = """
import socket, sys
s = socket.create_connection(("127.0.0.1", 9157), 10)
s.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
print(s.recv(15).decode(), flush=True)
sys.stdin.read()
"""


def test_client_that_stays_at_status_listen_delays_no_other(idle):
    idle.env["UNDERLAY_STATUS_LISTEN"] = "127.0.0.1:9157"
    idle.start()
    namespace = f"--net=/proc/{idle.process.pid}/ns/net"
    with subprocess.Popen(
        ["nsenter", namespace, sys.executable, "-c", ASK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout.readline() == b"HTTP/1.1 200 OK\n"
        assert seconds_of_a_call(idle) < AT_ONCE
        assert idle.stop() == 0
        reader.stdin.close()
