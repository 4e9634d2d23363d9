"""`underlay lease`: what it prints, and how it finds a lease."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import get_args
from uuid import UUID

import pytest
from click.testing import CliRunner

from underlay.cli.commands import main
from underlay.cli.overview import print_status
from underlay.cli.tables import _KNOWN_BY
from underlay.dhcp.packets import client_id_of_duid, client_id_of_mac
from underlay.model import DhcpLease, Dhcpv6Lease, Network, Uplink
from underlay.model.ipam import ClientKind

MAC = "02:00:00:00:00:0a"
LAN = Network("n" * 64, {"parent": "eth0"}, uplink=Uplink("eth0"))
NOON = 1_700_000_000.0  # 2023-11-14 22:13:20
LATER = 4_000_000_000.0
WEB = DhcpLease(
    id=0,
    uplink="eth0",
    kind="name",
    value="web",
    container="web",
    mac=MAC,
    client_id=client_id_of_mac(MAC),
    hostname="web",
    network=LAN.id,
    address=IPv4Interface("10.55.0.100/23"),
    server=IPv4Address("10.55.0.1"),
    router=IPv4Address("10.55.0.254"),
    since=NOON,
    renew=NOON + 60,
    rebind=LATER,
    expires=LATER,
)
MAIL = replace(
    WEB,
    value="mail",
    container="mail",
    mac="02:00:00:00:00:0b",
    address=IPv4Interface("10.55.0.101/23"),
)


@pytest.fixture
def save(records, tmp_path, monkeypatch):
    """Record leases; the commands read these records, and tell the time in UTC."""
    monkeypatch.setenv("UNDERLAY_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def save(*found):
        with records.transaction():
            for lease in found:
                records.dhcp_leases.save(lease)

    with records.transaction():
        records.networks.add(LAN)
        records.networks.rename(LAN.id, "lan")
    yield save
    monkeypatch.undo()
    time.tzset()


def run(*words, code=0):
    done = CliRunner().invoke(main, ["lease", *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize(
    ("verb", "name", "kind", "hint"),
    [
        ("renew", "mail", "running", "does not run"),
        ("release", "web", "stopped", "stop the container first"),
    ],
)
def test_lease_is_renewed_of_running_and_released_of_stopped_containers(
    save, verb, name, kind, hint
):
    save(replace(WEB, endpoint="e" * 64), MAIL)
    said = run(verb, name, code=1)
    assert said.startswith(f"E-507 no lease of a {kind} container '{name}' on record.")
    assert hint in said
    other = {"mail": "web, 10.55.0.100", "web": "mail, 10.55.0.101"}[name]
    assert said.rstrip().endswith(f"On record: {other}.")
    assert "E-507 no lease 'db' on record" in run(verb, "db", code=1)


def states(*words):
    head, *lines = run("ls", *words).splitlines()
    return [line[head.index("STATE") :] for line in lines]


def test_list_has_a_line_for_each_lease_with_its_state_in_words(save):
    place = f"{LAN.id[:12]}/1"
    save(
        replace(WEB, value="a", endpoint="e" * 64),
        replace(WEB, value="b", endpoint="f" * 64, rebind=NOON + 90),
        replace(WEB, value="c"),
        replace(WEB, value="d", expires=NOON + 90),
        replace(WEB, value="e", gone=NOON),
        replace(WEB, value="f", address=None, server=None),
        replace(WEB, kind="place", value=place, gone=NOON, container=""),
    )
    assert states() == [
        "bound to a running container",
        "bound; no server has renewed it since 2023-11-14 22:13:20",
        "held for a stopped container",
        "ended; its container is stopped",
        "of a removed container, goes back 2023-11-14 22:15:20",
        "no server has given an address yet",
        "of an ended container, goes back 2023-11-14 22:15:20",
    ]
    head, first, *_ = run("ls").splitlines()
    assert head.split() == [
        "NAME", "CONTAINER", "PARENT", "NETWORK", "FAMILY", "ADDRESS", "MAC", "SERVER",
        "UNTIL", "STATE",
    ]  # fmt: skip
    assert first.split()[:10] == [
        "a", "web", "eth0", "lan", "IPv4", "10.55.0.100/23", MAC, "10.55.0.1",
        "2096-10-02", "07:06:40",
    ]  # fmt: skip


def test_list_in_json_has_the_facts_as_they_are(save):
    save(WEB, MAIL)
    assert [f["name"] for f in json.loads(run("ls", "--json"))] == ["mail", "web"]


@pytest.mark.parametrize("word", ["web", "10.55.0.100", "10.55.0.100/23"])
def test_lease_is_shown_by_name_or_address_with_lines_to_paste(save, word):
    save(WEB, MAIL)
    assert run("show", word).splitlines() == [
        "container   web",
        "known by    name web",
        "parent      eth0",
        "network     lan",
        "address     10.55.0.100/23",
        f"mac         {MAC}",
        f"client id   01:{MAC}",
        "host name   web",
        "server      10.55.0.1",
        "router      10.55.0.254",
        "state       held for a stopped container",
        "since       2023-11-14 22:13:20",
        "renew       2023-11-14 22:14:20",
        "expires     2096-10-02 07:06:40",
        f"in dnsmasq  dhcp-host={MAC},10.55.0.100,web",
        f'in kea      {{ "hw-address": "{MAC}", "ip-address": "10.55.0.100",'
        ' "hostname": "web" }',
        f"in dhcpd    host web-00000a {{ hardware ethernet {MAC};"
        ' fixed-address 10.55.0.100; option host-name "web"; }',
    ]
    assert json.loads(run("show", word, "--json"))["client_id"] == f"01:{MAC}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("label", "identity shop"),
        ("name", "name shop"),
        ("mac", "MAC shop"),
        ("address", "--ip shop"),
        ("place", "place shop"),
    ],
)
def test_lease_is_shown_by_its_container_whatever_that_is_known_by(save, kind, words):
    save(replace(WEB, kind=kind, value="shop"), replace(MAIL, container=""))
    assert set(get_args(ClientKind)) == set(_KNOWN_BY)
    for name in ("shop", "web"):
        assert run("show", name).splitlines()[:2] == [
            "container   web",
            f"known by    {words}",
        ]
    assert run("show", "mail").splitlines()[0] == "container   -"


def test_lease_for_ever_and_client_without_one_have_no_times(save):
    save(replace(WEB, renew=0.0, rebind=0.0, expires=0.0))
    shown = dict(line.split(maxsplit=1) for line in run("show", "web").splitlines())
    assert (shown["renew"], shown["expires"]) == ("-", "for ever")
    save(replace(WEB, value="b", address=None, server=None, router=None, since=0.0))
    shown = dict(line.split(maxsplit=1) for line in run("show", "b").splitlines())
    assert (shown["since"], shown["expires"], shown["address"]) == ("-", "-", "-")
    assert "in kea" not in run("show", "b")


def test_unknown_name_is_answered_with_the_nearest_and_all(save):
    save(WEB, MAIL)
    said = run("show", "wep", code=1)
    assert said == (
        "E-507 no lease 'wep' on record. Did you mean 'web'? On record: mail,"
        " 10.55.0.101, web, 10.55.0.100.\n"
    )
    assert "Did you mean '10.55.0.101'?" in run("show", "10.55.0.10l", code=1)


def test_name_on_two_parents_is_shown_for_the_one_that_is_given(save):
    save(WEB, replace(WEB, uplink="eth0.50", hostname="other"))
    assert "Several have this name. Use the address, or add --parent." in run(
        "show", "web", code=1
    )
    assert "host name   other" in run("show", "web", "--parent", "eth0.50")
    assert "On record: none." in run("show", "web", "--parent", "eth9", code=1)


def test_records_are_not_changed_by_the_commands(save, records):
    save(WEB)
    before = records.dhcp_leases.all()
    run("ls")
    run("show", "web")
    assert records.dhcp_leases.all() == before


@pytest.mark.usefixtures("save")
def test_status_lists_leases_below_the_endpoints_where_there_are_any(capsys):
    endpoint = {
        "id": "e" * 64, "container": "web", "network": "lan", "mac": MAC,
        "addresses": ["10.55.0.100/23"], "router_addresses": [], "lease": None,
        "lease6": None,
        "health": "ok", "state": "joined", "policy": "open", "ports": [],
        "egress": "open", "ping": True, "strict": False,
    }  # fmt: skip
    facts = {
        "service": None, "parents": [], "networks": [], "pools": [], "repairs": [],
        "refusals": [], "notices": [], "troubles": [], "endpoints": [endpoint],
    }  # fmt: skip
    print_status(facts)
    assert "leases of DHCP servers" not in capsys.readouterr().out
    endpoint["lease"] = {"server": "10.55.0.1", "until": NOON, "told": None}
    forever = {**endpoint, "lease": {**endpoint["lease"], "until": None}}
    print_status({**facts, "endpoints": [endpoint, forever]})
    table = capsys.readouterr().out.partition("leases of DHCP servers\n")[2]
    assert [line.split() for line in table.splitlines()] == [
        ["ADDRESS", "CONTAINER", "NETWORK", "SERVER", "UNTIL"],
        ["10.55.0.100/23", "web", "lan", "10.55.0.1", "2023-11-14", "22:13:20"],
        ["10.55.0.100/23", "web", "lan", "10.55.0.1", "for", "ever"],
    ]


WEB6 = Dhcpv6Lease(
    id=0,
    uplink="eth0",
    kind="name",
    value="web",
    container="web",
    mac=MAC,
    client_id=client_id_of_duid(7, UUID(int=1)),
    network=LAN.id,
    endpoint="e" * 64,
    address=IPv6Interface("fd70:1::100/128"),
)


@pytest.mark.parametrize("family", ["4", "6"])
def test_docker_is_said_to_show_another_address_only_of_the_family_it_knows(
    save, records, monkeypatch, family
):
    four = replace(WEB, endpoint="e" * 64)
    save(four)
    with records.transaction():
        records.dhcpv6_leases.save(WEB6)
    before = four if family == "4" else WEB6
    after = replace(before, address=before.address + 1)
    monkeypatch.setattr("underlay.cli.leases.parts_now", nullcontext)
    renewed = before, after
    monkeypatch.setattr("underlay.cli.leases._renewed", lambda *_: renewed)
    said = run("renew", "web", "--family", family)
    assert f"It had {before.address} before." in said
    assert ("Docker shows" in said) == (family == "4")
