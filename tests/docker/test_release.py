"""What a release consists of; its Debian package, installed on bare systems."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
from zipfile import ZipFile

import pytest

from tests.lab import rootfs, wheels
from tests.lab.bare import BareHost
from tests.lab.wheels import ROOT
from underlay import __version__

PROGRAM = "/usr/bin/underlay"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    words = (ROOT / "script/release", folder)
    found = [str(wheels.needed(rootfs.bare(suite))) for suite in rootfs.BARE_SUITES]
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": " ".join(found)}
    made = subprocess.run(
        words, env=os.environ | offline, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"git tag --sign v{__version__} ")
    return folder


@pytest.fixture(scope="module")
def package(release):
    (found,) = release.glob("*.deb")
    return found


@pytest.fixture(params=rootfs.BARE_SUITES)
def bare(request, package):
    with BareHost(request.param, package.parent) as found:
        yield found


def files(bare):
    """Return all that is not the package manager's, a log, or compiled."""
    places = "find / -xdev -not -path '/var/*' -not -name '*.pyc' -not -path '/proc/*'"
    return set(bare.run("sh", "-c", places).stdout.splitlines())


def dpkg(bare, *words, check=True):
    return bare.run("dpkg", *words, check=check)


def test_package_runs_where_nothing_but_python_is_and_leaves_nothing(bare, package):
    before = files(bare)
    said = dpkg(bare, "-i", f"/mnt/{package.name}").stdout
    assert "systemd does not run here. Start the service yourself" in said
    assert __version__ in bare.run(PROGRAM, "version").stdout
    # What does not need a running service works: the checks of this host.
    told = bare.run(PROGRAM, "doctor", "--json", check=False)
    assert told.stdout.startswith(("[", "{")), told.stderr
    said = dpkg(bare, "-i", f"/mnt/{package.name}").stdout  # again, as an upgrade
    assert __version__ in bare.run(PROGRAM, "version").stdout
    dpkg(bare, "--purge", "underlay")
    assert files(bare) == before


def test_package_says_what_it_needs_and_recommends(package):
    words = ("dpkg-deb", "--field", str(package), "Depends", "Recommends", "Version")
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert told.splitlines() == [
        "Depends: python3 (>= 3.11)",
        "Recommends: nftables, iptables",
        f"Version: {__version__}",
    ]


def test_sdist_has_what_builds_and_tests_it_and_the_wheel_has_the_units(release):
    with tarfile.open(release / f"underlay-{__version__}.tar.gz") as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"README.md", "script/test", "tests/worlds.py", "docs/install.md"} <= names
    assert {"driver/underlay/install/systemd/underlay.service", "Dockerfile"} <= names
    with ZipFile(release / f"underlay-{__version__}-py3-none-any.whl") as wheel:
        inside = set(wheel.namelist())
    assert any(name.endswith("underlay.service") for name in inside)
    assert not any(name.startswith("tests/") for name in inside)


def test_notes_of_the_release_have_its_changes_and_the_sums_of_its_files(release):
    notes = (release / "notes.md").read_text()
    assert notes.startswith(f"underlay {__version__}\n")
    assert "### Added" in notes
    assert "## [" not in notes
    for file in {*release.iterdir()} - {release / "notes.md"}:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"{digest}  {file.name}" in notes
