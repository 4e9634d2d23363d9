"""The status page on its sockets and ports, and in a browser."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
from socket import AF_UNIX, SHUT_WR, create_server, socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.bodies import ENDPOINT, NETWORK
from tests.lab.browser import Browser
from tests.service.conftest import whole_answer

PORT = 9157
ASK = """
import http.client, json, sys
address, port, path, host = sys.argv[1:]
c = http.client.HTTPConnection(address, int(port), timeout=5)
c.putrequest("GET", path, skip_host=True)
for one in filter(None, host.split("|")):
    c.putheader("Host", one)
c.endheaders()
answer = c.getresponse()
print(json.dumps([answer.status, answer.read().decode(), dict(answer.getheaders())]))
"""


def ask(daemon, path="/", host=f"127.0.0.1:{PORT}", port=PORT, address="127.0.0.1"):
    words = (address, str(port), path, host)
    return json.loads(daemon.in_namespace(sys.executable, "-c", ASK, *words))


@pytest.fixture
def listening(idle):
    idle.env["UNDERLAY_STATUS_LISTEN"] = str(PORT)
    idle.env["UNDERLAY_STATUS_HOSTS"] = "metrics.example, Other.example"
    idle.start()
    return idle


def test_page_is_at_the_root_of_the_status_socket(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    code, told, headers = daemon.request("GET", "/", on=daemon.status)
    assert code == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    for text in (b"10.0.0.5", b"eth0", b"macvlan", b"running since"):
        assert text in told


def test_port_without_an_address_is_one_of_this_host_only(listening):
    shown = listening.in_namespace("ss", "-Hltn")
    assert re.findall(rf"\S+:{PORT}\b", shown) == [f"127.0.0.1:{PORT}"]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", f"127.0.0.1:{PORT}", "localhost", "LOCALHOST.:80", "metrics.example",
     "other.example:9157", ""],
)  # fmt: skip
def test_own_names_are_answered(listening, host):
    for path in ("/", "/healthz", "/metrics"):
        assert ask(listening, path, host)[0] == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil@127.0.0.1", 421),
        ("127.0.0.2", 421),
        ("[::1]", 421),
        ("[", 421),
        ("\x1b[2J", 421),
        ("x" * 5000, 421),
        ("127.0.0.1|evil.example", 400),
    ],
)
def test_foreign_host_header_is_refused_on_every_path(listening, host, status):
    for path in ("/", "/healthz", "/status", "/metrics", "/nothing"):
        code, told, _ = ask(listening, path, host)
        assert code == status
        assert len(told) < 400
        assert "\x1b" not in told
        assert status == 400 or told.startswith("E-306")


def test_page_command_serves_at_a_secret_address_until_interrupted(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    command = [
        "nsenter", f"--net=/proc/{daemon.process.pid}/ns/net",
        sys.executable, "-m", "underlay", "page",
    ]  # fmt: skip
    with subprocess.Popen(
        command,
        env=daemon.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            port, secret = re.fullmatch(
                r"http://127\.0\.0\.1:(\d+)(/[\w-]{30,}/)", url
            ).groups()
            code, told, headers = ask(daemon, secret, "127.0.0.1", port)
            assert code == 200
            assert "running since" in told
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            for path in ("/", secret[:-1], f"/{secrets.token_urlsafe(24)}/", "/status"):
                code, told, _ = ask(daemon, path, "127.0.0.1", port)
                assert (code, "macvlan" in told) == (403, False)
            assert ask(daemon, secret, "evil.example", port)[0] == 421
            assert ask(daemon, secret, "localhost", port)[0] == 200
            (daemon.state / "underlay.db").rename(daemon.state / "away.db")
            code, told, _ = ask(daemon, secret, "localhost", port)
            assert (code, told[:6]) == (500, "E-506 ")
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=10) == 0
            assert "Traceback" not in process.stderr.read()


def test_page_command_shows_the_records_while_the_service_is_down(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.stop()
    with subprocess.Popen(
        [sys.executable, "-m", "underlay", "page"], env=daemon.env,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            url = process.stdout.readline().strip()
            done = subprocess.run(
                [sys.executable, "-c", ASK, "127.0.0.1", *re.match(
                    r"http://127.0.0.1:(\d+)(.*)", url).groups(), "localhost"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            process.send_signal(signal.SIGINT)
    assert "The service does not answer" in done.stdout
    assert "macvlan" in done.stdout


def test_page_on_a_port_in_use_says_so_and_what_to_do(daemon):
    with create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = daemon.run("page", "--port", str(port))
    assert done.returncode == 2
    text = f"port {port}: Address already in use. Choose another --port, or leave it"
    assert text in done.stderr


def test_page_command_without_records_says_so(idle):
    done = idle.run("page")
    assert done.returncode == 1
    assert done.stderr.startswith("E-506 ")


HEADS = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda verb, path, version, headers: b" ".join([verb, path, version])
        + b"\r\n" + b"\r\n".join(headers) + b"\r\n\r\n",
        st.sampled_from([b"GET", b"HEAD", b"POST", b"", b"\xff"]),
        st.one_of(
            st.sampled_from([b"/", b"/status", b"/metrics", b"/refusals", b"/healthz"]),
            st.binary(max_size=40),
            st.text(max_size=30).map(lambda t: b"/" + t.encode("utf-8", "replace")),
        ),
        st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9"]),
        st.lists(st.binary(max_size=60), max_size=5),
    ),
)  # fmt: skip


def test_no_request_of_a_fuzz_stops_the_status_socket(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
    @given(head=HEADS)
    def send(head):
        with socket(AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(daemon.status))
            connection.sendall(head)
            connection.shutdown(SHUT_WR)
            answer = whole_answer(connection)
        assert not head or re.match(rb"HTTP/1\.1 (200|400|404|405) ", answer)

    send()
    assert daemon.request("GET", "/healthz", on=daemon.status)[0] == 200
    assert "internal error" not in daemon.log
    assert {c for c in daemon.log if not c.isprintable()} <= {"\n"}


@pytest.fixture
def browser(browser_root, listening, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    return Browser(browser_root, folder, listening.process.pid)


def test_browser_shows_the_page_without_complaint(listening, browser):
    listening.post("NetworkDriver.CreateNetwork", NETWORK)
    listening.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    document, console = browser.document(f"http://127.0.0.1:{PORT}/")
    assert console == []
    assert document.count("<rect") >= 3
    assert "10.0.0.5" in document
    light, dark = (
        browser.screenshot(
            f"http://127.0.0.1:{PORT}/", f"{dark}.png", dark=dark, size=(1280, 900)
        ).read_bytes()
        for dark in (False, True)
    )
    assert light.startswith(b"\x89PNG")
    assert min(len(light), len(dark)) > 10_000
    assert light != dark


def test_browser_runs_nothing_that_a_name_has_in_it(listening, browser):
    script = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
    named = {"com.docker.network.generic": {"parent": "eth0", "com.docker.x": script}}
    assert (
        listening.post("NetworkDriver.CreateNetwork", {**NETWORK, "Options": named})[0]
        == 200
    )
    refused = {"com.docker.network.generic": {"parent": script}}
    other = {**NETWORK, "NetworkID": "m" * 64, "Options": refused}
    assert listening.post("NetworkDriver.CreateNetwork", other)[0] == 400
    document, console = browser.document(f"http://127.0.0.1:{PORT}/")
    assert "<title>underlay</title>" in document
    assert "&lt;script&gt;document.title" in document
    assert "<img" not in document
    assert console == []
