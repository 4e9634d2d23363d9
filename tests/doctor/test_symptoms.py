"""The fifteen symptoms that users report most, and what tells them the cause here.

Each is brought about on a real host of a namespace, and the check that explains it must
say more than "ok"; or it is refused when the network is created, with its error.
"""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from tests.fakes import Clock, ipam_on
from tests.lab import net
from underlay import errors
from underlay.model import Endpoint, LearnedState, Subnet
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerNetwork,
    DockerView,
)
from underlay.model.ports import PORTS_OPTION

FOUR = Subnet(ip_network("10.9.0.0/24"), ip_interface("10.9.0.1").ip)
LAN = DockerNetwork("lan", "lan", "default", (), ours=True)


def container(bench, **facts):
    found = Endpoint("e1", "lan", ipv4=ip_interface("10.9.0.5/24"), **facts)
    with bench.records.transaction():
        bench.records.endpoints.add(found)
        bench.records.endpoints.join("e1", "/run/docker/netns/x")
        if found.learned:
            bench.records.endpoints.save_learned(
                replace(found, sandbox="/run/docker/netns/x")
            )


def no_host_access(bench):
    bench.network("lan", "eth0", (FOUR,), host_access="off")


def subnet_twice(bench):
    bench.network("lan", "eth0", (FOUR,))
    net.ip("addr add 10.9.0.9/24 dev wire0")


def busy_parent(bench):
    bench.network("lan", "eth0", (FOUR,), mode="ipvlan")
    net.ip("link add foreign0 link eth0 type macvlan")


def removed_container(bench):
    bench.network("lan", "eth0", (FOUR,))
    container(bench)
    bench.given["ask_docker"] = lambda: DockerView((LAN,), {}, frozenset())


def full_pool(bench):
    ipam = ipam_on(bench.records, Clock())
    pool = ipam.request_pool("10.9.0.0/30", "", {}, 4)
    for _ in range(2):
        ipam.request_address(pool.id, "", "")


def dead_socket(bench):
    path = bench.given["places"].plugin_socket
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))


def missing_parent(bench):
    bench.network("lan", "gone0", (FOUR,))


def mac_twice(bench):
    bench.network("lan", "eth0", (FOUR,))
    container(bench, mac=bench.given["kernel"].device("eth0").mac)


def access_point(bench):
    (bench.folder / "dmi").mkdir()
    (bench.folder / "dmi/sys_vendor").write_text("VMware, Inc.\n")
    bench.network("lan", "eth0", (FOUR,))


def no_carrier(bench):
    bench.network("lan", "eth0", (FOUR,))
    net.ip("link set wire0 down")


def slow_bridge(bench):
    net.ip("link add br0 type bridge stp_state 1", "link set br0 up")
    bench.network("lan", "br0", (FOUR,), bridge="br0")


def no_default_route(bench):
    bench.network("lan", "eth0", (FOUR,))
    container(bench, learned=LearnedState("eth0", 1500))


def published_port(bench):
    bench.network("lan", "eth0", (FOUR,), policy="closed")
    container(bench, options={PORTS_OPTION: "80:80/tcp"})
    web = DockerEndpoint("e1", "c1", "web", "", ())
    lan = replace(LAN, endpoints=(web,))
    bench.given["ask_docker"] = lambda: DockerView((lan,), {}, frozenset())
    found = DockerContainer("", {"lan": {}}, {})
    bench.given["ask_containers"] = lambda ids: dict.fromkeys(ids, found)


def lost_ipv6(bench):
    bench.network("lan", "eth0", (FOUR,))
    net.ip("addr add fd05::5/64 dev eth0 valid_lft 1000 preferred_lft 900 nodad")
    keys = "all/forwarding", "eth0/accept_ra"
    for key in keys:
        command = f"echo 1 > /proc/sys/net/ipv6/conf/{key}"
        subprocess.run(["sh", "-c", command], check=True)


# The symptom as users paste it, how it comes about, and the check that explains it.
SYMPTOMS = [
    ("host cannot ping its container", no_host_access, "host-access"),
    ("Pool overlaps with other one on this address space", subnet_twice, "host-routes"),
    ("device or resource busy", busy_parent, "parent-use"),
    ("network has active endpoints", removed_container, "docker-list"),
    ("no available IPv4 addresses on this network's pools", full_pool, "pools"),
    ("Unable to locate plugin: underlay, retrying", dead_socket, "sockets"),
    ("parent interface was not found", missing_parent, "parents"),
    ("unreachable for minutes after it was created again", mac_twice, "same-macs"),
    ("reaches its siblings, but nothing beyond the switch", access_point, "hardware"),
    ("LOWERLAYERDOWN after a restart of the network", no_carrier, "parents"),
    ("DHCP: timed out waiting for a lease", slow_bridge, "parent-use"),
    ("no default route, or a wrong one", no_default_route, "default-routes"),
    ("published ports are ignored", published_port, "published-ports"),
    ("the host loses IPv6 after the install", lost_ipv6, "router-advertisements"),
]  # fmt: skip


@pytest.mark.needs("macvlan")
@pytest.mark.parametrize(
    ("bring_about", "check"),
    [symptom[1:] for symptom in SYMPTOMS],
    ids=[symptom[0] for symptom in SYMPTOMS],
)
def test_check_explains_the_symptom(bench, bring_about, check):
    assert bench.result(check).level == "ok", "before it is brought about"
    bring_about(bench)
    result = bench.result(check)
    assert result.level != "ok"
    assert all(f.where and f.what and f.why and f.remedy for f in result.findings)


@pytest.mark.parametrize(
    "error",
    [errors.UnknownOption, errors.BadMac, errors.Overlap, errors.MixedChildTypes],
)
def test_symptom_of_options_that_do_nothing_is_refused_at_create(error):
    """The fifteenth: operation not supported on a MAC, a typing error, a wrong kind.

    Nothing is left for a check to find: the network was never created.
    """
    assert error.status in (400, 409)
    assert error.id in {"E-100", "E-145", "E-110", "E-120"}
