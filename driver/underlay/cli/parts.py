"""The records, the parts and the running service, as commands use them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from socket import AF_UNIX, socket
from typing import Any

from underlay.cli.tables import Facts
from underlay.records import Records
from underlay.service.settings import Settings, load


@contextmanager
def records_now(settings: Settings) -> Iterator[Records]:
    """Open the records for reading, with what the service could not write yet."""
    records = Records(settings.records, readonly=True)
    try:
        _add_unwritten(records, ask_service(settings, "/healthz"))
        yield records
    finally:
        records.close()


@contextmanager
def parts_now(*, readonly: bool = False) -> Iterator[Any]:
    """Put the parts together over the records that are there; raises NoRecords."""
    from underlay.networks import reboot
    from underlay.service.wiring import build

    settings = load(os.environ)
    Records(settings.records, readonly=True).close()  # or NoRecords: none are made
    parts = build(settings, readonly=readonly)
    try:
        _add_unwritten(parts.records, ask_service(settings, "/healthz"))
        if not readonly:
            reboot.forget_last_boot(parts.records, parts.kernel)
            # In a sandbox, only endpoints that Docker lists are repaired.
            with suppress(OSError):
                parts.cleanup.note_listed(parts.dockerd.look())
        yield parts
    finally:
        parts.records.close()


def ask_service(settings: Settings, path: str) -> dict[str, Any] | None:
    """Return what the service says, or None if it does not answer."""
    connection = HTTPConnection("underlay", timeout=2)
    try:
        connection.sock = socket(AF_UNIX)
        connection.sock.settimeout(2)
        connection.sock.connect(str(settings.status_socket))
        connection.request("GET", path)
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    else:
        return answer
    finally:
        connection.close()


def _add_unwritten(records: Records, health: Facts | None) -> None:
    """Apply to the records what the service could not write yet."""
    unwritten = (health or {}).get("unwritten", ())
    records.endings.take_over_from([tuple(ending.split()) for ending in unwritten])
