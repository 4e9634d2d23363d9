"""The wheel of this tree, and those of what it needs, for the Python of a lab host."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.lab.debian import built

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]


def own(folder: Path) -> Path:
    """Build the wheel of this tree in a folder; nothing is downloaded."""
    plain = ("--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*PIP, "wheel", *plain, "-w", folder, ROOT], check=True)
    [wheel] = folder.glob("underlay-*.whl")
    return wheel


def needed(root: Path) -> Path:
    """The wheels of pip and of all dependencies, for the Python of this root."""
    version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"]
    digest = hashlib.sha256("\n".join([version, *wanted]).encode()).hexdigest()[:12]
    return built(f"wheels-{digest}", lambda work: _download(version, wanted, work))


def _download(version: str, wanted: list[str], work: Path) -> Path:
    binary = ("--python-version", version, "--only-binary=:all:")
    command = [*PIP, "download", *binary, "-d", work / "wheels", "pip", *wanted]
    subprocess.run(command, check=True)
    return work / "wheels"
