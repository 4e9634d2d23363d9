"""An upgrade from an older tree: its records and marks are taken over under traffic.

The older service is run from this repository's history, on the same lab host.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker.conftest import GATEWAY4
from tests.lab.service import wait_until

ROOT = Path(__file__).parents[2]
# The last commit before the modules moved into packages.
OLD = "f596733f2ad5"
# The last commit with records of a version before, and what is kept of these.
BEFORE, COPY = "e6d3595", "underlay.db.v17"
NETWORKS = {
    "lan": ("--ip-range", "10.77.0.64/27"),
    "routed": ("-o", "mode=routed", "--subnet", "10.79.0.0/24"),
}


def unpacked(commit, folder):
    """Return the package of an older tree; skip where history is missing."""
    if shutil.which("git") is None:
        pytest.skip("the older tree is read with git, and there is none here")
    archive = folder / "old.tar"
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", ROOT,
         "archive", "-o", archive, commit, "driver"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"this checkout has no history back to {commit}: {done.stderr}")
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return folder / "driver"


@pytest.fixture
def older(tmp_path):
    return unpacked(OLD, tmp_path)


@pytest.fixture
def before(tmp_path):
    """The tree whose records have the version before this one."""
    return unpacked(BEFORE, tmp_path)


@contextmanager
def ping_without_loss(site, container):
    """Have a container ping the router meanwhile; every packet is answered."""
    sandbox = f"/proc/{site.host.pid_of(container)}/ns/net"
    ping = f"nsenter --net={sandbox} ping -q -i0.05 {GATEWAY4}"
    start = f"{ping} >/run/upgrade 2>&1 </dev/null & echo $!"
    pid = site.host.run("sh", "-c", start).stdout.strip()
    yield
    site.host.run("kill", "-INT", pid)
    wait_until(lambda: "loss" in site.host.run("cat", "/run/upgrade").stdout, 20)
    flow = site.host.run("cat", "/run/upgrade").stdout
    assert re.search(r"[1-9]\d+ packets transmitted", flow), flow
    assert " 0% packet loss" in flow, flow


def plan(service):
    return service.run("plan", check=False).stdout


@contextmanager
def served_by(service, tree):
    """Have the service be that of another tree; it is stopped at the end."""
    service.env["PYTHONPATH"] = str(tree)
    try:
        service.start()
        yield
    finally:
        service.stop()
        del service.env["PYTHONPATH"]


@pytest.fixture
def emptied(newest):
    """A site whose service is stopped, and has no records."""
    service = newest.service
    service.stop()
    assert service.on_record()["networks"] == []
    for file in records(service).parent.iterdir():
        file.unlink()
    yield newest
    if service.healthz() is None:
        service.start()


def records(service):
    return Path(service.env["UNDERLAY_STATE_DIR"]) / "underlay.db"


CONTAINERS = {"c1": "lan", "c2": "routed", "c3": "lan"}


def populate(site):
    site.network("lan", *NETWORKS["lan"])
    site.docker(
        "network", "create", "-d", "underlay", "--ipam-driver", "underlay",
        *NETWORKS["routed"], "routed",
    )  # fmt: skip
    for name, network in CONTAINERS.items():
        site.run(name, network)
    return attached(site)


def attached(site):
    return {name: site.attached(name, net) for name, net in CONTAINERS.items()}


def settle(service):
    wait_until(lambda: plan(service) == "nothing to do\n", 20, lambda: plan(service))


def clear(site, *others):
    site.docker("restart", "-t0", "c3")
    site.docker("rm", "-f", *CONTAINERS, *others)
    site.docker("network", "rm", "lan", "routed")
    site.assert_nothing_left()


def test_containers_of_an_older_version_go_on_under_this_one(emptied, older):
    site, service = emptied, emptied.service
    with served_by(service, older):
        assert "cli.py" in {path.name for path in older.glob("underlay/*.py")}
        told, links = populate(site), site.our_links()
    with ping_without_loss(site, "c1"):
        service.start()
        # The first pass changes what this version makes otherwise, and no device.
        settle(service)
    assert site.our_links() == links
    assert attached(site) == told
    clear(site)


def test_version_before_goes_on_with_the_copy_that_this_one_made(emptied, before):
    site, service = emptied, emptied.service
    with served_by(service, before):
        told, links = populate(site), site.our_links()
    networks = site.docker("network", "ls", "-q").stdout
    with ping_without_loss(site, "c1"):
        service.start()
        settle(service)
        site.run("later", "lan")
        service.stop()
        refusal = pytest.raises(AssertionError, match=rf"E-502 .* restore .*{COPY}")
        with refusal, served_by(service, before):
            pass
        copy_back(records(service))
        with served_by(service, before):
            # What the copy lacks is taken from Docker's list.
            wait_until(lambda: len(service.status()["endpoints"]) == 4, 20)
            site.ping_from("later", GATEWAY4)
        service.start()
        settle(service)
    assert set(links) <= set(site.our_links())
    assert site.docker("network", "ls", "-q").stdout == networks
    assert attached(site) == told
    clear(site, "later")


def copy_back(path):
    """Put the copy in the place of the records, as docs/install.md says."""
    path.rename(path.with_name("underlay.db.newer"))
    for end in ("-wal", "-shm"):
        path.with_name(f"underlay.db{end}").unlink(missing_ok=True)
    shutil.copy2(path.with_name(COPY), path)
