"""IPAM: which requests get which address, and which get none."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network

import pytest

from tests.fakes import ETH0, LO, Clock, FakeKernel, engine_on, ipam_on
from underlay.errors import (
    AddressTaken,
    BadSubnet,
    BadValue,
    NoSubnet,
    OutsideSubnet,
    Overlap,
    PoolExhausted,
    UnknownOption,
    UnknownPool,
)
from underlay.ipam.driver import IpamDriver
from underlay.model import Endpoint, Network, Subnet
from underlay.model.objects import Owner


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ipam(records, clock):
    return ipam_on(records, clock)


def claim(ipam, subnet="10.0.0.0/29", span="", **options):
    family = 6 if ":" in subnet else 4
    return ipam.request_pool(subnet, span, options, family).id


def address(ipam, pool, wish="", container=""):
    return str(ipam.request_address(pool, wish, container))


def test_addresses_come_in_order_and_with_the_length_of_the_pool(ipam):
    pool = claim(ipam)
    assert address(ipam, pool) == "10.0.0.1/29"
    assert address(ipam, pool) == "10.0.0.2/29"


def test_freed_address_goes_to_the_back_of_the_queue(ipam):
    pool = claim(ipam)
    for _ in range(3):
        address(ipam, pool)
    ipam.release_address(pool, "10.0.0.2")
    ipam.release_address(pool, "10.0.0.1")
    order = [address(ipam, pool) for _ in range(5)]
    assert [a.split("/")[0][-1] for a in order] == ["4", "5", "6", "2", "1"]


def test_ip_range_limits_automatic_but_not_requested_addresses(ipam):
    pool = claim(ipam, "10.0.0.0/24", "10.0.0.128/30")
    given = [address(ipam, pool) for _ in range(4)]
    assert given == [f"10.0.0.{n}/24" for n in (128, 129, 130, 131)]
    assert address(ipam, pool, "10.0.0.9") == "10.0.0.9/24"
    with pytest.raises(
        PoolExhausted, match=r"\(10.0.0.128 to 10.0.0.131\): of 4, 4 in use"
    ):
        address(ipam, pool)


def test_ipv6_addresses_keep_all_128_bits(ipam):
    pool = claim(ipam, "fd00:1:2:3::/64")
    wish = "fd00:1:2:3:ffff:eeee:dddd:cccb"
    assert address(ipam, pool, wish) == f"{wish}/64"
    wide = claim(ipam, "fd00:9::/42")
    assert address(ipam, wide, "fd00:9:3f:ffff:ffff::1").startswith("fd00:9:3f:ffff:f")


def test_exhausted_pool_error_lists_live_and_reserved_addresses(ipam):
    pool = claim(ipam)
    ipam.request_gateway(pool, "10.0.0.1")
    for _ in range(5):
        address(ipam, pool)
    with pytest.raises(PoolExhausted) as refusal:
        address(ipam, pool)
    assert str(refusal.value).startswith(
        "E-141 no address is left in 10.0.0.0/29: of 6, 5 in use, 1 reserved (1"
        " gateway, 0 aux). Stop a container"
    )


def test_address_has_one_owner_at_a_time(ipam):
    pool = claim(ipam)
    address(ipam, pool, "10.0.0.3", "web")
    with pytest.raises(AddressTaken, match=r"web has it.*or free this one first"):
        address(ipam, pool, "10.0.0.3")
    with pytest.raises(AddressTaken):
        ipam.request_gateway(pool, "10.0.0.3")


def test_release_of_a_free_or_unknown_address_succeeds(ipam):
    pool = claim(ipam)
    ipam.request_gateway(pool, "10.0.0.1")
    for _ in range(2):
        ipam.release_address(pool, "10.0.0.1")
        ipam.release_address(pool, "10.0.0.5")
        ipam.release_address(pool, "not an address")
        ipam.release_address("nobody", "10.0.0.1")
    ipam.release_pool(pool)
    ipam.release_pool(pool)
    ipam.release_pool("nobody")


def test_repeated_gateway_request_returns_the_same_gateway(ipam):
    pool = claim(ipam)
    assert str(ipam.request_gateway(pool, "")) == "10.0.0.1/29"
    assert str(ipam.request_gateway(pool, "10.0.0.1")) == "10.0.0.1/29"
    ipam.release_address(pool, "10.0.0.1")
    assert address(ipam, pool) == "10.0.0.2/29"


def test_two_networks_of_one_subnet_share_the_pool_but_no_address(ipam):
    one, two = claim(ipam), claim(ipam)
    assert one != two
    given = [address(ipam, pool) for pool in (one, two, one, two)]
    assert len(set(given)) == 4
    with pytest.raises(AddressTaken):
        address(ipam, two, "10.0.0.1")


def test_gateway_shared_by_two_networks_is_kept_until_both_release_it(ipam):
    one, two = claim(ipam), claim(ipam)
    ipam.request_gateway(one, "10.0.0.6")
    assert str(ipam.request_gateway(two, "")) == "10.0.0.6/29"
    for _ in range(2):
        ipam.release_address(one, "10.0.0.6")
    with pytest.raises(AddressTaken, match=r"the gateway.*another address[.]$"):
        address(ipam, two, "10.0.0.6")
    ipam.release_address(two, "10.0.0.6")
    assert address(ipam, two, "10.0.0.6")


def test_release_by_one_network_never_frees_an_address_another_holds(ipam):
    one, two = claim(ipam), claim(ipam)
    held = address(ipam, one, "10.0.0.3").split("/")[0]
    ipam.release_address(two, held)
    ipam.release_pool(two)
    with pytest.raises(AddressTaken):
        address(ipam, one, held)


def created(records, identity, subnet, *aux):
    """Tell the network driver that `docker network create` got through."""
    reserved = tuple(ip_address(a) for a in aux)
    segment = Subnet(ip_network(subnet), None, reserved, pooled=True)
    engine_on(records, FakeKernel()).create_network(
        Network(identity, {"parent": "eth0"}, False, (segment,))
    )


def test_aux_addresses_may_be_named_by_each_network_but_not_leased(ipam, records):
    one = claim(ipam)
    address(ipam, one, "10.0.0.4")  # Docker asks for aux and --ip in one form
    created(records, "n1", "10.0.0.0/29", "10.0.0.4")
    with pytest.raises(AddressTaken, match="it is an aux address of network n1"):
        address(ipam, one, "10.0.0.4")
    two = claim(ipam)
    assert address(ipam, two, "10.0.0.4") == "10.0.0.4/29"
    created(records, "n2", "10.0.0.0/29", "10.0.0.4")
    with pytest.raises(AddressTaken):
        address(ipam, two, "10.0.0.4")


def test_container_never_gets_the_aux_address_of_another_network(ipam, records, clock):
    one = claim(ipam)
    address(ipam, one, "10.0.0.4")
    created(records, "n1", "10.0.0.0/29", "10.0.0.4")
    two = claim(ipam)
    with pytest.raises(AddressTaken):
        address(ipam, two, "10.0.0.4", container="web")
    clock.now += 60  # a network of another driver: no CreateNetwork ever comes here
    with pytest.raises(AddressTaken):
        address(ipam, two, "10.0.0.4")


def test_address_is_not_leased_again_before_its_device_is_deleted(records, monkeypatch):
    """Its endpoint is off the record by then, and Docker has not given it back."""
    kernel = FakeKernel(LO, ETH0)
    engine = engine_on(records, kernel)
    ipam = IpamDriver(
        records,
        Clock(),
        engine.remove_dead_endpoint,
        kernel.is_own,
        engine.live_endpoints,
        wire=engine.parts.ipam.wire,
    )
    pool = claim(ipam)
    given = ipam.request_address(pool, "10.0.0.5", "")
    segment = Subnet(ip_network("10.0.0.0/29"), pooled=True)
    engine.create_network(Network("n1", {"parent": "eth0"}, subnets=(segment,)))
    engine.create_endpoint(Endpoint("e1", "n1", given))
    deleted, delete = [], kernel.delete_links

    def delete_meanwhile(doomed):
        with pytest.raises(AddressTaken):
            address(ipam, pool, "10.0.0.5")
        deleted.extend(link.name for link in doomed)
        delete(doomed)

    monkeypatch.setattr(kernel, "delete_links", delete_meanwhile)
    engine.delete_endpoint("n1", "e1")
    assert deleted == [Owner("n1", "e1").device]
    assert address(ipam, pool, "10.0.0.5") == "10.0.0.5/29"


def test_network_of_docker_s_own_ipam_binds_no_claim(ipam, records):
    pool = claim(ipam, "10.0.0.0/24")
    segment = Subnet(ip_network("10.0.0.0/24"))
    engine_on(records, FakeKernel()).create_network(
        Network("n1", {"parent": "eth0"}, False, (segment,))
    )
    assert records.pools.claim(pool).network == ""


def test_overlapping_pool_is_refused_with_the_holder_s_name_only_in_its_domain(
    ipam, records
):
    claim(ipam, "10.0.0.0/24")
    created(records, "abc", "10.0.0.0/24")
    records.networks.rename("abc", "lan")
    for other in ("10.0.0.0/16", "10.0.0.128/25", "10.0.0.0/25", "0.0.0.0/1"):
        with pytest.raises((Overlap, BadSubnet)):
            claim(ipam, other)
    with pytest.raises(Overlap, match="which network lan uses in domain 'default'"):
        claim(ipam, "10.0.0.0/23")
    assert address(ipam, claim(ipam, "10.0.0.0/23", domain="lab")) == "10.0.0.1/23"
    claim(ipam, "10.0.1.0/24")
    claim(ipam, "9.255.255.0/24")


def test_pool_is_deleted_with_its_last_claim(ipam):
    one, two = claim(ipam, "10.0.0.0/24"), claim(ipam, "10.0.0.0/24")
    ipam.release_pool(one)
    with pytest.raises(Overlap):
        claim(ipam, "10.0.0.0/25")
    with pytest.raises(UnknownPool):
        address(ipam, one)
    ipam.release_pool(two)
    claim(ipam, "10.0.0.0/25")


def test_pool_request_without_subnet_is_refused_and_never_retried(ipam):
    for family in (4, 6):
        with pytest.raises(NoSubnet, match="--subnet"):
            ipam.request_pool("", "", {}, family)


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        ({"domian": "x"}, UnknownOption),
        ({"domain": ""}, BadValue),
        ({"domain": "two words"}, BadValue),
        ({"probe": "maybe"}, BadValue),
    ],
)
def test_invalid_ipam_option_is_refused(ipam, options, refusal):
    with pytest.raises(refusal):
        claim(ipam, **options)


def test_address_outside_the_subnet_is_refused(ipam):
    with pytest.raises(OutsideSubnet):
        address(ipam, claim(ipam), "10.0.1.1")


def test_lease_knows_its_endpoint_and_keeps_its_history(ipam, records, clock):
    pool = claim(ipam, "10.0.0.0/24")
    created(records, "n1", "10.0.0.0/24")
    address(ipam, pool, "10.0.0.5", "web")
    clock.now += 10
    ipam.release_address(pool, "10.0.0.5")
    address(ipam, pool, "10.0.0.5", "")
    ipam.release_pool(pool)
    found = records.leases.history("10.0.0.5", 9)
    assert [t.container for t in found] == ["", "web"]
    assert all(t.until for t in found)
    assert found[1].until - found[1].since == 10


def test_ranges_inside_each_other_draw_from_one_table(ipam):
    whole = claim(ipam, "10.0.0.0/24")
    for _ in range(20):
        address(ipam, whole)
    for n in (3, 9, 10, 4):
        ipam.release_address(whole, f"10.0.0.{n}")
    low = claim(ipam, "10.0.0.0/24", "10.0.0.8/29")
    assert address(ipam, low) == "10.0.0.9/24"
    ipam.release_address(low, "10.0.0.9")
    assert address(ipam, low) == "10.0.0.10/24"
    assert address(ipam, low) == "10.0.0.9/24"
    with pytest.raises(PoolExhausted):
        address(ipam, low)


def test_replacing_the_clock_never_reorders_the_queue(ipam, clock):
    pool = claim(ipam, "10.0.0.0/30")
    address(ipam, pool)
    address(ipam, pool)
    ipam.release_address(pool, "10.0.0.2")
    clock.now -= 3600  # the host's clock was set back
    ipam.release_address(pool, "10.0.0.1")
    assert [address(ipam, pool) for _ in range(2)] == ["10.0.0.2/30", "10.0.0.1/30"]


def test_orphaned_address_is_only_freed_if_it_is_still_the_same_lease(ipam, records):
    pool = claim(ipam)
    address(ipam, pool, "10.0.0.2")
    (seen,) = records.leases.orphaned()
    ipam.release_lease(replace(seen, endpoint="other"))
    assert len(records.leases.orphaned()) == 1
    ipam.release_lease(seen)
    assert records.leases.orphaned() == []


def test_concurrently_created_networks_are_distinguished_by_their_reservations(
    ipam, records
):
    one, two = claim(ipam), claim(ipam)
    address(ipam, one, "10.0.0.2")
    address(ipam, two, "10.0.0.3")
    created(records, "n2", "10.0.0.0/29", "10.0.0.3")
    created(records, "n1", "10.0.0.0/29", "10.0.0.2")
    assert records.pools.claim(one).network == "n1"
    assert records.pools.claim(two).network == "n2"
    assert records.leases.orphaned() == []
    assert [address(ipam, one)[:8] for _ in range(2)] == ["10.0.0.1", "10.0.0.4"]


def test_subnet_in_two_domains_is_two_pools(ipam, records):
    one, two = claim(ipam, domain="a"), claim(ipam, domain="b")
    address(ipam, one, "10.0.0.2")
    created(records, "n1", "10.0.0.0/29", "10.0.0.2")
    assert records.pools.claim(one).network == "n1"
    assert records.pools.claim(two).network == ""


def test_shared_gateway_released_by_one_network_is_not_in_the_queue(ipam):
    one, two = claim(ipam, "10.0.0.0/30"), claim(ipam, "10.0.0.0/30")
    for pool in (one, two):
        ipam.request_gateway(pool, "10.0.0.1")
    ipam.release_address(one, "10.0.0.1")
    assert address(ipam, two) == "10.0.0.2/30"
    with pytest.raises(PoolExhausted):
        address(ipam, two)


def test_default_gateway_is_never_an_address_another_network_reserved(ipam, records):
    one = claim(ipam)
    address(ipam, one, "10.0.0.1")
    created(records, "n1", "10.0.0.0/29", "10.0.0.1")
    assert str(ipam.request_gateway(claim(ipam), "")) == "10.0.0.2/29"


def test_network_being_created_never_gets_another_s_gateway_as_aux(ipam):
    ipam.request_gateway(claim(ipam), "10.0.0.1")
    with pytest.raises(AddressTaken, match=r"the gateway.*another address[.]$"):
        address(ipam, claim(ipam), "10.0.0.1")


def lived(records, kernel, sandbox="/run/a"):
    """A container with 10.0.0.5 of our pool, joined."""
    engine = engine_on(records, kernel)
    engine.create_endpoint(Endpoint("e1", "n1", IPv4Interface("10.0.0.5/24")))
    engine.join("n1", "e1", sandbox)
    kernel.links.clear()
    return engine


def test_repeated_release_never_frees_a_live_lease(ipam, records):
    pool = claim(ipam, "10.0.0.0/24")
    created(records, "n1", "10.0.0.0/24")
    address(ipam, pool, "10.0.0.5")
    engine = lived(records, FakeKernel())
    ipam.release_address(pool, "10.0.0.5")
    (held,) = records.leases.live_of_claim(pool)
    assert (held.endpoint, held.network) == ("e1", "n1")
    engine.delete_endpoint("n1", "e1")
    ipam.release_address(pool, "10.0.0.5")
    assert records.leases.live_of_claim(pool) == []


def test_endpoint_has_the_name_from_its_address_request(ipam, records):
    pool = claim(ipam, "10.0.0.0/24")
    created(records, "n1", "10.0.0.0/24")
    address(ipam, pool, "10.0.0.5", container="web")
    lived(records, FakeKernel())
    assert records.endpoints.get("e1").container == "web"


def test_verb_of_one_network_never_ends_live_leases_of_another(ipam, records):
    """The claims of two networks may be taken for each other's."""
    one, two = claim(ipam, "10.0.0.0/24"), claim(ipam, "10.0.0.0/24")
    for pool in (one, two):
        ipam.request_gateway(pool, "10.0.0.1")
    created(records, "n1", "10.0.0.0/24")
    records.pools.bind(two, "n1")
    address(ipam, two, "10.0.0.5")
    engine = lived(records, FakeKernel())
    ipam.release_address(two, "10.0.0.1")
    ipam.release_pool(two)
    ipam.release_pool(one)
    (kept,) = records.pools.claims_on(1)
    assert (kept.id, kept.network) == ("default/10.0.0.0/24/of-n1", "n1")
    held = records.leases.live_of_claim(kept.id)
    assert sorted(str(t.address) for t in held) == ["10.0.0.1", "10.0.0.5"]
    engine.delete_endpoint("n1", "e1")
    engine.delete_network("n1")
    assert records.pools.all() == []


