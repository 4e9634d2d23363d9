"""Names of devices, in the container and in the host, on real engines."""

from __future__ import annotations

import re

import pytest

from tests.docker.conftest import IPAM, refused
from tests.docker.routing import FOUR
from tests.docker.site import is_settled
from tests.lab.service import wait_until

DOCKERS_KEY = "com.docker.network.endpoint.ifname"
OTHER = {"subnet": "10.79.0.0/24", "gateway": "10.79.0.1"}


def inside(site, container, *words, check=True):
    """Run a command of the machine, whose `ip` knows alternative names."""
    net = f"--net=/proc/{site.host.pid_of(container)}/ns/net"
    return site.host.outer_run("nsenter", net, *words, check=check).stdout


def named(site, container, name, check=True):
    """Return the device that a name means in a container: its real name."""
    shown = inside(site, container, "ip", "-o", "link", "show", name, check=check)
    found = re.match(r"\d+: ([^@:]+)", shown)
    return found and found[1]


def awaits(site, container, name, device):
    wait_until(lambda: named(site, container, name, check=False) == device, 40)


def attach(site, container, network, *words):
    """Attach a container as it starts: `--network` of 20.10 takes options alike."""
    options = ",".join((f"name={network}", *(f"driver-opt={w}" for w in words)))
    site.docker(
        "run", "-d", "--name", container, "--network", options, "bb", "sleep", "1000"
    )


@pytest.mark.parametrize("key", ["ifname", DOCKERS_KEY])
def test_device_has_the_name_asked_for_its_endpoint(site, key):
    site.network("lan")
    attach(site, "web", "lan", f"{key}=lan0")
    assert named(site, "web", "lan0") == "lan0"
    site.docker("restart", "-t0", "web")
    assert named(site, "web", "lan0") == "lan0"
    wait_until(lambda: is_settled(site), 40)
    assert "altname" not in inside(site, "web", "ip", "link")


def test_names_of_two_networks_are_exact_side_by_side(site):
    site.network("lan", "-o", "ifname=lan0")
    site.network("dmz", "-o", "ifname=lan1", **OTHER)
    site.run("web", "lan")
    site.docker("network", "connect", "dmz", "web")
    assert [named(site, "web", f"lan{n}") for n in (0, 1)] == ["lan0", "lan1"]
    assert named(site, "web", "eth0", check=False) is None


def test_other_name_is_an_alternative_one_that_is_kept(site):
    """Docker numbers every name; tools find the device by the other one as well."""
    site.network("lan", "-o", "ifname=uplink")
    before = len(site.service.log)
    site.run("web", "lan")
    awaits(site, "web", "uplink", "eth0")
    inside(
        site, "web", "ip", "link", "property", "del", "dev", "eth0", "altname", "uplink"
    )
    awaits(site, "web", "uplink", "eth0")
    inside(site, "web", "ip", "link", "del", "eth0")  # repaired with its name
    awaits(site, "web", "uplink", "eth0")
    assert site.service.log[before:].count("ifname=uplink") == 1
    site.docker("network", "disconnect", "lan", "web")
    site.docker("network", "connect", "lan", "web")
    awaits(site, "web", "uplink", "eth0" if gives_lowest_number(site) else "eth1")


def gives_lowest_number(site):
    """Tell whether Docker gives the lowest free number, as engines from 28 on do."""
    return not site.host.engine.startswith(("20.", "26."))


