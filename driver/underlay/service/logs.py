"""The log: one line per record on stderr, key=value, with priorities under systemd."""

from __future__ import annotations

import logging
import os
import sys

from underlay.model.text import printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class KeyValue(logging.Formatter):
    """Formats a record as `level=info msg="..." key=value`.

    `journal`: begin with the priority for journald, <N>.
    """

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, however many the values have."""
        facts = {"level": record.levelname.lower(), "msg": record.getMessage()}
        facts |= {k: v for k, v in vars(record).items() if k not in _STANDARD}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        line = " ".join(f"{key}={_quoted(str(value))}" for key, value in facts.items())
        priority = _PRIORITIES.get(record.levelname, 6)
        return f"<{priority}>{line}" if self._journal else f"{_stamp(record)} {line}"


def set_up(level: str) -> None:
    """Send everything from `level` on to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValue(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("pyroute2", "docker", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _stamp(record: logging.LogRecord) -> str:
    return f"time={logging.Formatter().formatTime(record, '%Y-%m-%dT%H:%M:%S%z')}"


def _quoted(text: str) -> str:
    if text and text.isprintable() and not any(c in text for c in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'
