"""The name of a network in the status, from the first moment on a real engine."""

from __future__ import annotations

import time

import pytest

from tests.docker.conftest import GATEWAY4, make_site
from tests.lab.service import wait_until


@pytest.fixture(scope="module")
def unhurried(lan):
    """A site whose service asks Docker only when something happens."""
    made = make_site(lan, "named", "28.5", 23, period=600)
    yield made
    made.host.close()


def names(site):
    return [network["name"] for network in site.service.status()["networks"]]


def test_name_of_a_new_network_is_known_before_an_administrator_can_ask(unhurried):
    took = []
    for number in range(3):
        time.sleep(1.2)  # Docker is asked once a second at most
        name = f"net{number}"
        subnet = f"10.78.{number}.0/24"
        unhurried.network(
            name, subnet=subnet, gateway=GATEWAY4.replace("77.0", f"78.{number}")
        )
        began = time.monotonic()
        wait_until(lambda name=name: name in names(unhurried), 5)
        took.append(time.monotonic() - began)
    assert sorted(took)[1] < 0.3, took
    shown = unhurried.service.run("network", "ls").stdout
    assert all(f"net{number}  " in shown for number in range(3))
    unhurried.clear()


def test_hostile_names_that_docker_accepts_are_shown_escaped(unhurried):
    name = "<script>x</script>\x1b[2J\nlevel=error"
    label = ("--label", "<b>x\x1b[2J=\n1", "-o", "com.docker.note=</svg><b>\x1b[2J")
    unhurried.network(name, *label)
    wait_until(lambda: name in names(unhurried), 5)
    (network,) = unhurried.service.status()["networks"]
    unhurried.run("web", network["id"], "--label", "<i>\x1b[2J=x")
    service = unhurried.service
    page = service._get("/run/underlay/status.sock", "/", parse=str)
    assert "&lt;script&gt;x&lt;/script&gt;\\x1b[2J\\nlevel=error" in page
    told = page + service.metrics() + service.log + service.run("status").stdout
    told += service.run("network", "show", name).stdout
    assert {c for c in told if not c.isprintable()} <= {"\n"}
    assert "<script" not in page
    unhurried.clear()