def test_name_in_use_is_left_out_and_said_once_until_it_is_free(site):
    site.network("lan", "-o", "ifname=uplink")
    site.docker("network", "create", "own")
    site.run("web", "own")
    inside(
        site,
        "web",
        *["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "far"],
    )
    before = len(site.service.log)
    site.docker("network", "connect", "lan", "web")
    wait_until(lambda: "is in use" in site.service.log[before:], 40)
    site.service.run("reconcile")
    assert site.service.run("plan").stdout == "nothing to do\n"
    assert site.service.log[before:].count("is in use") == 1
    assert named(site, "web", "uplink") == "uplink"
    (endpoint,) = site.service.on_record()["endpoints"]
    assert endpoint["health"] == "ok"
    inside(site, "web", "ip", "link", "del", "uplink")
    awaits(site, "web", "uplink", "eth1")


def test_unusable_name_is_refused(site):
    site.network("lan")
    done = site.docker(
        "network", "create", "-d", "underlay", "-o", "ifname=a/b", "bad", check=False
    )
    assert "E-101 ifname='a/b' is not valid: " in refused(done)
    done = site.docker(
        "run", "--rm", "--network",
        f"name=lan,driver-opt=ifname=lan0,driver-opt={DOCKERS_KEY}=lan1", "bb", "true",
        check=False,
    )  # fmt: skip
    assert f"E-104 ifname=lan0 and {DOCKERS_KEY}=lan1 cannot be" in refused(done)


def test_options_of_docker_without_effect_are_named(site):
    before = len(site.service.log)
    site.network("lan", "-o", "com.docker.network.bridge.name=br-lan")
    attach(site, "web", "lan", "com.docker.network.endpoint.ifnam=lan0")
    said = site.service.log[before:]
    assert "options=com.docker.network.bridge.name" in said
    assert "options=com.docker.network.endpoint.ifnam" in said
    assert said.count("options without effect") == 2
    facts = site.service.on_record()
    (network,), (endpoint,) = facts["networks"], facts["endpoints"]
    assert network["ignored_options"] == ["com.docker.network.bridge.name"]
    assert endpoint["ignored_options"] == ["com.docker.network.endpoint.ifnam"]


@pytest.fixture
def plain_bridge(site):
    site.host.outer_run("ip", "link", "add", "br9", "type", "bridge")
    site.host.outer_run("ip", "link", "set", "br9", "up")
    yield
    site.clear()
    site.host.outer_run("ip", "link", "del", "br9")


ON_BRIDGE = ("-o", "bridge=br9", "--subnet", "10.78.0.0/24", "--gateway", "10.78.0.1")
WAYS = {"bridge": ON_BRIDGE, "routed": ("-o", "mode=routed", *FOUR)}


def made(site, way):
    words = ("network", "create", "-d", "underlay", *IPAM, *WAYS[way], "lan")
    site.docker(*words)


def device_called(site, name):
    """Return the host's device of this name, and what `ip` shows of it."""
    done = site.host.outer_run("ip", "-o", "link", "show", name, check=False)
    found = re.match(r"\d+: ([^@:]+)", done.stdout)
    return (found[1], done.stdout) if found else ("", "")


def in_host(site, name):
    wait_until(lambda: device_called(site, name)[0], 40)
    return device_called(site, name)[0]


@pytest.mark.usefixtures("plain_bridge")
@pytest.mark.parametrize("way", WAYS)
def test_device_in_the_host_is_found_by_the_containers_name(site, way):
    made(site, way)
    site.run("web", "lan")
    device = in_host(site, "ul-web")
    assert re.fullmatch("ul-[0-9a-f]{12}", device)
    site.docker("rename", "web", "api")
    assert in_host(site, "ul-api") == device
    wait_until(lambda: device_called(site, "ul-web")[0] == "", 40)
    site.docker("restart", "-t0", "api")
    wait_until(lambda: device_called(site, "ul-api")[0] not in ("", device), 40)
    site.host.outer_run(
        "ip", "link", "property", "del", "dev", "ul-api", "altname", "ul-api"
    )
    assert in_host(site, "ul-api")
    assert site.service.run("plan").stdout == "nothing to do\n"
    site.docker("rm", "-f", "api")
    wait_until(lambda: device_called(site, "ul-api")[0] == "", 40)


@pytest.mark.usefixtures("plain_bridge")
def test_name_that_the_host_uses_is_left_out_and_said_once(site):
    made(site, "bridge")
    words = ("dev", "eth0", "altname", "ul-web")
    site.host.outer_run("ip", "link", "property", "add", *words)
    before = len(site.service.log)
    site.run("web", "lan")
    wait_until(lambda: "altname=ul-web" in site.service.log[before:], 40)
    for _ in range(3):
        site.service.run("reconcile")
    assert site.service.run("plan").stdout == "nothing to do\n"
    assert site.service.log[before:].count("altname=ul-web") == 1
    assert device_called(site, "ul-web")[0] == "eth0"
    (endpoint,) = site.service.on_record()["endpoints"]
    assert endpoint["health"] == "ok"
    site.host.outer_run("ip", "link", "property", "del", *words)
    site.service.run("reconcile")
    assert in_host(site, "ul-web").startswith("ul-")
