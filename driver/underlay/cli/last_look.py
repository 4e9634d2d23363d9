"""What `underlay exposure` printed last, in a file, and what is different now."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
# The fields of a row, and of which type each is.
FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("container", "network", "policy", "protocol"), str),
    **dict.fromkeys(("port", "leads_to"), int),
    **dict.fromkeys(("lan", "host", "containers", "change"), str),
    **dict.fromkeys(("addresses", "allow_from"), list),
    "listens": bool,
    "since": (float, int, type(None)),
}
# What makes a row the same port as before.
_KEY = "container", "network", "protocol", "port"
# What does not make it another one.
_MARKS = "change", "since"
# In the year 5138.
_LATEST = 1e11


def compare(last: Facts | None, rows: Sequence[Facts], now: float) -> Facts:
    """Return rows with what is different since the last look; None: there was none.

    Each has a `change`: "new", "changed", "gone" or "", and `since` when it was first
    seen so, None if it was so at the first look. `now` and the time of the last look
    are in seconds since 1970.
    """
    before = last["ports"] if last else []
    known = {_text(row): row for row in before if row["change"] != "gone"}
    keys = {_key(row) for row in known.values()}
    shown = []
    for row in rows:
        same, change = known.get(_text(row)), ""
        if same is None and last:
            change = "changed" if _key(row) in keys else "new"
        since = same["since"] if same else (now if last else None)
        shown.append({**row, "change": change, "since": since})
    there = {_key(row) for row in rows}
    shown += [
        {**row, "change": "gone", "since": now}
        for row in known.values()
        if _key(row) not in there
    ]
    return {"last": last["at"] if last else None, "ports": shown}


def _key(row: Facts) -> tuple[object, ...]:
    return tuple(row[name] for name in _KEY)


def _text(row: Facts) -> str:
    """Return all that makes a row what it is."""
    return json.dumps({k: v for k, v in row.items() if k not in _MARKS}, sort_keys=True)


def load(path: Path) -> Facts | None:
    """Return the last look, None if there was none, or it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
        at, rows = found["at"], found["ports"]
        is_whole = _is_time(at) and all(_is_row(row) for row in rows)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return {"at": at, "ports": rows} if is_whole else None


def _is_time(value: float) -> bool:
    """Return whether a number can be printed as a time; NaN cannot."""
    return 0 <= value < _LATEST


def _is_row(row: Any) -> bool:
    """Return whether a file has a row of this version."""
    return (
        isinstance(row, dict)
        and row.keys() == FIELDS.keys()
        and all(isinstance(row[name], kind) for name, kind in FIELDS.items())
        and all(isinstance(x, str) for x in (*row["addresses"], *row["allow_from"]))
        and (row["since"] is None or _is_time(row["since"]))
    )


def save(path: Path, looked: Facts, now: float) -> None:
    """Remember a look, all of it or nothing; raises OSError."""
    text = json.dumps({"at": now, "ports": looked["ports"]})
    file, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    try:
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.write(text)
        Path(name).replace(path)
    except OSError:
        with suppress(OSError):
            Path(name).unlink()
        raise


def without_marks(rows: Sequence[Facts]) -> Facts:
    """Return rows that were compared with nothing."""
    return compare(None, rows, 0.0)
