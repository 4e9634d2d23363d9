"""The image and the managed plugin, built by their scripts and used by containers."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4, LAN4, Site
from tests.lab import rootfs, wheels
from tests.lab.host import Host
from tests.lab.service import Service, wait_until
from underlay import __version__

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/install.md").read_text()
ENGINES = [pytest.param("26.1", marks=pytest.mark.long), "28.5"]
BASE = "base"
# With its tag: Docker finds the driver of a managed plugin by its whole name only.
PLUGIN = "underlay:latest"


@pytest.fixture(scope="module", params=ENGINES)
def built(request, lan, tmp_path_factory):
    """A host with the image of this tree, and what a script needs to make it."""
    with Host(lan, f"i{request.param.replace('.', '')}", request.param, 7) as host:
        host.start_dockerd()
        host.load_image()
        host.docker("import", f"/outer{rootfs.image_base()}", BASE)
        site = Site(host, Service(host))
        client = tmp_path_factory.mktemp("client")
        (client / "docker").symlink_to(rootfs.root(request.param) / "usr/bin/docker")
        make(site, "image", client)
        yield site, client


def make(site, script, client):
    found = wheels.needed(rootfs.bare(rootfs.IMAGE_SUITE))
    environment = {
        "PATH": f"{client}:{os.environ['PATH']}",
        "BASE": BASE,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(found),
        **{k: v for k, v in os.environ.items() if k.startswith("UNDERLAY_")},
    }
    site.host.outer_run(str(ROOT / "script" / script), env=environment, timeout=240)


@pytest.fixture
def site(built):
    return built[0]


@pytest.fixture
def contained(site):
    """The service in a container, by the line of the guide."""
    (line,) = re.findall(r"^docker run (?:.*\\\n)*.*underlay:.*$", GUIDE, re.MULTILINE)
    site.host.run("sh", "-ec", line)
    wait_until(lambda: site.service.healthz(), 20)
    yield site
    others = set(site.docker("ps", "-a", "--format", "{{.Names}}").stdout.split())
    for name in others - {"underlay"}:
        site.docker("rm", "-f", name)
    site.docker("network", "rm", "lan")
    assert_nothing_left(site)
    site.docker("rm", "-f", "underlay")


@pytest.fixture
def plugged(built):
    """The service as a managed plugin, which is enabled."""
    site, client = built
    make(site, "plugin", client)
    site.docker("plugin", "enable", PLUGIN)
    yield site
    site.clear()
    assert_nothing_left(site)
    site.docker("plugin", "rm", "-f", PLUGIN)


def assert_nothing_left(site):
    """Ask its status socket: the records are where no program of the machine is."""

    def left():
        facts = site.service.status()
        found = facts["networks"], facts["endpoints"], facts["pools"]
        return [*chain(*found), *site.our_links()]

    wait_until(lambda: not left(), 10, left)


def plugin_network(site):
    site.docker(
        "network", "create", "-d", PLUGIN, "--ipam-driver", PLUGIN,
        "-o", "parent=eth0", "--subnet", LAN4, "--gateway", GATEWAY4, "lan",
    )  # fmt: skip


def test_container_of_the_guide_gives_others_the_lan(contained):
    contained.network("lan")
    contained.run("web", "lan", "--restart", "always")
    address = contained.attached("web", "lan")[0]
    contained.ping_from("web", GATEWAY4)
    contained.ping_from("web", contained.host.ipv4)
    contained.ping_from_lan(address)
    wait_until(lambda: names(contained) == {"web"}, 10, lambda: names(contained))
    # What is lost inside a container is made again: it enters their namespaces.
    contained.host.run(
        "nsenter", f"--net=/proc/{contained.host.pid_of('web')}/ns/net",
        "ip", "route", "del", "default",
    )  # fmt: skip
    wait_until(lambda: "default" in contained.in_container("web", "ip", "route"), 10)
    contained.docker("restart", "underlay")
    contained.ping_from("web", GATEWAY4)
    wait_until(lambda: contained.service.healthz(), 20)
    contained.run("db", "lan")
    contained.ping_from("db", GATEWAY4)


def test_image_names_its_version_and_has_no_wheels(site):
    version = site.docker("run", "--rm", f"underlay:{__version__}", "version").stdout
    assert __version__ in version
    words = ("--entrypoint", "ls", f"underlay:{__version__}", "/")
    assert "wheels" not in site.docker("run", "--rm", *words).stdout


def test_plugin_gives_containers_the_lan_and_survives_being_disabled(plugged):
    plugin_network(plugged)
    plugged.run("web", "lan", "--restart", "always")
    plugged.ping_from("web", GATEWAY4)
    plugged.ping_from("web", plugged.host.ipv4)
    (network,) = plugged.service.status()["networks"]
    before = plugged.attached("web", "lan")
    assert network["name"] == "lan"

    refusal = plugged.docker("plugin", "disable", PLUGIN, check=False)
    assert "in use" in refusal.stderr
    plugged.docker("plugin", "disable", "-f", PLUGIN)
    plugged.ping_from("web", GATEWAY4)  # the kernel needs no service
    plugged.docker("plugin", "enable", PLUGIN)
    assert plugged.attached("web", "lan") == before
    plugged.run("db", "lan")
    plugged.ping_from("db", plugged.host.ipv4)
    # What Docker lists under the plugin's name is not taken for what Docker forgot.
    wait_until(lambda: names(plugged) == {"web", "db"}, 10, lambda: names(plugged))


def names(site):
    return {e["container"] for e in site.service.status()["endpoints"]}


def test_containers_on_the_plugin_are_back_after_a_restart_of_docker(plugged):
    plugin_network(plugged)
    address = LAN4.replace("0/24", "60")
    plugged.run("web", "lan", "--restart", "always", "--ip", address)
    plugged.host.stop_dockerd()
    plugged.host.start_dockerd()
    assert plugged.attached("web", "lan")[0] == address
    plugged.ping_from("web", GATEWAY4)
    wait_until(lambda: names(plugged) == {"web"}, 10, lambda: names(plugged))
