"""The log's lines."""

from __future__ import annotations

import logging

from underlay.service.logs import KeyValue


def line(journal=False, **extra):
    record = logging.makeLogRecord(
        {"msg": "step refused", "levelname": "WARNING", **extra}
    )
    return KeyValue(journal=journal).format(record)


def test_log_record_is_one_line_of_keys_and_values():
    shown = line(error='E-400 "no"\nway', network="abc")
    assert shown.startswith("time=")
    assert shown.endswith(
        'level=warning msg="step refused" error="E-400 \\"no\\"\\nway" network=abc'
    )


def test_log_record_moves_no_terminal():
    shown = line(device="\x1b[2J", other="\u202ex", way="\\x1b\r\x9b\udc80")
    assert shown.endswith(r'device="\x1b[2J" other="\u202ex" way="\\x1b\r\x9b\udc80"')


def test_journal_gets_the_priority():
    assert line(journal=True).startswith("<4>level=warning ")
