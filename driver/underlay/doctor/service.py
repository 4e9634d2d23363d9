"""The service itself: its answer, its records, its sockets, and what it has to do."""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from underlay.doctor.examined import Examined
from underlay.doctor.finding import Finding, Fix
from underlay.model.objects.common import word

# A container that is just starting needs steps for a moment.
_SETTLE_SECONDS = 1.0
_SHOWN = 3
_CONNECT_SECONDS = 2.0


def running(host: Examined) -> Iterator[Finding]:
    """Find that the service does not run, or that it fails."""
    if host.health is None:
        yield Finding(
            "failure" if host.networks else "warning",
            "service",
            f"it does not answer on {host.places.status_socket}",
            "containers that run keep their network; none can start, stop cleanly or"
            " be repaired",
            "start it: systemctl start underlay, or underlay serve; journalctl -u"
            " underlay says why it ended",
        )
    elif not host.health.get("ok"):
        yield Finding(
            "failure",
            "service",
            f"it reports: {host.health.get('error')}",
            "requests that need a record are refused",
            "see the paragraph of that error in docs/errors.md",
        )


def readable_settings(host: Examined) -> Iterator[Finding]:
    """Find that the settings cannot be used."""
    if host.settings_error:
        yield Finding(
            "failure",
            "settings",
            host.settings_error,
            "the service does not start with them, and checks of networks and"
            " containers were left out: where the records are, the settings say",
            "correct the setting that the error names (docs/settings.md)",
        )


def readable_records(host: Examined) -> Iterator[Finding]:
    """Find that the records cannot be read."""
    if not host.records_error:
        return
    is_new = host.records_error.startswith("E-506")
    yield Finding(
        "warning" if is_new else "failure",
        str(host.places.records),
        host.records_error,
        "checks of networks and containers were left out",
        "start the service once" if is_new else "do what the error says",
    )


def drift(host: Examined) -> Iterator[Finding]:
    """Find steps that would make the kernel match the records, and stay."""
    steps = host.plan()
    if steps:
        time.sleep(_SETTLE_SECONDS)
        again = set(host.plan())
        steps = [step for step in steps if step in again]
    if steps:
        more = f" and {len(steps) - _SHOWN} more" if len(steps) > _SHOWN else ""
        yield Finding(
            "failure",
            "kernel",
            f"it differs from the records: {'; '.join(steps[:_SHOWN])}{more}",
            "something is missing that containers, or the host's access to them, need",
            "underlay status says what the kernel refuses; underlay reconcile takes"
            " the steps. If the service runs and they come back, another program"
            " reverts them (underlay history --repairs)",
        )


def sockets(host: Examined) -> Iterator[Finding]:
    """Find plugin sockets that no program answers."""
    folder = host.places.plugin_socket.parent
    for path in sorted(folder.glob("*.sock")) if folder.is_dir() else ():
        if not _is_stale(path):
            continue
        is_ours = path == host.places.plugin_socket
        yield Finding(
            "failure" if is_ours else "warning",
            str(path),
            "no program listens on this socket",
            "dockerd waits 15 seconds for it, again and again, and serves nothing"
            " meanwhile, at boot too",
            "start the service"
            if is_ours
            else "start the plugin it belongs to, or remove the file if that is gone",
            _removal_of(path) if is_ours else None,
        )


def _is_stale(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(_CONNECT_SECONDS)
        try:
            s.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # busy, gone, or not for this user
    return False


def _removal_of(path: Path) -> Fix:
    command = f"rm {word(str(path))}"
    return Fix(command, "systemctl restart underlay", partial(_remove, path))


def _remove(path: Path) -> None:
    """Remove a socket that still is one, and still stale."""
    if stat.S_ISSOCK(path.lstat().st_mode) and _is_stale(path):
        path.unlink()
