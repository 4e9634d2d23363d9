"""The file with the names of containers, as a name server reads it."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface

import pytest

from underlay.model import Endpoint, Network
from underlay.records import Records
from underlay.service import hosts_file
from underlay.service.hosts_file import HostsFile, label_of

FOUR, SIX = IPv4Interface("10.0.0.5/24"), IPv6Interface("fd00::5/64")


@pytest.fixture
def hosts(tmp_path):
    records = Records(tmp_path / "underlay.db")
    with records.transaction():
        records.networks.add(Network("n1"))
        records.networks.rename("n1", "home_lan")
    yield HostsFile(records, tmp_path / "hosts" / "containers"), records
    records.close()


def start(records, identity, name, **addresses):
    with records.transaction():
        records.endpoints.add(Endpoint(identity, "n1", container=name, **addresses))
        records.endpoints.join(identity, "/run/docker/netns/x")


def lines(hosts):
    hosts.update()
    return hosts._path.read_text().splitlines()[1:]


def test_file_has_each_address_of_running_containers_with_their_names(hosts):
    file, records = hosts
    assert lines(file) == []
    start(records, "e1", "My_Web.1", ipv4=FOUR, ipv6=SIX)
    start(records, "e2", "", ipv4=FOUR)  # Docker has not told its name yet
    with records.transaction():  # and one that has not started
        records.endpoints.add(Endpoint("e3", "n1", FOUR, container="later"))
    assert lines(file) == [
        "10.0.0.5 my-web-1 my-web-1.home-lan",
        "fd00::5 my-web-1 my-web-1.home-lan",
    ]
    with records.transaction():
        records.endpoints.leave("e1")
    assert lines(file) == []


def test_file_is_replaced_as_a_whole_only_after_a_change_and_made_again_if_lost(hosts):
    file, records = hosts
    start(records, "e1", "web", ipv4=FOUR)
    before = lines(file)
    path, number = file._path, file._path.stat().st_ino
    file.update()
    assert path.stat().st_ino == number
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755
    path.unlink()
    assert lines(file) == before


def test_endpoint_is_added_before_the_file_is_written_again(hosts, monkeypatch):
    file, records = hosts
    start(records, "e1", "web", ipv4=FOUR)
    file.add("e1")  # there is no file yet
    before = lines(file)
    path, number = file._path, file._path.stat().st_ino
    start(records, "e2", "db", ipv4=FOUR, ipv6=SIX)
    start(records, "e3", "", ipv4=FOUR)
    for added in ("e2", "e3", "e4"):
        file.add(added)
    both = ["10.0.0.5 db db.home-lan", "fd00::5 db db.home-lan"]
    assert path.read_text().splitlines()[1:] == before + both
    assert path.stat().st_ino == number
    assert lines(file) == sorted(before + both)
    # One that left before the file was written again is in it no more.
    start(records, "e5", "short", ipv4=FOUR)
    file.add("e5")
    with records.transaction():
        records.endpoints.leave("e5")
    assert lines(file) == sorted(before + both)
    # One that is added while the file is written is not lost.
    known = hosts_file.entries

    def meanwhile(records, endpoint=""):
        found = list(known(records, endpoint))
        if not endpoint:
            start(records, "e6", "late", ipv4=FOUR)
            file.add("e6")
        return found

    monkeypatch.setattr(hosts_file, "entries", meanwhile)
    start(records, "e7", "last", ipv4=FOUR)
    assert "10.0.0.5 late late.home-lan" in lines(file)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("web", "web"),
        ("shop_web-1", "shop-web-1"),
        ("-x-", "x"),
        ("a" * 80, "a" * 63),
        ("name\n10.0.0.1 router", "name-10-0-0-1-router"),
        ("\u00fc", ""),
        ("localhost", ""),
    ],
)
def test_name_becomes_what_dns_allows(name, label):
    assert label_of(name) == label
