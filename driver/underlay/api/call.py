"""One call of Docker: its id in the log, and what became of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from underlay.errors import UnderlayError

# In each thread that answers a call, and in those that it starts with a copy of its
# context (kernel/namespaces).
_id: ContextVar[str] = ContextVar("call", default="")


@dataclass
class Call:
    """A call: known at its end are `seconds`, `refusal` (None: done) and `asked`.

    `asked` is the message, None if it has none or could not be read. `id` is in each
    line of the log about the call.
    """

    method: str
    id: str
    asked: object = None
    refusal: UnderlayError | None = None
    seconds: float = 0.0


@contextmanager
def calling(method: str) -> Iterator[Call]:
    """Give a call an id while it is answered, and its duration afterwards."""
    call, began = Call(method, secrets.token_hex(4)), time.perf_counter()
    token = _id.set(call.id)
    try:
        yield call
    finally:
        call.seconds = time.perf_counter() - began
        _id.reset(token)


def call_id() -> str:
    """Return the id of the call that this thread answers, "" for none."""
    return _id.get()
