"""No verb's cost grows with what is on record: every statement uses an index."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.fakes import BR0, ETH0, LO, FakeKernel, engine_on, ipam_on
from underlay.model import Claim, Endpoint, Network, Pool, Subnet

# Small by nature: one row, only what is wrong, a few settings or bridges of the host.
EXEMPT = {"CONSTANT", "(subquery-1)", "host", "trouble", "setting", "takeover"}


def statements(records, work):
    """Return every statement sqlite is given while `work` runs."""
    seen = []
    records._database._db.set_trace_callback(seen.append)
    try:
        work()
    finally:
        records._database._db.set_trace_callback(None)
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    return [s for s in seen if s.lstrip().startswith(verbs)]


def scans(records, statement):
    rows = records._database.rows(f"EXPLAIN QUERY PLAN {statement}")
    found = [row["detail"] for row in rows if row["detail"].startswith("SCAN")]
    return [d for d in found if d.split()[1] not in EXEMPT]


def plan_of(records, statement):
    rows = records._database.rows(f"EXPLAIN QUERY PLAN {statement}")
    return "; ".join(row["detail"] for row in rows)


ADDRESS = ip_address("10.0.0.5")
# What verbs, and passes, ask of records that may be large, and how each is found.
QUESTIONS = {
    "live (pool=? AND address=?)": lambda r: r.leases.live(1, ADDRESS),
    "claim (claim=?)": lambda r: r.leases.live_of_claim("P"),
    "claim (claim=?) ": lambda r: r.leases.is_inhabited("P"),
    "claim (claim=?)  ": lambda r: r.pools.rename_claim("P", "Q"),
    "endpoint (endpoint=?)": lambda r: r.leases.live_of_endpoint("e"),
    "endpoint (endpoint=?) ": lambda r: r.leases.name_container("e", "web"),
    "live (pool=?)": lambda r: r.leases.live_in(1),
    "gateway (pool=?)": lambda r: r.leases.gateway_of(1),
    "one_owner (pool=? AND address=?)": (
        lambda r: r.leases.unassigned(ADDRESS, SUBNET, "e", "n")
    ),
    "until (until>? AND until<?)": lambda r: r.leases.forget_before(5.0),
    "address (address=?)": lambda r: r.leases.history("10.0.0.5", 9),
}
SUBNET = ip_network("10.0.0.0/8")


@pytest.mark.parametrize("index", QUESTIONS)
def test_each_address_query_uses_its_intended_index(records, index):
    seen = statements(records, lambda: QUESTIONS[index](records))
    plans = [plan_of(records, s) for s in seen if "tenure" in s]
    assert f"INDEX tenure_{index.rstrip()}" in plans[-1]
    assert "SCAN" not in plans[-1]


def test_kept_addresses_of_listed_containers_are_found_without_the_others(records):
    claim = Claim("P", Pool(1, "default", SUBNET), ADDRESS, ADDRESS + 9)
    (seen,) = statements(records, lambda: records.reservations.listed_in(claim, 64))
    assert "INDEX reservation_gone (domain=? AND gone=?" in plan_of(records, seen)


@pytest.mark.parametrize(
    "options",
    [
        {"parent": "eth0"},
        {"parent": "eth0.50.7"},
        {"mode": "routed"},
        {"bridge": "br0"},
    ],
    ids=["macvlan", "vlan", "routed", "bridge"],
)
@pytest.mark.parametrize("subnet", ["10.0.0.0/8", "fd00::/64"])
def test_no_verb_reads_a_whole_table(records, subnet, options):
    kernel = FakeKernel(LO, ETH0, BR0)
    engine, ipam = engine_on(records, kernel), ipam_on(records)
    lan = ip_network(subnet)
    segment = Subnet(lan, lan[1], pooled=True)
    network = Network("n1", options, False, (segment,))

    def life():
        pool = ipam.request_pool(subnet, "", {}, lan.version).id
        ipam.request_gateway(pool, "")
        engine.create_network(network)
        given = [ipam.request_address(pool, "", "") for _ in range(4)]
        ipam.release_address(pool, str(given[1].ip))
        ipam.request_address(pool, str(given[1].ip), "web")
        family = "ipv4" if lan.version == 4 else "ipv6"
        asked = Endpoint("e1", "n1", mac="02:00:00:00:00:07")
        engine.create_endpoint(replace(asked, **{family: given[0]}))
        engine.join("n1", "e1", "/run/a")
        engine.leave("e1")
        engine.delete_endpoint("n1", "e1")
        ipam.release_address(pool, str(given[0].ip))
        engine.delete_network("n1")
        ipam.release_pool(pool)

    seen = statements(records, life)
    assert len(seen) > 60
    assert {s: scans(records, s) for s in seen if scans(records, s)} == {}
    plans = {s: plan_of(records, s) for s in seen}
    assert {s for s, plan in plans.items() if "tenure_until" in plan} == set()


def test_dead_endpoints_of_the_last_boot_are_scanned_once_not_per_start(records):
    kernel = FakeKernel(LO, ETH0)
    engine = engine_on(records, kernel)
    segment = Subnet(ip_network("10.0.0.0/24"), ip_address("10.0.0.1"), pooled=True)
    engine.create_network(Network("n1", {"mode": "routed"}, False, (segment,)))
    with records.transaction():
        for number in range(9):
            records.endpoints.add(Endpoint(f"dead{number}", "n1"))
            records.endpoints.join(f"dead{number}", "/run/gone")
    start = [Endpoint(f"e{number}", "n1") for number in range(9)]
    for endpoint in start[:2]:
        engine.create_endpoint(endpoint)
    looked: list[object] = []
    records.endpoints.of_network = looked.append
    for endpoint in start[2:]:
        engine.create_endpoint(endpoint)
    engine.delete_endpoint("n1", "dead3")
    assert looked == []
