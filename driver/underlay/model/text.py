"""Text that is safe to print: unprintable characters are escaped.

A container chooses the names of its devices, and they may contain escape sequences of
a terminal.
"""

from __future__ import annotations

import json

_SYSCTL = str.maketrans("/.", "./")


def printable(text: str) -> str:
    r"""Return a text on one line, with unprintable characters escaped: `\x1b`.

    These are control characters, line ends, marks that change the writing direction,
    blanks other than the space, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def as_sysctl(path: str) -> str:
    """Return the path of a setting under /proc/sys in the words of sysctl.

    The points in the name of a device (a VLAN's, eth0.50) are slashes there.
    """
    return path.translate(_SYSCTL)


def as_json(facts: object, indent: int | None = None) -> str:
    """Return facts as JSON of printable ASCII; the json module leaves DEL unescaped."""
    return json.dumps(facts, indent=indent).replace("\x7f", "\\u007f")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
