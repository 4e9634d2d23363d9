"""A failure that lasts is logged once, and does not stop what is independent of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from underlay.errors import KernelRefused, RecordsBusy, RecordsUnwritable

log = logging.getLogger(__name__)


@dataclass
class LogOnce:
    """Remembers the last error of each part of a job.

    A failure is logged when a part begins to fail, or fails for another reason, however
    often it is tried, and whatever becomes of the other parts.
    """

    _said: dict[str, str] = field(default_factory=dict)

    def is_news(self, part: str, error: object) -> bool:
        """Return whether a part's error, "" for none, is new since the last call."""
        last = self._said.pop(part, "")
        if text := str(error):
            self._said[part] = text
        return text not in ("", last)

    @contextmanager
    def trying(self, part: str) -> Iterator[None]:
        """Do a part; it may fail because the records or the kernel refuse something.

        Raises RecordsBusy: while another process writes, all must wait.
        """
        try:
            yield
        except RecordsBusy:
            raise
        except (RecordsUnwritable, KernelRefused) as error:
            if self.is_news(part, error):
                facts = {"part": part, "error": error}
                log.warning("part of a job failed, continuing", extra=facts)
        else:
            self.is_news(part, "")