def test_live_address_binds_to_the_claim_of_its_own_network(ipam, records):
    one, two = claim(ipam, "10.0.0.0/24"), claim(ipam, "10.0.0.0/24")
    created(records, "n1", "10.0.0.0/24")
    records.pools.bind(one, "n1")
    records.pools.bind(two, "n2")
    address(ipam, two, "10.0.0.5")
    lived(records, FakeKernel())
    ipam.release_pool(two)
    assert records.pools.claim(two) is None
    (held,) = records.leases.live_of_claim(one)
    assert held.endpoint == "e1"


def test_address_of_one_family_released_by_a_live_endpoint_is_freed_when_it_goes(
    records,
):
    """Engine 29 gives the IPv6 address back where a sysctl switches IPv6 off."""
    kernel = FakeKernel()
    engine = engine_on(records, kernel)
    ipam = IpamDriver(
        records,
        Clock(),
        engine.remove_dead_endpoint,
        kernel.is_own,
        engine.live_endpoints,
        wire=engine.parts.ipam.wire,
    )
    pools = [claim(ipam, subnet) for subnet in ("10.0.0.0/24", "fd00::/64")]
    subnets = map(ip_network, ("10.0.0.0/24", "fd00::/64"))
    segments = tuple(Subnet(subnet, pooled=True) for subnet in subnets)
    engine.create_network(Network("n1", {"parent": "eth0"}, subnets=segments))
    given = [ipam.request_address(pool, "", "") for pool in pools]
    engine.create_endpoint(Endpoint("e1", "n1", *given))
    engine.join("n1", "e1", "/run/a")
    four, six = (str(g.ip) for g in given)
    ipam.release_address(pools[1], six)
    with pytest.raises(AddressTaken):
        address(ipam, pools[1], six)
    engine.delete_endpoint("n1", "e1")
    (left,) = records.leases.orphaned()
    assert str(left.address) == four
    assert address(ipam, pools[1], six) == f"{six}/64"
    ipam.release_address(pools[0], four)
    assert [t.endpoint for t in records.leases.orphaned()] == [""]


