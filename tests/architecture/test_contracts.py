"""The import contracts of pyproject.toml leave no module out, and find a breach."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "driver/underlay"
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {c["name"]: c for c in CONFIG["tool"]["importlinter"]["contracts"]}
# What is on a floor: every package, and the modules beside them.
ROOMS = {
    p.stem
    for p in PACKAGE.iterdir()
    if (p.suffix == ".py" or (p / "__init__.py").exists()) and p.stem != "__init__"
}
OUTSIDE = {
    "docker": "docker_sync",
    "flask": "api",
    "msgspec": "api",
    "gunicorn": "service",
    "prometheus_client": "service",
    "click": "cli",
    "pyroute2": "kernel",
    "sqlite3": "records",
}
PURE = "errors", "model", "modes", "planning"
TOUCHING = "os", "pathlib", "socket", "subprocess", "threading", "time"
# What is planted: the module, the line, and the contract that must find it.
BREACHES = [
    ("model/steps.py", "import underlay.modes.macvlan", "floors"),
    ("planning/plan.py", "import underlay.records", "floors"),
    ("records/database.py", "import underlay.kernel.links", "floors"),
    ("dhcp/packets.py", "import underlay.kernel.links", "floors"),
    ("ipam/driver.py", "import underlay.networks.driver", "floors"),
    ("networks/driver.py", "import underlay.reconcile.executor", "floors"),
    ("modes/macvlan.py", "import underlay.modes.routed", "a mode knows no other mode"),
    ("reconcile/reconciler.py", "import flask", ""),
    ("networks/driver.py", "import docker", ""),
    ("networks/parents.py", "import sqlite3", ""),
    ("networks/builder.py", "import pyroute2", ""),
    ("networks/bridge_takeover.py", "import msgspec", ""),
    ("cli/tables.py", "import gunicorn", ""),
    ("api/status.py", "import prometheus_client", ""),
    ("service/settings.py", "import click", ""),
    *(("planning/parent.py", f"import {name}", "pure") for name in TOUCHING),
    *(("model/owner.py", f"import {name}", "pure") for name in TOUCHING),
]


def only_in(name):
    """Return the name of the contract that keeps a library in one package."""
    (found,) = [c for c in CONTRACTS if re.search(rf"\b{name}\b.* only in ", c)]
    return found


def contract(line, name):
    if name == "pure":
        return "values and core touch nothing"
    return name or only_in(line.split()[1])


@pytest.mark.parametrize("library", OUTSIDE)
def test_a_library_s_contract_names_every_package_but_one(library):
    found = CONTRACTS[only_in(library)]
    assert found["name"].endswith(f" only in {OUTSIDE[library]}")
    assert library in found["forbidden_modules"]
    named = {name.removeprefix("underlay.") for name in found["source_modules"]}
    assert named == ROOMS - {OUTSIDE[library], "__main__"}


def test_every_dependency_has_a_contract():
    wanted = {re.match(r"\w+", d)[0] for d in CONFIG["project"]["dependencies"]}
    assert wanted <= set(OUTSIDE)


def test_every_package_is_on_exactly_one_floor():
    named = re.findall(r"\w+", " ".join(CONTRACTS["floors"]["layers"]))
    assert sorted(named) == sorted(ROOMS)
    assert CONTRACTS["floors"]["exhaustive"]


def test_values_and_core_may_touch_nothing_of_the_host():
    found = CONTRACTS["values and core touch nothing"]
    assert {f"underlay.{name}" for name in PURE} <= set(found["source_modules"])
    assert {*OUTSIDE, *TOUCHING} <= set(found["forbidden_modules"])


def test_every_planted_breach_is_found(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "underlay")
    for path, line, _ in BREACHES:
        with (tmp_path / "underlay" / path).open("a") as file:
            file.write(f"{line}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config",
         ROOT / "pyproject.toml"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    _, *sections = re.split(r"^(.+)\n-+\n", done.stdout, flags=re.MULTILINE)
    told = dict(zip(sections[::2], sections[1::2], strict=True))
    for path, line, name in BREACHES:
        module = "underlay." + path.removesuffix(".py").replace("/", ".")
        found = rf"{re.escape(module)} -> {re.escape(line.split()[1])} \("
        assert re.search(found, told[contract(line, name)]), (path, line)
