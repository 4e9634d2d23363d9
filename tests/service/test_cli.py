"""The command line, with the service running and without."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from tests.wire.test_protocol import ENDPOINT, NETWORK


@pytest.fixture
def used(daemon):
    """A daemon with a network, an endpoint and a pool on record."""
    pool = daemon.post("IpamDriver.RequestPool", {"Pool": "10.0.0.0/24"})[1]["PoolID"]
    asked = {"PoolID": pool, "Address": "10.0.0.5", "Options": None}
    pooled = {**NETWORK["IPv4Data"][0], "AddressSpace": "underlay"}
    daemon.post("NetworkDriver.CreateNetwork", {**NETWORK, "IPv4Data": [pooled]})
    daemon.post("IpamDriver.RequestAddress", asked)
    daemon.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    return daemon


def facts(daemon, *words):
    done = daemon.run(*words, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_reading_commands_say_the_same_whether_the_service_runs_or_not(used):
    commands = (
        ("network", "ls"),
        ("network", "show", "n" * 64),
        ("endpoint", "ls"),
        ("endpoint", "show", "e" * 12),
        ("pool", "ls"),
        ("pool", "show", "10.0.0.0/24"),
        ("pool", "show", "default/10.0.0.0/24"),
        ("history", "10.0.0.5"),
    )
    running = [facts(used, *words) for words in commands]
    assert facts(used, "status")["service"]["ok"] is True
    assert facts(used, "status")["parents"] == [
        {"name": "eth0", "device": "eth0", "networks": ["n" * 12], "endpoints": 1}
    ]
    used.stop()
    assert [facts(used, *words) for words in commands] == running
    assert facts(used, "status")["service"] is None
    assert used.run("status").stdout.startswith("service   not running, or")


def test_tables_show_what_is_on_record(used):
    shown = used.run("status").stdout
    assert "service   running, pid " in shown
    for word in ("macvlan", "eth0", "10.0.0.0/24", "10.0.0.5/24", "nnnnnnnnnnnn"):
        assert word in shown
    assert "10.0.0.5  endpoint" in used.run("history", "10.0.0.5").stdout
    assert "created" in used.run("endpoint", "ls").stdout
    assert (
        used.run("history", "10.9.9.9").stdout == "nothing on record about 10.9.9.9\n"
    )


def test_an_address_a_mac_and_a_name_lead_to_the_same_history(used):
    mac = facts(used, "endpoint", "ls")[0]["mac"]
    assert facts(used, "history", mac) == facts(used, "history", "10.0.0.5")
    assert facts(used, "history", mac.upper().replace(":", "-")) == facts(
        used, "history", mac
    )
    assert facts(used, "history", mac.upper()) == facts(used, "history", mac)


def test_plan_exits_with_two_where_there_are_steps_and_reconcile_takes_them(used):
    def run(*words):
        done = used.in_namespace(
            "sh", "-c", f"{sys.executable} -m underlay {' '.join(words)}; echo $?"
        )
        *told, code = done.splitlines()
        return int(code), "\n".join(told)

    assert run("plan") == (0, "nothing to do")
    pids = (used.process.pid, *used.children())
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # a service that sleeps repairs nothing
    try:
        links = used.in_namespace("ip", "-br", "link").split()
        name = next(w.split("@")[0] for w in links if w.startswith("ul-"))
        used.in_namespace("ip", "link", "del", name)
        code, step = run("plan")
        assert code == 2
        assert step.startswith(f"ip link add link eth0 name {name} address ")
        assert json.loads(run("plan", "--json")[1])["steps"] == [step]
        assert run("reconcile", "n" * 64) == (0, "done")
        assert run("plan") == (0, "nothing to do")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_what_is_not_on_record_is_refused_with_the_nearest_name(used):
    done = used.run("pool", "show", "10.0.0.0/25")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "E-507 no pool '10.0.0.0/25' on record. Did you mean '10.0.0.0/24'?"
    )
    assert used.run("reconcile", "nothing").returncode == 1


def test_without_records_every_reading_command_says_so(idle):
    for words in (("status",), ("network", "ls"), ("plan",), ("history", "10.0.0.1")):
        done = idle.run(*words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"E-506 there are no records in {idle.state}")
    assert not idle.state.exists()


def test_a_wrong_setting_is_refused_by_its_name(idle):
    idle.env["UNDERLAY_PERIOD"] = "often"
    done = idle.run("status")
    assert (done.returncode, done.stderr) == (
        1,
        "E-505 UNDERLAY_PERIOD: 'often' is no number.\n",
    )


def test_wrong_words_are_a_usage_error(idle):
    done = idle.run("statsu")
    assert done.returncode == 2
    assert "Error: No such command 'statsu'" in done.stderr


def test_help_teaches_with_examples(idle):
    shown = idle.run("--help").stdout
    assert "docker network create -d underlay" in shown
    for command in ("serve", "status", "plan", "reconcile", "network", "endpoint",
                    "pool", "history", "version"):  # fmt: skip
        assert command in shown
        assert idle.run(command, "--help").returncode == 0
    assert "underlay history 192.168.1.50" in idle.run("history", "-h").stdout


def test_the_shell_completes_commands(idle):
    idle.env |= {"_UNDERLAY_COMPLETE": "bash_complete", "COMP_WORDS": "underlay st",
                 "COMP_CWORD": "1"}  # fmt: skip
    assert "status" in idle.run().stdout


def test_the_version_is_the_package_s(idle):
    from underlay import __version__

    assert idle.run("version").stdout == f"underlay {__version__}\n"
    assert facts(idle, "version") == {"version": __version__}
