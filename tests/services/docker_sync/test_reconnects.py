"""What is noted of a container before Docker disconnects it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fakes import Clock
from underlay.docker_sync.dockerd import Dockerd
from underlay.docker_sync.reconnects import Note, Reconnects
from underlay.ipam.reconnecting import Reconnecting

WEB = Note("c1", "n1", "e1", "name", "web", "web", "10.0.0.2/24", {})


def test_note_and_its_name_are_on_the_disk_before_docker_is_asked(
    records, tmp_path, monkeypatch
):
    written = []

    def fsync(number):
        written.append(str(Path(f"/proc/self/fd/{number}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    notes, clock = tmp_path / "notes", Clock()
    dockerd = Dockerd("unix:///nowhere", 1)
    made = Reconnects(records, dockerd, Reconnecting(), notes, clock, clock)
    made._write([WEB])
    assert made._read() == [WEB]
    assert written == [f"{notes}.new", str(tmp_path)]
