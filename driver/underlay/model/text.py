"""What text looks like where it leaves this program: nothing in it moves a terminal.

Names of devices are a container's to choose, and may hold escape sequences.
"""

from __future__ import annotations

import json


def printable(text: str) -> str:
    r"""Return a text on one line, with whatever is not printable escaped: `\x1b`.

    That is control characters, line ends, marks that turn the direction of writing,
    blanks other than the space, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def as_json(facts: object, indent: int | None = None) -> str:
    """Return facts as JSON of printable ASCII; json itself leaves DEL as it is."""
    return json.dumps(facts, indent=indent).replace("\x7f", "\\u007f")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
