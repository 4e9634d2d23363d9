"""The examples of the documentation, run on real engines as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docker.conftest import LAN4

GUIDE = Path(__file__).parents[2] / "docs/examples.md"
# Debian ships compose for these.
HOSTS = {"the first host": "26.1", "the second host": "28.5"}


def example(name):
    """Return the block of the guide that begins with a comment of this name."""
    text = GUIDE.read_text().replace("192.168.1.", LAN4.removesuffix("0/24"))
    (found,) = re.findall(rf"```\w+\n# {name}\n(.*?)```", text, re.DOTALL)
    return found


@pytest.fixture(params=HOSTS.values())
def host(request, sites):
    found = sites(request.param)
    found.docker("tag", "bb", "busybox")
    yield found
    found.clear()
    found.assert_nothing_left()


@pytest.fixture
def two_hosts(sites):
    found = {name: sites(engine) for name, engine in HOSTS.items()}
    for site in found.values():
        site.docker("tag", "bb", "busybox")
    yield found
    for site in found.values():
        site.clear()
        site.assert_nothing_left()


def up(site, project):
    """Start a project of the guide; return the command that ends it."""
    text = example(f"{project}/compose.yaml")
    file = f"/tmp/{project}.yaml"
    site.host.run("sh", "-c", f"cat >{file}", input=text)
    compose = ("compose", "-p", project, "-f", file)
    site.docker(*compose, "up", "-d", "--pull", "never")
    return (*compose, "down", "-t", "0")


def fetched(site, container, server):
    """Return the file /etc/hostname of a server, as a container gets it."""
    return site.in_container(container, "wget", "-qO-", f"http://{server}/hostname")


def hostname(site, container):
    return site.in_container(container, "cat", "/etc/hostname")


def test_proxy_on_the_lan_reaches_the_database_that_the_lan_does_not(host):
    down = up(host, "shop")
    try:
        proxy = host.attached("shop-proxy-1", "shop_lan")[0]
        assert proxy == LAN4.replace("0/24", "200")
        host.ping_from_lan(proxy)
        host.host.run("ping", "-c1", "-W3", proxy)
        assert fetched(host, "shop-proxy-1", "db:5432") == hostname(host, "shop-db-1")
        database = host.attached("shop-db-1", "shop_inside")[0]
        assert not host.reached_from_lan(database)
    finally:
        host.docker(*down)


def test_containers_of_two_hosts_are_neighbours_with_ranges_of_their_own(two_hosts):
    downs, addresses = {}, {}
    try:
        for name, site in two_hosts.items():
            site.host.run("sh", "-ec", example(name))
            downs[name] = up(site, "site")
            addresses[name] = site.attached("site-web-1", "lan")[0]
        assert [a.rpartition(".")[2] for a in addresses.values()] == ["64", "96"]
        for name, site in two_hosts.items():
            (other,) = addresses.keys() - {name}
            theirs = hostname(two_hosts[other], "site-web-1")
            assert fetched(site, "site-web-1", addresses[other]) == theirs
    finally:
        for name, down in downs.items():
            two_hosts[name].docker(*down)
