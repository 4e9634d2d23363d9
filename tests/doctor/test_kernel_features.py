"""Device types and nftables: what this kernel lacks, and what a complete one says."""

from __future__ import annotations

import pytest

from tests.fakes import FakeKernel
from tests.kinds import has, lacking
from underlay.kernel import libnftables

TYPES = ("macvlan", "ipvlan", "veth", "bridge", "vlan", "dummy")


def test_missing_device_type_fails_only_where_a_network_needs_it(bench):
    """On a kernel with all device types, one that refuses ipvlan is imitated."""
    missing = {kind for kind in lacking() if kind in TYPES}
    kernel = bench.given["kernel"]
    if not missing:
        kernel, missing = FakeKernel(), {"ipvlan"}
        kernel.lacks = missing
    kind = min(missing)
    options = {
        "ipvlan": {"mode": "ipvlan"}, "macvlan": {"mode": "macvlan"},
        "dummy": {"parent": ""}, "vlan": {},
    }[kind]  # fmt: skip
    found = bench.check("device-types", kernel=kernel)
    assert {f.what for f in found} == {f"it has no device type {k}" for k in missing}
    assert {f.level for f in found} == {"warning"}
    if kind != "vlan":
        bench.network("needy", **options)
        levels = {f.what: f.level for f in bench.check("device-types", kernel=kernel)}
        assert levels[f"it has no device type {kind}"] == "failure"


def test_remedy_for_a_missing_device_type_names_module_and_working_mode(bench):
    kernel = FakeKernel()
    kernel.lacks = {"ipvlan", "vlan"}
    bench.network("lan", mode="ipvlan")
    ipvlan, vlan = bench.check("device-types", kernel=kernel)
    assert ipvlan.remedy.startswith("modprobe ipvlan; ")
    assert "until then use mode=macvlan or mode=routed" in ipvlan.remedy
    assert "networks lan cannot work" in ipvlan.why
    assert vlan.remedy.startswith("modprobe 8021q; ")
    assert "mode=" not in vlan.remedy
    assert "until then use a VLAN that the switch sends untagged" in vlan.remedy


@pytest.mark.needs("macvlan", "ipvlan", "vlan", "dummy")
def test_real_kernel_with_all_device_types_passes(bench):
    assert bench.check("device-types") == ()


def test_kernel_with_all_device_types_passes(bench):
    assert bench.check("device-types", kernel=FakeKernel()) == ()


@pytest.mark.skipif(not has("nftables"), reason="this kernel has no nftables")
def test_host_with_nft_passes(bench):
    assert bench.check("nftables") == ()


def test_host_without_nft_fails_if_a_network_needs_it(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    (found,) = bench.check("nftables")
    assert found.level == "warning"
    bench.network("lan")
    bench.given["kernel"] = type(bench.given["kernel"])()
    (found,) = bench.check("nftables")
    assert (found.level, found.remedy.split()[:2]) == ("failure", ["install", "the"])
    assert "networks lan" in found.why


def test_host_whose_library_is_missing_names_networks_that_are_not_strict(
    bench, monkeypatch
):
    monkeypatch.setattr(libnftables, "_NAME", "libnone.so.1")
    libnftables._library.cache_clear()
    try:
        bench.network("lan")
        bench.network("r", mode="routed", parent="")
        (found,) = bench.check("nftables")
    finally:
        libnftables._library.cache_clear()
    assert found.level == "warning"
    assert "networks r are as with strict=off" in found.why


def test_without_root_a_silent_nft_is_not_called_missing(bench, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (found,) = bench.check("nftables")
    assert (found.level, found.remedy) == ("warning", "run it with sudo")
