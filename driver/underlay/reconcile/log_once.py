"""Doing parts of something, each as far as possible; a failure is logged once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from underlay.errors import KernelRefused, RecordsBusy, RecordsUnwritable

log = logging.getLogger(__name__)


@dataclass
class LogOnce:
    """Lets one part fail, on what cannot be written or looked at, and the rest go on.

    It is logged when a part begins to fail, or fails for another reason, however
    often it is tried, and whatever becomes of the other parts.
    """

    _said: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def trying(self, part: str) -> Iterator[None]:
        """Do a part, named in plain words.

        Raises RecordsBusy: while another process writes, all must wait.
        """
        try:
            yield
        except RecordsBusy:
            raise
        except (RecordsUnwritable, KernelRefused) as error:
            if self._said.get(part) != str(error):
                facts = {"part": part, "error": error}
                log.warning("part of a job failed, continuing", extra=facts)
            self._said[part] = str(error)
        else:
            self._said.pop(part, None)
