"""The real service in a namespace of its own, without any Docker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket

import pytest

from tests.apart import apart
from tests.lab import rootfs

__all__ = ["apart"]
SETUP = (
    "ip link set lo up && ip link add eth0 type veth peer name wire0 &&"
    ' ip link set wire0 up && ip link set eth0 up && exec "$@"'
)


# Fetched before these tests get a namespace, which has no way out: session fixtures
# come before those of a package.
@pytest.fixture(scope="session")
def promtool():
    """Prometheus' checker of rules and metrics."""
    return rootfs.promtool()


@pytest.fixture(scope="session")
def browser_root():
    """The root of tests/lab/browser.py."""
    return rootfs.browser()


class Daemon:
    """`underlay serve` in a new network namespace, and its two sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.plugin = folder / "plugins" / "underlay.sock"
        self.status = folder / "run" / "status.sock"
        self.env = {
            **os.environ,
            "UNDERLAY_STATE_DIR": str(self.state),
            "UNDERLAY_RUN_DIR": str(folder / "run"),
            "UNDERLAY_PLUGIN_DIR": str(folder / "plugins"),
            "UNDERLAY_DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log_file = folder / "log"

    def start(self, *before: str, wait: bool = True) -> None:
        command = [
            "unshare", "--net", "sh", "-ec", SETUP, "sh",
            *before, sys.executable, "-m", "underlay", "serve",
        ]  # fmt: skip
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.env, stderr=log)
        if not wait:
            return
        deadline = time.monotonic() + 20
        while self.try_post("Plugin.Activate") is None:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    @contextmanager
    def start_held(self):
        """Start it with sockets that are held for it, as by systemd."""
        with ExitStack() as held:
            numbers = [self._hold(held, path) for path in (self.plugin, self.status)]
            # Descriptors 3 and 4, and the pid of the process that they are for.
            starter = (
                "import os, sys; os.dup2(int(sys.argv[1]), 3);"
                "os.dup2(int(sys.argv[2]), 4);"
                "os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()));"
                "os.execvp(sys.argv[3], sys.argv[3:])"
            )
            command = [
                "unshare", "--net", sys.executable, "-c", starter, *map(str, numbers),
                sys.executable, "-m", "underlay", "serve",
            ]  # fmt: skip
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen(
                    command, env=self.env, stderr=log, pass_fds=numbers
                )
            yield

    @staticmethod
    def _hold(held: ExitStack, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listening = held.enter_context(socket(AF_UNIX))
        listening.bind(str(path))
        listening.listen(64)
        return listening.fileno()

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def children(self) -> list[int]:
        master = self.process.pid
        found = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [int(pid) for pid in found]

    def stop(self, how: int = signal.SIGTERM) -> int:
        if how == signal.SIGKILL:
            for pid in self.children():
                os.kill(pid, how)
        self.process.send_signal(how)
        return self.process.wait(timeout=30)

    def request(self, verb, path, body=None, *, on=None, headers=None):
        connection = HTTPConnection("plugin.moby.localhost", timeout=30)
        try:
            connection.sock = socket(AF_UNIX)
            connection.sock.settimeout(30)
            connection.sock.connect(str(on or self.plugin))
            connection.request(verb, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def post(self, method, body=None):
        data = None if body is None else json.dumps(body)
        status, told, _ = self.request("POST", f"/{method}", data)
        return status, json.loads(told)

    def try_post(self, method):
        try:
            return self.post(method)
        except OSError:
            return None

    def run(self, *words):
        return subprocess.run(
            [sys.executable, "-m", "underlay", *words],
            env=self.env, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    def in_namespace(self, *words):
        namespace = f"--net=/proc/{self.process.pid}/ns/net"
        return subprocess.run(
            ["nsenter", namespace, *words],
            env=self.env, capture_output=True, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip


@pytest.fixture
def idle(tmp_path):
    """A daemon that is not started."""
    daemon = Daemon(tmp_path)
    yield daemon
    if daemon.process and daemon.process.poll() is None:
        daemon.stop(signal.SIGKILL)


@pytest.fixture
def daemon(idle):
    idle.start()
    return idle


def whole_answer(connection):
    """Read until the service closes, as it does after every answer."""
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    return answer
