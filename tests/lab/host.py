"""An isolated Docker host: own namespaces, root, disk and address on the LAN.

Inside it everything has its usual path (/run/docker/plugins, docker.sock), and
/outer is the machine's own root with the host's /run, /proc, /sys and /dev, so
that a program of the machine, in whatever directory, runs "on" the host.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import debian, pidns, rootfs
from tests.lab.net import NETNS, Lan, enter, ip

BOOT = Path(__file__).with_name("boot.sh")
CGROUPS = Path("/sys/fs/cgroup")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}


class Host:
    """One Docker host; `engine` is of rootfs.ENGINES, `index` makes its address."""

    def __init__(self, lan: Lan, name: str, engine: str, index: int) -> None:
        self.lan, self.name, self.engine = lan, name, engine
        self.ipv4, self.ipv6 = f"10.77.0.{10 + index}", f"fd77::{10 + index}"
        self.netns = f"{lan.tag}-{name}"
        self._root = self._root_of(engine)
        disks = debian.cache() / "hosts"
        disks.mkdir(exist_ok=True)
        self.dir = Path(tempfile.mkdtemp(prefix=f"{self.netns}-", dir=disks))
        self._init: subprocess.Popen[str] | None = None
        self._dockerd: subprocess.Popen[Any] | None = None
        self._started: list[subprocess.Popen[Any]] = []

    # --- power ---

    def start(self) -> None:
        """Boot; after a power cut, with the disk as it was."""
        try:
            self._plug_in()
            self._boot()
        except BaseException:
            self.power_cut()
            raise

    def power_cut(self) -> None:
        """Everything that runs dies at once, the disk stays."""
        if self._init:
            self._init.kill()
            self._thaw()
            # The kernel holds PID 1 back until those of its processes that are
            # children of ours have been waited for.
            for process in self._started:
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        pipe.close()
            self._init.communicate()
        self._init = self._dockerd = None
        self._started.clear()
        if (NETNS / self.netns).exists():
            # By name too: the namespace itself goes away only some time later.
            self.lan.run("ip", "link", "del", f"p-{self.name}", check=False)
            ip(f"netns del {self.netns}")

    def close(self) -> None:
        """Remove the host without a trace."""
        self.power_cut()
        for cgroup in self.cgroups():
            _remove_cgroup(cgroup)
        if self.dir.exists():
            shutil.rmtree(self.dir)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _plug_in(self) -> None:
        port = f"p-{self.name}"
        ip(
            f"netns add {self.netns}",
            f"link add {port} netns {self.lan.netns}"
            f" type veth peer name eth0 netns {self.netns}",
        )
        self.lan.run("ip", "link", "set", port, "master", "br0", "up")
        commands = f"""
            ip link set eth0 up
            ip addr add {self.ipv4}/24 dev eth0
            ip addr add {self.ipv6}/64 dev eth0 nodad
            ip route add default via 10.77.0.1
            ip -6 route add default via fd77::1
        """
        subprocess.run([*enter(self.netns), "sh", "-ec", commands], check=True)

    @staticmethod
    def _root_of(engine: str) -> Path:
        return rootfs.root(engine)

    def _boot_command(self) -> list[str]:
        command = [*enter(self.netns), "unshare", "--mount", "--uts", "--ipc"]
        return [*command, "sh", str(BOOT), str(self._root), str(self.dir), self.name]

    def _boot(self) -> None:
        command = self._boot_command()
        log = self.dir / "boot.log"
        pipe = subprocess.PIPE
        with log.open("w") as stderr, pidns.new():
            self._init = subprocess.Popen(
                command,
                env=ENVIRONMENT,
                stdin=pipe,
                stdout=pipe,
                stderr=stderr,
                text=True,
            )
        assert self._init.stdout
        if self._init.stdout.readline() != "up\n":
            raise RuntimeError(f"{self.name} does not boot: {log.read_text()}")

    def cgroups(self) -> list[Path]:
        """The host's cgroups: one in each hierarchy of v1, the first in v2."""
        return [CGROUPS / self.netns, *CGROUPS.glob(f"*/{self.netns}")]

    def _thaw(self) -> None:
        """Wake up paused containers, which with cgroup v1 cannot even be killed."""
        for state in (CGROUPS / "freezer" / self.netns).rglob("freezer.state"):
            state.write_text("THAWED")

    # --- commands ---

    @property
    def pid(self) -> int:
        """The host's PID 1 as the machine sees it."""
        if not self._init:
            raise RuntimeError(f"{self.name} is not running")
        return self._init.pid

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,  # noqa: A002 - as subprocess has it
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the host's root."""
        return self._complete(list(argv), ENVIRONMENT, check, timeout, input)

    def outer(
        self, *argv: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command of the machine on the host; the Popen is the command itself.

        It dies with the host. Its pid is that of the machine, not the host's.
        """
        process = self._spawn(
            ["chroot", "/outer", *argv], {**ENVIRONMENT, **(env or {})}, **options
        )
        self._started.append(process)
        return process

    def outer_run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,  # noqa: A002 - as subprocess has it
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the machine on the host to its end."""
        command = ["chroot", "/outer", *argv]
        return self._complete(
            command, {**ENVIRONMENT, **(env or {})}, check, timeout, input
        )

    def _spawn(
        self, command: list[str], env: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[Any]:
        namespaces = ["--mount", "--net", "--uts", "--ipc"]
        command = ["nsenter", f"--target={self.pid}", *namespaces, *command]
        with pidns.of(self.pid):
            return subprocess.Popen(command, env=env, **options)

    def _complete(
        self,
        command: list[str],
        env: Mapping[str, str],
        check: bool,
        timeout: float,
        input: str | None,  # noqa: A002
    ) -> subprocess.CompletedProcess[str]:
        pipe = subprocess.PIPE
        stdin = subprocess.DEVNULL if input is None else pipe
        with self._spawn(
            command, env, stdin=stdin, stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            failure = subprocess.CalledProcessError(
                process.returncode, command, out, err
            )
            failure.add_note(f"stdout: {out}\nstderr: {err}")
            raise failure
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    # --- Docker ---

    @property
    def docker_socket(self) -> Path:
        """The engine's API socket, as a path of the machine."""
        return Path(f"/proc/{self.pid}/root/run/docker.sock")

    def start_dockerd(self, *args: str, timeout: float = 60) -> None:
        """Start the engine and wait until its API answers."""
        if self._dockerd and self._dockerd.poll() is None:
            raise RuntimeError(f"dockerd of {self.name} is running already")
        # A cgroup of its own at the top makes cleaning up a matter of rmdir.
        # The kernel may lack what dockerd uses by default: tests/lab/uml.py tells.
        always = os.environ.get("UNDERLAY_LAB_DOCKERD_ARGS", "").split()
        command = ["dockerd", f"--cgroup-parent=/{self.netns}", *always, *args]
        with self._log.open("a") as log:
            self._dockerd = self._spawn(
                command, ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._started.append(self._dockerd)
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._dockerd.poll() is not None or time.monotonic() > deadline:
                end = self.dockerd_log()[-2000:]
                raise RuntimeError(f"dockerd of {self.name} does not answer: {end}")
            time.sleep(0.02)

    def stop_dockerd(self, timeout: float = 60) -> None:
        """Stop the engine as an orderly shutdown does."""
        if self._dockerd:
            self._dockerd.terminate()
            self._dockerd.wait(timeout)

    def kill_dockerd(self) -> None:
        """Kill the engine alone; containers and their shims stay."""
        if self._dockerd:
            self._dockerd.kill()
            self._dockerd.wait()

    def dockerd_log(self) -> str:
        """What the engine has logged since the host was made."""
        return self._log.read_text() if self._log.exists() else ""

    def load_image(self) -> None:
        """Import the image `bb`: busybox."""
        # From the machine's path for it, which the host's own root does not have.
        self.docker("import", f"/outer{rootfs.image()}", "bb")

    def docker(
        self, *argv: str, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run the docker client of the host."""
        return self.run("docker", *argv, check=check, timeout=timeout)

    def exec(
        self, container: str, *argv: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container."""
        return self.docker("exec", container, *argv, check=check)

    def pid_of(self, container: str) -> int:
        """A container's first process, by its pid on the host."""
        return int(
            self.docker("inspect", "--format", "{{.State.Pid}}", container).stdout
        )

    @property
    def _log(self) -> Path:
        return self.dir / "dockerd.log"

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.docker_socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                return b" 200 " in client.recv(64)
            except OSError:
                return False


def _remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and all below; a dead process may take a moment to leave."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        for _ in range(100):
            try:
                Path(directory).rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)
