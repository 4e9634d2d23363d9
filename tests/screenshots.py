"""The pictures of the status page in docs/images: ``python -m tests.screenshots``."""

from __future__ import annotations

import sys
import tempfile
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path

from tests.lab import rootfs
from tests.lab.browser import Browser
from underlay.api.page.page import page
from underlay.model import (
    DeviceIdentity,
    Endpoint,
    Lease,
    Network,
    Repair,
    Subnet,
    Uplink,
)
from underlay.records import Records

IMAGES = Path(__file__).parents[1] / "docs/images"
SIZE = 1100, 1420
NOW = 1772356364.0
HEALTH = {"ok": True, "error": "", "unwritten": [], "started": NOW - 86_400, "pid": 7}
# Name, options, parent, subnet, containers.
NETWORKS = [
    ("lan", {"parent": "eth0"}, "eth0", "192.168.1.0/24", ["web", "db", "mqtt", "dns"]),
    ("cameras", {"parent": "eth0.50"}, "eth0.50", "10.50.0.0/24", ["nvr", "door"]),
    ("iot", {"mode": "ipvlan", "parent": "eth1"}, "eth1", "10.60.0.0/24", ["hub"]),
    (
        "edge",
        {"mode": "routed"},
        "",
        "203.0.113.0/28",
        [f"edge-{n}" for n in range(12)],
    ),
]
REFUSAL = {
    "at": NOW - 600, "id": "E-141", "times": 4, "method": "IpamDriver.RequestAddress",
    "error": "E-141 no address is left in 203.0.113.0/28: of 14, 12 in use, 1 reserved"
    " (1 gateway, 0 aux). Stop a container, or create the network with a larger"
    " --ip-range or --subnet.",
    "network": "edge", "container": "edge-13", "endpoint": "", "pool": "203.0.113.0/28",
    "address": "", "call": "0f3a91bc",
}  # fmt: skip
REPAIRS = [
    ("web", "ip addr add 192.168.1.50/24 dev eth0", "/run/docker/netns/5f0c2a81d3e7"),
    ("", "follow parent eth0 (52:54:00:12:34:56)", ""),
]


def fill(records: Records) -> None:
    """Record the networks of a small site."""
    with records.transaction():
        for number, (name, options, parent, text, containers) in enumerate(NETWORKS):
            _add(records, number, name, options, parent, text, containers)
        records.repairs.note(
            Repair(
                NOW + 60 * n - 90, "underlay:x", place, "", step, 0.07, "", "lan", name
            )
            for n, (name, step, place) in enumerate(REPAIRS)
        )


def _add(
    records: Records, number: int, name: str, options: dict[str, str], parent: str,
    text: str, containers: list[str],
) -> None:  # fmt: skip
    subnet, identity = ip_network(text), f"{number + 0x5B0C:04x}" * 16
    base = DeviceIdentity("eth1") if parent == "eth1" else None
    uplink = Uplink(parent, base_device=base, link_fault="no carrier" if base else "")
    segments = (Subnet(subnet, subnet[1], pooled=True),)
    records.networks.add(Network(identity, options, False, segments, uplink, name, NOW))
    records.networks.rename(identity, name)
    first, last = subnet[1], subnet[-2]
    pool = records.pools.add("default", subnet, first, last)
    records.pools.add_claim(f"P{number}", pool, first, last, NOW)
    for place, container in enumerate(containers):
        address = ip_address(int(subnet[0]) + 2 + place)
        endpoint = f"{number}{place:02}" * 21 + "0"
        interface = IPv4Interface((int(address), subnet.prefixlen))
        mac = f"3e:19:cd:{number:02x}:00:{place:02x}"
        records.endpoints.add(
            Endpoint(endpoint, identity, interface, mac=mac, created=NOW)
        )
        records.endpoints.name_container(endpoint, container)
        records.leases.start(
            Lease(0, address, "endpoint", pool.id, f"P{number}", identity, endpoint)
        )


def main() -> None:
    """Make the pictures again."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        records = Records(folder / "underlay.db")
        fill(records)
        (folder / "page.html").write_bytes(page(records, HEALTH, [REFUSAL]).body)
        records.close()
        browser, url = Browser(rootfs.browser(), folder), "file:///tmp/out/page.html"
        for name, dark in (("status-light.png", False), ("status-dark.png", True)):
            made = browser.screenshot(url, name, dark=dark, size=SIZE)
            (IMAGES / name).write_bytes(made.read_bytes())
            sys.stdout.write(f"{IMAGES / name}\n")


if __name__ == "__main__":
    main()
