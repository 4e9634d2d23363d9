"""Engines, and what they list, against the records."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from underlay.docker_sync.dockerd import _engine
from underlay.model import Endpoint
from underlay.model.docker import (
    DockerContainer,
    DockerEndpoint,
    DockerEngine,
    DockerNetwork,
    DockerView,
    FailedStart,
)
from underlay.model.ports import PORTS_OPTION

LAN = DockerNetwork("lan", "lan", "default", (), ours=True)
WEB = DockerEndpoint("e" * 64, "c" * 64, "web", "", ())


def view(*networks, **endpoints):
    return lambda: DockerView(networks, endpoints, frozenset())


def no_answer():
    raise OSError("dockerd does not answer")


def engine(bench, version, **facts):
    return bench.check("engine", ask_engine=lambda: DockerEngine(version, **facts))


@pytest.mark.parametrize("version", ["20.10.24", "26.1.5", "28.5.2", "29.0.3", "30.1"])
def test_supported_engines_pass(bench, version):
    assert engine(bench, version) == ()


@pytest.mark.parametrize("version", ["29.0.0", "29.0.1", "29.0.2"])
def test_engines_known_to_crash_fail(bench, version):
    (found,) = engine(bench, version)
    assert found.level == "failure"
    assert "upgrade to 29.0.3" in found.remedy


def test_engine_older_than_any_that_was_tested_warns(bench):
    (found,) = engine(bench, "19.03.15")
    assert found.level == "warning"


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"OperatingSystem": "Docker Desktop"}, "this is Docker Desktop"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "it runs rootless"),
    ],
)
def test_docker_desktop_and_rootless_are_told_in_one_sentence(bench, info, said):
    told = _engine({"ServerVersion": "28.5.2", **info})
    (found,) = bench.check("engine", ask_engine=lambda: told)
    assert (found.level, found.what) == ("failure", said)
    assert "no driver can put a container" in found.why


def test_dockerd_that_does_not_answer_is_a_warning(bench):
    (found,) = bench.check("engine", ask_engine=no_answer)
    assert (found.level, found.where) == ("warning", "dockerd")
    for check in ("docker-list", "published-ports"):
        assert bench.check(check, ask_docker=no_answer) == ()


def test_network_that_only_docker_knows_fails(bench):
    assert bench.check("docker-list", ask_docker=view()) == ()
    foreign = replace(LAN, id="x", ours=False)
    assert bench.check("docker-list", ask_docker=view(foreign)) == ()
    (found,) = bench.check("docker-list", ask_docker=view(LAN))
    assert (found.level, found.where) == ("failure", "network lan")
    bench.network("lan")
    assert bench.check("docker-list", ask_docker=view(LAN)) == ()


def test_network_that_only_the_records_know_warns(bench):
    bench.network("lan")
    (found,) = bench.check("docker-list", ask_docker=view())
    assert (found.level, found.where) == ("warning", "network lan")


def test_endpoint_of_a_removed_container_is_named_with_what_it_holds(bench):
    bench.network("lan")
    gone = Endpoint("e1", "lan", ipv4=ip_interface("10.0.0.5/24"))
    with bench.records.transaction():
        bench.records.endpoints.add(gone)
    assert bench.check("docker-list", ask_docker=view(LAN)) == ()  # just starting
    with bench.records.transaction():
        bench.records.endpoints.join("e1", "/run/docker/netns/web")
    (found,) = bench.check("docker-list", ask_docker=view(LAN))
    assert (found.level, found.where) == ("warning", "endpoint e1")
    assert "10.0.0.5" in found.why
    assert bench.check("docker-list", ask_docker=view(LAN, e1="web")) == ()


@pytest.mark.parametrize(
    ("ports", "options", "said"),
    [
        ("80:80/tcp", {}, ""),
        ("8080:80/tcp", {}, ""),
        ("80:80/tcp", {"policy": "published"}, ""),
        ("[127.0.0.1]:80:80/tcp", {"policy": "published"}, ""),
        ("[127.0.0.1]:80:80/tcp", {}, "for this host only (80/tcp), and is open"),
        ("8080:80/tcp", {"policy": "closed"}, "(8080/tcp), and is closed"),
        ("80:80/tcp", {"mode": "ipvlan"}, "(80/tcp), and network lan has mode=ipvlan"),
        ("", {"policy": "closed"}, ""),
        ("", {"mode": "ipvlan"}, ""),
    ],
)
def test_published_ports_warn_where_they_do_not_what_they_say(
    bench, ports, options, said
):
    bench.network("lan", **options)
    given = {PORTS_OPTION: ports} if ports else {}
    with bench.records.transaction():
        bench.records.endpoints.add(Endpoint(WEB.id, "lan", options=given))

    def found(*networks):
        container = DockerContainer("", {key: {} for key in networks}, {})
        return bench.check(
            "published-ports",
            ask_docker=view(replace(LAN, endpoints=(WEB,)), **{WEB.id: "web"}),
            ask_containers=lambda ids: dict.fromkeys(ids, container),
        )

    findings = found("lan")
    assert [f.where for f in findings] == (["container web"] if said else [])
    assert all(said in f.what for f in findings)
    # Another network may publish them.
    assert found("lan", "n" * 64) == ()


def test_container_that_docker_could_not_start_fails_if_it_is_on_such_a_network(bench):
    def found(*networks):
        failed = FailedStart("web", networks, "plugin underlay not found")
        return bench.check(
            "failed-starts", ask_docker=view(LAN), ask_failed_starts=lambda: [failed]
        )

    assert found("another") == ()
    (finding,) = found("another", LAN.name)
    assert (finding.level, finding.where) == ("failure", "container web")
    assert "plugin underlay not found" in finding.what
    assert "docker start web" in finding.remedy


def test_check_that_can_look_at_nothing_is_skipped_with_the_reason(bench):
    def silent():
        raise OSError("dockerd does not answer")

    result = bench.result("docker-list", ask_docker=silent)
    assert (result.level, result.skipped) == ("skipped", "dockerd does not answer")
    result = bench.result("firewall", records=None)
    assert (result.level, result.skipped) == ("skipped", "the records cannot be read")
    assert bench.result("parents", records=None).level == "skipped"
    assert bench.result("parents", records=None, asked_for=("eth0",)).level == "ok"
