"""The protocol's rules, one by one."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.api.bodies import ENDPOINT, IDS, JOIN, NETWORK


def ask(plugin, method, body=None, **options):
    data = b"" if body is None else json.dumps(body)
    answer = plugin.post(method, data, **options)
    return answer.status_code, json.loads(answer.data)


NASTY = "\x1b[2J\x9b\u202e\r\x7f"


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("NetworkDriver.Join", {**JOIN, "NetworkID": NASTY}),
        ("NetworkDriver.CreateNetwork",
         {**NETWORK, "Options": {"com.docker.network.generic": {"parent": NASTY}}}),
        ("NetworkDriver.CreateNetwork",
         {**NETWORK, "Options": {"com.docker.network.generic": {NASTY: NASTY}}}),
        ("IpamDriver.ReleasePool", {"PoolID": [NASTY]}),
        ("IpamDriver.RequestAddress", {"PoolID": NASTY, "Address": ""}),
        ("IpamDriver.RequestPool", {"Pool": NASTY}),
        (f"X{quote(NASTY)}", {}),
    ],
)  # fmt: skip
def test_refusal_text_moves_no_terminal(plugin, method, body):
    status, told = ask(plugin, method, body)
    assert status >= 400
    assert told["Err"].isprintable()
    assert told["Err"] == told["Error"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("Plugin.Activate", {"Implements": ["NetworkDriver", "IpamDriver"]}),
        (
            "NetworkDriver.GetCapabilities",
            {"Scope": "local", "ConnectivityScope": "global", "GwAllocChecker": True},
        ),
        (
            "IpamDriver.GetCapabilities",
            {"RequiresMACAddress": False, "RequiresRequestReplay": False},
        ),
        (
            "IpamDriver.GetDefaultAddressSpaces",
            {
                "LocalDefaultAddressSpace": "underlay",
                "GlobalDefaultAddressSpace": "underlay",
            },
        ),
    ],
)
@pytest.mark.parametrize(
    "host", ["", "plugin.moby.localhost", "/run/docker/plugins/underlay.sock"]
)
def test_handshake_is_answered_without_a_body_for_any_host(
    plugin, method, answer, host
):
    assert ask(plugin, method, host=host) == (200, answer)
    assert ask(plugin, method, {"any": "thing"}) == (200, answer)


def test_container_lifecycle_works_over_the_socket(plugin):
    assert ask(plugin, "NetworkDriver.CreateNetwork", NETWORK) == (200, {})
    code, made = ask(plugin, "NetworkDriver.CreateEndpoint", ENDPOINT)
    assert code == 200
    assert made["Interface"]["MacAddress"]
    assert made["Interface"]["Address"] == ""
    code, joined = ask(plugin, "NetworkDriver.Join", JOIN)
    assert joined["Gateway"] == "10.0.0.1"
    assert joined["DisableGatewayService"] is True
    assert joined["InterfaceName"]["DstPrefix"] == "eth"
    assert joined["InterfaceName"]["SrcName"].startswith("ul-")
    for method, body in (
        ("ProgramExternalConnectivity", {**IDS, "Options": {}}),
        ("RevokeExternalConnectivity", IDS),
        ("Leave", IDS),
        ("Leave", IDS),
        ("DeleteEndpoint", IDS),
        ("DeleteEndpoint", IDS),
        ("DeleteNetwork", {"NetworkID": "n" * 64}),
        ("DeleteNetwork", {"NetworkID": "n" * 64}),
        ("FreeNetwork", {"NetworkID": "n" * 64}),
    ):
        assert ask(plugin, f"NetworkDriver.{method}", body) == (200, {})
    assert plugin.kernel.links == {}


BAD = {
    "no sandbox": ("SandboxKey", ""),
    "NUL in the sandbox": ("SandboxKey", "/run/\0x"),
    "sandbox of a NUL": ("SandboxKey", "\0"),
    "long sandbox": ("SandboxKey", "/run/x" * 1000),
    "newline behind the id": ("EndpointID", "e" * 64 + "\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_sandbox_that_is_no_path_or_id_with_a_newline_is_refused(plugin, name):
    key, value = BAD[name]
    ask(plugin, "NetworkDriver.CreateNetwork", NETWORK)
    ask(plugin, "NetworkDriver.CreateEndpoint", ENDPOINT)
    code, told = ask(plugin, "NetworkDriver.Join", {**JOIN, key: value})
    assert code == 400
    assert told["Err"].startswith("E-300")
    assert f"`$.{key}`" in told["Err"]


@pytest.mark.parametrize(
    ("given", "option", "told"),
    [
        ("", None, True),
        ("02:42:AA:BB:CC:DD", None, False),
        ("", "AkKqu8zd", True),
        ("02:42:aa:bb:cc:dd", "AkKqu8zd", False),
    ],
)
def test_mac_is_returned_only_where_none_was_given(plugin, given, option, told):
    ask(plugin, "NetworkDriver.CreateNetwork", NETWORK)
    asked = {
        **ENDPOINT,
        "Interface": {**ENDPOINT["Interface"], "MacAddress": given},
        "Options": {"com.docker.network.endpoint.macaddress": option}
        if option
        else None,
    }
    code, made = ask(plugin, "NetworkDriver.CreateEndpoint", asked)
    assert code == 200
    assert bool(made["Interface"]["MacAddress"]) is told
    (link,) = plugin.kernel.links.values()
    if given or option:
        assert link.mac == "02:42:aa:bb:cc:dd"


def test_null_and_missing_maps_are_empty_ones(plugin):
    asked = {"NetworkID": "n", "Options": None, "IPv4Data": None, "IPv6Data": None}
    assert ask(plugin, "NetworkDriver.CreateNetwork", asked) == (200, {})
    assert ask(plugin, "NetworkDriver.GwAllocCheck", {"Options": None}) == (
        200,
        {"SkipIPv4": True, "SkipIPv6": True},
    )


def test_internal_network_needs_no_gateway(plugin):
    asked = {"Options": {"com.docker.network.internal": True}}
    assert ask(plugin, "NetworkDriver.GwAllocCheck", asked) == (
        200,
        {"SkipIPv4": True, "SkipIPv6": True},
    )


def test_empty_body_is_docker_s_retry_and_has_its_own_error(plugin):
    for method in ("NetworkDriver.CreateNetwork", "IpamDriver.RequestAddress"):
        code, told = ask(plugin, method)
        assert code == 400
        assert told["Err"].startswith(f"E-301 {method}: the request has no body.")
    assert [call.refusal.id for call in plugin.calls] == ["E-301", "E-301"]


def test_failure_has_both_keys_and_never_status_200(plugin):
    code, told = ask(plugin, "IpamDriver.RequestAddress", {"PoolID": "none"})
    assert code == 409
    assert told["Err"] == told["Error"]
    assert told["Err"].startswith("E-114 ")


def test_unknown_method_alone_is_404(plugin):
    assert ask(plugin, "NetworkDriver.Nope", {})[0] == 404
    assert ask(plugin, "VolumeDriver.Create", {})[0] == 404
    assert plugin.client.get("/Plugin.Activate").status_code == 405


def test_body_over_sixteen_mebibytes_is_refused(plugin):
    answer = plugin.post("NetworkDriver.CreateNetwork", b" " * ((1 << 24) + 1))
    assert answer.status_code == 413
    assert json.loads(answer.data)["Err"].startswith("E-304 ")


def test_bug_is_reported_by_reference_and_logged_with_its_traceback(
    plugin, monkeypatch, caplog
):
    monkeypatch.setattr(plugin.engine, "leave", lambda _: 1 / 0)
    code, told = ask(plugin, "NetworkDriver.Leave", IDS)
    assert code == 500
    assert told["Err"].startswith("E-500 ")
    assert "Traceback" not in told["Err"]
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert f"call={plugin.calls[0].id}." in told["Err"]
    assert record.exc_info


def test_published_ports_are_accepted(plugin):
    ask(plugin, "NetworkDriver.CreateNetwork", NETWORK)
    ports = {"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080}]}
    ask(plugin, "NetworkDriver.CreateEndpoint", {**ENDPOINT, "Options": ports})
    ask(plugin, "NetworkDriver.ProgramExternalConnectivity", {**IDS, "Options": ports})


def test_every_port_of_a_protocol_can_be_published(plugin):
    """Docker names each one, in a body of megabytes."""
    ask(plugin, "NetworkDriver.CreateNetwork", NETWORK)
    each = {"Proto": 6, "IP": "", "HostIP": ""}
    ports = [
        {**each, "Port": port, "HostPort": port, "HostPortEnd": port}
        for port in range(1, 1 << 16)
    ]
    options = {"com.docker.network.portmap": ports}
    asked = {**ENDPOINT, "Options": options}
    assert ask(plugin, "NetworkDriver.CreateEndpoint", asked)[0] == 200
    assert ask(plugin, "NetworkDriver.Join", {**JOIN, "Options": options})[0] == 200


def test_null_ipam_driver_gives_a_network_without_addresses(plugin, caplog):
    asked = {**NETWORK, "IPv4Data": [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]}
    assert ask(plugin, "NetworkDriver.CreateNetwork", asked) == (200, {})
    (said,) = [r.message for r in caplog.records if "no address" in r.message]
    assert "-o source=dhcp" in said
    bare = {
        **ENDPOINT,
        "Interface": {"Address": "", "AddressIPv6": "", "MacAddress": ""},
    }
    assert ask(plugin, "NetworkDriver.CreateEndpoint", bare)[0] == 200
    assert ask(plugin, "NetworkDriver.Join", JOIN)[1]["Gateway"] == ""


def test_swarm_allocation_echoes_the_options(plugin):
    asked = {"NetworkID": "abc", "Options": {"parent": "eth0"}, "IPv6Data": None}
    assert ask(plugin, "NetworkDriver.AllocateNetwork", asked) == (
        200,
        {"Options": {"parent": "eth0"}},
    )
