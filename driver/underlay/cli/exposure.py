"""The command `underlay exposure`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import click

from underlay.cli import last_look
from underlay.cli.last_look import Facts
from underlay.cli.parts import records_now
from underlay.cli.tables import EXPOSURE, print_json, print_table, when
from underlay.cli.terminal import say
from underlay.service.file_modes import LAST_LOOK
from underlay.service.settings import Settings, load


@click.command("exposure")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def exposure_command(as_json: bool) -> None:
    """Show what listens in each container, and what its policy lets reach it.

    The last column marks what is different since this command was run last.

    \b
    Examples:
      underlay exposure
      underlay exposure --json | jq '.ports[] | select(.lan == "all")'
    """
    from underlay.api.exposure import exposure

    settings = load(os.environ)
    with records_now(settings) as records:
        rows = exposure(records)
    looked = _compared(settings, rows, time.time())
    if as_json:
        print_json(looked)
        return
    if looked["ports"]:
        print_table(looked["ports"], EXPOSURE)
        say()
    else:
        say("nothing listens in a running container, and nothing is published")
    if looked["last"]:
        say(f"compared with the look of {when(looked['last'])}")


def _compared(settings: Settings, rows: Sequence[Facts], now: float) -> Facts:
    """Return rows with marks, and remember them; without marks if that fails."""
    path = Path(settings.state_dir) / LAST_LOOK
    looked = last_look.compare(last_look.load(path), rows, now)
    try:
        last_look.save(path, looked, now)
    except OSError as error:
        say(f"changes are not marked: cannot write {path} ({error})", err=True)
        return last_look.without_marks(rows)
    return looked
