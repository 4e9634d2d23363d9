"""The lab's DHCP servers: they serve a client of the field, and nothing is left."""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from tests.lab import rootfs
from tests.lab.dhcp_servers import (
    Dnsmasq,
    IscDhcpd,
    Kea,
    Lease,
    Scope,
    Udhcpd,
)
from tests.lab.net import Lan, Namespace
from tests.lab.networkd import Networkd
from tests.lab.service import wait_until
from underlay.api.leases import leases
from underlay.model import DhcpLease

SERVERS = [Dnsmasq, Kea, IscDhcpd, Udhcpd, Networkd]
MAC, RESERVED_MAC = "02:00:00:00:aa:01", "02:00:00:00:aa:02"
OTHER_MAC = "02:00:00:00:aa:03"
# A client id that is no MAC, instead of the one that udhcpc makes.
NAMED = "-C", "-x", "0x3d:00756e6465726c6179"
# A client must have its address to give it back.
SCRIPT = """#!/bin/sh
ip addr flush dev eth0
[ "$1" != bound ] || { ip addr add "$ip/$mask" dev eth0; set; }
"""


class Client(Namespace):
    """busybox udhcpc on a port of the LAN, with a MAC of its own."""

    def __init__(self, lan, folder, mac):
        port = f"p-{mac[-2:]}"
        commands = f"""
            ip link add eth0 address {mac} type veth peer name {port} netns {lan.netns}
            ip link set eth0 up
        """
        super().__init__(f"{lan.tag}-{port}", commands)
        lan.run("ip", "link", "set", port, "master", "br0", "up")
        self.lan, self.port, self.script = lan, port, folder / "script"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)

    def words(self, *words):
        """The command; it asks five times at most, every two seconds."""
        udhcpc = rootfs.serving() / "usr/bin/busybox", "udhcpc", "-i", "eth0", "-fn"
        options = *("-t5", "-T2", "-x", "hostname:web", "-s", self.script), *words
        return [str(word) for word in (*udhcpc, *options)]

    def lease(self, *words):
        """Return what the client's script is told of the lease; {} if it got none."""
        done = self.run(*self.words("-q", *words), check=False)
        return dict(re.findall(r"^(\w+)='(.*)'$", done.stdout, re.MULTILINE))

    def close(self):
        self.lan.run("ip", "link", "del", self.port, check=False)
        super().close()


@pytest.fixture(scope="module")
def lan():
    with Lan() as lan:
        yield lan


@pytest.fixture
def client(lan, tmp_path):
    with Client(lan, tmp_path, MAC) as client:
        yield client


@pytest.fixture
def reserved(lan, tmp_path):
    with Client(lan, tmp_path, RESERVED_MAC) as client:
        yield client


@pytest.fixture(params=SERVERS)
def kind(request):
    return request.param


def is_in_range(address):
    scope = Scope()
    first, last = (int(end.rpartition(".")[2]) for end in (scope.first, scope.last))
    return first <= int(address.rpartition(".")[2]) <= last