def test_static_address_is_leased_again_when_its_holder_is_dead(records, clock):
    kernel = FakeKernel()
    ipam = ipam_on(records, clock, kernel)
    pool = claim(ipam, "10.0.0.0/24")
    created(records, "n1", "10.0.0.0/24")
    address(ipam, pool, "10.0.0.5")
    lived(records, kernel)
    kernel.sandboxes.add("/run/a")
    with pytest.raises(AddressTaken):
        address(ipam, pool, "10.0.0.5")
    kernel.sandboxes.clear()
    assert address(ipam, pool, "10.0.0.5") == "10.0.0.5/24"


@pytest.mark.parametrize("wish", ["fd00::5%1", "fd00::5%eth0"])
def test_ipv6_zone_does_not_make_two_addresses_of_one(ipam, wish):
    with pytest.raises(OutsideSubnet):
        address(ipam, claim(ipam, "fd00::/64"), wish)
    with pytest.raises(BadSubnet, match="zone"):
        claim(ipam, "fd01::%1/64")


def test_host_s_own_address_is_never_leased_to_a_container(records, clock):
    kernel = FakeKernel()
    kernel.own = {"10.0.0.2", "10.0.0.3"}
    ipam = ipam_on(records, clock, kernel)
    pool = claim(ipam)
    assert [address(ipam, pool)[-4] for _ in range(4)] == ["1", "4", "5", "6"]
    with pytest.raises(PoolExhausted, match=r"4 in use, 2 reserved"):
        address(ipam, pool)
    with pytest.raises(AddressTaken):
        address(ipam, pool, "10.0.0.2")
    other = claim(ipam, "10.0.0.0/29", domain="other")
    clock.now += 60  # no more an aux address
    with pytest.raises(AddressTaken, match=r"this host's own.*another address[.]$"):
        address(ipam, other, "10.0.0.3")


