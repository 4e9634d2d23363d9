"""What is recorded of clients of DHCP servers, when devices get other names."""

from __future__ import annotations

from underlay.model import DhcpLease


def client(uplink, value):
    return DhcpLease(0, uplink, "name", value, f"mac on {uplink}", b"\x01", value)


def known(records):
    """Return the devices of the clients' MACs, and those that they are known on now."""
    found = records.dhcp_leases.all()
    return {(x.mac.split()[-1], x.value): x.uplink for x in found}


def saved(records, *clients):
    with records.transaction():
        for one in clients:
            records.dhcp_leases.save(client(*one))


def test_clients_follow_devices_that_swap_names(records):
    saved(records, ("eth0", "web"), ("eth1", "web"), ("eth1", "db"), ("eth2", "web"))
    with records.transaction():
        records.dhcp_leases.rename_uplinks({"eth0": "eth1", "eth1": "eth0"})
    assert known(records) == {
        ("eth0", "web"): "eth1",
        ("eth1", "web"): "eth0",
        ("eth1", "db"): "eth0",
        ("eth2", "web"): "eth2",
    }


def test_client_with_a_namesake_on_the_device_keeps_the_old_name(records):
    saved(records, ("eth0", "web"), ("eth0", "db"), ("eth1", "web"))
    with records.transaction():
        records.dhcp_leases.rename_uplinks({"eth0": "eth1"})
    assert known(records) == {
        ("eth0", "web"): "eth0",
        ("eth0", "db"): "eth1",
        ("eth1", "web"): "eth1",
    }
