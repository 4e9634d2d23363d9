"""What listens in the containers on record, as facts; and the policy of an endpoint."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, ip_interface

import pytest

from underlay.api import ports, status
from underlay.api.exposure import exposure
from underlay.errors import NotAllowed
from underlay.model import Endpoint, Network, Subnet
from underlay.model.listener import DeviceInside, Listener, Listening
from underlay.model.owner import Owner
from underlay.model.ports import PORTS_OPTION

LAN = Network("n1", {"parent": "eth0", "policy": "published"})
ANY = IPv4Address(0)


@pytest.fixture
def recorded(records):
    """Records of `web` and `db`, each in a sandbox of its own."""
    with records.transaction():
        records.networks.add(LAN)
        records.networks.rename("n1", "lan")
        for name in ("web", "db"):
            options = {PORTS_OPTION: "80:80/tcp"}
            records.endpoints.add(Endpoint(name * 10, "n1", options=options))
            records.endpoints.join(name * 10, f"/run/netns/{name}")
        records.endpoints.name_container("web" * 10, "web")
    return records


def room(name, *listeners):
    device = DeviceInside(7, (ip_interface("10.0.0.5/24"),))
    return Listening(frozenset(listeners), {Owner("n1", name * 10).mark: device})


def test_each_running_container_has_a_row_for_each_port(recorded):
    rooms = {
        "/run/netns/web": room("web", Listener("tcp", 80, ANY, (4,))),
        "/run/netns/db": room("db", Listener("udp", 53, ANY, (4,))),
    }
    found = exposure(recorded, rooms.__getitem__)
    assert [(r["container"], r["port"], r["listens"], r["lan"]) for r in found] == [
        ("dbdbdbdbdbdb", 80, False, "all"),
        ("dbdbdbdbdbdb", 53, True, "none"),
        ("web", 80, True, "all"),
    ]
    assert found[2] == {
        "container": "web", "network": "lan", "policy": "published",
        "protocol": "tcp", "port": 80, "leads_to": 80, "addresses": ["10.0.0.5"],
        "allow_from": [], "lan": "all", "host": "all", "containers": "all",
        "listens": True,
    }  # fmt: skip


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EINVAL])
def test_container_that_is_gone_meanwhile_is_left_out(recorded, code):
    def look(path):
        if path.endswith("db"):
            raise OSError(code, "gone")
        return room("web")

    assert {row["container"] for row in exposure(recorded, look)} == {"web"}


def test_device_that_is_not_there_is_left_out(recorded):
    assert exposure(recorded, lambda _: Listening()) == []


def test_container_that_left_is_not_looked_into(recorded):
    with recorded.transaction():
        for name in ("web", "db"):
            recorded.endpoints.leave(name * 10)
    assert exposure(recorded, lambda path: pytest.fail(path)) == []


def test_look_that_the_kernel_refuses_is_an_error(recorded):
    def look(path):
        raise PermissionError(errno.EPERM, path)

    with pytest.raises(NotAllowed, match="looking into /run/netns/"):
        exposure(recorded, look)


PORTS = "8080:80/tcp 53:53/udp [127.0.0.1]:9000:9000/tcp [::]:22:22/tcp"


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (
            {},
            [
                "8080/tcp leads to 80: open as every port is",
                "53/udp: open as every port is",
                "9000/tcp (IPv4): open as every port is, not only for this host",
                "22/tcp (IPv6): open as every port is",
            ],
        ),
        (
            {"policy": "published"},
            [
                "8080/tcp leads to 80: open to all",
                "53/udp: open to all",
                "9000/tcp (IPv4): open to this host only",
                "22/tcp (IPv6): open to all",
            ],
        ),
        (
            {"policy": "published", "allow_from": "10.0.0.0/8,fd00::/8"},
            [
                "8080/tcp leads to 80: open to 10.0.0.0/8 and fd00::/8",
                "53/udp: open to 10.0.0.0/8 and fd00::/8",
                "9000/tcp (IPv4): open to this host only",
                "22/tcp (IPv6): open to 10.0.0.0/8 and fd00::/8",
            ],
        ),
        (
            {"policy": "closed"},
            [
                "8080/tcp leads to 80: closed",
                "53/udp: closed",
                "9000/tcp (IPv4): closed",
                "22/tcp (IPv6): closed",
            ],
        ),
    ],
    ids=str,
)
def test_published_ports_say_what_they_mean_under_a_policy(options, texts):
    web = Endpoint("e1", "n1", options={PORTS_OPTION: PORTS})
    facts = ports.of_endpoint(Network("n1", {"parent": "eth0", **options}), web)
    assert [port["text"] for port in facts["ports"]] == texts


def test_endpoint_in_the_status_has_its_policy(records):
    options = {"policy": "published", "egress": "subnet", "ping": "off"}
    with records.transaction():
        subnet = Subnet(ip_interface("10.0.0.0/24").network)
        records.networks.add(
            Network("n1", {"parent": "eth0", **options}, subnets=(subnet,))
        )
        own = {"allow_from": "10.0.0.9", PORTS_OPTION: "8080:80/tcp"}
        records.endpoints.add(Endpoint("e1", "n1", options=own))
    (facts,) = status.endpoints(records)
    shown = ("policy", "allow_from", "egress", "ping", "strict")
    assert {k: facts[k] for k in shown} == {
        "policy": "published",
        "allow_from": ["10.0.0.9/32"],
        "egress": "subnet",
        "ping": False,
        "strict": False,
    }
    assert facts["ports"] == [
        {
            "protocol": "tcp", "port": 8080, "leads_to": 80, "ip_families": [4, 6],
            "host_only": False, "text": "8080/tcp leads to 80: open to 10.0.0.9/32",
        }
    ]  # fmt: skip