def test_host_address_named_as_aux_is_never_leased_to_a_container(records, clock):
    kernel = FakeKernel()
    kernel.own = {"10.0.0.2", "10.0.0.3"}
    ipam = ipam_on(records, clock, kernel)
    one = claim(ipam)
    with pytest.raises(AddressTaken, match="own"):
        address(ipam, one, "10.0.0.2", container="web")
    for own in ("10.0.0.2", "10.0.0.3"):  # and of the shim that the user made
        assert address(ipam, one, own) == f"{own}/29"
    created(records, "n1", "10.0.0.0/29", "10.0.0.2", "10.0.0.3")
    roles = {str(t.address): t.role for t in records.leases.live_in(1)}
    assert roles == {"10.0.0.2": "aux", "10.0.0.3": "aux"}
    two = claim(ipam)
    assert address(ipam, two, "10.0.0.2") == "10.0.0.2/29"
    created(records, "n2", "10.0.0.0/29", "10.0.0.2")
    for pool in (one, two):
        with pytest.raises(AddressTaken, match="it is this host's own"):
            address(ipam, pool, "10.0.0.2")
    assert [address(ipam, one)[-4] for _ in range(2)] == ["1", "4"]


def test_host_address_is_refused_as_aux_once_the_network_exists(records, clock):
    kernel = FakeKernel()
    kernel.own = {"10.0.0.2"}
    ipam = ipam_on(records, clock, kernel)
    pool = claim(ipam)
    clock.now += 60  # a network of another driver: no CreateNetwork ever comes here
    with pytest.raises(AddressTaken):
        address(ipam, pool, "10.0.0.2")


