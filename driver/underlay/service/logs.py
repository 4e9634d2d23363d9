"""The log: one line per record on stderr, or native fields for journald.

On both ways each value is printable, and a record is one line. The lines of one call
of Docker have its id in `call`. A line that comes again and again is counted.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from underlay.api.call import call_id
from underlay.model.text import printable
from underlay.service import journal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
# Of the same warning, this many lines in so many seconds; the others are counted.
MOST_REPEATS, REPEAT_SECONDS = 20, 10.0
# Longer values are cut off: a request may have a megabyte.
MOST_CHARACTERS = 10_000


def facts_of(record: logging.LogRecord) -> Mapping[str, str]:
    """Return what a record says: its text, what was given with it, the call's id."""
    facts: dict[str, object] = {"msg": record.getMessage()}
    facts |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
    if record.exc_info:
        facts["traceback"] = logging.Formatter().formatException(record.exc_info)
    if call := call_id():
        facts["call"] = call
    return {key: _shortened(str(value)) for key, value in facts.items()}


class KeyValue(logging.Formatter):
    """Formats a record as `level=info msg="..." key=value`.

    `prefixed`: begin with the priority for journald, <N>, which reads stderr.
    """

    def __init__(self, *, prefixed: bool) -> None:
        super().__init__()
        self._prefixed = prefixed

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, however many the values have."""
        facts = {"level": record.levelname.lower(), **facts_of(record)}
        line = " ".join(f"{key}={_quoted(value)}" for key, value in facts.items())
        priority = _PRIORITIES.get(record.levelname, 6)
        return f"<{priority}>{line}" if self._prefixed else f"{_stamp(record)} {line}"


class JournalHandler(logging.Handler):
    """Sends records to journald, each fact as a field of its own: UNDERLAY_NETWORK.

    What journald does not take goes to stderr, which leads to it too.
    """

    def __init__(self, connection: journal.Journal, otherwise: logging.Handler) -> None:
        super().__init__()
        self._connection = connection
        self._otherwise = otherwise

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        facts = dict(facts_of(record))
        text = printable(facts.pop("msg"))
        about = (f"{key}={_quoted(value)}" for key, value in facts.items())
        fields = {
            "MESSAGE": " ".join([text, *about]),
            "PRIORITY": str(_PRIORITIES.get(record.levelname, 6)),
            "SYSLOG_IDENTIFIER": "underlay",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        for key, value in facts.items():
            fields[f"UNDERLAY_{key.upper()}"] = printable(value)
        try:
            self._connection.send(fields)
        except OSError:
            self._otherwise.handle(record)


@dataclass
class _Repeats:
    """A line that repeats: since when, how often it was logged, how often not."""

    since: float
    shown: int = 0
    hidden: int = 0


class RateLimit(logging.Filter):
    """Lets the same warning pass MOST_REPEATS times in REPEAT_SECONDS, and counts.

    The same are two of one place in the program, about one error id. `say` logs how
    many were left out, when their time is over.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, str], _Repeats] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        if record.levelno < logging.WARNING:
            return True
        identity = str(getattr(record, "error", "")).partition(" ")[0]
        key = record.name, record.lineno, identity if "E-" in identity[:2] else ""
        with self._lock:
            now = self._clock()
            found = self._known.setdefault(key, _Repeats(now))
            if not found.hidden and now - found.since >= REPEAT_SECONDS:
                found.since, found.shown = now, 0
            if found.shown < MOST_REPEATS:
                found.shown += 1
                return True
            found.hidden += 1
            if found.hidden > 1:
                return False
        left = max(0.0, REPEAT_SECONDS - (now - found.since))
        timer = threading.Timer(left, self._tell, (key, record.getMessage()))
        timer.daemon = True
        with suppress(RuntimeError):  # the interpreter is ending
            timer.start()
        return False

    def _tell(self, key: tuple[str, int, str], text: str) -> None:
        with self._lock:
            found = self._known.pop(key)
        about = f" ({key[2]})" if key[2] else ""
        self._say(f"{text}{about} ... and {found.hidden} more")


def set_up(level: str) -> None:
    """Send everything from `level` on to journald, or to stderr."""
    in_journal = journal.is_stderr(os.environ.get("JOURNAL_STREAM", ""))
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(KeyValue(prefixed=in_journal))
    handler: logging.Handler = stderr
    if in_journal:
        with suppress(OSError):  # no such socket: then by stderr
            handler = JournalHandler(journal.Journal(), stderr)
    handler.addFilter(RateLimit(logging.getLogger("underlay").warning))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("pyroute2", "docker", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _shortened(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} ... and {len(text) - MOST_CHARACTERS} characters"


def _stamp(record: logging.LogRecord) -> str:
    return f"time={logging.Formatter().formatTime(record, '%Y-%m-%dT%H:%M:%S%z')}"


def _quoted(text: str) -> str:
    if text and text.isprintable() and not any(c in text for c in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
