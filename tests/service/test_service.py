"""The process: sockets, signals, threads, and what it refuses to start on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from pathlib import Path

import pytest

from tests.api.bodies import ENDPOINT, IDS, JOIN, NETWORK
from tests.lab.service import wait_until
from tests.service.conftest import whole_answer
from underlay.api.plugin import MAX_BYTES
from underlay.kernel import arp_nd
from underlay.kernel.namespaces import run_in

SUBNET = "10.37.0.0/24"


def test_service_answers_and_exits_with_zero_on_sigterm(daemon):
    assert daemon.post("Plugin.Activate")[0] == 200
    assert daemon.stop() == 0
    assert not daemon.plugin.exists()


def test_sockets_are_for_root_and_its_group(daemon):
    for path in (daemon.plugin, daemon.status):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_every_answer_closes_its_connection(daemon):
    # A kept connection that dies makes Docker repeat a call with an empty body.
    _, _, headers = daemon.request("POST", "/Plugin.Activate")
    assert headers["Connection"] == "close"


@pytest.mark.parametrize("host", ["", "%2Frun%2Fx.sock", "/run/docker/plugins/x.sock"])
def test_odd_host_header_is_accepted(daemon, host):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.plugin))
        request = f"POST /Plugin.Activate HTTP/1.1\r\nHost: {host}\r\n"
        s.sendall(f"{request}Content-Length: 0\r\n\r\n".encode())
        assert s.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_request_in_flight_is_answered_before_the_service_ends(daemon):
    body = json.dumps(NETWORK).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.plugin))
        head = f"Host: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        s.sendall(b"POST /NetworkDriver.CreateNetwork HTTP/1.1\r\n" + head + body[:10])
        time.sleep(0.3)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        s.sendall(body[10:])
        answer = whole_answer(s)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert daemon.process.wait(timeout=30) == 0


def test_sixty_four_calls_are_served_in_parallel(daemon):
    held = []
    for _ in range(63):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(daemon.plugin))
        s.sendall(
            b"POST /IpamDriver.RequestPool HTTP/1.1\r\nContent-Length: 50\r\n\r\n{"
        )
        held.append(s)
    time.sleep(0.3)
    started = time.monotonic()
    assert daemon.post("Plugin.Activate")[0] == 200
    assert time.monotonic() - started < 2
    for s in held:
        s.close()


def test_name_of_a_container_is_in_the_file_for_name_servers_when_join_is_answered(
    daemon,
):
    """Engine 29 tells the name before that. The container has not started yet."""
    pool = daemon.post("IpamDriver.RequestPool", {"Pool": "10.0.0.0/24"})[1]["PoolID"]
    pooled = {**NETWORK["IPv4Data"][0], "AddressSpace": "underlay"}
    daemon.post("NetworkDriver.CreateNetwork", {**NETWORK, "IPv4Data": [pooled]})
    named = {"com.docker.network.endpoint.name": "web"}
    asked = {"PoolID": pool, "Address": "10.0.0.5", "Options": named}
    daemon.post("IpamDriver.RequestAddress", asked)
    daemon.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    path = daemon.folder / "run" / "hosts" / "containers"
    wait_until(path.exists, 5)
    assert "web" not in path.read_text()
    assert daemon.post("NetworkDriver.Join", JOIN)[0] == 200
    assert path.read_text().splitlines()[1:] == ["10.0.0.5 web"]


def test_address_of_a_network_that_was_just_created_is_told_to_the_segment(daemon):
    """The networks of a project are created on several hosts at once, and used."""

    def opened():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(arp_nd.ARP))
        s.bind(("wire0", arp_nd.ARP))
        return s

    for n in range(2):
        pool = daemon.post("IpamDriver.RequestPool", {"Pool": f"10.{n}.0.0/24"})[1]
        segment = {"AddressSpace": "underlay", "Pool": f"10.{n}.0.0/24"}
        body = {**NETWORK, "NetworkID": str(n) * 64, "IPv4Data": [segment]}
        assert daemon.post("NetworkDriver.CreateNetwork", body) == (200, {})
        given = daemon.post("IpamDriver.RequestAddress", {"PoolID": pool["PoolID"]})[1]
        address = ip_interface(given["Address"]).ip
        with run_in(Path(f"/proc/{daemon.process.pid}/ns/net"), opened) as s:
            s.settimeout(0.5)
            s.send(arp_nd.probe(bytes.fromhex("020000000066"), address))
            while (said := arp_nd.said(s.recv(128))) is None or said.kind != "hold":
                pass
        assert said.address == address
        time.sleep(2 * (n == 0))  # then the parent is listened to, for the first one


def test_parallel_container_lifecycles_leave_nothing(daemon):
    # What other tests have on this machine at the time is not in this subnet: the
    # service keeps addresses that it sees on marked devices in other namespaces.
    segment = {**NETWORK["IPv4Data"][0], "Pool": SUBNET, "Gateway": "10.37.0.1/24"}
    network = {**NETWORK, "IPv4Data": [segment]}
    assert daemon.post("NetworkDriver.CreateNetwork", network)[0] == 200
    code, pool = daemon.post(
        "IpamDriver.RequestPool", {"Pool": SUBNET, "Options": None, "V6": False}
    )
    assert code == 200

    def live(n):
        ids = {**IDS, "EndpointID": f"{n:064x}"}
        asked = {"PoolID": pool["PoolID"], "Address": "", "Options": None}
        code, given = daemon.post("IpamDriver.RequestAddress", asked)
        assert code == 200
        address = given["Address"]
        endpoint = {**ENDPOINT, **ids, "Interface": {"Address": address}}
        code, made = daemon.post("NetworkDriver.CreateEndpoint", endpoint)
        assert code == 200
        assert daemon.post("NetworkDriver.Join", {**JOIN, **ids})[0] == 200
        for method in ("Leave", "DeleteEndpoint"):
            assert daemon.post(f"NetworkDriver.{method}", ids) == (200, {})
        bare = {"PoolID": pool["PoolID"], "Address": address.split("/")[0]}
        assert daemon.post("IpamDriver.ReleaseAddress", bare) == (200, {})
        return address, made["Interface"]["MacAddress"]

    with ThreadPoolExecutor(16) as threads:
        lives = list(threads.map(live, range(64)))
    assert len({mac for _, mac in lives}) == len({address for address, _ in lives})

    def left():
        facts = json.loads(daemon.run("status", "--json").stdout)
        links = daemon.in_namespace("ip", "-br", "link").count("ul-")
        return len(facts["endpoints"]), facts["pools"][0]["live"], links

    # The devices of the last ones are deleted after their calls were answered.
    wait_until(lambda: left() == (0, 0, 0), 5, left)


def test_manually_deleted_link_is_restored_at_once(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.post("NetworkDriver.CreateEndpoint", ENDPOINT)
    before = daemon.in_namespace("ip", "-br", "link")
    name = next(w.split("@")[0] for w in before.split() if w.startswith("ul-"))
    daemon.in_namespace("ip", "link", "del", name)
    deadline = time.monotonic() + 5
    while name not in daemon.in_namespace("ip", "-br", "link"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def routed(daemon, **options):
    """Create a routed network on a pool; return the pool's id."""
    asked = {"Pool": "10.0.0.0/24", "Options": None, "V6": False}
    pool = daemon.post("IpamDriver.RequestPool", asked)[1]
    gateway = {
        "PoolID": pool["PoolID"],
        "Address": "10.0.0.1",
        "Options": {"RequestAddressType": "com.docker.network.gateway"},
    }
    daemon.post("IpamDriver.RequestAddress", gateway)
    segment = {"AddressSpace": "underlay", "Pool": pool["Pool"]}
    segment["Gateway"] = "10.0.0.1/24"
    network = {
        **NETWORK,
        "Options": {"com.docker.network.generic": {"mode": "routed", **options}},
        "IPv4Data": [segment],
    }
    assert daemon.post("NetworkDriver.CreateNetwork", network) == (200, {})
    return pool["PoolID"]


