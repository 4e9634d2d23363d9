"""Which ports are reached, by what listens and by the policy: a table."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from underlay.model import Endpoint, Network
from underlay.model.listener import DeviceInside, Listener
from underlay.model.ports import PORTS_OPTION
from underlay.modes.exposure import MOST_ADDRESSES, exposed_ports

FOUR, SIX, OWN6 = "10.0.0.5", "fd00::5", "fe80::5"
DEVICE = DeviceInside(7, tuple(map(ip_interface, (f"{FOUR}/24", f"{SIX}/64", OWN6))))


def socket(text, device=0):
    """Read a socket: tcp 80 on [::] as "[::]:80/tcp", for IPv6 only as "v6[::]"."""
    rest, protocol = text.split("/")
    host, _, port = rest.rpartition(":")
    address = ip_address(host.removeprefix("v6").strip("[]"))
    both = address.version == 6 and address.is_unspecified and "v6" not in host
    families = (4, 6) if both else (address.version,)
    return Listener(protocol, int(port), address, families, device)


def shown(sockets, ports="", device=DEVICE, mode="macvlan", parent="eth0", **options):
    """Return each port, where something listens, and from where it is reached."""
    given = {"mode": mode, **({"parent": parent} if parent else {}), **options}
    endpoint = Endpoint("e1", "n1", options={PORTS_OPTION: ports} if ports else {})
    found = exposed_ports(Network("n1", given), endpoint, sockets, device)
    return [
        (
            f"{p.port}->{p.leads_to}/{p.protocol}".replace(
                f"{p.port}->{p.port}/", f"{p.port}/"
            ),
            " ".join(map(str, p.addresses)),
            f"{p.lan} {p.host} {p.containers}",
        )
        for p in found
    ]


ALL, NONE, HOST = "all all all", "none none none", "none all none"
BOTH = f"{FOUR} {SIX} {OWN6}"


@pytest.mark.parametrize(
    ("listening", "where"),
    [
        ("[::]:80/tcp", BOTH),
        ("v6[::]:80/tcp", f"{SIX} {OWN6}"),
        ("0.0.0.0:80/tcp", FOUR),
        (f"{FOUR}:80/udp", FOUR),
        (f"[{SIX}]:80/sctp", SIX),
        ("[ff02::fb]:80/udp", "ff02::fb"),
        ("224.0.0.251:80/udp", "224.0.0.251"),
        ("10.0.0.255:80/udp", "10.0.0.255"),
        ("127.0.0.1:80/tcp", ""),
        ("[::1]:80/tcp", ""),
        ("127.0.0.11:80/udp", ""),
        ("172.17.0.2:80/tcp", ""),  # of another network's device
    ],
)
def test_socket_is_reached_by_the_addresses_it_listens_on(listening, where):
    found = shown([socket(listening)])
    protocol = listening.partition("/")[2]
    assert found == ([(f"80/{protocol}", where, ALL)] if where else [])


def test_socket_that_is_bound_to_another_device_is_left_out():
    assert shown([socket("[::]:80/tcp", device=8)]) == []
    assert shown([socket("[::]:80/tcp", device=7)]) == [("80/tcp", BOTH, ALL)]


EVERY = [socket(f"[::]:{n}/tcp") for n in (22, 80, 9000)] + [socket("[::]:53/udp")]
PORTS = "8080:80/tcp 53:53/udp [127.0.0.1]:9000:9000/tcp [0.0.0.0]:22:22/tcp"


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (
            {},
            [
                ("22/tcp", BOTH, ALL), ("80/tcp", BOTH, ALL),
                ("8080->80/tcp", BOTH, ALL), ("9000/tcp", BOTH, ALL),
                ("53/udp", BOTH, ALL),
            ],
        ),
        (
            {"policy": "published"},
            [
                ("22/tcp", FOUR, ALL), ("22/tcp", f"{SIX} {OWN6}", NONE),
                ("80/tcp", BOTH, ALL), ("8080->80/tcp", BOTH, ALL),
                ("9000/tcp", FOUR, HOST), ("9000/tcp", f"{SIX} {OWN6}", NONE),
                ("53/udp", BOTH, ALL),
            ],
        ),
        (
            {"policy": "closed"},
            [
                ("22/tcp", BOTH, NONE), ("80/tcp", BOTH, NONE),
                ("8080->80/tcp", BOTH, NONE), ("9000/tcp", BOTH, NONE),
                ("53/udp", BOTH, NONE),
            ],
        ),
        (
            {"policy": "published", "allow_from": "10.0.0.0/24"},
            [
                ("22/tcp", FOUR, "allowed allowed allowed"),
                ("22/tcp", f"{SIX} {OWN6}", NONE),
                ("80/tcp", FOUR, "allowed allowed allowed"),
                ("80/tcp", f"{SIX} {OWN6}", NONE),
                ("8080->80/tcp", FOUR, "allowed allowed allowed"),
                ("8080->80/tcp", f"{SIX} {OWN6}", NONE),
                ("9000/tcp", FOUR, HOST), ("9000/tcp", f"{SIX} {OWN6}", NONE),
                ("53/udp", FOUR, "allowed allowed allowed"),
                ("53/udp", f"{SIX} {OWN6}", NONE),
            ],
        ),
        ({"parent": ""}, [(p, a, "none all all") for p, a, _ in [
            ("22/tcp", BOTH, ""), ("80/tcp", BOTH, ""), ("8080->80/tcp", BOTH, ""),
            ("9000/tcp", BOTH, ""), ("53/udp", BOTH, "")]]),
        ({"parent": "", "mode": "routed", "policy": "closed"}, [
            (p, BOTH, NONE)
            for p in ("22/tcp", "80/tcp", "8080->80/tcp", "9000/tcp", "53/udp")]),
        ({"parent": "", "mode": "routed"}, [
            (p, BOTH, ALL)
            for p in ("22/tcp", "80/tcp", "8080->80/tcp", "9000/tcp", "53/udp")]),
    ],
    ids=str,
)  # fmt: skip
def test_policy_decides_from_where_ports_are_reached(options, rows):
    assert shown(EVERY, PORTS, **options) == rows


def test_port_that_leads_to_another_one_hides_what_listens_there():
    sockets = [socket("0.0.0.0:80/tcp"), socket("[::]:8080/tcp")]
    assert shown(sockets, "8080:80/tcp") == [
        ("80/tcp", FOUR, ALL),
        ("8080->80/tcp", FOUR, ALL),
    ]


def test_published_port_where_nothing_listens_is_named():
    sockets = [socket("127.0.0.1:80/tcp"), socket("0.0.0.0:443/tcp")]
    ports = "8080:80/tcp 443:443/tcp [127.0.0.1]:9000:9000/tcp"
    assert shown(sockets, ports, policy="published") == [
        ("443/tcp", FOUR, ALL),
        ("8080->80/tcp", "", ALL),
        ("9000/tcp", "", HOST),
    ]


def test_addresses_that_a_container_gave_itself_are_bounded():
    many = tuple(ip_interface(f"10.0.{n >> 8}.{n & 255}/8") for n in range(1, 5_000))
    last = str(many[-1].ip)
    sockets = [socket("0.0.0.0:80/tcp"), socket(f"{last}:81/tcp")]
    every, one = shown(sockets, device=DeviceInside(7, many))
    assert len(every[1].split()) == MOST_ADDRESSES
    assert one == ("81/tcp", last, ALL)
