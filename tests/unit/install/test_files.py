"""The files to install, and what this host's program and settings change in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from underlay.errors import BadSettings, NotAllowed
from underlay.install.files import Inventory, wanted
from underlay.service.settings import Settings

ROOT = Path(__file__).parents[3]
UNITS = Path("/etc/systemd/system")
SERVICE = UNITS / "underlay.service.d/10-install.conf"
SOCKET = UNITS / "underlay.socket.d/10-install.conf"
OPT = Path("/opt/underlay/bin/underlay")


def lines(text):
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_units_to_install_are_those_of_the_source():
    found = wanted(OPT, Settings())
    for name in ("underlay.service", "underlay.socket"):
        assert found[UNITS / name] == (ROOT / "systemd" / name).read_text()
    shipped = {path.read_text() for path in (ROOT / "systemd").iterdir()}
    assert shipped <= set(found.values())


def test_usual_settings_need_only_the_path_of_the_program():
    found = wanted(OPT, Settings())
    assert lines(found[SERVICE]) == [
        "[Service]", "ExecStart=", 'ExecStart="/opt/underlay/bin/underlay" serve',
    ]  # fmt: skip
    assert SOCKET not in found


@pytest.mark.parametrize("home", ["/root/.local/share/pipx/venvs", "/home/ann"])
def test_program_in_a_home_directory_stays_readable(home):
    found = wanted(Path(home, "underlay/bin/underlay"), Settings())
    assert "ProtectHome=read-only" in lines(found[SERVICE])


def test_other_directories_are_made_writable_and_get_the_sockets():
    settings = Settings(state_dir="/srv/100%/state", run_dir="/run/other")
    found = wanted(OPT, settings)
    assert lines(found[SERVICE])[3:] == [
        'ReadWritePaths="/srv/100%%/state"', 'ReadWritePaths="/run/other"',
    ]  # fmt: skip
    assert lines(found[SOCKET]) == [
        "[Socket]",
        "ListenStream=",
        "ListenStream=/run/docker/plugins/underlay.sock",
        "ListenStream=/run/other/status.sock",
    ]


def test_list_of_what_was_made_survives_and_knows_changed_files(tmp_path):
    settings = Settings(state_dir=str(tmp_path))
    inventory = Inventory.of(settings)
    assert inventory.is_empty
    path = tmp_path / "etc/deep/unit"
    inventory.write_file(path, "text\n")
    known = Inventory.of(settings)
    assert known.wrote(path, "text\n")
    assert not known.wrote(path, "changed\n")
    assert known.directories == [str(tmp_path / "etc"), str(tmp_path / "etc/deep")]
    assert (tmp_path / "installed.json").stat().st_mode & 0o777 == 0o600
    known.forget(path)
    assert Inventory.of(settings).is_empty


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"unknown": 1}'])
def test_damaged_list_is_refused_by_its_path(tmp_path, text):
    (tmp_path / "installed.json").write_text(text)
    with pytest.raises(BadSettings, match=r"E-505 .*installed\.json"):
        Inventory.of(Settings(state_dir=str(tmp_path)))


def test_place_that_cannot_be_written_is_an_error_in_words(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotAllowed, match="E-508 "):
        Inventory(tmp_path / "installed.json").write_file(tmp_path / "file/x", "")
