"""`underlay exposure`: what it prints, marks, and remembers."""

from __future__ import annotations

import json
import stat

import pytest
from click.testing import CliRunner

from underlay.api import exposure as api
from underlay.cli import last_look, tables
from underlay.cli.commands import main
from underlay.cli.overview import print_status

ROW = {
    "container": "web", "network": "lan", "policy": "published", "protocol": "tcp",
    "port": 80, "leads_to": 80, "addresses": ["10.0.0.5"], "lan": "all", "host": "all",
    "containers": "all", "allow_from": [], "listens": True,
}  # fmt: skip
DNS = {**ROW, "protocol": "udp", "port": 53, "leads_to": 53}


def marks(looked):
    return [(r["port"], r["change"], r["since"]) for r in looked["ports"]]


def looked_at(before, at):
    return {"at": at, "ports": before["ports"]}


def test_first_look_marks_nothing():
    first = last_look.compare(None, [ROW], 1.0)
    assert (first["last"], marks(first)) == (None, [(80, "", None)])


def test_rows_are_marked_once_and_keep_the_time_when_they_were_first_seen():
    first = last_look.compare(None, [ROW], 1.0)
    second = last_look.compare(looked_at(first, 1.0), [ROW, DNS], 2.0)
    assert (second["last"], marks(second)) == (1.0, [(80, "", None), (53, "new", 2.0)])
    third = last_look.compare(looked_at(second, 2.0), [ROW, DNS], 3.0)
    assert marks(third) == [(80, "", None), (53, "", 2.0)]


@pytest.mark.parametrize(
    "other",
    [{"addresses": ["10.0.0.5", "fd00::5"]}, {"lan": "none"}, {"listens": False}],
    ids=str,
)
def test_port_that_is_reached_differently_has_changed(other):
    first = last_look.compare(None, [ROW], 1.0)
    second = last_look.compare(looked_at(first, 1.0), [{**ROW, **other}], 2.0)
    assert marks(second) == [(80, "changed", 2.0)]


def test_port_that_is_gone_is_said_once_and_new_when_it_comes_back():
    first = last_look.compare(None, [ROW, DNS], 1.0)
    second = last_look.compare(looked_at(first, 1.0), [ROW], 2.0)
    assert marks(second) == [(80, "", None), (53, "gone", 2.0)]
    third = last_look.compare(looked_at(second, 2.0), [ROW], 3.0)
    assert marks(third) == [(80, "", None)]
    fourth = last_look.compare(looked_at(second, 2.0), [ROW, DNS], 3.0)
    assert marks(fourth) == [(80, "", None), (53, "new", 3.0)]


WHOLE = {"at": 1.0, "ports": [{**ROW, "change": "", "since": None}]}


def damaged():
    text = json.dumps(WHOLE)
    yield from (text[:n] for n in range(0, len(text), 7))
    yield "[]"
    yield "{}"
    yield json.dumps({"at": None, "ports": []})
    yield json.dumps({"at": 1.0, "ports": 5})
    for at in ("NaN", "1e300", "-1", '"1"'):
        yield text.replace("1.0", at, 1)
        yield text.replace("null", at, 1)
    yield "[" * 100_000
    for key in WHOLE["ports"][0]:
        row = dict(WHOLE["ports"][0])
        yield json.dumps({"at": 1.0, "ports": [{**row, key: {"a": 1}}]})
        del row[key]
        yield json.dumps({"at": 1.0, "ports": [row]})
    yield json.dumps({"at": 1.0, "ports": [{**WHOLE["ports"][0], "addresses": [1]}]})


def test_damaged_file_is_no_look(tmp_path):
    path = tmp_path / "exposure.json"
    assert last_look.load(path) is None
    for text in damaged():
        path.write_text(text)
        assert last_look.load(path) is None, text
    path.write_bytes(b"\xff\x00")
    assert last_look.load(path) is None
    path.write_text(json.dumps(WHOLE))
    assert last_look.load(path) == WHOLE


@pytest.fixture
def look(records, tmp_path, monkeypatch):
    """Run the command on what is said to be listening."""
    del records
    monkeypatch.setenv("UNDERLAY_STATE_DIR", str(tmp_path))

    def look(*words, rows=()):
        monkeypatch.setattr(api, "exposure", lambda _: [dict(row) for row in rows])
        done = CliRunner().invoke(main, ["exposure", *words])
        assert done.exit_code == 0, done.output
        return done

    return look


