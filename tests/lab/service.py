"""The service under test, run from this checkout's environment on a lab host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from socket import AF_UNIX, socket
from threading import Lock
from typing import Any

from tests.lab.host import ENVIRONMENT, Host

PERIOD_SECONDS, GRACE_SECONDS = 1, 2
COMMAND_SECONDS = 60
ROOT = Path(__file__).parents[2]


class Service:
    """`underlay serve` on a host, with a short period and grace time."""

    def __init__(self, host: Host, **settings: object) -> None:
        self.host = host
        given = {"period": PERIOD_SECONDS, "grace": GRACE_SECONDS, **settings}
        self.env = {
            "UNDERLAY_STATE_DIR": str(host.dir / "state"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{f"UNDERLAY_{key.upper()}": str(value) for key, value in given.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: subprocess.Popen[str] | None = None
        self._asking = Lock()

    @property
    def log_file(self) -> Path:
        return self.host.dir / "underlay.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log_file.open("ab") as log:
            self._process = self.host.outer(*self.serving, env=self.env, stderr=log)
        wait_until(lambda: self.healthz() is not None, 20, lambda: self.log)

    def stop(self) -> int:
        """TERM; return the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """KILL the master and its worker at once."""
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        self._end(signal.SIGKILL)

    def pids(self) -> list[int]:
        """The machine's pids of the service, master first."""
        assert self._process
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text()
        return [master, *map(int, children.split())]

    def _end(self, how: signal.Signals) -> int:
        assert self._process
        self._process.send_signal(how)
        return self._process.wait(timeout=30)

    @property
    def serving(self) -> list[str]:
        """The command that is the service."""
        return self.command("serve")

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "underlay", *words]

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line on the host: see tests/lab/commands.py."""
        command = self.command(*words)
        env = {**ENVIRONMENT, **self.env}
        asked = {"words": words, "env": env, "timeout": COMMAND_SECONDS}
        code, out, err = self._answer(asked)
        if check and code:
            failure = subprocess.CalledProcessError(code, command, out, err)
            failure.add_note(f"stdout: {out}\nstderr: {err}")
            raise failure
        return subprocess.CompletedProcess(command, code, out, err)

    def _answer(self, asked: dict[str, Any]) -> tuple[int, str, str]:
        with self._asking:
            if self._commands is None or self._commands.poll() is not None:
                self._commands = self.host.outer(
                    *(sys.executable, "-m", "tests.lab.commands"),
                    env={**self.env, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )  # fmt: skip
            process = self._commands
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{json.dumps(asked)}\n")
            process.stdin.flush()
            code, out, err = json.loads(process.stdout.readline())
            return code, out, err

    def facts(self, *words: str) -> Any:
        """What a command says in JSON."""
        return json.loads(self.run(*words, "--json").stdout)

    def healthz(self) -> Any:
        """What the status socket says of its health; None if nothing answers."""
        return self._get("/run/underlay/status.sock", "/healthz")

    def status(self) -> Any:
        """What the status socket says is on record."""
        return self._get("/run/underlay/status.sock", "/status")

    def on_record(self) -> Any:
        """The same, whether the service runs or not.

        By a command only if need be: tests ask again and again.
        """
        return self.status() or self.facts("status")

    def metrics(self) -> str:
        return str(self._get("/run/underlay/status.sock", "/metrics", parse=str))

    def _get(self, path: str, url: str, parse: Callable[..., Any] = json.loads) -> Any:
        connection = HTTPConnection("underlay", timeout=5)
        try:
            connection.sock = socket(AF_UNIX)
            connection.sock.connect(f"/proc/{self.host.pid}/root{path}")
            connection.request("GET", url)
            answer = connection.getresponse().read()
        except OSError:
            return None
        else:
            return parse(answer.decode())
        finally:
            connection.close()


class Mortal(Service):
    """The service with the fault switch of tests/lab/faults.py; it restarts itself."""

    def __init__(self, host: Host, **settings: object) -> None:
        super().__init__(host, **settings)
        self._switch = host.dir / "switch"
        self._switch.mkdir()
        self.env["MORTAL_DIR"] = str(self._switch)
        self.env["PYTHONPATH"] = str(ROOT)

    @property
    def serving(self) -> list[str]:
        return [sys.executable, "-m", "tests.lab.faults"]

    def arm(self, number: int = 0, how: str = "die") -> None:
        """Have it "die" or "hold" at a point, counted from now; at none for 0."""
        for name in ("armed", "passed", "struck"):
            (self._switch / name).unlink(missing_ok=True)
        if number:
            armed = self._switch / "new"
            armed.write_text(f"{number} {how}")
            armed.rename(self._switch / "armed")

    def disarm(self) -> None:
        """Let it live on, or go on."""
        (self._switch / "armed").unlink(missing_ok=True)

    def passed(self) -> list[str]:
        """The labels of the points passed since it was armed."""
        found = self._switch / "passed"
        return found.read_text().splitlines() if found.exists() else []

    def struck(self) -> str:
        """The label of the point at which the switch struck, "" if it did not yet."""
        found = self._switch / "struck"
        return found.read_text() if found.exists() else ""

    @property
    def struck_at(self) -> float:
        """When that was, in seconds since 1970."""
        return (self._switch / "struck").stat().st_mtime


def wait_until(
    true: Callable[[], object], seconds: float, why: Callable[[], object] = str
) -> None:
    """Wait for something to become true; fail with what `why` says."""
    deadline, pause = time.monotonic() + seconds, 0.02
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {why()}")
        time.sleep(pause)
        pause = min(1.3 * pause, 0.3)
