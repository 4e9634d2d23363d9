"""Names of containers' devices: what may be asked for, and what Docker gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.errors import BadValue, ConflictingOptions
from underlay.model import Endpoint, LearnedState, Network
from underlay.modes import check, check_endpoint, device_name
from underlay.modes.device_name import alternative, given_to, prefix_for
from underlay.modes.ignored_options import without_effect

DOCKERS_KEY = "com.docker.network.endpoint.ifname"
NAMES = st.from_regex(r"\A(lan|wan|wan1|eth|x-)([0-9]|1[0-2])?\Z")


def called(names, prefix, lowest):
    """Return the name that Docker gives behind names that it gave before."""
    rest = [n.removeprefix(prefix) for n in names if n.startswith(prefix)]
    taken = [int(r) for r in rest if r.isdigit()]
    number = 1 + max(taken, default=-1)
    if lowest:
        number = min(set(range(len(taken) + 1)) - set(taken))
    return f"{prefix}{number}"


@pytest.mark.parametrize(
    "name", ["lan0", "a" * 15, "wan.10", "eth3", "up-link", "ü", "10", "lan0'"]
)
def test_name_that_the_kernel_takes_is_accepted(name):
    check(Network("n1", {"ifname": name}))
    check_endpoint(Network("n1"), Endpoint("e1", "n1", options={DOCKERS_KEY: name}))


@pytest.mark.parametrize(
    "name",
    ["a" * 16, "ü" * 8, "a/b", "a b", "a\tb", "a:b", "lan%d", "a\0", "a\u00a0b",
     ".", "..", "all", "default", "lo"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["ifname", DOCKERS_KEY])
def test_name_that_no_device_can_have_is_refused(name, key):
    with pytest.raises(BadValue, match=key):
        check(Network("n1", {key: name}))
    with pytest.raises(BadValue, match=key):
        check_endpoint(Network("n1"), Endpoint("e1", "n1", options={key: name}))


def test_two_names_for_one_endpoint_are_refused_and_the_endpoints_own_counts():
    both = {"ifname": "lan0", DOCKERS_KEY: "lan1"}
    with pytest.raises(ConflictingOptions, match="lan0"):
        check_endpoint(Network("n1"), Endpoint("e1", "n1", options=both))
    network = Network("n1", {"ifname": "lan0"})
    mine = Endpoint("e1", "n1", options={DOCKERS_KEY: "lan1"})
    check_endpoint(network, mine)
    check_endpoint(network, replace(mine, options=both | {"ifname": "lan1"}))
    assert device_name.asked(network, mine) == "lan1"
    assert device_name.asked(network, Endpoint("e2", "n1")) == "lan0"


@pytest.mark.parametrize(
    ("name", "wished", "real", "prefix"),
    [
        ("lan0", [], ["eth0"], "lan"),
        ("lan1", [], [], "eth"),
        ("lan1", ["lan0"], ["lan0"], "lan"),
        ("lan1", ["lan0"], ["eth0"], "eth"),  # Docker would try lan0, an altname
        ("lan0", ["lan1"], ["eth0"], "eth"),
        ("lan0", ["lan0"], ["lan0"], "eth"),
        ("lan0", [], ["lan1"], "eth"),  # an older engine would go on behind it
        ("wan10", [], [], "wan1"),
        ("lan00", [], [], "lan0"),
        ("0", [], [], "eth"),  # an empty prefix
        ("uplink", [], [], "eth"),
        ("eth0", [], [], "eth"),
        ("eth10", [], [], "eth"),
    ],
)
def test_prefix_yields_a_name_only_where_that_is_certain(name, wished, real, prefix):
    assert prefix_for(name, wished, real) == prefix


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_no_engine_gives_another_name_than_expected(names, lowest):
    """Engines count behind the last number, or take the lowest free one."""
    wished, real = [], []
    for name in names:
        prefix = prefix_for(name, wished, real)
        got = called(real, prefix, lowest)
        if prefix != "eth":
            assert got == name
        others = [n for n in wished if n not in real and not device_name.is_dockers(n)]
        assert got not in others, "Docker would fail: it is an alternative name"
        real.append(got)
        wished.append(name)


def test_names_given_are_those_observed_and_those_sure():
    others = [("lan0", ""), ("", "eth0"), ("uplink", ""), ("lan1", "eth1")]
    assert given_to(others) == (["lan0", "uplink", "lan1"], ["lan0", "eth0", "eth1"])


@pytest.mark.parametrize(
    ("asked", "device", "expected"),
    [
        ("lan0", "lan0", ""),
        ("lan0", "lan1", "lan0"),
        ("uplink", "eth0", "uplink"),
        ("eth5", "eth0", ""),
        ("uplink", None, ""),
        ("", "eth0", ""),
    ],
)
def test_alternative_name_is_what_docker_did_not_give(asked, device, expected):
    learned = LearnedState(device, 1500) if device else None
    endpoint = Endpoint("e1", "n1", options={"ifname": asked}, learned=learned)
    assert alternative(Network("n1"), endpoint) == expected


def test_only_options_that_nothing_acts_on_are_without_effect():
    options = {
        "mtu": "1400",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.advertise_addr_nmsgs": "0",
        "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.arp_ignore=1",
        "com.docker.network.endpoint.ifname": "lan0",
        "com.docker.network.bridge.name": "br0",
    }
    assert without_effect(Network("n1", options)) == [
        "com.docker.network.bridge.name",
        "com.docker.network.endpoint.sysctls",
    ]
    assert without_effect(Endpoint("e1", "n1", options=options)) == [
        "com.docker.network.advertise_addr_nmsgs",
        "com.docker.network.bridge.name",
    ]
