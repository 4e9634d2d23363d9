"""`underlay doctor` as a user runs it, with the service and without."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.service.conftest import daemon, idle
from underlay.doctor.checks import CHECKS

__all__ = ["daemon", "idle"]


def doctor(here, *words):
    """Run the command in the namespace of a service, or in this thread's."""
    enter = []
    if here.process and here.process.poll() is None:
        enter = ["nsenter", f"--net=/proc/{here.process.pid}/ns/net"]
    return subprocess.run(
        [*enter, sys.executable, "-m", "underlay", "doctor", *words],
        env=here.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def facts(here, *words):
    done = doctor(here, "--json", *words)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 1)
    return {check["id"]: check for check in told["checks"]}


def test_json_has_every_check_in_order_with_its_place_in_the_docs(daemon):
    found = facts(daemon)
    assert list(found) == [check.id for check in CHECKS]
    for name, check in found.items():
        assert check.keys() == {"id", "level", "skipped", "docs", "findings"}
        assert check["docs"] == f"docs/doctor.md#{name}"
        for finding in check["findings"]:
            keys = {"level", "where", "what", "why", "remedy", "fix"}
            assert finding.keys() == keys
            assert all(finding[key] for key in keys - {"fix"})


def test_command_works_without_records_service_and_docker(idle):
    found = facts(idle)
    assert found["parents"]["level"] == "skipped"
    assert found["parents"]["skipped"] == "the records cannot be read"
    assert found["docker-list"]["level"] == "skipped"
    assert found["disk"]["level"] == "ok"
    assert not idle.state.exists()


def test_failing_check_is_printed_with_reason_and_remedy(daemon):
    done = doctor(daemon, "--parent", "nope0")
    assert done.returncode == 1
    assert "failure    parents " in done.stdout
    assert "nope0: this host has no such device" in done.stdout
    assert "\n  how:     ip link shows the devices there are\n" in done.stdout
    assert done.stdout.endswith("docs/doctor.md explains each check\n")


@pytest.mark.parametrize("words", [(), ("--fix",)])
def test_only_the_option_fix_changes_the_host(daemon, words):
    path = "/proc/sys/net/ipv6/conf/eth0/accept_ra"
    shown = "/proc/sys/net/ipv6/conf/all/forwarding"
    daemon.in_namespace("sh", "-c", f"echo 1 > {shown}; echo 1 > {path}")
    # As a router gives it: with an end.
    lives = ["valid_lft", "1000", "preferred_lft", "900"]
    daemon.in_namespace("ip", "addr", "add", "fd05::5/64", "dev", "eth0", *lives)
    done = doctor(daemon, "--parent", "eth0", *words)
    value = daemon.in_namespace("cat", path).strip()
    step = "sysctl -w net.ipv6.conf.eth0.accept_ra="
    if words:
        assert value == "2"
        assert f"fixed      {step}2\n  revert:  {step}1\n" in done.stdout
    else:
        assert value == "1"
        assert f"  --fix:   {step}2\n" in done.stdout


def test_hostile_device_name_reaches_the_terminal_escaped(daemon):
    daemon.in_namespace("ip", "link", "add", "e\x1b[31m", "type", "veth")
    done = doctor(daemon, "--parent", "e\x1b[31m")
    assert "\x1b" not in done.stdout
    assert "e\\x1b[31m" in done.stdout