def test_manually_flushed_rules_are_restored_at_once(daemon):
    routed(daemon, masquerade="on")
    for _ in range(10):  # once or twice, a late event of a device would do
        daemon.in_namespace("nft", "flush", "ruleset")
        deadline = time.monotonic() + 5
        while "masquerade" not in daemon.in_namespace("nft", "list", "ruleset"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_sighup_starts_a_full_pass_and_keeps_the_worker(daemon):
    pool = routed(daemon, proxy="eth0")
    given = daemon.post(
        "IpamDriver.RequestAddress",
        {"PoolID": pool, "Address": "10.0.0.7", "Options": {}},
    )[1]["Address"]
    endpoint = {
        "NetworkID": NETWORK["NetworkID"],
        "EndpointID": "e1",
        "Interface": {"Address": given, "MacAddress": ""},
        "Options": {},
    }
    assert daemon.post("NetworkDriver.CreateEndpoint", endpoint)[0] == 200
    entry = ("10.0.0.7", "dev", "eth0")

    def has_entry():
        return "10.0.0.7" in daemon.in_namespace("ip", "neigh", "show", "proxy")

    assert has_entry()
    time.sleep(2.5)  # a pass has looked at all that the kernel and Docker said
    workers = daemon.children()
    daemon.in_namespace("ip", "neigh", "del", "proxy", *entry)  # no event tells of it
    time.sleep(1)
    assert not has_entry()
    daemon.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 5
    while not has_entry():
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.05)
    assert daemon.children() == workers


