"""Names of the outside in containers without a default route, on real engines.

Docker's own name server in a container forwards from the container's namespace. Where
no network of it gives a default route, engines differ in what they do with the host's
name servers; one given with --dns that is on the segment is asked by all of them.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.docker.conftest import GATEWAY4
from tests.lab.service import wait_until

NAME, ADDRESS = "outside.example", "192.0.2.7"
SERVER = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{GATEWAY4}", 53))
print("up", flush=True)
while True:
    asked, who = s.recvfrom(512)
    end = asked.index(0, 12) + 5
    is_a = asked[end - 4 : end] == bytes((0, 1, 0, 1))
    head = asked[:2] + bytes((0x85, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0))
    record = bytes((0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4))
    record += socket.inet_aton("{ADDRESS}")
    s.sendto(head + asked[12:end] + record * is_a, who)
"""
NO_WAY = ("gateway=none", "default_route=no")
SAID = "resolves outside names only with --dns and a name server"


@pytest.fixture(autouse=True)
def name_server(lan):
    """A name server on the LAN itself, which a container reaches without a router."""
    command = sys.executable, "-c", SERVER
    with lan.start(*command, stdout=subprocess.PIPE) as started:
        started.stdout.readline()
        yield
        started.kill()


def resolves(site, container):
    done = site.host.exec(container, "nslookup", NAME, check=False)
    return ADDRESS in done.stdout


@pytest.mark.parametrize("option", NO_WAY)
def test_name_server_of_the_segment_is_asked_without_a_default_route(site, option):
    before = len(site.service.log)
    site.network("lan", "-o", option)
    assert SAID in site.service.log[before:]
    site.run("web", "lan", "--dns", GATEWAY4)
    assert "default" not in site.in_container("web", "ip", "route")
    assert resolves(site, "web")


def test_names_are_resolved_by_another_network_that_leads_out(site):
    site.network("lan", "-o", "default_route=no")
    site.docker("network", "create", "out")
    site.run("web", "out", "--dns", GATEWAY4)
    site.docker("network", "connect", "lan", "web")
    assert resolves(site, "web")


def test_network_with_a_way_out_causes_no_warning(site):
    before = len(site.service.log)
    site.network("lan")
    site.network("apart", "--internal", subnet="10.79.0.0/24", gateway="10.79.0.1")
    assert SAID not in site.service.log[before:]


def test_running_containers_are_in_the_file_for_name_servers(site):
    site.network("lan")
    site.run("web_1", "lan")
    address = site.attached("web_1", "lan")[0]
    path = "/run/underlay/hosts/containers"

    def listed():
        return site.host.run("cat", path, check=False).stdout.splitlines()[1:]

    wait_until(lambda: listed() == [f"{address} web-1 web-1.lan"], 10, listed)
    site.docker("rm", "-f", "web_1")
    wait_until(lambda: listed() == [], 10, listed)
