"""What systemd is asked to do during an installation."""

from __future__ import annotations

import subprocess
from pathlib import Path

from underlay.errors import CommandFailed

# As sd_booted(3) has it.
_BOOTED = Path("/run/systemd/system")
# `systemctl restart` waits until the service answers.
SECONDS = 120.0


def is_running() -> bool:
    """Return whether systemd runs this host."""
    return _BOOTED.is_dir()


def is_active(unit: str) -> bool:
    """Return whether a unit is active."""
    return _run("systemctl", "is-active", "--quiet", unit).returncode == 0


def has_file(unit: str) -> bool:
    """Return whether there is a file of a unit."""
    return _run("systemctl", "cat", unit).returncode == 0


def systemctl(*words: str) -> None:
    """Run systemctl; raises CommandFailed."""
    command("systemctl", *words)


def command(*words: str) -> None:
    """Run a program; raises CommandFailed."""
    done = _run(*words)
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise CommandFailed(command=" ".join(words), why=why)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - our own words, and no shell
            words, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(command=" ".join(words), why=error) from error