def test_routes_carry_the_configured_protocol_number(idle):
    idle.env["UNDERLAY_ROUTE_PROTOCOL"] = "200"
    idle.start()
    routed(idle)
    show = ("ip", "route", "show", "table", "all", "proto", "200")
    for _ in range(2):
        deadline = time.monotonic() + 5  # the period is half a minute: it is an event
        while "blackhole 10.0.0.0/24" not in idle.in_namespace(*show):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(2.5)  # a pass has looked at all that the kernel and Docker said
        idle.in_namespace("ip", "route", "flush", "proto", "200")


def test_hundreds_of_sighups_do_no_harm_even_before_readiness(idle):
    idle.start(wait=False)
    deadline = time.monotonic() + 20
    while not (idle.plugin.exists() and (workers := idle.children())):
        assert time.monotonic() < deadline, idle.log
    while not idle.status.exists() or "msg=ready" not in idle.log:
        assert time.monotonic() < deadline, idle.log
        os.kill(workers[0], signal.SIGHUP)
        time.sleep(0.001)
    for _ in range(500):
        idle.process.send_signal(signal.SIGHUP)
    assert idle.request("GET", "/healthz", on=idle.status)[0] == 200
    assert idle.children() == workers


def test_status_socket_serves_health_status_and_metrics(daemon):
    daemon.post("NetworkDriver.CreateNetwork")
    code, told, _ = daemon.request("GET", "/healthz", on=daemon.status)
    assert (code, json.loads(told)["ok"]) == (200, True)
    assert json.loads(told)["pid"] == daemon.process.pid
    code, told, _ = daemon.request("GET", "/status", on=daemon.status)
    assert json.loads(told)["networks"] == []
    code, told, _ = daemon.request("GET", "/metrics", on=daemon.status)
    refusal = (
        b'underlay_refusals_total{id="E-301",method="NetworkDriver.CreateNetwork"}'
    )
    assert refusal + b" 1.0" in told
    assert daemon.request("GET", "/nothing", on=daemon.status)[0] == 404
    assert daemon.request("POST", "/healthz", on=daemon.status)[0] == 405


def test_neither_application_answers_on_the_other_s_socket(daemon):
    assert daemon.request("POST", "/Plugin.Activate", on=daemon.status)[0] == 405
    code, told, _ = daemon.request("GET", "/healthz")
    assert (code, told[:13]) == (405, b'{"Err":"E-303')


def test_second_service_refuses_and_the_first_keeps_its_socket(daemon):
    second = daemon.run("serve")
    assert second.returncode == 1
    assert second.stderr.startswith("E-503 another underlay (pid ")
    assert str(daemon.state) in second.stderr
    assert daemon.post("Plugin.Activate")[0] == 200


def test_killed_service_restarts_over_its_stale_socket(daemon):
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.stop(signal.SIGKILL)
    assert daemon.plugin.exists()
    daemon.start()
    assert daemon.post("NetworkDriver.CreateNetwork", NETWORK) == (200, {})
    facts = json.loads(daemon.run("network", "ls", "--json").stdout)
    assert [n["id"] for n in facts] == [NETWORK["NetworkID"]]