@pytest.mark.parametrize("mode", ["l2", "l3"])
@pytest.mark.parametrize("twins", [1, 2])
def test_unneeded_gateway_is_released_only_if_it_is_surely_this_network_s(
    records, mode, twins
):
    """Engines before 28 ask for a gateway before they name the mode."""
    ipam, engine = ipam_on(records), engine_on(records, FakeKernel())
    subnet, aux = ip_network("10.0.0.0/24"), ip_address("10.0.0.9")
    reserved = (aux,) if twins == 1 else ()
    for _ in range(twins):
        pool = ipam.request_pool(str(subnet), "", {}, 4).id
        gateway = ipam.request_gateway(pool, "10.0.0.1").ip
        for address in reserved:
            ipam.request_address(pool, str(address), "")
    segment = Subnet(subnet, gateway, reserved, pooled=True)
    options = {"parent": "eth0", "mode": "ipvlan", "ipvlan_mode": mode}
    engine.create_network(Network("n1", options, False, (segment,)))
    assert bool(records.leases.live(1, aux)) is bool(reserved)
    given_back = mode == "l3" and twins == 1
    assert bool(records.leases.live(1, gateway)) is not given_back


@pytest.mark.parametrize("router", ["", "10.0.0.6", "10.9.0.1"])
@pytest.mark.parametrize("asks", [True, False], ids=["up to 27", "28 on"])
def test_gateway_is_a_router_of_the_host_or_there_is_none(records, router, asks):
    """Engines up to 27 always ask for a gateway, others only if there may be one."""
    kernel = FakeKernel()
    kernel.default_routers = [("eth0", ip_address(router))] if router else []
    engine = engine_on(records, kernel)
    ipam, options = engine.parts.ipam, {"parent": "eth0"}
    pool = ipam.request_pool("10.0.0.0/29", "", {}, 4).id
    is_needed = engine.needs_gateway(options, 4, internal=False)
    assert is_needed is bool(router)
    assert engine.needs_gateway(options, 6, internal=False) is False
    asked = ipam.request_gateway(pool, "").ip if asks or is_needed else None
    segment = Subnet(ip_network("10.0.0.0/29"), asked, pooled=True)
    for _ in range(2):  # Docker repeats a call that it got no answer to
        engine.create_network(Network("n1", options, subnets=(segment,)))
    known = records.networks.get("n1").subnets[0].gateway
    assert str(known) == (router if router == "10.0.0.6" else "None")
    usable = {f"10.0.0.{n}" for n in range(1, 7)} - {str(known)}
    given = {str(ipam.request_address(pool, "", "").ip) for _ in usable}
    assert given == usable


