"""Records as older versions wrote them, for tests/records/test_stored_records.py.

``python -m tests.lab.old_records VERSION COMMIT`` runs the service of a commit on a lab
host, has Docker use it, and stores the records, as SQL, with what Docker says of them.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.lab import rootfs
from tests.lab.host import Host
from tests.lab.net import Lan
from tests.lab.service import Service

ROOT = Path(__file__).parents[2]
STORED = ROOT / "tests/records/stored"
DRIVER = ("-d", "underlay", "--ipam-driver", "underlay")
NETWORKS = {
    "lan": ("-o", "parent=eth0", "--subnet", "10.77.0.0/24", "--gateway", "10.77.0.1",
            "--ip-range", "10.77.0.64/27", "--aux-address", "printer=10.77.0.65",
            "--ipv6", "--subnet", "fd77::/64", "--gateway", "fd77::1"),
    "routed": ("-o", "mode=routed", "--subnet", "10.79.0.0/24"),
}  # fmt: skip
CONTAINERS = {"web": "lan", "db": "lan", "gone": "lan", "far": "routed"}


class Older(Service):
    """The service of an older tree."""

    def __init__(self, host: Host, tree: Path) -> None:
        super().__init__(host)
        self.env["PYTHONPATH"] = str(tree / "driver")


def store(version: int, commit: str) -> None:
    """Store the records of a commit as v<version>.sql and v<version>.json."""
    with tempfile.TemporaryDirectory() as folder, Lan() as lan:
        tree = Path(folder)
        archive = tree / "tree.tar"
        words = ("git", "-C", ROOT, "archive", "-o", archive, commit, "driver")
        subprocess.run(words, check=True)
        subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
        with Host(lan, "old", rootfs.NEWEST, 1) as host:
            service = Older(host, tree)
            service.start()
            host.start_dockerd()
            host.load_image()
            facts = used(host)
            service.stop()
            path = Path(service.env["UNDERLAY_STATE_DIR"]) / "underlay.db"
            sql = dumped(path, version)
    (STORED / f"v{version}.sql").write_text(sql)
    text = json.dumps(
        {"commit": commit, "version": version, **facts}, indent=1, sort_keys=True
    )
    (STORED / f"v{version}.json").write_text(f"{text}\n")


def used(host: Host) -> dict[str, Any]:
    """Have Docker use the service; return what it says of networks and containers."""
    networks = {}
    for name, words in NETWORKS.items():
        done = host.docker("network", "create", *DRIVER, *words, name, check=False)
        if done.returncode == 0:  # the first versions lack modes
            networks[name] = done.stdout.strip()
    given = {c: n for c, n in CONTAINERS.items() if n in networks}
    for container, network in given.items():
        words = ("--name", container, "--network", network, "bb", "sleep", "1000")
        host.docker("run", "-d", *words)
    address = attached(host, "gone", networks)["addresses"]
    host.docker("rm", "-f", "gone")
    del given["gone"]
    found = {container: attached(host, container, networks) for container in given}
    return {"networks": networks, "containers": found, "released": address}


def attached(host: Host, container: str, networks: dict[str, str]) -> dict[str, Any]:
    """Return the endpoint of a container as Docker tells it."""
    told = json.loads(host.docker("inspect", container).stdout)[0]
    [[network, place]] = told["NetworkSettings"]["Networks"].items()
    addresses = [place["IPAddress"], place["GlobalIPv6Address"]]
    return {
        "id": place["EndpointID"],
        "network": networks[network],
        "addresses": [address for address in addresses if address],
        "mac": place["MacAddress"],
    }


def dumped(path: Path, version: int) -> str:
    """Return a database as SQL; it must have this version."""
    db = sqlite3.connect(path)
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found != version:
        raise ValueError(f"the records of this commit have version {found}")
    lines = [*db.iterdump(), f"PRAGMA user_version = {version};"]
    db.close()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    store(int(sys.argv[1]), sys.argv[2])
