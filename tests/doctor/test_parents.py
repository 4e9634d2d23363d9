"""Parents in every state that keeps containers from the LAN."""

from __future__ import annotations

import pytest

from tests.fakes import ETH0, LO, FakeKernel
from tests.lab import net
from tests.lab.net import Namespace
from underlay.kernel import inspection


def test_parent_that_is_there_and_up_passes(bench):
    bench.network()
    assert bench.check("parents") == ()


def test_missing_parent_fails_with_the_network_and_its_mac(bench):
    bench.network("lan", parent="gone0")
    (found,) = bench.check("parents")
    assert (found.level, found.where) == ("failure", "network lan")
    assert found.what == "its parent gone0 (02:00:00:00:00:99) is missing"


def test_parent_that_is_down_fails_with_the_command_to_set_it_up(bench):
    bench.network()
    net.ip("link set eth0 down")
    (found,) = bench.check("parents")
    assert (found.where, found.what) == ("eth0", "it is down")
    assert found.remedy == "ip link set eth0 up"


def test_parent_without_a_carrier_fails(bench):
    bench.network()
    net.ip("link set wire0 down")
    (found,) = bench.check("parents")
    assert found.what == "it has no carrier"


def test_renamed_parent_is_followed_with_a_warning(bench):
    bench.network()
    net.ip("link set eth0 down", "link set eth0 name lan0", "link set lan0 up")
    (found,) = [f for f in bench.check("parents") if f.level == "warning"]
    assert (found.where, found.what) == (
        "lan0",
        "networks lan were recorded on it as eth0",
    )


def test_device_that_was_asked_for_and_does_not_exist_fails(bench):
    (found,) = bench.check("parents", asked_for=("nope0",))
    assert (found.level, found.where) == ("failure", "nope0")


def test_parent_that_is_a_port_of_a_bridge_fails_with_that_bridge(bench):
    bench.network()
    assert bench.check("parent-use") == ()
    net.ip("link add br0 type bridge", "link set eth0 master br0")
    (found,) = bench.check("parent-use")
    assert found.what == "it is a port of the bridge br0"
    assert found.remedy == "create the network with -o bridge=br0"


@pytest.mark.needs("bond")
def test_parent_that_is_a_member_of_a_bond_fails_with_that_bond(bench):
    bench.network()
    net.ip("link add bond0 type bond", "link set eth0 down",
           "link set eth0 master bond0")  # fmt: skip
    (found,) = bench.check("parent-use")
    assert found.what == "it is a member of the bond bond0"
    assert "-o parent=bond0" in found.remedy


def test_bridge_with_spanning_tree_warns_of_its_delay(bench):
    net.ip("link add br0 type bridge", "link set br0 up")
    bench.network(parent="br0", bridge="br0")
    assert bench.check("parent-use") == ()
    net.ip("link set br0 type bridge stp_state 1 forward_delay 1500")
    (found,) = bench.check("parent-use")
    assert (found.level, found.where) == ("warning", "br0")
    assert "15 s" in found.what


@pytest.mark.needs("macvlan")
@pytest.mark.usefixtures("namespace")
def test_children_are_found_in_every_namespace():
    with Namespace(f"{net.NETNS.name}-doctor", "sleep 0") as room:
        started = room.start("sleep", "100")
        net.ip(
            "link add here link eth0 type macvlan",
            f"link add there link eth0 netns {room.netns} type macvlan",
        )
        found = {link.name: place for link, place in inspection.children_on("eth0")}
        assert found.keys() == {"here", "there"}
        assert found["here"] == "host"
        assert found["there"] in (
            f"/proc/{started.pid}/ns/net", f"/run/netns/{room.netns}"
        )  # fmt: skip
        assert list(inspection.children_on("wire0")) == []


@pytest.mark.needs("macvlan")
def test_macvlan_child_keeps_ipvlan_networks_from_the_parent(bench):
    bench.network(mode="ipvlan")
    assert bench.check("parent-use") == ()
    net.ip("link add foreign0 link eth0 type macvlan")
    (found,) = bench.check("parent-use")
    assert found.what == "it carries the macvlan device foreign0 (host)"
    assert "remove foreign0" in found.remedy


@pytest.mark.needs("ipvlan")
def test_ipvlan_child_keeps_macvlan_networks_from_the_parent(bench):
    bench.network()
    assert bench.check("parent-use") == ()
    net.ip("link add foreign0 link eth0 type ipvlan mode l2")
    (found,) = bench.check("parent-use")
    assert found.what == "it carries the ipvlan device foreign0 (host)"


def test_wireless_parent_fails_for_macvlan_and_not_for_ipvlan(bench):
    kernel = FakeKernel(LO, ETH0)
    bench.network("lan", mode="ipvlan")
    kernel.wireless = {"eth0"}
    assert bench.check("wireless", kernel=kernel) == ()
    bench.network("other")
    (found,) = bench.check("wireless", kernel=kernel)
    assert "networks other" in found.why
    assert "mode=ipvlan" in found.remedy


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("sys_vendor", "VMware, Inc.", "forged transmits"),
        ("product_name", "VirtualBox", "promiscuous mode"),
        ("product_name", "Virtual Machine", "MAC address spoofing"),
        ("sys_vendor", "QEMU", "bridge does not filter"),
    ],
)
def test_virtual_machine_warns_with_the_setting_of_its_hypervisor(
    bench, file, text, said
):
    (bench.folder / "dmi").mkdir()
    (bench.folder / "dmi" / file).write_text(f"{text}\n")
    bench.network("v", mode="ipvlan")
    assert bench.check("hardware") == ()
    bench.network("lan")
    (found,) = bench.check("hardware")
    assert (found.level, found.what) == ("warning", "it is a virtual machine")
    assert said in found.remedy


@pytest.mark.parametrize(
    ("file", "text", "cloud"),
    [
        ("sys_vendor", "Amazon EC2", "Amazon EC2"),
        ("product_name", "Google Compute Engine", "Google Cloud"),
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Microsoft Azure"),
        ("sys_vendor", "Hetzner", "Hetzner"),
    ],
)
def test_machine_of_a_cloud_warns_that_addresses_are_filtered_too(
    bench, file, text, cloud
):
    (bench.folder / "dmi").mkdir()
    (bench.folder / "dmi" / file).write_text(f"{text}\n")
    bench.network("lan", mode="ipvlan")
    (found,) = bench.check("hardware")
    assert found.what == f"it is a machine of {cloud}"
    assert "mode=routed" in found.remedy
    assert "networks lan" in found.why


def test_bare_metal_passes(bench):
    (bench.folder / "dmi").mkdir()
    (bench.folder / "dmi" / "sys_vendor").write_text("Supermicro\n")
    bench.network()
    assert bench.check("hardware") == ()
