"""The state directory: only root may read, or lock, the files in it.

A shared lock on the lock file, or on SQLite's -shm file, needs only the right to read.
A user with that right could keep the service from starting, or block every call.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from underlay.errors import BadSettings, NotAllowed

log = logging.getLogger(__name__)

FOLDER_MODE, FILE_MODE = 0o700, 0o600
# Whatever this process creates from now on is for root alone.
UMASK = 0o077
LOCK = "lock"
# The list of what `underlay install` has made.
INVENTORY = "installed.json"
# What `underlay exposure` printed last.
LAST_LOOK = "exposure.json"
# The state directory has it where a file system is mounted on it.
_LOST_AND_FOUND = "lost+found"
_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITTEN_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make(folder: Path, mode: int) -> None:
    """Create a missing directory with this mode, and its parents with 0755.

    Raises NotAllowed.
    """
    before = os.umask(0o022)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise NotAllowed(what=f"making {folder}", why=error) from error
    finally:
        os.umask(before)


def close_off(folder: Path, records: Path) -> None:
    """Remove other users' access to the state directory and the service's files.

    Call it before anything is opened there. In a directory that holds other files too,
    such as /var/lib, only the service's own files are closed. Raises BadSettings if
    other users may replace these.
    """
    try:
        mended = list(_close(folder, FOLDER_MODE)) if _is_own(folder, records) else []
        # Listed only now: other users can no longer add files.
        mine = own_files(folder, records)
        _check_links(folder, mine)
        files = {f for path in mine if (f := path.resolve()).is_file()}
    except OSError as error:
        raise NotAllowed(what=f"reading {folder}", why=error) from error
    for path in files | _beside(records.resolve()):
        mended += _close(path, FILE_MODE)
    if mended:
        facts = {"mended": ", ".join(sorted(mended))}
        log.warning("other users could open the records: access removed", extra=facts)


def _is_own(folder: Path, records: Path) -> bool:
    """Return whether a directory has nothing but the service's files.

    Raises BadSettings if it has other files, and other users may write to it: closing
    it would harm them.
    """
    strange = (p.name for p in folder.iterdir() if not _is_mine(p, records))
    stranger = min((name for name in strange if name != _LOST_AND_FOUND), default="")
    found = folder.stat()
    shared = found.st_mode & _WRITTEN_BY_OTHERS or not _is_root(found.st_uid)
    if stranger and shared:
        why = (
            f"it holds other things too ({stranger}), and others than root may write"
            " to it; use a directory of its own"
        )
        raise BadSettings(where=f"state_dir {folder}", why=why, hint="")
    return not stranger


def own_files(folder: Path, records: Path) -> list[Path]:
    """Return the service's own files in the state directory; raises OSError."""
    return [path for path in folder.iterdir() if _is_mine(path, records)]


def _is_mine(path: Path, records: Path) -> bool:
    names = records.name, LAST_LOOK
    return path.name in (LOCK, INVENTORY) or path.name.startswith(names)


def _beside(records: Path) -> set[Path]:
    """Return the files that SQLite keeps next to the records."""
    names = (records.name + end for end in ("-wal", "-shm", "-journal"))
    return {path for name in names if (path := records.with_name(name)).exists()}


def _is_root(user: int) -> bool:
    return user in (0, os.geteuid())


def _check_links(folder: Path, mine: list[Path]) -> None:
    """Raise if a user other than root made a link: it may lead anywhere."""
    for path in mine:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) and not _is_root(found.st_uid):
            why = f"{path} is a link that user {found.st_uid} made; remove it"
            raise BadSettings(where=f"state_dir {folder}", why=why, hint="")


def _close(path: Path, mode: int) -> Iterator[str]:
    """Give a file or directory to root alone; return what was changed."""
    try:
        found = path.stat()
        had = stat.S_IMODE(found.st_mode)
        if found.st_uid != os.geteuid():
            os.chown(path, os.geteuid(), os.getegid())
            yield f"{path} (of user {found.st_uid})"
        if had & _BY_OTHERS:
            path.chmod(mode)
            yield f"{path} ({had:04o})"
    except OSError as error:
        # A file system without modes, for example. The service works all the same.
        facts = {"path": path, "error": error}
        log.warning(
            "other users can open the records: cannot remove access", extra=facts
        )
