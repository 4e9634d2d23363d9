"""The state directory: only root reads or locks what is in it."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.api.bodies import NETWORK
from tests.lab.service import wait_until
from tests.service.conftest import Daemon
from underlay.cli.commands import main
from underlay.errors import BadSettings
from underlay.records import Records
from underlay.records.migrations import MIGRATIONS, migrate
from underlay.service.file_modes import close_off

NOBODY = 65534


@pytest.fixture
def open_daemon():
    """A daemon in a directory that all users can enter, as /var/lib."""
    folder = Path(tempfile.mkdtemp(prefix="underlay-"))
    folder.chmod(0o755)
    daemon = Daemon(folder)
    yield daemon
    if daemon.process and daemon.process.poll() is None:
        daemon.stop()
    shutil.rmtree(folder)


def as_nobody(act):
    """Run `act` in a process of user `nobody`; return what it said."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            said = str(act())
        except BaseException:  # noqa: BLE001 - said, and nothing else may go on
            said = traceback.format_exc()
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as pipe:
        return pipe.read()


def modes(folder):
    """Return the modes of a directory, "", and of what is in it."""
    found = {"": folder, **{path.name: path for path in folder.iterdir()}}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


def assert_closed(folder):
    found = modes(folder)
    assert found.pop("") == 0o700
    assert set(found.values()) == {0o600}, found
    assert {"underlay.db", "underlay.db-wal", "underlay.db-shm", "lock"} <= set(found)


def reached(folder):
    """Return what of a directory another user opens for reading, and locks."""
    names = ("lock", "underlay.db", "underlay.db-wal", "underlay.db-shm")
    found = []
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except PermissionError:
            continue
        found.append(name)
    return found


@pytest.mark.parametrize("umask", ["0", "022", "077", "0777"])
def test_records_are_private_to_root_whatever_the_umask(open_daemon, umask):
    daemon = open_daemon
    daemon.start("sh", "-c", f'umask {umask}; exec "$@"', "sh")
    assert daemon.post("NetworkDriver.CreateNetwork", NETWORK) == (200, {})
    assert_closed(daemon.state)
    assert as_nobody(lambda: reached(daemon.state)) == "[]"
    found = modes(daemon.folder / "run")
    assert found.pop("hosts", 0o755) == 0o755  # it comes a moment later
    assert found == {"": 0o755, "status.sock": 0o660}
    assert modes(daemon.folder / "plugins") == {"": 0o755, "underlay.sock": 0o660}
    assert "other users could open" not in daemon.log


def test_records_open_to_others_are_closed_at_the_next_start_and_logged(open_daemon):
    daemon = open_daemon
    daemon.start()
    daemon.post("NetworkDriver.CreateNetwork", NETWORK)
    daemon.stop(9)
    (daemon.state / "underlay.db.v3").write_bytes(b"a copy")
    daemon.state.chmod(0o755)
    for path in daemon.state.iterdir():
        path.chmod(0o644)
    os.chown(daemon.state / "lock", NOBODY, NOBODY)
    # The worker may hold its locks for a moment longer than the master lives.
    wait_until(lambda: as_nobody(lambda: len(reached(daemon.state))) == "4", 10)
    daemon.start()
    assert_closed(daemon.state)
    assert (daemon.state / "lock").stat().st_uid == 0
    assert as_nobody(lambda: reached(daemon.state)) == "[]"
    [said] = [
        line for line in daemon.log.splitlines() if "other users could open" in line
    ]
    for name in ("", "/underlay.db", "/underlay.db-wal", "/underlay.db.v3", "/lock"):
        assert f"{daemon.state}{name} (" in said
    assert f"{daemon.state} (0755)" in said
    assert f"{daemon.state}/lock (of user {NOBODY})" in said
    daemon.stop()
    daemon.start()
    assert daemon.log.count("other users could open") == 1


