"""The log in the journal of a host that systemd booted."""

from __future__ import annotations

import json

import pytest

from tests.docker.conftest import Site
from tests.lab import systemd
from tests.lab.service import wait_until
from tests.lab.systemd import SystemdHost, Unit


@pytest.fixture
def site(lan, monkeypatch):
    """A host whose service logs where systemd connected its stderr to: the journal."""
    text = systemd.UNIT.replace("StandardError=append:/outer{log}", "")
    monkeypatch.setattr(systemd, "UNIT", text)
    with SystemdHost(lan, "journal", 24) as host:
        host.load_image()
        site = Site(host, Unit(host))
        site.service.start()
        yield site
        site.clear()
        site.assert_nothing_left()


def journal(site, *matches):
    """Return the records of the service in the journal that match."""
    words = ("journalctl", "-o", "json", "-u", "underlay", *matches)
    lines = site.host.run(*words).stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_journal_has_the_lines_of_one_refused_call_by_its_id(site):
    wait_until(lambda: site.service.healthz(), 20)
    site.network("lan")
    done = site.docker(
        "network", "create", "-d", "underlay", "-o", "parnt=eth0\x1b[2J", "wrong",
        check=False,
    )  # fmt: skip
    assert "E-100" in done.stderr
    (refusal, *_) = site.service.status()["refusals"]
    (found,) = journal(site, f"UNDERLAY_CALL={refusal['call']}")
    assert found["UNDERLAY_METHOD"] == "NetworkDriver.CreateNetwork"
    assert found["UNDERLAY_ERROR"].startswith("E-100 ")
    assert found["MESSAGE"].startswith("request refused method=")
    assert found["PRIORITY"] == "4"
    assert found["SYSLOG_IDENTIFIER"] == "underlay"
    assert found["_TRANSPORT"] == "journal"
    created = journal(site, "UNDERLAY_MSG=network created")
    assert created == []  # the text is the message
    ready = [r for r in journal(site) if r["MESSAGE"].startswith("ready ")]
    assert ready[-1]["PRIORITY"] == "6"
    assert all("\x1b" not in json.dumps(r, ensure_ascii=False) for r in journal(site))
