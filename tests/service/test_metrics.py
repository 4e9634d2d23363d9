"""The metrics of a real service, and the alerts and the dashboard made for them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.lab.service import wait_until
from underlay.model.objects import Owner

DOCS = Path(__file__).parents[2] / "docs"
POOL = {"AddressSpace": "underlay", "Pool": "10.16.0.0/24", "Options": {}, "V6": False}
# Of its own: a service without Docker takes over what it finds in other namespaces, and
# other tests make containers with other ids and addresses there.
IDS = {"NetworkID": "16c0" * 16, "EndpointID": "e16c" * 16}
NETWORK = {
    "NetworkID": IDS["NetworkID"],
    "Options": {"com.docker.network.generic": {"parent": "eth0"}},
    "IPv4Data": [
        {
            "AddressSpace": "underlay",
            "Pool": "10.16.0.0/24",
            "Gateway": "10.16.0.1/24",
        }
    ],
    "IPv6Data": [],
}
ENDPOINT = {**IDS, "Interface": {"Address": "10.16.0.5/24"}, "Options": {}}
JOIN = {**IDS, "SandboxKey": "/var/run/docker/netns/16c", "Options": None}


def scrape(daemon):
    code, told, headers = daemon.request("GET", "/metrics", on=daemon.status)
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return told.decode()


def samples(daemon):
    """Return the value of each sample by name and labels."""
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(scrape(daemon))
        for s in family.samples
    }


def value(daemon, name, **labels):
    return samples(daemon).get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def busy(idle):
    """A service in which everything happened that is counted."""
    idle.env["UNDERLAY_METRICS_BY_CONTAINER"] = "true"
    idle.start()
    pool = idle.post("IpamDriver.RequestPool", POOL)[1]["PoolID"]
    gateway = {"RequestAddressType": "com.docker.network.gateway"}
    asked = {"PoolID": pool, "Address": "10.16.0.1", "Options": gateway}
    code, told = idle.post("IpamDriver.RequestAddress", asked)
    assert code == 200, told
    assert idle.post("NetworkDriver.CreateNetwork", NETWORK)[0] == 200
    asked = {"PoolID": pool, "Address": "10.16.0.5", "Options": {}}
    code, told = idle.post("IpamDriver.RequestAddress", asked)
    assert code == 200, told
    assert idle.post("NetworkDriver.CreateEndpoint", ENDPOINT)[0] == 200
    idle.post("NetworkDriver.CreateNetwork")  # refused: no body
    device = Owner(IDS["NetworkID"], IDS["EndpointID"]).device
    idle.in_namespace("ip", "link", "del", device)
    wait_until(lambda: "underlay_repairs_total{" in scrape(idle), 20, lambda: idle.log)
    return idle


def documented():
    row = r"^\| `(\w+)` \| (\w+) \| (.*?) \|"
    rows = re.findall(row, (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    return {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }


def test_every_metric_of_a_scrape_is_documented_with_type_and_labels(busy):
    shown = {}
    for family in text_string_to_metric_families(scrape(busy)):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for s in family.samples for label in s.labels} - {"le"}
        shown[name] = (family.type, labels)
    told = documented()
    # Nothing fails in this service, what checks find depends on the machine, and no
    # DHCP server is asked.
    for name, label in (
        ("failing_objects", "network"), ("notices", "check"), ("dhcp_servers", "parent")
    ):  # fmt: skip
        kind, labels = shown.pop(f"underlay_{name}")
        assert told.pop(f"underlay_{name}") == (kind, {label})
        assert labels <= {label}
    assert shown == told


def test_gauges_count_what_is_on_record(busy):
    network = IDS["NetworkID"][:12]
    assert value(busy, "underlay_networks", mode="macvlan") == 1
    assert value(busy, "underlay_endpoints", network=network, state="created") == 1
    busy.post("NetworkDriver.Join", JOIN)
    assert value(busy, "underlay_endpoints", network=network, state="joined") == 1
    for state in ("assigned", "gateway"):
        assert value(busy, "underlay_addresses", network=network, state=state) == 1
    pool = {
        "domain": "default",
        "subnet": "10.16.0.0/24",
        "range": "10.16.0.1-10.16.0.254",
    }
    assert value(busy, "underlay_pool_addresses", **pool) == 254
    assert value(busy, "underlay_pool_free_addresses", **pool) == 252
    assert value(busy, "underlay_parent_up", parent="eth0") == 1
    assert value(busy, "underlay_parent_macs", parent="eth0") == 1
    assert value(busy, "underlay_healthy") == 1
    busy.in_namespace("ip", "link", "set", "eth0", "down")
    wait_until(
        lambda: value(busy, "underlay_parent_up", parent="eth0") == 0,
        20,
        lambda: busy.log,
    )
    busy.post("NetworkDriver.Leave", IDS)
    busy.post("NetworkDriver.DeleteEndpoint", IDS)
    assert value(busy, "underlay_parent_macs", parent="eth0") == 0


def test_calls_and_repairs_are_counted_by_outcome(busy):
    create = "NetworkDriver.CreateNetwork"
    calls = "underlay_call_seconds_count"
    assert value(busy, calls, method=create, outcome="done") == 1
    assert value(busy, calls, method=create, outcome="refused") == 1
    assert value(busy, "underlay_refusals_total", method=create, id="E-301") == 1
    assert value(busy, "underlay_last_error_timestamp_seconds", id="E-301") > 1e9
    link = {"kind": "link", "action": "create", "place": "host", "result": "done"}
    assert value(busy, "underlay_repairs_total", **link) == 1
    assert value(busy, "underlay_drift_total", kind="link") == 1
    assert 0 < value(busy, "underlay_repair_seconds_sum") < 20
    assert value(busy, "underlay_pass_seconds_count", scope="everywhere") >= 1
    assert value(busy, "underlay_records_commit_seconds_count") >= 4


def test_containers_have_no_series_unless_a_setting_says_so(busy):
    assert "underlay_endpoint_info{" in scrape(busy)
    busy.stop()
    busy.env["UNDERLAY_METRICS_BY_CONTAINER"] = "false"
    busy.start()
    assert "underlay_endpoint_info" not in scrape(busy)
    assert IDS["EndpointID"][:12] not in scrape(busy)


def checked(promtool, *words, text=None):
    done = subprocess.run(
        [promtool, *words], input=text, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_a_scrape(promtool, busy):
    assert checked(promtool, "check", "metrics", text=scrape(busy)) == ""


def alerts():
    text = (DOCS / "alerts.yml").read_text()
    return re.findall(r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", text, re.DOTALL)


def board():
    found = json.loads((DOCS / "grafana.json").read_text())
    return [t["expr"] for panel in found["panels"] for t in panel["targets"]]


def test_promtool_accepts_the_alerts(promtool):
    assert "SUCCESS: 14 rules found" in checked(
        promtool, "check", "rules", DOCS / "alerts.yml"
    )
    assert len(alerts()) == 14


def test_promtool_accepts_the_queries_of_the_dashboard(promtool, tmp_path):
    queries = [query.replace("$__rate_interval", "5m") for query in board()]
    rules = [
        {"record": f"board:{number}", "expr": query}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "board.yml"
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in checked(
        promtool, "check", "rules", file
    )


def test_every_metric_that_alerts_and_dashboard_name_is_in_a_scrape(busy):
    shown = set(re.findall(r"^(\w+)[{ ]", scrape(busy), re.MULTILINE))
    shown |= set(re.findall(r"^# TYPE (\w+)", scrape(busy), re.MULTILINE))
    for query in [*alerts(), *board()]:
        names = re.findall(r"\b(?:underlay|process)_\w+", query)
        assert names, query
        for name in names:
            assert name in shown, query
