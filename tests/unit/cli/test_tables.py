"""Tables and values as the commands print them."""

from __future__ import annotations

import os
import pty
import struct
import termios
from contextlib import suppress
from fcntl import ioctl

import pytest

from underlay.cli import terminal
from underlay.cli.overview import print_status
from underlay.cli.tables import print_facts, print_table
from underlay.cli.terminal import CUT, cut, width

LONG = "E-400 the kernel refused a step: " + "x" * 200
NETWORK = {
    "name": "",
    "id": "5b0c9c2f71aa" + "0" * 52,
    "mode": "macvlan",
    "parent": "eth0",
    "subnets": ["10.0.0.0/24", "fd00::/64"],
    "gateways": ["10.0.0.1"],
    "endpoints": 3,
    "health": "failing",
    "since": 1772356364.0,
    "error": LONG,
}
REFUSAL = {
    "at": 1772356364.0,
    "id": "E-141",
    "error": "E-141 no address is left",
    "times": 3,
    "method": "IpamDriver.RequestAddress",
    "network": "lan",
    "container": "web",
    "endpoint": "",
    "pool": "10.0.0.0/24",
    "address": "",
    "call": "0a1b2c3d",
}
STATUS = {
    "service": {"ok": True, "pid": 7, "started": 1772356364.0},
    "parents": [],
    "networks": [NETWORK],
    "endpoints": [],
    "pools": [],
    "repairs": [],
    "refusals": [REFUSAL],
    "troubles": [{"since": 1772356364.0, "error": LONG}],
    "notices": [{"check": "wireless", "where": "wlan0", "text": "it is Wi-Fi"}],
}


def read(master):
    with suppress(OSError):  # all was read, and the other end is closed
        while True:
            yield os.read(master, 1 << 12)


def on_terminal(show, monkeypatch, columns=80):
    """Return what a terminal of so many columns gets."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    monkeypatch.setenv("COLUMNS", str(columns))
    with open(slave, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr("sys.stdout", stream)
        show()
    monkeypatch.undo()
    found = b"".join(read(master)).decode()
    os.close(master)
    return found.replace("\r\n", "\n")


def test_status_has_colours_on_a_terminal_only(monkeypatch, capsys):
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = on_terminal(lambda: print_status(STATUS), monkeypatch)
    assert "\x1b[31mfailing" in shown
    assert "\x1b[32mrunning, pid 7" in shown
    print_status(STATUS)
    assert "\x1b" not in capsys.readouterr().out


def test_no_color_switches_colours_off(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_terminal(lambda: print_status(STATUS), monkeypatch)


@pytest.mark.parametrize("columns", [80, 100, 132])
def test_tables_fit_the_terminal_and_failures_stay_whole(monkeypatch, columns):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = on_terminal(lambda: print_status(STATUS), monkeypatch, columns)
    lines = shown.splitlines()
    *tables, failure = [line for line in lines if line]
    assert max(map(len, tables)) <= columns
    assert any(line.endswith(CUT) for line in tables)
    assert failure.endswith(LONG)


def test_tables_in_a_pipe_are_whole(capsys):
    print_status(STATUS)
    assert capsys.readouterr().out.count(LONG) == 2


def test_network_without_a_name_is_shown_by_its_short_id(capsys):
    print_status(STATUS)
    assert "\n5b0c9c2f71aa  5b0c9c2f71aa  macvlan" in capsys.readouterr().out


def test_refusals_are_listed_with_their_id_and_the_container(capsys):
    print_status(STATUS)
    told = capsys.readouterr().out.partition("refusals of the last hour\n")[2]
    when, _, text = told.splitlines()[0].partition("  ")
    assert len(when) == len("2026-03-01 09:12:44")
    assert text == "web on lan (3 times): E-141 no address is left"


def test_facts_are_values_and_not_json(capsys):
    claims = [{"id": "P1", "first": "10.0.0.1"}, {"id": "P2", "first": "10.0.0.9"}]
    print_facts({**NETWORK, "internal": False, "options": {"a": "1"}, "claims": claims})
    shown = capsys.readouterr().out
    assert "subnets    10.0.0.0/24, fd00::/64\n" in shown
    assert "internal   no\n" in shown
    assert "options    a=1\n" in shown
    assert "name       -\n" in shown
    rest = "id=P1, first=10.0.0.1\n           id=P2, first=10.0.0.9\n"
    assert f"claims     {rest}" in shown


def test_hostile_value_stays_on_its_line(capsys):
    print_facts({"options": {"label": "a\nb\x1b[2J"}, "name": "x\ny"})
    print_table([{"x": "a\nb\x1b[2J"}], {"X": lambda f: f["x"]})
    assert capsys.readouterr().out.splitlines() == [
        r"options  label=a\nb\x1b[2J", r"name     x\ny", "X", r"a\nb\x1b[2J",
    ]  # fmt: skip


def test_wide_characters_take_two_columns():
    assert width("网络") == 4
    assert width("e\u0301") == 1
    assert cut("网络网络", 5) == f"网络{CUT}"
    assert cut("lan", 3) == "lan"
    assert cut("network", 4) == f"net{CUT}"


def test_terminal_width_is_unknown_in_a_pipe(capsys):
    assert terminal.columns() is None
    assert capsys.readouterr().out == ""
