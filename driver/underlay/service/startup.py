"""What must be in order before the service can work: its directories and records."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from underlay.errors import AlreadyRunning, NotAllowed
from underlay.records import Records
from underlay.service import file_modes
from underlay.service.settings import Settings


@dataclass(frozen=True, slots=True)
class Claim:
    """The settings, and the state directory: locked as long as `lock` is open."""

    settings: Settings
    lock: IO[str]

    def check_records(self) -> None:
        """Open the records and read all of them; raises UnderlayError."""
        Records(self.settings.records, verify=True).close()


def claim(settings: Settings) -> Claim:
    """Make the directories, lock the state directory and check the records.

    Raises UnderlayError if the service cannot work.
    """
    state = Path(settings.state_dir)
    file_modes.make(state, file_modes.FOLDER_MODE)
    for folder in (settings.run_dir, settings.plugin_dir):
        file_modes.make(Path(folder), 0o755)
    file_modes.close_off(state, settings.records)
    claimed = Claim(settings, _only_one(state))
    try:
        claimed.check_records()
    except BaseException:
        claimed.lock.close()
        raise
    return claimed


def check_not_running(state: Path) -> None:
    """Raise AlreadyRunning if a service uses this state directory."""
    if (state / file_modes.LOCK).exists():
        _only_one(state).close()


def _only_one(state: Path) -> IO[str]:
    """Hold the lock of a state directory for as long as the file is open."""
    try:
        lock = (state / file_modes.LOCK).open("a+", encoding="ascii")
    except OSError as error:
        raise NotAllowed(what=f"writing to {state}", why=error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise AlreadyRunning(path=state, pid=f" (pid {pid})" if pid else "") from error
    with suppress(OSError):  # a full disk: only the pid in E-503 is lost
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
    return lock
