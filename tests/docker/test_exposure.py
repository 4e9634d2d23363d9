"""`underlay exposure`: what it says of ports is what a scanner finds."""

from __future__ import annotations

import json
from ipaddress import IPv4Address

import pytest

from tests.docker.ports import MODES, Listeners, create, scan_ports
from tests.lab.service import wait_until

ANY4, ANY6 = str(IPv4Address(0)), "::"
TCP, UDP = [22, 80, 443, 444, 7000, 8080, 8443, 9000], [53, 123, 5353]
PORTS = (
    "-p", "8080:80", "-p", "53:53/udp", "-p", "127.0.0.1:9000:9000", "-p", "7000:7000",
    "-p", f"{ANY4}:443:443",
)  # fmt: skip


def sockets(own):
    """Sockets of every kind; some on one address that a container has."""
    return [
        ("tcp", ANY6, 80, False),
        ("tcp", ANY6, 9000, False),
        ("tcp", ANY6, 22, True),
        ("tcp", ANY4, 443, False),
        ("tcp", own, 8443, False),
        ("tcp", "127.0.0.1", 444, False),
        ("tcp", "::1", 7000, True),
        ("udp", ANY6, 53, False),
        ("udp", ANY4, 123, False),
        ("udp", "127.0.0.1", 5353, False),
    ]


@pytest.fixture
def listeners(site):
    found = Listeners(site)
    yield found
    found.stop()


def exposure(site):
    """Return what the command says, in JSON."""
    return json.loads(site.service.run("exposure", "--json").stdout)


def said(rows, container, place, address):
    """Return the ports of an address that the command says are reached."""
    return sorted(
        f"{row['port']}/{row['protocol']}"
        for row in rows
        if row["container"] == container
        and address in row["addresses"]
        and row[place] == "all"
    )


@pytest.mark.parametrize("mode", MODES)
def test_exposure_says_what_a_scanner_finds(site, listeners, mode):
    create(site, mode, "-o", "policy=published")
    site.run("web", "lan", *PORTS)
    for name in ("open", "closed"):
        option = ("--network", f"name=lan,driver-opt=policy={name}")
        site.docker("run", "-d", "--name", name, *option, *PORTS, "bb", "sleep", "999")
    site.run("peer", "lan")
    names = ("web", "open", "closed")
    addresses = {name: site.attached(name, "lan")[:2] for name in names}
    for name in names:
        listeners.start(name, sockets(addresses[name][0]))
    # The redirects, a moment after the start.
    for name in ("web", "open"):
        where = addresses[name][0]
        wait_until(lambda a=where: scan_ports(site, "lan", a, [8080], []), 5)
    wait_until(lambda: "closed" in {r["container"] for r in exposure(site)["ports"]}, 5)
    rows = exposure(site)["ports"]
    places = {"lan": "lan", "host": "host", "containers": "peer"}
    for name in names:
        for address in addresses[name]:
            assert {p: said(rows, name, p, address) for p in places} == {
                place: scan_ports(site, where, address, TCP, UDP)
                for place, where in places.items()
            }, (name, address)
    assert said(rows, "open", "lan", addresses["open"][0])
    (silent,) = [r for r in rows if r["container"] == "web" and not r["listens"]]
    assert (silent["port"], silent["lan"], silent["addresses"]) == (7000, "all", [])
    listeners.stop()
    site.clear()
    site.assert_nothing_left()


def test_exposure_marks_what_changed_since_it_was_looked_at(site, listeners):
    create(site, "macvlan", "-o", "policy=published")
    site.run("web", "lan", "-p", "80:80")
    (four, *_) = site.attached("web", "lan")

    def named():
        return [e["container"] for e in site.service.on_record()["endpoints"]]

    def marks():
        rows = exposure(site)["ports"]
        return [(f"{r['port']}/{r['protocol']}", r["change"]) for r in rows]

    wait_until(lambda: named() == ["web"], 10, named)
    # Those of other tests are gone, and said to be so once.
    wait_until(lambda: marks() == [("80/tcp", "")], 10, marks)
    listeners.start("web", [("tcp", four, 80, False), ("udp", four, 53, False)])
    assert marks() == [("80/tcp", "changed"), ("53/udp", "new")]
    shown = site.service.run("exposure").stdout
    assert "53/udp" in shown
    assert "compared with the look of" in shown
    assert marks() == [("80/tcp", ""), ("53/udp", "")]
    listeners.stop()
    assert marks() == [("80/tcp", "changed"), ("53/udp", "gone")]
    assert marks() == [("80/tcp", "")]
    site.docker("rm", "-f", "web")
    wait_until(lambda: ("80/tcp", "") not in marks(), 5)
    assert marks() == []
