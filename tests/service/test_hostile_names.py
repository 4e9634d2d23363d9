"""Names that networks, containers and options may have, on every way out."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.bodies import ENDPOINT, IDS, NETWORK
from underlay.records import Records

# Docker takes any of these as the name of a network or the value of an option, and
# some engines as the name of a container.
NAMES = {
    "markup": "<script>alert(1)</script><b>x",
    "lines": "a\nlevel=error msg=fake\nPRIORITY=0\r\n",
    "escapes": "a\x1b[2J\x1b]0;title\x07\x9b31m",
    "directions": "a\u202eb\u2066c",
    "quotes": 'a" b=\' {label="x"} 1\\',
    "template": "{{ 7 * 7 }}${x}`id`",
    "megabyte": "x\x1b" * 500_000,
}
PATHS = ("/", "/status", "/healthz", "/metrics", "/refusals")
COMMANDS = (
    ("status",), ("network", "ls"), ("network", "show", "n" * 12),
    ("endpoint", "ls"), ("endpoint", "show", "e" * 12), ("pool", "ls"), ("history",),
)  # fmt: skip


def raw(text):
    return {c for c in text if not c.isprintable()} - {"\n"}


@pytest.fixture(params=NAMES)
def named(request, idle):
    """A service whose network, container, option and refusal have a hostile name."""
    name = NAMES[request.param]
    idle.env["UNDERLAY_METRICS_BY_CONTAINER"] = "true"
    idle.start()
    options = {"parent": "eth0", "com.docker.note": name[:200_000]}
    body = {**NETWORK, "Options": {"com.docker.network.generic": options}}
    assert idle.post("NetworkDriver.CreateNetwork", body)[0] == 200
    assert idle.post("NetworkDriver.CreateEndpoint", ENDPOINT)[0] == 200
    idle.post(
        "NetworkDriver.CreateEndpoint", {**ENDPOINT, "Options": {name[:100_000]: ""}}
    )
    refused = {"com.docker.network.generic": {name[:100_000]: name[:100_000]}}
    other = {**NETWORK, "NetworkID": "m" * 64, "Options": refused}
    code, told = idle.post("NetworkDriver.CreateNetwork", other)
    assert code == 400
    assert raw(told["Err"]) == set()
    idle.stop()
    with closing(Records(idle.state / "underlay.db")) as records:
        with records.transaction():
            records.networks.rename(IDS["NetworkID"], name)
            records.endpoints.name_container(IDS["EndpointID"], name)
        records.repairs.note_failure(f"underlay:{IDS['NetworkID']}", name, 1.0)
    idle.start()
    idle.post("NetworkDriver.CreateNetwork", other)
    return idle


def test_hostile_name_reaches_no_terminal_page_log_or_scrape_raw(named):
    for path in PATHS:
        code, told, _ = named.request("GET", path, on=named.status)
        assert code == 200
        assert raw(told.decode()) == set(), path
        if path == "/":
            assert b"<script" not in told
            assert len(told) < 40_000
    for words in COMMANDS:
        done = named.run(*words)
        assert done.returncode == 0, done.stderr
        assert raw(done.stdout + done.stderr) == set(), words
        done = named.run(*words, "--json")
        assert done.stdout.isascii()
        json.loads(done.stdout)
    assert raw(named.log) == set()
    assert all(line.startswith("time=") for line in named.log.splitlines())
    assert max(map(len, named.log.splitlines())) < 100_000
    # And it is one label of a scrape.
    told = named.request("GET", "/metrics", on=named.status)[1].decode()
    found = {
        sample.labels["network"]: sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
        if sample.name == "underlay_endpoints"
    }
    ((name, number),) = found.items()
    assert number == 1
    assert len(name) < 1000
