"""The steps of an installation and of its removal, in order, each with its line."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from underlay.errors import (
    FileInTheWay,
    NetworksInUse,
    NoRecords,
    NoSystemd,
    NotAllowed,
    NotInstalled,
    ProgramOfUser,
)
from underlay.install import systemd_control as systemd
from underlay.install.files import UNITS, Inventory, text_of, wanted
from underlay.records import Records, copy_before_migration
from underlay.service import file_modes, startup
from underlay.service.settings import FILE, Settings


@dataclass(frozen=True, slots=True)
class Step:
    """A line that says what is done, and the function that does it (None: nothing)."""

    text: str
    run: Callable[[], object] | None = None


def install_steps(settings: Settings) -> list[Step]:
    """Return what is to be done to install the service and start it.

    Nothing is changed here. Raises UnderlayError if it must not be done.
    """
    _check_root("installing")
    program = _program()
    _check_program(program)
    if not systemd.is_running():
        raise NoSystemd(program=program)
    inventory = Inventory.of(settings)
    is_active = systemd.is_active("underlay.service")
    if not is_active:
        startup.check_not_running(Path(settings.state_dir))
    return [
        *_directories(settings, inventory),
        *_files(wanted(program, settings), inventory),
        *_copies(settings.records),
        *_starts(is_active=is_active),
    ]


def uninstall_steps(settings: Settings, *, purge: bool) -> list[Step]:
    """Return what is to be done to remove exactly what was installed.

    `purge`: and the records. Raises UnderlayError if it must not be done.
    """
    _check_root("uninstalling")
    inventory = Inventory.of(settings)
    _check_unused(settings.records)
    if inventory.is_empty and purge and settings.records.exists():
        startup.check_not_running(Path(settings.state_dir))
        return [_purge(settings)]
    if inventory.is_empty:
        raise NotInstalled(path=inventory.path)
    state = Path(settings.state_dir)
    return [
        *_stops(settings),
        *_removals(inventory),
        Step(f"remove {inventory.path}", inventory.path.unlink),
        _purge(settings) if purge else Step(f"keep the records in {state}"),
        Step(f"keep the program in {sys.prefix}"),
    ]


def _check_root(what: str) -> None:
    if os.geteuid() != 0:
        raise NotAllowed(what=what, why="only root may do it")


def _program() -> Path:
    """Return the command of the environment that this runs in: a venv's, or pipx's."""
    beside = Path(sys.executable).with_name("underlay")
    return beside if beside.exists() else Path(sys.argv[0]).absolute()


def _check_program(program: Path) -> None:
    """Raise ProgramOfUser if any user may change what the service will run.

    Groups that may are root's business: Debian's group staff owns /usr/local.
    """
    package = Path(__file__).parents[1]
    for path in (program, Path(sys.prefix), package, Path(sys.executable).resolve()):
        for part in (path, *path.parents):
            found = part.stat()
            if found.st_uid != 0:
                raise ProgramOfUser(path=part, why=f"it belongs to user {found.st_uid}")
            sticky = found.st_mode & stat.S_ISVTX  # as /tmp
            if found.st_mode & stat.S_IWOTH and not sticky:
                mode = stat.S_IMODE(found.st_mode)
                raise ProgramOfUser(path=part, why=f"its mode is {mode:04o}")


def _directories(settings: Settings, inventory: Inventory) -> Iterator[Step]:
    # The records' first: the list is in it.
    state = Path(settings.state_dir)

    def make() -> None:
        file_modes.make(state, file_modes.FOLDER_MODE)
        # The service itself lacks the capabilities to change owners.
        file_modes.close_off(state, settings.records)

    yield Step(f"{'keep' if state.is_dir() else 'make'} {state}, for root alone", make)
    if not FILE.parent.is_dir():
        yield Step(f"make {FILE.parent}", lambda: inventory.make_directory(FILE.parent))


def _files(texts: dict[Path, str], inventory: Inventory) -> Iterator[Step]:
    for path, text in texts.items():
        yield _file(path, text, inventory)
    for name in inventory.files.keys() - {str(path) for path in texts}:
        yield _removal(Path(name), inventory)  # of an older version


def _file(path: Path, text: str, inventory: Inventory) -> Step:
    found = text_of(path)
    if found == text:
        return Step(f"keep {path}", lambda: inventory.note(path, text))
    if found is None or inventory.wrote(path, found):
        verb = "write" if found is None else "update"
        return Step(f"{verb} {path}", lambda: inventory.write_file(path, text))
    if str(path) in inventory.files:
        return Step(f"keep {path}, which was changed since it was installed")
    raise FileInTheWay(path=path)


def _copies(records: Path) -> Iterator[Step]:
    """Return the step that copies records which the new version will migrate.

    The service does so too. But this copy is there before anything is restarted.
    """
    if copy := copy_before_migration(records, dry_run=True):
        yield Step(
            f"copy {records} to {copy}, for the way back to the older version",
            lambda: copy_before_migration(records),
        )


def _starts(*, is_active: bool) -> Iterator[Step]:
    def start() -> None:
        if is_active and not systemd.is_active("underlay.socket"):
            # A unit without sockets of systemd: they cannot be made beside it.
            systemd.systemctl("stop", "underlay.service")
        systemd.systemctl("start", "underlay.socket")
        # While it restarts, Docker's calls wait in the sockets.
        systemd.systemctl("restart", "underlay.service")

    yield Step("systemctl daemon-reload", lambda: systemd.systemctl("daemon-reload"))
    yield Step(
        f"systemctl enable {' '.join(UNITS)}",
        lambda: systemd.systemctl("enable", *UNITS),
    )
    verb = "restart" if is_active else "start"
    yield Step(f"systemctl {verb} {' '.join(UNITS)}", start)
    # Last: if one of them refuses, the service runs nevertheless.
    yield from _reloads()


def _reloads() -> Iterator[Step]:
    """Return the steps that tell the other network services of their new files."""
    for unit, words in (
        ("NetworkManager.service", ("systemctl", "reload", "NetworkManager.service")),
        ("systemd-networkd.service", ("networkctl", "reload")),
    ):
        if systemd.is_active(unit):
            yield Step(" ".join(words), partial(systemd.command, *words))


def _check_unused(path: Path) -> None:
    try:
        records = Records(path, readonly=True)
    except NoRecords:
        return
    try:
        found = records.networks.all()
        if found:
            names = " ".join(sorted(network.label for network in found))
            raise NetworksInUse(names=names)
    finally:
        records.close()


def _stops(settings: Settings) -> Iterator[Step]:
    def stop() -> None:
        if systemd.is_running():
            _end_units()
        # systemd has removed its own. Docker would wait at any other one.
        for path in (
            settings.plugin_socket,
            settings.status_socket,
            settings.hosts_file,
        ):
            path.unlink(missing_ok=True)
        _remove_empty(str(settings.hosts_file.parent))
        _remove_empty(settings.run_dir)

    yield Step(f"systemctl disable --now {' '.join(UNITS)}", stop)


def _end_units() -> None:
    """Disable and stop the units; one whose file is gone already may still run."""
    there = [unit for unit in UNITS if systemd.has_file(unit)]
    if there:
        systemd.systemctl("disable", "--now", *there)
    left = [unit for unit in UNITS if systemd.is_active(unit)]
    if left:
        systemd.systemctl("stop", *left)


def _removals(inventory: Inventory) -> Iterator[Step]:
    for name in inventory.files:
        yield _removal(Path(name), inventory)
    for name in reversed(inventory.directories):
        yield Step(f"remove {name}, if it is empty", partial(_remove_empty, name))
    if systemd.is_running():
        reload = "daemon-reload"
        yield Step(f"systemctl {reload}", lambda: systemd.systemctl(reload))
        yield from _reloads()


def _removal(path: Path, inventory: Inventory) -> Step:
    found = text_of(path)

    def remove() -> None:
        path.unlink(missing_ok=True)
        inventory.forget(path)

    if found is None:
        return Step(f"{path} is gone already", lambda: inventory.forget(path))
    if inventory.wrote(path, found):
        return Step(f"remove {path}", remove)
    return Step(f"keep {path}, which was changed since it was installed")


def _remove_empty(name: str) -> None:
    with suppress(OSError):
        Path(name).rmdir()


def _purge(settings: Settings) -> Step:
    state = Path(settings.state_dir)

    def remove() -> None:
        for path in file_modes.own_files(state, settings.records):
            path.unlink(missing_ok=True)
        _remove_empty(str(state))

    return Step(f"remove the records in {state}", remove)