def test_dead_worker_is_replaced(daemon):
    (worker,) = daemon.children()
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while daemon.children() in ([], [worker]) or not daemon.try_post("Plugin.Activate"):
        assert time.monotonic() < deadline, daemon.log
        time.sleep(0.1)


def test_systemd_sockets_are_used_and_left_in_place(idle):
    with idle.start_held():
        assert idle.post("Plugin.Activate")[0] == 200
        assert idle.request("GET", "/healthz", on=idle.status)[0] == 200
        assert idle.stop() == 0
        assert idle.plugin.exists()
        assert idle.status.exists()


def test_systemd_is_notified_only_when_the_service_answers(idle):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(idle.folder / "notify"))
        systemd.settimeout(20)
        idle.env["NOTIFY_SOCKET"] = str(idle.folder / "notify")
        idle.start(wait=False)
        assert systemd.recv(4096) == b"READY=1"
        assert "msg=ready" in idle.log
        assert idle.stop() == 0


def test_damaged_records_are_refused_by_path_and_kept(idle):
    idle.state.mkdir(mode=0o700)
    records = idle.state / "underlay.db"
    records.touch(mode=0o600)
    records.write_bytes(b"garbage" * 1000)
    done = idle.run("serve")
    assert done.returncode == 1
    assert done.stderr.startswith(f"E-501 the records in {records} are damaged")
    assert "Traceback" not in done.stderr
    assert records.read_bytes() == b"garbage" * 1000


def test_body_over_the_limit_is_refused_and_the_service_continues(daemon):
    body = b" " * (MAX_BYTES + 1)
    code, told, _ = daemon.request("POST", "/NetworkDriver.CreateNetwork", body)
    assert code == 413
    assert json.loads(told)["Err"].startswith("E-304 ")
    assert daemon.post("Plugin.Activate")[0] == 200


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 300, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\xff" * 20000, b"{}\n"],
    ids=["zeros", "no path", "version", "bytes", "json"],
)
def test_input_that_is_no_http_does_no_harm(daemon, garbage):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(daemon.plugin))
        s.sendall(garbage)
        s.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            s.recv(4096)
    assert daemon.post("Plugin.Activate")[0] == 200
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("where", ["plugin", "status"])
def test_clients_that_stop_half_way_block_the_others_only_briefly(daemon, where):
    stuck = []
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(getattr(daemon, where)))
        s.sendall(b"POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 50\r\n")
        stuck.append(s)
    started = time.monotonic()
    assert daemon.post("Plugin.Activate")[0] == 200
    assert time.monotonic() - started < 12
    for s in stuck:
        s.close()


def test_body_that_stops_half_way_gets_an_error(daemon):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(daemon.plugin))
        s.sendall(b"POST /NetworkDriver.Join HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
        answer = whole_answer(s)
    assert b" 408 " in answer
    assert (
        b'"Err":"E-305 NetworkDriver.Join: the request did not arrive completely'
        in answer
    )


def test_malformed_head_is_refused_in_docker_s_format(daemon):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(daemon.plugin))
        s.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nContent-Length: -5\r\n\r\n")
        answer = whole_answer(s)
    assert answer.startswith(b"HTTP/1.1 400 ")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["Err"] == told["Error"]
    assert told["Err"].startswith("E-300 HTTP: the request is malformed")


def test_deleted_records_are_reported_by_the_service(daemon):
    records = daemon.state / "underlay.db"
    kept = records.rename(records.with_suffix(".away"))
    code, told, _ = daemon.request("GET", "/healthz", on=daemon.status)
    assert (code, json.loads(told)["ok"]) == (503, False)
    code, told = daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    assert told["Err"].startswith(f"E-504 the records in {records} cannot be written")
    kept.rename(records)
    assert daemon.request("GET", "/healthz", on=daemon.status)[0] == 200


def test_service_log_is_one_line_of_keys_and_values_per_record(daemon):
    refused = {
        "NetworkID": "x",
        "Options": {"com.docker.network.generic": {"parent": "eth9"}},
    }
    daemon.post("NetworkDriver.CreateNetwork", refused)
    for line in daemon.log.splitlines():
        assert " level=" in line
        assert " msg=" in line
    assert 'error="E-123 ' in daemon.log