def test_dhcp_server_lists_a_lease_until_the_client_releases_it(lan, client, kind):
    with kind(lan.start) as server:
        process = client.start(*client.words("-R"), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "obtained" in line:
                break
        (lease,) = server.leases()
        assert is_in_range(lease.address)
        known_by = "" if kind is Udhcpd else f"01{MAC.replace(':', '')}"
        assert lease == Lease(lease.address, MAC, known_by, "web")
        process.terminate()
        process.communicate(timeout=5)
        wait_until(lambda: not server.leases(), 5, lambda: server.log)


def test_dhcp_server_gives_a_client_its_reserved_address(lan, reserved, kind):
    scope = Scope(reservations={RESERVED_MAC: "10.77.0.50"})
    with kind(lan.start, scope=scope) as server:
        assert reserved.lease()["ip"] == "10.77.0.50", server.log
        # ISC dhcpd keeps no record of these.
        found = [(lease.address, lease.hostname) for lease in server.leases()]
        assert found == ([] if kind is IscDhcpd else [("10.77.0.50", "web")])


# What `underlay lease show` calls the servers, and a client id as ipvlan has it.
PROGRAMS = {Dnsmasq: "dnsmasq", Kea: "kea", IscDhcpd: "dhcpd"}
DUID = "ff0000000100041234567890abcdef1234567890abcdef"


@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize("client_id", [f"01{MAC.replace(':', '')}", DUID])
def test_reservation_that_a_lease_prints_is_taken_by_its_server(
    lan, client, records, kind, client_id
):
    lease = DhcpLease(
        id=0,
        uplink="eth0",
        kind="name",
        value="web",
        mac=MAC,
        client_id=bytes.fromhex(client_id),
        hostname="web",
        address=IPv4Interface("10.77.0.60/24"),
    )
    with records.transaction():
        records.dhcp_leases.save(lease)
    line = leases(records, 0.0)[0]["reservation"][PROGRAMS[kind]]
    with kind(lan.start, scope=Scope(pasted=(line,))) as server:
        told = client.lease("-C", "-x", f"0x3d:{client_id}")
        assert told.get("ip") == "10.77.0.60", server.log


def test_dhcp_server_gives_the_options_of_its_scope(lan, reserved, kind):
    scope = Scope(
        # Each of the servers is at its quickest with a reserved address.
        reservations={RESERVED_MAC: "10.77.0.50"},
        router="10.77.0.9",
        lease_seconds=150,
        routes=(("10.99.0.0/16", "10.77.0.5"), ("0.0.0.0/0", "10.77.0.9")),
        mtu=1400,
        dns=("10.77.0.7", "10.77.0.8"),
    )
    with kind(lan.start, scope=scope) as server:
        told = reserved.lease("-O", "mtu", "-O", "staticroutes")
    wanted = {
        "mask": "24",
        "router": "10.77.0.9",
        "lease": "150",
        "staticroutes": "10.99.0.0/16 10.77.0.5 0.0.0.0/0 10.77.0.9",
        "mtu": "1400",
        "dns": "10.77.0.7 10.77.0.8",
        "serverid": "10.77.0.1",
    }
    assert {name: told.get(name) for name in wanted} == wanted, server


def test_dhcp_server_sends_no_router_and_no_routes_unless_told(lan, reserved, kind):
    scope = Scope(reservations={RESERVED_MAC: "10.77.0.50"}, router="")
    with kind(lan.start, scope=scope):
        told = reserved.lease("-O", "mtu", "-O", "staticroutes")
    assert told["ip"] == "10.77.0.50"
    assert not {"router", "staticroutes", "mtu"} & set(told)


@pytest.mark.parametrize("kind", [Kea, IscDhcpd, Udhcpd, Networkd])
def test_short_lease_leaves_the_list_when_it_ends(lan, client, kind):
    with kind(lan.start, scope=Scope(lease_seconds=2)) as server:
        assert client.lease()["lease"] == "2"
        wait_until(lambda: not server.leases(), 4, server.leases)


def test_dnsmasq_refuses_a_lease_that_it_would_lengthen(lan):
    with (
        pytest.raises(ValueError, match="shortest lease is 120 s"),
        Dnsmasq(lan.start, scope=Scope(lease_seconds=60)),
    ):
        pass


def test_dhcp_server_keeps_leases_and_takes_another_scope_at_a_restart(
    lan, client, kind
):
    with kind(lan.start) as server:
        address = client.lease()["ip"]
        server.stop()
        assert [lease.address for lease in server.leases()] == [address]
        server.scope = Scope(router="10.77.0.9")
        server.start()
        assert [lease.address for lease in server.leases()] == [address]
        again = client.lease("-r", address)
        assert (again["ip"], again["router"]) == (address, "10.77.0.9")


def test_dhcp_server_that_cannot_start_tells_its_reason(lan, kind):
    with (
        pytest.raises(RuntimeError, match="nosuch0"),
        kind(lan.start, device="nosuch0"),
    ):
        pass


def test_dhcp_server_knows_a_client_by_its_client_id_and_udhcpd_by_its_mac(
    lan, client, kind
):
    with kind(lan.start) as server:
        address = client.lease(*NAMED)["ip"]
        client.run("ip", "link", "set", "eth0", "address", OTHER_MAC)
        by_client_id = client.lease(*NAMED)["ip"]
        client.run("ip", "link", "set", "eth0", "address", MAC)
        by_mac = client.lease()["ip"]
        found = by_client_id == address, by_mac == address
        assert found == ((False, True) if kind is Udhcpd else (True, False)), server.log


def test_reservation_by_mac_holds_for_any_client_id(lan, reserved, kind):
    scope = Scope(reservations={RESERVED_MAC: "10.77.0.50"})
    with kind(lan.start, scope=scope) as server:
        assert reserved.lease(*NAMED)["ip"] == "10.77.0.50", server.log


def test_stopped_dhcp_server_does_not_answer(lan, reserved, kind):
    scope = Scope(reservations={RESERVED_MAC: "10.77.0.50"})
    with kind(lan.start, scope=scope) as server:
        assert reserved.lease()
        server.stop()
        assert server.processes == []
        assert reserved.lease("-t1", "-T1") == {}


def test_closed_dhcp_server_leaves_nothing(kind):
    before = kept_files()
    with Lan() as lan:
        with kind(lan.start) as server:
            pids = [process.pid for process in server.processes]
            assert all(Path(f"/proc/{pid}").exists() for pid in pids)
            # Its view of the mounts is its own.
            assert str(rootfs.serving()) not in Path("/proc/mounts").read_text()
            assert server.leases() == []
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        assert not server.dir.exists()
    assert kept_files() == before


def kept_files():
    """Return what is in the root that all of them share, with the time it was made."""
    root = rootfs.serving()
    return {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
