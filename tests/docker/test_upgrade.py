"""An upgrade from an older tree: its records and marks are taken over under traffic.

The older service is run from this repository's history, on the same lab host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4
from tests.lab.service import wait_until

ROOT = Path(__file__).parents[2]
# The last commit before the modules moved into packages.
OLD = "f596733f2ad5"
NETWORKS = {
    "lan": ("--ip-range", "10.77.0.64/27"),
    "routed": ("-o", "mode=routed", "--subnet", "10.79.0.0/24"),
}


@pytest.fixture
def older(tmp_path):
    """The directory of the older tree's package; skipped where history is missing."""
    if shutil.which("git") is None:
        pytest.skip("the older tree is read with git, and there is none here")
    archive = tmp_path / "old.tar"
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT,
         "archive", "-o", archive, OLD, "driver"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this checkout has no history back to {OLD}: {done.stderr}")
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
    return tmp_path / "driver"


def plan(service):
    return service.run("plan", check=False).stdout


def test_containers_of_an_older_version_go_on_under_this_one(newest, older):
    site, service = newest, newest.service
    service.stop()
    assert service.on_record()["networks"] == []
    for file in Path(service.env["UNDERLAY_STATE_DIR"]).iterdir():
        file.unlink()
    service.env["PYTHONPATH"] = str(older)
    service.start()
    try:
        assert "cli.py" in {path.name for path in older.glob("underlay/*.py")}
        site.network("lan", *NETWORKS["lan"])
        site.docker(
            "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
            *NETWORKS["routed"], "routed",
        )  # fmt: skip
        for name, network in (("c1", "lan"), ("c2", "routed"), ("c3", "lan")):
            site.run(name, network)
        before = {name: site.attached(name, net) for name, net in
                  (("c1", "lan"), ("c2", "routed"), ("c3", "lan"))}  # fmt: skip
        sandbox = f"/proc/{site.host.pid_of('c1')}/ns/net"
        ping = f"nsenter --net={sandbox} ping -q -i0.05 {GATEWAY4}"
        start = f"{ping} >/run/upgrade 2>&1 </dev/null & echo $!"
        pid = site.host.run("sh", "-c", start).stdout.strip()
        links = site.our_links()
    finally:
        service.stop()
        del service.env["PYTHONPATH"]
    service.start()
    # The first pass changes what this version makes otherwise, and no device.
    wait_until(lambda: plan(service) == "nothing to do\n", 20, lambda: plan(service))
    assert site.our_links() == links
    site.host.run("kill", "-INT", pid)
    wait_until(lambda: "loss" in site.host.run("cat", "/run/upgrade").stdout, 20)
    flow = site.host.run("cat", "/run/upgrade").stdout
    assert re.search(r"[1-9]\d+ packets transmitted", flow), flow
    assert " 0% packet loss" in flow, flow
    for name, network in (("c1", "lan"), ("c2", "routed"), ("c3", "lan")):
        assert site.attached(name, network) == before[name]
    site.docker("restart", "-t0", "c3")
    site.docker("rm", "-f", "c1", "c2", "c3")
    site.docker("network", "rm", "lan", "routed")
    site.assert_nothing_left()
