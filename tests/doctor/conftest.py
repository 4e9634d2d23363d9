"""Hosts to examine: a namespace of this machine, with networks on record."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.apart import apart
from tests.kernel.conftest import namespace
from underlay.doctor.checks import CHECKS, examine
from underlay.doctor.examined import Examined, Places
from underlay.kernel.linux import LinuxKernel
from underlay.model import DeviceIdentity, Network, Uplink
from underlay.model.docker import DockerEngine, DockerView

__all__ = ["apart", "namespace"]


class Bench:
    """The host of this thread's namespace; what a test changes is a field."""

    def __init__(self, records, folder: Path) -> None:
        self.records, self.folder = records, folder
        self.given = {
            "kernel": LinuxKernel(),
            "places": Places(
                folder / "plugins/underlay.sock",
                folder / "run/status.sock",
                folder / "underlay.db",
                dmi=folder / "dmi",
                run=folder / "run",
            ),
            "records_error": "",
            "health": None,
            "ask_docker": lambda: DockerView((), {}, frozenset()),
            "ask_engine": lambda: DockerEngine("28.5.2"),
            "ask_containers": lambda ids: {},  # noqa: ARG005
            "ask_failed_starts": list,
            "plan": list,
            "now": time.time(),
        }

    def network(self, name="lan", parent="eth0", subnets=(), **options):
        """Record a network on a device as that is now, or on one that is missing."""
        device = self.given["kernel"].device(parent) if parent else None
        identity = DeviceIdentity(parent, mac="02:00:00:00:00:99")
        if device:
            identity = DeviceIdentity(parent, device.kind, device.mac)
        uplink = Uplink(parent, base_device=identity) if parent else Uplink()
        given = {"parent": parent} if parent and "bridge" not in options else {}
        made = Network(name, {**given, **options}, False, tuple(subnets), uplink, name)
        with self.records.transaction():
            self.records.networks.add(made)
            self.records.networks.rename(name, name)
        return made

    def examined(self, **given):
        return Examined(**{**self.given, "records": self.records, **given})

    def check(self, name, **given):
        """Return what one check finds."""
        return self.result(name, **given).findings

    def result(self, name, **given):
        (found,) = [check for check in CHECKS if check.id == name]
        (result,) = examine(self.examined(**given), [found])
        return result


@pytest.fixture
def bench(records, tmp_path, namespace):  # noqa: ARG001 - before the kernel is asked
    return Bench(records, tmp_path)
