"""The settings: a file, overridden by the environment, read once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from underlay.errors import BadSettings, did_you_mean

FILE = Path("/etc/underlay/underlay.toml")
PREFIX = "UNDERLAY_"
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults; times in seconds unless the name says days."""

    state_dir: str = "/var/lib/underlay"
    run_dir: str = "/run/underlay"
    plugin_dir: str = "/run/docker/plugins"
    docker_host: str = "unix:///var/run/docker.sock"
    docker_timeout: float = 10.0
    status_listen: str = ""
    status_hosts: str = ""
    period: float = 30.0
    grace: float = 60.0
    history_days: float = 180.0
    reserve_days: float = 7.0
    route_protocol: int = 157
    log_level: str = "info"
    metrics_by_container: bool = False
    mac_budget: int = 0

    @property
    def records(self) -> Path:
        """Return the path of the records."""
        return Path(self.state_dir) / "underlay.db"

    @property
    def plugin_socket(self) -> Path:
        """Return the socket Docker finds this plugin by."""
        return Path(self.plugin_dir) / "underlay.sock"

    @property
    def status_socket(self) -> Path:
        """Return the socket for health, status and metrics."""
        return Path(self.run_dir) / "status.sock"

    @property
    def hosts_file(self) -> Path:
        """Return the file with names and addresses, for name servers."""
        return Path(self.run_dir) / "hosts" / "containers"

    @property
    def status_address(self) -> str:
        """Return the address and port for the status, "" for none.

        A port without an address is one of this host only.
        """
        address, _, port = self.status_listen.rpartition(":")
        return f"{address or '127.0.0.1'}:{port}" if port else ""

    @property
    def status_names(self) -> tuple[str, ...]:
        """Return the names by which clients may ask at that address."""
        return tuple(filter(None, self.status_hosts.replace(",", " ").split()))


def load(environment: Mapping[str, str], path: Path = FILE) -> Settings:
    """Read the settings; raises BadSettings for an unknown key or a bad value."""
    given = dict(_from_file(path))
    for name, text in environment.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key in _KINDS:
            given[key] = (text, name)
    values = {key: _value(key, *found) for key, found in given.items()}
    return Settings(**values)  # type: ignore[arg-type]


_LEAST = {"period": 0.1, "grace": 1.0, "docker_timeout": 1.0}
# Not the numbers of the kernel, of `ip route` and Docker, and of DHCP clients and
# routing daemons: /etc/iproute2/rt_protos, and FRR's.
_PROTOCOLS = {*range(19, 256)} - {42, 99, *range(186, 200)}
_MAY_BE_EMPTY = ("status_listen", "status_hosts")
_LAST_PORT = 65535
_LISTEN = re.compile(r"((\[[0-9A-Fa-f:.]+\]|[^][:\s]+)?:)?\d{1,5}")
# The values that whole numbers may have, and how an error says that.
_WHOLE = {
    "route_protocol": (_PROTOCOLS, "a number from 19 to 255, but 42, 99, 186 to 199"),
    "mac_budget": (range(1_000_000), "a whole number, 0 for no limit"),
}
_KINDS = {f.name: type(f.default) for f in fields(Settings)}


def _from_file(path: Path) -> Mapping[str, tuple[object, str]]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadSettings(where=path, why=error, hint="") from error
    for key in table:
        if key not in _KINDS:
            hint = did_you_mean(key, _KINDS)
            raise BadSettings(where=path, why=f"unknown key {key!r}", hint=hint)
    return {key: (value, f"{path}: {key}") for key, value in table.items()}


def _value(key: str, value: object, where: str) -> object:
    if _KINDS[key] is float:
        return _number(key, value, where)
    if _KINDS[key] is bool:
        word = str(value).lower()
        if word not in ("true", "false"):
            why = f"{value!r} is not true or false"
            raise BadSettings(where=where, why=why, hint="")
        return word == "true"
    if _KINDS[key] is int:
        digits, (allowed, need) = str(value), _WHOLE[key]
        if not (digits.isdecimal() and int(digits) in allowed):
            raise BadSettings(where=where, why=f"{value!r} is not {need}", hint="")
        return int(digits)
    if not isinstance(value, str) or (not value and key not in _MAY_BE_EMPTY):
        number = isinstance(value, int | float)
        hint = f' Write it in quotes: {key} = "{value}".' if number else ""
        raise BadSettings(where=where, why=f"{value!r} is not text", hint=hint)
    if key == "status_listen" and value and not _is_listenable(value):
        why = f"{value!r} is not a port, or an address and a port (192.0.2.5:9157)"
        raise BadSettings(where=where, why=why, hint="")
    if key == "log_level" and value not in LEVELS:
        need = f"{value!r} is not one of {', '.join(LEVELS)}"
        raise BadSettings(where=where, why=need, hint=did_you_mean(value, LEVELS))
    return value


def _is_listenable(text: str) -> bool:
    """Return whether a text is a port, or an address and a port."""
    return bool(_LISTEN.fullmatch(text)) and int(text.rpartition(":")[2]) <= _LAST_PORT


def _number(key: str, value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadSettings(
            where=where, why=f"{value!r} is not a number", hint=""
        ) from None
    least = _LEAST.get(key, 0.0)
    if not least <= number < 1e9:
        why = f"{value!r} is out of range, the least is {least:g}"
        raise BadSettings(where=where, why=why, hint="")
    return number
