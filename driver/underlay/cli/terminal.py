"""What reaches the terminal: escaped, and on a terminal coloured and cut to its width.

Into a file or a pipe goes the same text without colours, and whole. NO_COLOR (set to
anything) switches colours off.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from dataclasses import dataclass

import click

from underlay.model.text import printable

CUT = "…"


@dataclass(frozen=True, slots=True)
class Painted:
    """A text in a colour, by its name for click."""

    text: str
    colour: str

    def __str__(self) -> str:
        return self.text


def say(*parts: object, err: bool = False) -> None:
    """Print one line, unprintable characters escaped. Every command prints this way."""
    colours = False if os.environ.get("NO_COLOR") else None  # None: on a terminal
    click.echo("".join(map(_shown, parts)), err=err, color=colours)


def _shown(part: object) -> str:
    text = printable(str(part))
    return click.style(text, fg=part.colour) if isinstance(part, Painted) else text


def clear() -> None:
    """Clear the terminal; does nothing elsewhere."""
    click.clear()


def columns() -> int | None:
    """Return the width of the terminal in columns, None if there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def width(text: str) -> int:
    """Return how many columns a printable text takes: two for a Chinese character."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def cut(text: str, most: int) -> str:
    """Return a text of at most so many columns, with its end cut off if need be."""
    if width(text) <= most:
        return text
    kept = text
    while kept and width(kept) + 1 > most:
        kept = kept[: max(0, most - 1) if len(kept) > most else -1]
    return kept + CUT