def test_gateway_that_another_network_of_the_pool_names_is_no_guess(records):
    engine = engine_on(records, FakeKernel())
    ipam = engine.parts.ipam
    for name, wish in (("n1", "10.0.0.6"), ("n2", "")):
        pool = ipam.request_pool("10.0.0.0/29", "", {}, 4).id
        gateway = ipam.request_gateway(pool, wish).ip
        segment = Subnet(ip_network("10.0.0.0/29"), gateway, pooled=True)
        engine.create_network(Network(name, {"parent": "eth0"}, subnets=(segment,)))
    found = {str(n.subnets[0].gateway) for n in records.networks.all()}
    assert found == {"10.0.0.6"}


def test_draws_go_on_from_the_host_s_start_to_the_end_and_from_the_first(
    records, clock
):
    ipam = replace(ipam_on(records, clock), machine="a host")
    pool = claim(ipam, "10.0.0.0/24")
    start = records.pools.claim(pool).start
    assert start not in (None, ip_address("10.0.0.1"))
    ahead = records.pools.candidates(records.pools.claim(pool), 254)
    given = [ipam.request_address(pool, "", "").ip for _ in range(254)]
    assert given == ahead
    assert given[0] == start
    assert given[-1] == start - 1
    assert len(set(given)) == 254


