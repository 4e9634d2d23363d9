"""The files that an installation consists of, and the list of those that were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path

from underlay import __version__
from underlay.errors import BadSettings, NotAllowed
from underlay.service import file_modes
from underlay.service.settings import Settings

UNITS = ("underlay.socket", "underlay.service")
_SYSTEM = Path("/etc/systemd/system")
_NETWORK = Path("/etc/systemd/network")
_PLACES = {
    "underlay.socket": _SYSTEM / "underlay.socket",
    "underlay.service": _SYSTEM / "underlay.service",
    "05-underlay.network": _NETWORK / "05-underlay.network",
    "05-underlay.link": _NETWORK / "05-underlay.link",
    "networkmanager.conf": Path("/etc/NetworkManager/conf.d/90-underlay.conf"),
}
_SERVICE_DROP_IN = _SYSTEM / "underlay.service.d/10-install.conf"
_SOCKET_DROP_IN = _SYSTEM / "underlay.socket.d/10-install.conf"
_HOMES = tuple(Path(home) for home in ("/home", "/root", "/run/user"))


def wanted(program: Path, settings: Settings) -> dict[Path, str]:
    """Return the texts of all files to install, by their paths."""
    source = resources.files("underlay.install") / "systemd"
    found = {path: (source / name).read_text() for name, path in _PLACES.items()}
    found[_SERVICE_DROP_IN] = "\n".join(_service_lines(program, settings)) + "\n"
    sockets = settings.plugin_socket, settings.status_socket
    if sockets != (Settings().plugin_socket, Settings().status_socket):
        lines = "[Socket]", "ListenStream=", *(f"ListenStream={s}" for s in sockets)
        found[_SOCKET_DROP_IN] = "\n".join(lines) + "\n"
    return found


def _service_lines(program: Path, settings: Settings) -> Iterator[str]:
    """Return what depends on this host: where the program and the records are."""
    yield "# Written by `underlay install`, and again by the next one."
    yield "[Service]"
    yield "ExecStart="
    yield f'ExecStart="{str(program).replace("%", "%%")}" serve'
    if any(program.is_relative_to(home) for home in _HOMES):
        yield "ProtectHome=read-only"
    for given, usual in (
        (settings.state_dir, Settings().state_dir),
        (settings.run_dir, Settings().run_dir),
    ):
        if given != usual:
            yield f'ReadWritePaths="{given.replace("%", "%%")}"'


def text_of(path: Path) -> str | None:
    """Return the text of a file, None if there is none; raises NotAllowed."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NotAllowed(what=f"reading {path}", why=error) from error


@dataclass
class Inventory:
    """What `underlay install` has made: files with the hash of their text, directories.

    It is stored beside the records, so that any later version can remove it.
    """

    path: Path
    version: str = ""
    files: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, settings: Settings) -> Inventory:
        """Read the list of this host; it is empty if nothing was installed.

        Raises NotAllowed, BadSettings if the list cannot be understood.
        """
        path = Path(settings.state_dir) / file_modes.INVENTORY
        text = text_of(path)
        if text is None:
            return cls(path)
        try:
            return cls(path, **json.loads(text))
        except (TypeError, ValueError) as error:
            raise BadSettings(where=path, why=error, hint="") from error

    @property
    def is_empty(self) -> bool:
        """Whether nothing was installed."""
        return not self.files

    def wrote(self, path: Path, text: str) -> bool:
        """Return whether a file is as it was installed, unchanged since."""
        return self.files.get(str(path)) == _hash(text)

    def write_file(self, path: Path, text: str) -> None:
        """Write a file and note it; raises NotAllowed."""
        self.make_directory(path.parent)
        _replace(path, text, 0o644)
        self.note(path, text)

    def note(self, path: Path, text: str) -> None:
        """Note a file that is there already."""
        self.files[str(path)] = _hash(text)
        self.save()

    def forget(self, path: Path) -> None:
        """Remove a file from the list."""
        self.files.pop(str(path), None)
        self.save()

    def make_directory(self, folder: Path) -> None:
        """Make a directory and its parents, and note those that were missing."""
        for missing in reversed([folder, *folder.parents]):
            if not missing.is_dir():
                file_modes.make(missing, 0o755)
                self.directories.append(str(missing))

    def save(self) -> None:
        """Write the list; raises NotAllowed."""
        facts = {k: v for k, v in asdict(self).items() if k != "path"}
        facts["version"] = __version__
        text = json.dumps(facts, indent=2) + "\n"
        _replace(self.path, text, file_modes.FILE_MODE)


def _replace(path: Path, text: str, mode: int) -> None:
    """Write a whole file, or leave it as it was."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.chmod(mode)
        new.rename(path)
    except OSError as error:
        raise NotAllowed(what=f"writing {path}", why=error) from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