def test_backup_before_a_migration_is_for_root_only(tmp_path):
    path = tmp_path / "underlay.db"
    before = os.umask(0)
    try:
        Records(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        db = sqlite3.connect(path, isolation_level=None)
        migrate(db, path, (*MIGRATIONS, ("CREATE TABLE more (x TEXT) STRICT",)))
        db.close()
    finally:
        os.umask(before)
    copy = path.with_name(f"{path.name}.v{len(MIGRATIONS)}")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_reading_commands_of_another_user_are_refused_with_the_way_out(open_daemon):
    daemon = open_daemon
    daemon.start()

    def status(*words):
        done = CliRunner(env=daemon.env).invoke(main, words)
        return f"{done.exit_code} {done.output}"

    for words in (
        ("status",),
        ("network", "ls"),
        ("endpoint", "ls", "--json"),
        ("pool", "ls"),
        ("history", "10.0.0.5"),
    ):
        said = as_nobody(lambda words=words: status(*words))
        assert said.startswith("1 E-508 reading "), said
        assert said.rstrip().endswith("Run the command as root: sudo underlay ...")
    daemon.state.chmod(0o755)  # the files are closed, too
    assert as_nobody(lambda: status("status")).startswith("1 E-508 reading ")


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    Records(folder / "underlay.db").close()
    (folder / "lock").touch(0o644)
    return folder


def close(folder):
    close_off(folder, folder / "underlay.db")


def test_symlinked_directory_or_records_have_their_target_closed(state):
    link = state.parent / "link"
    link.symlink_to(state)
    elsewhere = state.parent / "disk"
    elsewhere.mkdir(mode=0o755)
    (state / "underlay.db").rename(elsewhere / "kept")
    (state / "underlay.db").symlink_to(elsewhere / "kept")
    for name in ("kept", "kept-wal", "kept-shm"):
        (elsewhere / name).touch()
        (elsewhere / name).chmod(0o644)
    close(link)
    assert modes(state) == {"": 0o700, "lock": 0o600, "underlay.db": 0o600}
    files = dict.fromkeys(("kept", "kept-wal", "kept-shm"), 0o600)
    assert modes(elsewhere) == {"": 0o755, **files}


def test_directory_of_another_user_becomes_root_s(state):
    for path in (state, state / "underlay.db"):
        os.chown(path, NOBODY, NOBODY)
    close(state)
    assert state.stat().st_uid == (state / "underlay.db").stat().st_uid == 0
    assert modes(state)[""] == 0o700


def test_shared_directory_keeps_its_mode_and_its_records_are_closed(state):
    state.chmod(0o755)
    (state / "notes").touch()
    (state / "notes").chmod(0o644)
    (state / "underlay.db").chmod(0o644)
    close(state)
    assert modes(state) == {
        "": 0o755, "notes": 0o644, "underlay.db": 0o600, "lock": 0o600
    }  # fmt: skip


@pytest.mark.parametrize("how", ["mode", "owner"])
def test_shared_directory_writable_by_others_is_refused(state, how):
    (state / "notes").touch()
    if how == "mode":
        state.chmod(0o777)
    else:
        os.chown(state, NOBODY, NOBODY)
    before = modes(state)
    with pytest.raises(BadSettings, match=r"E-505 state_dir .*\(notes\), and others"):
        close(state)
    assert modes(state) == before


def test_symlink_of_another_user_is_refused_without_harm(state):
    victim = state.parent / "victim"
    victim.touch()
    victim.chmod(0o644)
    (state / "lock").unlink()
    (state / "lock").symlink_to(victim)
    os.chown(state / "lock", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(BadSettings, match="is a link that user 65534 made"):
        close(state)
    assert modes(state.parent)["victim"] == 0o644


def test_lost_and_found_does_not_make_a_directory_shared(state):
    (state / "lost+found").mkdir(mode=0o700)
    state.chmod(0o755)
    close(state)
    assert modes(state)[""] == 0o700


def test_last_look_of_exposure_is_a_file_of_the_service(tmp_path):
    """In a directory of its own, which is closed, and not taken for another's."""
    tmp_path.chmod(0o755)
    files = ("underlay.db", "exposure.json", "exposure.json.a1b2c3d4")
    for name in files:
        (tmp_path / name).touch(0o644)
    close_off(tmp_path, tmp_path / "underlay.db")
    assert modes(tmp_path) == {"": 0o700, **dict.fromkeys(files, 0o600)}
