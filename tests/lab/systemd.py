"""A host that systemd boots, with Docker and the service as units of it."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.lab import rootfs
from tests.lab.host import CGROUPS, Host
from tests.lab.net import Lan
from tests.lab.service import Service, wait_until

CGROUP = Path(__file__).with_name("cgroup.sh")
BOOT_SECONDS = 120
# As docs/settings.md has it, but for where the program is and where its log goes.
UNIT = """\
[Unit]
Description=underlay, Docker containers on the real network
Before=docker.service

[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/sbin/chroot /outer {command}
Restart=always
KillMode=mixed
StandardError=append:/outer{log}
Environment={env}

[Install]
WantedBy=multi-user.target
"""


class SystemdHost(Host):
    """A host of the newest engine with systemd as PID 1, in cgroups of its own.

    Docker is a unit that starts at boot: `start` waits for it.
    """

    def __init__(self, lan: Lan, name: str, index: int) -> None:
        super().__init__(lan, name, rootfs.NEWEST, index)

    def start(self) -> None:
        """Boot, and wait until all that starts at boot has started."""
        super().start()
        state = ("systemctl", "is-system-running")
        wait_until(
            lambda: self.run(*state, check=False).stdout == "running\n",
            BOOT_SECONDS,
            self.dockerd_log,
        )

    def took(self, unit: str) -> float:
        """Seconds from when systemd began to start a unit to when it had started."""
        return self._mark("ActiveEnter", unit) - self._mark("InactiveExit", unit)

    def booted(self) -> float:
        """Seconds from the start of PID 1 to when Docker had started."""
        return self._mark("ActiveEnter", "docker.service") - self._mark("Userspace")

    def processor(self) -> float:
        """Seconds of CPU time that all on this host has taken since it was made."""
        v1 = CGROUPS / "cpuacct" / self.netns / "cpuacct.usage"
        if v1.exists():
            return int(v1.read_text()) / 1e9
        stat = (CGROUPS / self.netns / "cpu.stat").read_text().split()
        return int(stat[stat.index("usage_usec") + 1]) / 1e6

    def _mark(self, name: str, *unit: str) -> float:
        mark = f"{name}TimestampMonotonic"
        shown = self.run("systemctl", "show", "--value", "-p", mark, *unit).stdout
        return int(shown) / 1e6

    def dockerd_log(self) -> str:
        """What the journal has of this boot, of systemd and of the engine."""
        return self.run("journalctl", "--no-pager", "--boot", check=False).stdout

    @staticmethod
    def _root_of(engine: str) -> Path:
        del engine  # there is one root only that boots
        return rootfs.booting()

    def _boot_command(self) -> list[str]:
        own = ["sh", str(CGROUP), self.netns]
        return [*own, *super()._boot_command(), self.netns]


class Unit(Service):
    """The service as a unit of systemd: once started, it starts at each boot."""

    def start(self) -> None:
        """Write the unit, enable it and start it."""
        text = UNIT.format(
            command=shlex.join(self.command("serve")),
            log=self.log_file,
            env=" ".join(f"{key}={value}" for key, value in self.env.items()),
        )
        unit = "/etc/systemd/system/underlay.service"
        self.host.run("sh", "-c", f"cat >{unit}", input=text)
        self.host.run("systemctl", "daemon-reload")
        self.host.run("systemctl", "enable", "--now", "underlay.service")

    def pids(self) -> list[int]:
        """The machine's pids of the service, master first."""
        # As a cgroup has them here: in the unit's own words they are the host's.
        own = "system.slice/underlay.service/cgroup.procs"
        [found, *_] = [c / own for c in self.host.cgroups() if (c / own).exists()]
        return sorted(map(int, found.read_text().split()))
