"""The command line, with the service running and without."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.api.bodies import ENDPOINT, NETWORK
from underlay.model import Endpoint, Lease, Network, Repair, Uplink
from underlay.model.owner import Owner
from underlay.records import Records


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


def test_reading_commands_print_the_same_with_or_without_the_service(used):
    commands = (
        ("network", "ls"),
        ("network", "show", "n" * 64),
        ("endpoint", "ls"),
        ("endpoint", "show", "e" * 12),
        ("pool", "ls"),
        ("pool", "show", "10.0.0.0/24"),
        ("pool", "show", "default/10.0.0.0/24"),
        ("lease", "ls"),
        ("history", "10.0.0.5"),
        ("history",),
    )
    running = [facts(used, *words) for words in commands]
    assert facts(used, "status")["service"]["ok"] is True
    assert facts(used, "status")["parents"] == [
        {
            "name": "eth0",
            "device": "eth0",
            "networks": ["n" * 12],
            "endpoints": 1,
            "health": "ok",
            "since": facts(used, "network", "ls")[0]["created"],
            "error": "",
        }
    ]
    used.stop()
    assert [facts(used, *words) for words in commands] == running
    assert facts(used, "status")["service"] is None
    shown = used.run("status").stdout
    assert shown.startswith("service   not running, or not answering (underlay doctor")


def test_tables_show_the_recorded_networks_and_endpoints(used):
    shown = used.run("status").stdout
    assert "service   running, pid " in shown
    for word in ("macvlan", "eth0", "10.0.0.0/24", "10.0.0.5/24", "nnnnnnnnnnnn"):
        assert word in shown
    assert "10.0.0.5  endpoint" in used.run("history", "10.0.0.5").stdout
    assert "created" in used.run("endpoint", "ls").stdout
    assert used.run("history", "10.9.9.9").stdout == "nothing recorded about 10.9.9.9\n"


def test_address_mac_and_name_lead_to_the_same_history(used):
    mac = facts(used, "endpoint", "ls")[0]["mac"]
    assert facts(used, "history", mac) == facts(used, "history", "10.0.0.5")
    assert facts(used, "history", mac.upper().replace(":", "-")) == facts(
        used, "history", mac
    )
    assert facts(used, "history", mac.upper()) == facts(used, "history", mac)


LAN = Network("n" * 64, {"parent": "eth0"}, uplink=Uplink("eth0"))
WEB = Owner(LAN.id, "e" * 64)
NOON = 1_700_000_000.0


@pytest.fixture
def drifted(idle):
    """No service, and records of one that has a network `lan` with `web` on it."""
    idle.state.mkdir()
    idle.records = Records(idle.state / "underlay.db")
    idle.env["TZ"] = "UTC"
    with idle.records.transaction():
        idle.records.networks.add(LAN)
        idle.records.networks.rename(LAN.id, "lan")
        for letter, container in (("e", "web"), ("f", "mail")):
            idle.records.endpoints.add(Endpoint(letter * 64, LAN.id))
            idle.records.endpoints.name_container(letter * 64, container)
    yield idle
    idle.records.close()


def note(daemon, owner, at, **more):
    given = {"place": "", "before": "", "step": "ip link add", "seconds": 0.0125}
    found = Repair(at=at, mark=owner.mark, **{**given, **more})
    with daemon.records.transaction():
        daemon.records.repairs.note([found])


def state_of(daemon, container):
    lines = daemon.run("endpoint", "ls").stdout.splitlines()
    start = lines[0].index("STATE")
    return next(line[start:] for line in lines if f" {container} " in line)


def test_state_column_shows_the_device_unless_more_is_known(drifted):
    assert state_of(drifted, "web") == "created"
    with drifted.records.transaction():
        drifted.records.endpoints.join(WEB.endpoint, "/run/sandbox")
    assert state_of(drifted, "web") == "ok"
    with drifted.records.transaction():
        drifted.records.endpoints.leave(WEB.endpoint)
    assert state_of(drifted, "web") == "left"
    with drifted.records.transaction():
        drifted.records.repairs.note_failure(WEB.mark, "E-400 no", NOON)
        gone = replace(LAN.uplink, parent_missing="E-110 eth0 is gone")
        drifted.records.networks.move(replace(LAN, uplink=gone))
    assert state_of(drifted, "web") == "failing since 2023-11-14 22:13:20: E-400 no"
    assert state_of(drifted, "mail") == "pending: E-110 eth0 is gone"
    for kind in ("parents", "networks"):
        table = drifted.run("status").stdout.split(f"\n{kind}\n")[1].split("\n\n")[0]
        head, line = table.splitlines()
        assert line[head.index("STATE") :] == "pending: E-110 eth0 is gone"


def test_status_shows_the_newest_completed_repairs(drifted):
    assert "recent repairs" not in drifted.run("status").stdout
    for second in range(7):
        step = f"ip link add ul-{second}"
        note(drifted, WEB, NOON + second, step=step, network="lan", container="web")
    note(drifted, WEB, NOON + 7, error="E-400 no")
    shown = drifted.run("status").stdout.split("\nrecent repairs\n")[1]
    assert shown.splitlines() == [
        "WHEN                 OBJECT  ACTION",
        *(
            f"2023-11-14 22:13:{20 + second}  web     ip link add ul-{second}"
            for second in range(6, 1, -1)
        ),
    ]


def test_state_of_an_object_repaired_today_is_repaired(drifted):
    now = time.time()
    note(drifted, WEB, now)
    there = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    assert state_of(drifted, "web") == f"repaired {there}"
    assert facts(drifted, "endpoint", "show", "web")["health"] == "repaired"


def test_history_without_an_argument_is_the_repair_log_newest_first(drifted):
    assert drifted.run("history").stdout == "no repairs\n"
    inside = {"place": "/run/sandbox", "before": "no device", "error": "E-400 no"}
    note(drifted, Owner.parse("underlay::eth0.50"), NOON)
    note(drifted, Owner(LAN.id), NOON + 1, network="lan")
    note(drifted, WEB, NOON + 2, network="lan", container="web", **inside)
    lines = drifted.run("history").stdout.splitlines()
    assert [re.split(" {2,}", line) for line in lines] == [
        ["WHEN", "OBJECT", "NAMESPACE", "BEFORE", "ACTION", "TIME", "ERROR"],
        ["2023-11-14 22:13:22", "web", "/run/sandbox", "no device",
         "ip link add", "0.013 s", "E-400 no"],
        ["2023-11-14 22:13:21", "lan", "host", "-", "ip link add", "0.013 s", "-"],
        ["2023-11-14 22:13:20", "eth0.50", "host", "-", "ip link add", "0.013 s", "-"],
    ]  # fmt: skip
    assert [r["at"] for r in facts(drifted, "history")] == [NOON + 2, NOON + 1, NOON]


def test_history_of_a_name_shows_leases_and_then_repairs(drifted):
    tenure = Lease(0, ip_address("10.0.0.5"), "endpoint", container="web", since=NOON)
    with drifted.records.transaction():
        drifted.records.leases.start(tenure)
    note(drifted, WEB, NOON, container="web", step="ip link add ul-web")
    note(drifted, WEB, NOON, container="mail", step="ip link add ul-mail")
    had, done = drifted.run("history", "web").stdout.split("\n\n")
    assert "10.0.0.5" in had
    assert "ip link add ul-web" in done
    assert "ul-mail" not in done
    assert drifted.run("history", "web", "--repairs").stdout == done
    assert [t["address"] for t in facts(drifted, "history", "web")] == ["10.0.0.5"]
    repairs = facts(drifted, "history", "--repairs", "web")
    assert [r["step"] for r in repairs] == ["ip link add ul-web"]
    assert facts(drifted, "history", "mail") == []
    assert drifted.run("history", "mail").stdout.startswith("WHEN")


def test_plan_exits_with_two_while_there_are_steps_that_reconcile_runs(used):
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


def test_reconcile_restores_no_sysctl_noted_in_an_earlier_boot(idle):
    """As when the service does not start any more after one."""
    idle.start()
    for pid in (idle.process.pid, *idle.children()):
        os.kill(pid, signal.SIGSTOP)
    noted = ("net/ipv4/ip_forward", "forwarding/4", "0", "1", 0)
    with closing(sqlite3.connect(idle.state / "underlay.db")) as db:
        db.execute("UPDATE boot SET identity = 'earlier'")
        db.execute("INSERT INTO setting VALUES (?, ?, ?, ?, ?)", noted)
        db.commit()
    told = idle.in_namespace(
        "sh",
        "-c",
        "sysctl -qw net.ipv4.ip_forward=1;"
        f" {sys.executable} -m underlay reconcile; sysctl -n net.ipv4.ip_forward",
    )
    assert told.splitlines() == ["done", "1"]


def test_unknown_name_is_refused_with_the_nearest_one(used):
    done = used.run("pool", "show", "10.0.0.0/25")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "E-507 no pool '10.0.0.0/25' on record. Did you mean '10.0.0.0/24'?"
    )
    assert used.run("reconcile", "nothing").returncode == 1


def test_reading_commands_without_records_say_so(idle):
    for words in (("status",), ("network", "ls"), ("plan",), ("history", "10.0.0.1")):
        done = idle.run(*words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"E-506 there are no records in {idle.state}")
    assert not idle.state.exists()


def test_wrong_setting_is_refused_by_its_name(idle):
    idle.env["UNDERLAY_PERIOD"] = "often"
    done = idle.run("status")
    assert (done.returncode, done.stderr) == (
        1,
        "E-505 UNDERLAY_PERIOD: 'often' is not a number.\n",
    )


def test_doctor_goes_on_with_settings_that_cannot_be_used(idle):
    idle.env["UNDERLAY_PERIOD"] = "often"
    done = idle.run("doctor", "--json")
    assert done.returncode == 1
    checks = {check["id"]: check for check in json.loads(done.stdout)["checks"]}
    (found,) = checks["settings"]["findings"]
    assert found["what"] == "E-505 UNDERLAY_PERIOD: 'often' is not a number."
    assert checks["records"]["skipped"] == "the settings cannot be used"
    assert not checks["device-types"]["skipped"]
    assert not idle.state.exists()


def test_wrong_arguments_are_a_usage_error(idle):
    done = idle.run("statsu")
    assert done.returncode == 2
    assert "Error: No such command 'statsu'" in done.stderr
    done = idle.run("status", "--watch", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: --watch is for people" in done.stderr


def test_help_text_has_examples(idle):
    shown = idle.run("--help").stdout
    assert "docker network create -d underlay" in shown
    for command in ("serve", "status", "plan", "reconcile", "network", "endpoint",
                    "pool", "history", "version"):  # fmt: skip
        assert command in shown
        assert idle.run(command, "--help").returncode == 0
    assert "underlay history 192.168.1.50" in idle.run("history", "-h").stdout


def test_shell_completion_knows_the_commands(idle):
    idle.env |= {"_UNDERLAY_COMPLETE": "bash_complete", "COMP_WORDS": "underlay st",
                 "COMP_CWORD": "1"}  # fmt: skip
    assert "status" in idle.run().stdout


def test_version_option_prints_the_package_s_version(idle):
    from underlay import __version__

    for word in ("version", "--version"):
        assert idle.run(word).stdout == f"underlay {__version__}\n"
    assert facts(idle, "version") == {"version": __version__}


def test_status_is_shown_again_until_interrupted(used):
    command = [sys.executable, "-m", "underlay", "status", "--watch"]
    with subprocess.Popen(
        command, env=used.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        shown = 0
        while shown < 2:
            shown += process.stdout.readline().startswith("service   running")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


def test_reserved_address_is_kept_until_it_is_given_up(used):
    done = used.run("reserve", "10.0.0.9", "web")
    assert done.stdout == "reserved 10.0.0.9 for web\n"
    (kept,) = facts(used, "pool", "show", "10.0.0.0/24")["kept"]
    assert (kept["address"], kept["container"]) == ("10.0.0.9", "web")
    assert (kept["origin"], kept["gone"]) == ("reserved", None)
    assert facts(used, "reserve") == [{"domain": "default", **kept}]
    assert re.search(r"10.0.0.9 +default +web +reserved", used.run("reserve").stdout)
    pool = facts(used, "pool", "ls")[0]["claims"][0]["id"]
    naming = {"com.docker.network.endpoint.name": "db"}
    asked = {"PoolID": pool, "Address": "10.0.0.9", "Options": naming}
    status, answer = used.post("IpamDriver.RequestAddress", asked)
    assert status != 200
    assert "reserved for container web" in answer["Err"]
    done = used.run("unreserve", "10.0.0.9")
    assert done.stdout == "10.0.0.9 is no longer kept for web\n"
    assert used.post("IpamDriver.RequestAddress", asked)[0] == 200


@pytest.mark.parametrize(
    ("address", "word", "note"),
    [
        ("10.0.0.9", "default", ""),
        ("10.0.9.0", "default", "no network has a subnet with 10.0.9.0 yet, in domain"),
        ("10.0.0.9", "lab", "no network has a subnet with 10.0.0.9 yet, in domain lab"),
    ],
)
def test_reservation_in_no_subnet_of_a_network_says_so(used, address, word, note):
    done = used.run("reserve", address, "web", "--domain", word)
    assert done.stdout == f"reserved {address} for web\n"
    assert done.stderr.startswith(note) if note else done.stderr == ""


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("reserve", "10.0.0.5", "web"), "E-140 10.0.0.5 is taken: endpoint has it"),
        (("reserve", "10.0.0.0", "web"), "E-143 "),
        (("reserve", "ten", "web"), "E-101 ADDRESS='ten' is not valid"),
        (("reserve", "10.0.0.9", "a b"), "E-101 NAME='a b' is not valid"),
        (("reserve", "10.0.0.9", "web", "--domain", "a/b"), "E-101 domain='a/b'"),
        (("unreserve", "10.0.0.9"), "E-507 no reservation in domain default of "),
        (("reserve", "10.0.0.9"), "Usage: "),
        (("reserve", "--compose", "/etc/hostname"), "E-523 `docker compose -f "),
    ],
)
def test_reservation_that_cannot_be_is_refused(used, words, refusal):
    done = used.run(*words)
    assert done.returncode != 0
    assert done.stderr.startswith(refusal)
