"""The numbers over all tables."""

from __future__ import annotations

import time
from ipaddress import IPv4Interface, ip_address, ip_network

from tests.fakes import ETH0, LO, FakeKernel, ipam_on
from underlay.model import Endpoint, Network, Subnet
from underlay.records.counts import Range
from underlay.service.gauges import Gauges

MANY = 10_000


def test_free_addresses_of_a_range_count_its_own_only(records):
    ipam = ipam_on(records, kernel=FakeKernel(LO, ETH0))
    whole = ipam.request_pool("10.0.0.0/24", "", {}, 4)
    part = ipam.request_pool("10.0.0.0/24", "10.0.0.64/26", {}, 4)
    first = ipam.request_address(whole.id, "", "")
    ipam.request_address(part.id, "", "")
    released = ipam.request_address(part.id, "", "")
    ipam.request_address(whole.id, "10.0.0.200", "")
    ipam.release_address(part.id, str(released.ip))
    assert first.ip == ip_address("10.0.0.1")
    assert list(records.counts.ranges()) == [
        Range("default", "10.0.0.0/24", "10.0.0.1-10.0.0.254", 254, 251),
        Range("default", "10.0.0.0/24", "10.0.0.64-10.0.0.127", 64, 63),
    ]


def test_scrape_of_ten_thousand_endpoints_takes_less_than_half_a_second(records):
    subnet = Subnet(ip_network("10.0.0.0/8"))
    network = Network("n1", {"parent": "eth0"}, False, (subnet,), name="lan")
    with records.transaction():
        records.networks.add(network)
        for number in range(MANY):
            address = IPv4Interface((0x0A000001 + number, 8))
            mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
            records.endpoints.add(Endpoint(f"e{number}", "n1", address, mac=mac))
    health = {"ok": True, "unwritten": []}
    gauges = Gauges(
        records, lambda: health, lambda: 1.0, lambda: 0.0, by_container=False
    )
    began = time.perf_counter()
    found = {family.name: family for family in gauges.collect()}
    took = time.perf_counter() - began
    assert [s.value for s in found["underlay_endpoints"].samples] == [MANY]
    assert sum(len(family.samples) for family in found.values()) < 30
    assert took < 0.5