def test_slices_of_one_range_never_meet(records, clock):
    """Three hosts, each with a third; freed addresses stay in their part."""
    ipam = ipam_on(records, clock)
    found = []
    for part in ("1/3", "2/3", "3/3"):
        pool = claim(ipam, "10.0.0.0/28", slice=part)
        mine = [ipam.request_address(pool, "", "").ip for _ in range(4)]
        ipam.release_address(pool, str(mine[0]))
        assert ipam.request_address(pool, "", "").ip in {mine[0], mine[3] + 1}
        found += mine
    assert len(set(found)) == 12
    with pytest.raises(BadValue, match="as 2/4"):
        claim(ipam, "10.0.0.0/28", slice="4/3")


def test_address_freed_in_a_range_that_overlaps_is_found(records, clock):
    ipam = ipam_on(records, clock)
    third = claim(ipam, "10.0.0.0/28", slice="2/3")
    half = claim(ipam, "10.0.0.0/28", slice="1/2")
    both = ip_address("10.0.0.6")
    for n in range(1, 15):
        ipam.request_address(half, f"10.0.0.{n}", "")
    ipam.release_address(half, str(both))
    assert ipam.request_address(half, "", "").ip == both
    ipam.release_address(half, str(both))
    assert ipam.request_address(third, "", "").ip == both


def test_late_release_does_not_free_the_lease_of_the_next_container(records, clock):
    kernel = FakeKernel()
    ipam, engine = ipam_on(records, clock, kernel), engine_on(records, kernel, clock)
    pool = claim(ipam, "10.0.0.0/24")
    segment = Subnet(ip_network("10.0.0.0/24"), None, pooled=True)
    engine.create_network(Network("n1", {"parent": "eth0"}, subnets=(segment,)))
    first = ipam.request_address(pool, "10.0.0.9", "")
    engine.create_endpoint(Endpoint("e1", "n1", first))
    engine.delete_endpoint("n1", "e1")
    assert ipam.request_address(pool, "10.0.0.9", "") == first
    ipam.release_address(pool, "10.0.0.9")
    engine.create_endpoint(Endpoint("e2", "n1", first))
    engine.delete_endpoint("n1", "e2")
    ipam.release_address(pool, "10.0.0.9")
    assert records.leases.orphaned() == []
