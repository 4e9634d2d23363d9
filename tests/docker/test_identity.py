"""One name, one address, one MAC: over everything that ends and starts a container.

These engines tell no names when they ask for an address. What 29 and later do is in
tests/api/test_recordings.py and tests/services/ipam/test_identity.py.
"""

from __future__ import annotations

import os
import time
from itertools import permutations

import pytest

from tests.docker.conftest import GATEWAY4, refused
from tests.lab.service import wait_until

RANGE = ("--ip-range", "10.77.0.128/27")
HEARD_SECONDS = 1
COMPOSE = f"""
services:
  web:
    image: bb
    command: sleep 1000
    init: true
    networks: [lan]
  db:
    image: bb
    command: sleep 1000
    init: true
    networks: {{lan: {{ipv4_address: 10.77.0.150}}}}
networks:
  lan:
    driver: underlay
    driver_opts: {{parent: eth0}}
    ipam:
      driver: underlay
      config: [{{subnet: 10.77.0.0/24, ip_range: 10.77.0.128/27, gateway: {GATEWAY4}}}]
"""


def identity(site, container, network="lan"):
    address, _, mac = site.attached(container, network)
    return address, mac


def is_named(site, container):
    """Return whether the service has learnt the name of a container."""
    facts = site.service.on_record()
    return container in {e["container"] for e in facts["endpoints"]}


def named(site, *containers):
    for container in containers:
        wait_until(lambda c=container: is_named(site, c), 10)


def start_again(site, name, *words):
    """Run a container whose name was there before.

    On a busy machine the service may hear of a new container only after Docker has
    asked for its address: so there is a moment between the two.
    """
    create = ("create", "--name", name, "--network", "lan", *words)
    site.docker(*create, "bb", "sleep", "1000")
    time.sleep(HEARD_SECONDS)
    site.docker("start", name)


@pytest.fixture
def web(site):
    """Return the identity of a container that runs beside another."""
    site.network("lan", *RANGE)
    site.run("other", "lan")
    site.run("web", "lan")
    named(site, "web", "other")
    return identity(site, "web")


def test_restart_keeps_address_and_mac(site, web):
    site.docker("restart", "-t", "0", "web")
    assert identity(site, "web") == web
    site.docker("kill", "web")
    site.docker("start", "web")
    assert identity(site, "web") == web


def test_container_that_is_removed_and_run_again_is_the_same_on_the_lan(site, web):
    site.docker("rm", "-f", "web")
    start_again(site, "web")
    assert identity(site, "web") == web
    site.ping_from_lan(web[0])
    assert site.mac_on_lan(web[0]) == web[1]


def test_network_created_again_gives_the_same_addresses_and_macs(site, web):
    site.run("fixed", "lan", "--ip", "10.77.0.150")
    named(site, "fixed")
    fixed = identity(site, "fixed")
    site.docker("rm", "-f", "web", "fixed", "other")
    site.docker("network", "rm", "lan")
    site.network("lan", *RANGE)
    for name, words, before in (
        ("web", (), web),
        ("fixed", ("--ip", "10.77.0.150"), fixed),
    ):
        start_again(site, name, *words)
        assert identity(site, name) == before


def test_container_replaced_as_watchtower_does_keeps_both(site, web):
    site.docker("stop", "-t", "0", "web")
    site.docker("rename", "web", "old-web")
    site.docker("rm", "old-web")
    start_again(site, "web")
    assert identity(site, "web") == web


# the_same_name_gets_the_same_mac_address_and_client_id,
# claymore666/docker-net-dhcp 0.5.0 (C-5)
def test_containers_that_could_be_mistaken_for_each_other_never_swap(site, web):
    """Two are stopped: each could be the one that starts."""
    site.run("third", "lan")
    named(site, "third")
    other = identity(site, "other")
    site.docker("stop", "-t", "0", "web", "third")
    site.docker("start", "third")
    assert not {*web, *other} & {*identity(site, "third")}
    named(site, "third")
    site.docker("start", "web")
    assert identity(site, "web") == web


def test_death_of_service_and_of_dockerd_changes_nothing(site, web):
    site.service.kill()
    site.service.start()
    site.docker("restart", "-t", "0", "web")
    assert identity(site, "web") == web
    named(site, "web")
    site.docker("rm", "-f", "other")
    site.host.kill_dockerd()
    site.host.start_dockerd()
    site.docker("start", "web")
    assert identity(site, "web") == web


@pytest.mark.parametrize("order", list(permutations(["dynamic", "first", "second"])))
def test_start_order_of_fixed_and_dynamic_containers_does_not_matter(site, order):
    """The dynamic one is given no address that a stopped one asks for."""
    fixed = {"first": "10.77.0.128", "second": "10.77.0.129"}
    site.network("lan", "--ip-range", "10.77.0.128/29")
    for name, address in fixed.items():
        site.docker(
            "run", "-d", "--name", name, "--network", "lan", "--ip", address,
            "bb", "sleep", "1000",
        )  # fmt: skip
    site.run("dynamic", "lan")
    named(site, "dynamic", *fixed)
    before = identity(site, "dynamic")
    names = ("dynamic", *fixed)
    site.docker("stop", "-t", "0", *names)
    for name in order:
        site.docker("start", name)
    assert identity(site, "dynamic") == before
    for name, address in fixed.items():
        assert identity(site, name)[0] == address


@pytest.fixture
def docker_of_the_host(newest, monkeypatch, tmp_path):
    """The docker command of the lab host, for commands of the service there."""
    command = tmp_path / "docker"
    enter = "exec nsenter --target 1 --mount --root"
    command.write_text(f'#!/bin/sh\n{enter} docker "$@"\n')
    command.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    monkeypatch.setitem(newest.service.env, "PATH", path)


@pytest.mark.usefixtures("docker_of_the_host")
def test_addresses_of_a_compose_file_are_reserved_before_anything_starts(newest):
    newest.host.run("sh", "-c", "cat > /tmp/shop.yaml", input=COMPOSE)
    done = newest.service.run("reserve", "--compose", "/tmp/shop.yaml")
    assert done.stdout == "reserved 10.77.0.150 for tmp-db-1\n"
    newest.network("lan", "--ip-range", "10.77.0.150/32")
    try:
        run = ("run", "--rm", "--network", "lan", "bb", "true")
        assert "kept for containers" in refused(newest.docker(*run, check=False))
    finally:
        newest.service.run("unreserve", "10.77.0.150")
    newest.docker(*run)


@pytest.mark.parametrize("engine", ["26.1", "28.5"])  # Debian ships compose for these
def test_compose_down_and_up_keeps_addresses_and_macs(sites, engine):
    site = sites(engine)
    site.host.run("sh", "-c", "cat > /tmp/id.yaml", input=COMPOSE)
    compose = ("compose", "-p", "id", "-f", "/tmp/id.yaml")
    create = (*compose, "create", "--pull", "never")
    names = ("id-web-1", "id-db-1")

    def up(*words):
        site.docker(*create, *words)
        time.sleep(HEARD_SECONDS)
        site.docker(*compose, "start")

    try:
        up()
        named(site, *names)
        before = {name: identity(site, name, "id_lan") for name in names}
        for again in (
            lambda: up("--force-recreate"),
            lambda: site.docker(*compose, "restart"),
        ):
            again()
            assert {n: identity(site, n, "id_lan") for n in names} == before
            named(site, *names)
        site.docker(*compose, "down", "-t", "0")
        up()
        assert {n: identity(site, n, "id_lan") for n in names} == before
    finally:
        site.docker(*compose, "down", "-t", "0")
        site.clear()
        site.assert_nothing_left()
