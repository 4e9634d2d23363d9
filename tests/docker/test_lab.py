"""The lab itself: its hosts are real Docker hosts, and nothing is left of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.lab.net import NETNS, Lan
from tests.lab.rootfs import ENGINES, root, routing
from tests.lab.routers import Bird, Frr, Radvd, Router


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with Lan() as lan:
        yield lan


@pytest.fixture(scope="module", params=ENGINES)
def host(request: pytest.FixtureRequest, lan: Lan) -> Iterator[Host]:
    with Host(lan, "lab", request.param, 1) as host:
        host.start_dockerd()
        host.load_image()
        yield host


def _processes(host: Host) -> set[int]:
    """The machine's pids of all processes on the host."""
    namespace = Path(f"/proc/{host.pid}/ns/pid").readlink()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").readlink() == namespace:
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def test_engine_has_the_version_it_is_named_after(host: Host) -> None:
    version = host.docker("version", "--format", "{{.Server.Version}}").stdout
    assert version.startswith(f"{host.engine}.")


def test_lab_engine_runs_a_container(host: Host) -> None:
    assert host.docker("run", "--rm", "bb", "echo", "hello").stdout == "hello\n"


@pytest.mark.parametrize("address", ["10.77.0.1", "fd77::1"])
def test_lab_host_reaches_the_router(host: Host, address: str) -> None:
    host.run("ping", "-c", "1", "-W", "2", address)


def test_lab_router_reaches_a_host(host: Host, lan: Lan) -> None:
    # The machine itself need not have ping.
    for address in (host.ipv4, host.ipv6):
        lan.run("chroot", str(root(host.engine)), "ping", "-c", "1", "-W", "2", address)


def test_compose_is_installed_where_debian_has_it(host: Host) -> None:
    found = host.docker("compose", "version", check=False).returncode == 0
    assert found is (host.engine != "20.10")


def test_outer_program_sees_the_host_s_containers(host: Host) -> None:
    container = host.docker("run", "--detach", "bb", "sleep", "1000").stdout.strip()
    key = host.docker(
        "inspect", "--format", "{{.NetworkSettings.SandboxKey}}", container
    ).stdout.strip()
    script = (
        "import os, sys; print(os.stat(sys.argv[1]).st_ino, os.readlink(sys.argv[2]))"
    )
    link = f"/proc/{host.pid_of(container)}/ns/net"
    seen = host.outer_run(sys.executable, "-c", script, key, link).stdout.split()
    assert seen[1] == f"net:[{seen[0]}]"
    assert (
        host.exec(container, "readlink", "/proc/self/ns/net").stdout.strip() == seen[1]
    )
    host.docker("rm", "--force", container)


def test_outer_program_sees_the_host_s_run_and_the_machine_s_files(
    host: Host,
) -> None:
    host.run("touch", "/run/docker/plugins/here")
    host.outer_run("test", "-e", "/run/docker/plugins/here")
    marker = host.dir / "here"
    host.outer_run("touch", str(marker))
    assert marker.exists()


def test_outer_program_gets_signals_and_returns_its_status(
    host: Host,
) -> None:
    process = host.outer(
        "sh",
        "-c",
        "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done",
        stdout=-1,
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 7
    process.stdout.close()


def test_failing_lab_command_raises_by_default(host: Host) -> None:
    assert host.run("false", check=False).returncode == 1
    with pytest.raises(subprocess.CalledProcessError):
        host.run("false")
    with pytest.raises(subprocess.TimeoutExpired):
        host.run("sleep", "1000", timeout=0.1)


def test_containers_survive_a_killed_engine_with_live_restore(host: Host) -> None:
    host.stop_dockerd()
    host.start_dockerd("--live-restore")
    container = host.docker("run", "--detach", "bb", "sleep", "1000").stdout.strip()
    pid = host.pid_of(container)
    host.kill_dockerd()
    host.start_dockerd("--live-restore")
    assert host.pid_of(container) == pid
    host.docker("rm", "--force", container)


def test_lab_disk_survives_a_power_cut(host: Host) -> None:
    host.run("sh", "-c", "echo kept > /root/file; echo lost > /run/file")
    # Paused, because that is the one that resists being killed.
    host.docker("run", "--detach", "--name", "paused", "bb", "sleep", "1000")
    host.docker("pause", "paused")
    host.power_cut()
    host.start()
    host.start_dockerd()
    assert host.run("cat", "/root/file").stdout == "kept\n"
    assert host.run("test", "-e", "/run/file", check=False).returncode == 1
    assert host.docker("ps", "--all", "--format", "{{.Names}}").stdout == "paused\n"
    assert host.docker("run", "--rm", "bb", "echo", "hello").stdout == "hello\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_closed_lab_host_leaves_nothing(engine: str) -> None:
    with Lan() as lan:
        host = Host(lan, "gone", engine, 2)
        try:
            host.start()
            host.start_dockerd()
            host.load_image()
            host.docker("run", "--detach", "bb", "sleep", "1000")
            host.outer("sleep", "1000")
            pids = _processes(host)
            assert len(pids) >= 6  # tini, cat, dockerd, containerd, shim, two sleeps
            assert list(Path("/sys/fs/cgroup").glob(f"*/{host.netns}"))
        finally:
            host.close()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert host.netns not in Path("/proc/self/mountinfo").read_text()
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{host.netns}"))
        assert not (NETNS / host.netns).exists()
        assert not host.dir.exists()
        assert "p-gone" not in lan.run("ip", "-brief", "link").stdout
    assert not (NETNS / lan.netns).exists()


@pytest.mark.parametrize("kind", [Frr, Bird, Radvd])
def test_closed_lab_router_leaves_nothing(kind: type[Router]) -> None:
    config = "interface br0 {};\n" if kind is Radvd else ""
    with Lan() as lan:
        with kind(lan.start, config) as router:
            pids = [process.pid for process in router.processes]
            assert all(Path(f"/proc/{pid}").exists() for pid in pids)
            # Its view of the mounts is its own.
            assert str(routing()) not in Path("/proc/self/mountinfo").read_text()
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not router.dir.exists()
        assert list((routing() / "run").iterdir()) == []