def test_command_prints_a_table_and_what_it_is_compared_with(look):
    first = look(rows=[ROW]).stdout.splitlines()
    assert first[0].split() == [*tables.EXPOSURE]
    assert first[1].split() == [
        "web", "lan", "published", "80/tcp", "10.0.0.5", "yes", "yes", "yes", "-",
    ]  # fmt: skip
    limited = {
        **ROW, "leads_to": 8000, "lan": "allowed", "host": "none",
        "allow_from": ["10.0.0.0/8"], "addresses": [], "listens": False,
    }  # fmt: skip
    second = look(rows=[limited]).stdout
    assert "80->8000/tcp  nothing listens  from 10.0.0.0/8  no" in second
    assert "changed" in second
    assert "compared with the look of " in second
    gone = look().stdout
    assert "gone" in gone
    assert look().stdout.startswith("nothing listens in a running container")


def test_json_looks_count_as_looks(look):
    assert json.loads(look("--json").stdout) == {"last": None, "ports": []}
    looked = json.loads(look("--json", rows=[ROW]).stdout)
    assert looked["ports"][0]["change"] == "new"
    assert json.loads(look("--json", rows=[ROW]).stdout)["ports"][0]["change"] == ""


def test_file_is_for_root_alone_and_nothing_is_left_beside_it(look, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    look(rows=[ROW])
    look(rows=[ROW])
    (made,) = {path.name for path in tmp_path.iterdir()} - before
    assert made == "exposure.json"
    assert stat.S_IMODE((tmp_path / made).stat().st_mode) == 0o600


def test_without_a_place_to_remember_nothing_is_marked(look, tmp_path):
    look()
    (tmp_path / "exposure.json").unlink()
    (tmp_path / "exposure.json").mkdir()
    done = look(rows=[ROW])
    assert "changes are not marked: cannot write" in done.stderr
    assert done.stdout.splitlines()[1].endswith("-")
    assert not list(tmp_path.glob("exposure.json.*"))


def endpoint(**facts):
    web = {"protocol": "tcp", "port": 8080, "leads_to": 80, "host_only": False}
    db = {"protocol": "tcp", "port": 5432, "leads_to": 5432, "host_only": True}
    return {
        "id": "e" * 64, "container": "web", "network": "lan", "mac": "",
        "addresses": [], "router_addresses": [], "lease": None, "lease6": None,
        "health": "ok", "state": "joined", "policy": "published", "ports": [web, db],
        "egress": "open",
        "ping": True, "strict": True, "allow_from": [], **facts,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            {"allow_from": ["10.0.0.0/8"]},
            [
                "web", "lan", "published", "8080->80/tcp,", "5432/tcp", "(host)",
                "10.0.0.0/8", "open", "on", "on",
            ],
        ),
        (
            {
                "policy": "closed", "ports": [], "egress": "none", "ping": False,
                "strict": False,
            },
            ["web", "lan", "closed", "-", "-", "none", "off", "off"],
        ),
        ({"policy": "open", "ports": []}, None),
    ],
)  # fmt: skip
def test_status_lists_policies_and_ports_where_there_are_any(capsys, given, line):
    facts = {
        "service": None, "parents": [], "networks": [], "pools": [], "repairs": [],
        "refusals": [], "notices": [], "troubles": [], "endpoints": [endpoint(**given)],
    }  # fmt: skip
    print_status(facts)
    printed = capsys.readouterr().out
    assert ("policies\n" in printed) == bool(line)
    if line:
        head, row = printed.partition("policies\n")[2].splitlines()[:2]
        assert head.split() == [*tables.POLICIES]
        assert row.split() == line


def test_endpoint_is_shown_with_a_line_for_each_port(capsys):
    two = [{"text": "80/tcp: open to all"}, {"text": "53/udp: open to all"}]
    tables.print_facts({"ports": two, "ping": True})
    assert capsys.readouterr().out.splitlines() == [
        "ports  80/tcp: open to all",
        "       53/udp: open to all",
        "ping   yes",
    ]
