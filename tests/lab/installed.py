"""The service as an administrator installs it: a wheel in a venv, units of systemd."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import rootfs, wheels
from tests.lab.host import Host
from tests.lab.service import GRACE_SECONDS, PERIOD_SECONDS, Service
from tests.lab.systemd import SystemdHost

VENV = "/opt/underlay"
SETTINGS = f"period = {PERIOD_SECONDS}\ngrace = {GRACE_SECONDS}\n"


class OperatedHost(SystemdHost):
    """A host with systemd as PID 1 that has what an administrator needs as well."""

    @staticmethod
    def _root_of(engine: str) -> Path:
        del engine  # there is one root only that boots
        return rootfs.operated()


class Installed(Service):
    """The program in /opt/underlay, and what `underlay install` makes of it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.program = f"{VENV}/bin/underlay"

    def put_program(self, wheel: Path) -> None:
        """Install a wheel into the venv, over an older version too."""
        found = wheels.needed(rootfs.operated())
        [pip] = found.glob("pip-*.whl")
        self.host.run("python3", "-m", "venv", "--without-pip", VENV)
        python = f"{VENV}/bin/python"
        offline = ("--no-index", "--find-links", f"/outer{found}", "--force-reinstall")
        self.host.run(
            python, f"/outer{pip}/pip", "-q", "install", *offline, f"/outer{wheel}",
            timeout=240,
        )  # fmt: skip

    def start(self) -> None:
        """Install it, with short times, and start it."""
        self.host.run("mkdir", "-p", "/etc/underlay")
        self.host.run("sh", "-c", "cat >/etc/underlay/underlay.toml", input=SETTINGS)
        self.run("install")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line, by the host's own program."""
        return self.host.run(self.program, *words, check=check)

    def systemctl(self, *words: str) -> str:
        """Run systemctl; return what it says."""
        return self.host.run("systemctl", *words).stdout

    @property
    def log(self) -> str:
        """What the journal has of the service, in all boots."""
        own = ("journalctl", "--no-pager", "-o", "cat", "-u", "underlay.service")
        return self.host.run(*own, check=False).stdout

    def pids(self) -> list[int]:
        """The machine's pids of the service, master first."""
        own = "system.slice/underlay.service/cgroup.procs"
        [found, *_] = [c / own for c in self.host.cgroups() if (c / own).exists()]
        return sorted(map(int, found.read_text().split()))
