"""Dead records are freed at the second check, and live ones never."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.fakes import Clock, FakeKernel, engine_on, ipam_on
from tests.worlds import LAN, WEB
from underlay.docker_sync.cleanup import Cleanup
from underlay.docker_sync.dockerd import view
from underlay.ipam.driver import CREATING_SECONDS
from underlay.model import Subnet
from underlay.model.docker import DockerNetwork, DockerView
from underlay.model.objects import Owner

GRACE = 60.0
LISTED = DockerNetwork("n1", "lan", "default", (ip_network("10.0.0.0/24"),))
NOBODY = DockerView((LISTED,), {}, frozenset())
ALIVE = DockerView((LISTED,), {"e1": "web"}, frozenset())


class House:
    """Engine, IPAM and clean-up over one record, with time in hand."""

    def __init__(self, records):
        self.records, self.kernel, self.time = records, FakeKernel(), Clock()
        self.engine = engine_on(records, self.kernel, self.time)
        self.ipam = ipam_on(records, self.time)
        self.cleanup = Cleanup(
            records,
            self.kernel,
            self.engine,
            self.ipam,
            self.engine.reconciler.observer,
            self.time,
            self.time,
            GRACE,
            30,
        )
        self.engine.create_network(LAN)

    def heed(self, view, after=0.0):
        self.time.now += after
        self.cleanup.run(view)

    @property
    def endpoints(self):
        return [e.id for e in self.records.endpoints.all()]


@pytest.fixture
def house(records):
    found = House(records)
    found.engine.create_endpoint(WEB)
    found.engine.join("n1", "e1", "/run/sandbox")
    return found


def test_endpoint_is_freed_when_found_dead_twice_a_grace_time_apart(house):
    house.heed(NOBODY)
    house.heed(NOBODY, after=GRACE - 1)
    assert house.endpoints == ["e1"]
    house.heed(NOBODY, after=1)
    assert house.endpoints == []
    assert house.kernel.links == {}


def test_sign_of_life_between_two_checks_clears_the_first(house):
    house.heed(NOBODY)
    house.heed(ALIVE, after=GRACE)
    house.heed(NOBODY, after=GRACE)
    assert house.endpoints == ["e1"]
    house.heed(NOBODY, after=GRACE)
    assert house.endpoints == []


def test_endpoint_that_left_but_is_kept_by_dockerd_is_reconciled_again(house):
    house.kernel.sandboxes.add("/run/sandbox")
    house.engine.leave("e1")
    house.heed(ALIVE)
    house.heed(ALIVE, after=GRACE - 1)
    assert house.records.endpoints.get("e1").left
    house.heed(ALIVE, after=1)
    assert not house.records.endpoints.get("e1").left


def test_endpoint_listed_by_dockerd_is_never_freed(house):
    for _ in range(5):
        house.heed(ALIVE, after=10 * GRACE)
    assert house.endpoints == ["e1"]


def test_a_device_in_a_sandbox_keeps_its_endpoint_whatever_dockerd_says(house):
    house.kernel.dock(Owner("n1", "e1").device, "/run/sandbox", "eth0")
    for _ in range(5):
        house.heed(NOBODY, after=10 * GRACE)
    assert house.endpoints == ["e1"]


def test_endpoint_disconnected_unnoticed_is_not_recreated_and_is_freed(house):
    """Its container lives on; Docker has taken the device away and forgotten it."""
    house.kernel.dock(Owner("n1", "e1").device, "/run/sandbox", "eth0")
    house.engine.reconcile()
    house.time.now += 31
    house.engine.reconcile()
    house.kernel.lose("/run/sandbox", "eth0")
    house.heed(NOBODY, after=GRACE)
    house.engine.reconcile()
    assert house.kernel.rooms["/run/sandbox"] == {}
    house.heed(NOBODY, after=GRACE)
    assert house.endpoints == []


def test_address_without_an_endpoint_is_freed_unless_dockerd_knows_it(house):
    pool = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    house.ipam.request_gateway(pool, "10.0.0.1")
    for wish in ("10.0.0.8", "10.0.0.9"):
        house.ipam.request_address(pool, wish, "")
    known = replace(ALIVE, addresses=frozenset({ip_address("10.0.0.9")}))
    house.heed(known, after=CREATING_SECONDS)
    house.heed(known, after=GRACE)
    (claim,) = [house.records.pools.claim(pool)]
    live = house.records.leases.live_in(claim.pool.id)
    assert {str(t.address) for t in live} == {"10.0.0.1", "10.0.0.9"}


def test_address_on_a_device_of_the_driver_is_kept(house):
    claim = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    given = house.ipam.request_address(claim, "", "").ip
    # Of an endpoint that neither the records nor Docker know.
    house.kernel.other_namespaces = {Owner("n1", "lost").mark: (given,)}
    for _ in range(3):
        house.heed(ALIVE, GRACE)
    assert [t.address for t in house.records.leases.orphaned()] == [given]
    house.kernel.other_namespaces = {}
    house.heed(ALIVE, GRACE)
    house.heed(ALIVE, GRACE)
    assert house.records.leases.orphaned() == []


def test_repair_log_names_the_freed_endpoint(house):
    house.heed(NOBODY)
    house.heed(NOBODY, GRACE)
    (entry,) = house.records.repairs.about({"e1"}, 10)
    assert (entry.step, entry.network) == ("free endpoint e1", "lan")


def test_address_leased_again_meanwhile_is_not_freed(house):
    pool = house.ipam.request_pool("10.0.0.0/24", "", {}, 4).id
    house.ipam.request_address(pool, "10.0.0.8", "")
    house.heed(ALIVE)
    house.ipam.release_address(pool, "10.0.0.8")
    house.ipam.request_address(pool, "10.0.0.8", "")
    house.heed(ALIVE, after=GRACE)
    assert len(house.records.leases.orphaned()) == 1


def test_container_names_are_learned_and_kept(house):
    house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    house.heed(ALIVE)
    assert house.records.networks.get("n1").name == "lan"
    assert house.records.endpoints.get("e1").container == "web"
    assert house.records.pools.all()[0].holders == ("lan",)
    house.engine.delete_endpoint("n1", "e1")
    assert house.records.leases.history("web", 9)[0].endpoint == "e1"


def test_name_that_docker_no_longer_reports_is_not_forgotten(house):
    house.heed(ALIVE)
    house.heed(replace(ALIVE, endpoints={"e1": ""}))
    assert house.records.endpoints.get("e1").container == "web"


def test_network_removed_while_the_service_was_stopped_goes_after_its_endpoints(house):
    house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    gone = replace(NOBODY, networks=())
    house.heed(gone)
    house.heed(gone, after=GRACE)  # the endpoint
    assert house.endpoints == []
    assert house.records.networks.get("n1")
    house.heed(gone)  # now that no endpoint is on it, a first check for the network
    house.heed(gone, after=GRACE)
    assert house.records.networks.all() == []
    assert house.records.pools.all() == []


def test_endpoint_that_left_is_freed_while_its_container_runs_on(house):
    house.kernel.dock(Owner("n1", "e1").device, "/run/sandbox", "eth0")
    house.heed(NOBODY)
    house.heed(NOBODY, after=GRACE)
    assert house.endpoints == ["e1"]
    house.engine.leave("e1")
    house.heed(NOBODY, after=GRACE)
    house.heed(NOBODY, after=GRACE)
    assert house.endpoints == []


def test_claim_without_a_resulting_network_is_released(house):
    house.ipam.request_pool("10.5.0.0/24", "", {}, 4)
    house.ipam.request_pool("10.0.0.0/24", "", {"domain": "lab"}, 4)
    house.ipam.request_pool("10.0.0.0/24", "", {}, 4)  # of Docker's own driver
    house.heed(ALIVE, after=CREATING_SECONDS)
    assert len(house.records.pools.all()) == 3
    house.heed(ALIVE, after=GRACE)
    (left,) = house.records.pools.all()
    assert (left.domain, str(left.subnet)) == ("default", "10.0.0.0/24")


def test_claim_is_released_with_its_network_while_another_keeps_the_pool(house):
    one = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    two = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    house.records.pools.bind(one.id, "n1")
    house.records.pools.bind(two.id, "n-gone")
    house.heed(ALIVE)
    house.heed(ALIVE, after=GRACE)
    assert house.records.pools.claim(one.id)
    assert house.records.pools.claim(two.id) is None


def test_a_claim_bound_to_the_wrong_network_is_kept_while_docker_needs_it(house):
    claim = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    house.ipam.request_gateway(claim.id, "10.0.0.1")
    house.records.pools.bind(claim.id, "n-gone")
    for _ in range(3):
        house.heed(ALIVE, after=GRACE)  # lists one network of that subnet
    assert house.records.pools.claim(claim.id)


@pytest.mark.parametrize("driver", ["underlay", "macvlan"])
def test_unbound_claim_is_released_unless_another_driver_s_network_may_need_it(
    house, driver
):
    one = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    house.records.pools.bind(one.id, "n1")
    two = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    three = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    theirs = replace(LISTED, id="theirs")
    listed = (LISTED, theirs) if driver == "macvlan" else (LISTED,)
    for _ in range(2):
        house.heed(replace(ALIVE, networks=listed), after=GRACE)
    left = [house.records.pools.claim(c.id) for c in (one, two, three)]
    assert [c is not None for c in left] == [True] + 2 * [driver == "macvlan"]


def test_claim_is_kept_while_a_container_s_address_came_from_it(house):
    one = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    two = house.ipam.request_pool("10.0.0.0/24", "", {}, 4)
    house.records.pools.bind(one.id, "n1")
    house.records.pools.bind(two.id, "n-gone")
    given = house.ipam.request_address(two.id, "", "web").ip
    inhabited = replace(ALIVE, addresses=frozenset({given}))
    for _ in range(3):
        house.heed(inhabited, after=GRACE)
    assert house.records.pools.claim(two.id)


def test_old_lease_history_is_deleted(house):
    house.engine.delete_endpoint("n1", "e1")
    house.time.now += 29 * 86400
    house.cleanup.forget()
    assert house.records.leases.history("10.0.0.5", 9)
    house.time.now += 2 * 86400
    house.cleanup.forget()
    assert house.records.leases.history("10.0.0.5", 9) == []


def test_docker_network_description_is_parsed_with_missing_fields():
    seen = view(
        [
            {
                "Id": "n1",
                "Name": "lan",
                "Driver": "underlay",
                "IPAM": {
                    "Driver": "underlay",
                    "Options": {"domain": "lab"},
                    "Config": [
                        {"Subnet": "10.0.0.0/24"},
                        {
                            "Gateway": "10.0.0.1",
                            "AuxiliaryAddresses": {"x": "10.0.0.9"},
                        },
                    ],
                },
                "Containers": {
                    "c": {
                        "Name": "web",
                        "EndpointID": "e1",
                        "IPv4Address": "10.0.0.5/24",
                        "IPv6Address": "",
                    }
                },
            },
            {"Id": "n2", "Name": "x", "IPAM": {"Driver": "default", "Config": None}},
        ]
    )
    assert seen.networks[0].domain == "lab"
    assert seen.networks[1] == DockerNetwork("n2", "x", "", ())
    assert seen.endpoints == {"e1": "web"}
    assert seen.addresses == {
        ip_address(a) for a in ("10.0.0.5", "10.0.0.1", "10.0.0.9")
    }


def test_network_parts_are_not_dead_while_docker_creates_it(records):
    """That outlasted a short grace time: Docker got E-114 for the PoolID it was given.

    An aux address is asked for like that of a container, and was freed as well.
    """
    house = House(records)
    house.cleanup.grace = 1.0
    claim = house.ipam.request_pool("10.5.0.0/24", "", {}, 4)
    aux = house.ipam.request_address(claim.id, "10.5.0.1", "").ip
    for _ in range(5):
        house.heed(NOBODY, after=2)
    segment = Subnet(claim.pool.subnet, aux=(aux,), pooled=True)
    house.engine.create_network(replace(LAN, id="n5", subnets=(segment,)))
    assert records.pools.claim(claim.id).network == "n5"
    assert str(house.ipam.request_address(claim.id, "", "")) == "10.5.0.2/24"


def test_claim_of_a_creation_that_ended_with_dockerd_is_freed(records):
    house = House(records)
    house.cleanup.grace = 1.0
    claim = house.ipam.request_pool("10.5.0.0/24", "", {}, 4)
    house.heed(NOBODY, after=2)
    house.ipam.forget_made()
    house.heed(NOBODY, after=2)
    assert records.pools.claim(claim.id)
    house.heed(NOBODY, after=2)
    assert records.pools.claim(claim.id) is None


def test_claim_of_a_creation_that_never_ends_is_freed_eventually(records):
    house = House(records)
    house.cleanup.grace = 1.0
    claim = house.ipam.request_pool("10.5.0.0/24", "", {}, 4)
    house.heed(NOBODY, after=CREATING_SECONDS)
    house.heed(NOBODY, after=1)
    assert records.pools.claim(claim.id) is None


def test_look_at_docker_that_brings_nothing_new_writes_nothing(house):
    """It comes a second after every start, and each write waits for the others."""
    house.heed(ALIVE)
    commits = []
    house.records.watch_commits(commits.append)
    house.heed(ALIVE, after=1)
    assert commits == []
