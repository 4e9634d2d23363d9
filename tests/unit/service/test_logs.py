"""The log's lines."""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
import threading

import pytest

from underlay.api.call import call_id, calling
from underlay.errors import EmptyBody, UnknownNetwork
from underlay.kernel import namespaces
from underlay.service import journal
from underlay.service.logs import (
    MOST_CHARACTERS,
    MOST_REPEATS,
    REPEAT_SECONDS,
    JournalHandler,
    KeyValue,
    RateLimit,
)


def line(prefixed=False, **extra):
    record = logging.makeLogRecord(
        {"msg": "step refused", "levelname": "WARNING", **extra}
    )
    return KeyValue(prefixed=prefixed).format(record)


def test_log_record_is_one_line_of_keys_and_values():
    shown = line(error='E-400 "no"\nway', network="abc")
    assert shown.startswith("time=")
    assert shown.endswith(
        'level=warning msg="step refused" error="E-400 \\"no\\"\\nway" network=abc'
    )


def test_log_record_moves_no_terminal():
    shown = line(device="\x1b[2J", other="\u202ex", way="\\x1b\r\x9b\udc80")
    assert shown.endswith(r'device="\x1b[2J" other="\u202ex" way="\\x1b\r\x9b\udc80"')


def test_stderr_that_journald_reads_gets_the_priority():
    assert line(prefixed=True).startswith("<4>level=warning ")


def test_very_long_value_is_cut_off():
    shown = line(device="x" * 1_000_000)
    assert len(shown) < MOST_CHARACTERS + 200
    assert f"... and {1_000_000 - MOST_CHARACTERS} characters" in shown


def test_lines_of_a_call_have_its_id_also_in_threads_it_starts():
    found = []
    with calling("NetworkDriver.Join") as call:
        found.append(line())
        thread = namespaces._thread(lambda: found.append(line()))
        thread.start()
        thread.join()
        other = threading.Thread(target=lambda: found.append(call_id()))
        other.start()
        other.join()
    assert len(call.id) == 8
    assert [f"call={call.id}" in text for text in found[:2]] == [True, True]
    assert found[2] == ""
    assert "call=" not in line()


def test_two_calls_have_two_ids():
    with calling("A") as first, calling("B") as second:
        assert call_id() == second.id != first.id
    assert call_id() == ""


class Journald:
    """What journald does with a datagram."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(5)

    def record(self):
        data, rights, _, _ = self.socket.recvmsg(1 << 20, 64)
        if rights:
            memory = array.array("i", rights[0][2])[0]
            os.lseek(memory, 0, os.SEEK_SET)
            data = os.read(memory, 1 << 24)
            os.close(memory)
        return dict(fields(data))


def fields(data):
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + size], data[8 + size + 1 :]
        yield name.decode(), value.decode()


@pytest.fixture
def journald(tmp_path):
    found = Journald(tmp_path / "socket")
    found.connection = journal.Journal(tmp_path / "socket")
    yield found
    found.connection.close()
    found.socket.close()


def logger_on(handler):
    found = logging.Logger("underlay.test")
    found.addHandler(handler)
    return found


def test_journald_gets_each_fact_as_a_field(journald):
    log = logger_on(JournalHandler(journald.connection, logging.NullHandler()))
    with calling("NetworkDriver.Join") as call:
        log.warning("step refused", extra={"network": "lan", "error": "E-400 no\nway"})
    found = journald.record()
    assert found["MESSAGE"].startswith("step refused network=lan error=")
    assert found["PRIORITY"] == "4"
    assert found["SYSLOG_IDENTIFIER"] == "underlay"
    assert found["CODE_FUNC"] == "test_journald_gets_each_fact_as_a_field"
    assert found["UNDERLAY_NETWORK"] == "lan"
    assert found["UNDERLAY_ERROR"] == "E-400 no\\nway"
    assert found["UNDERLAY_CALL"] == call.id


def test_hostile_values_make_no_fields_of_their_own(journald):
    log = logger_on(JournalHandler(journald.connection, logging.NullHandler()))
    log.error("x", extra={"device": "a\nPRIORITY=0\n\x1b[2J\udc80"})
    found = journald.record()
    assert found["PRIORITY"] == "3"
    assert found["UNDERLAY_DEVICE"] == r"a\nPRIORITY=0\n\x1b[2J\udc80"
    assert all(value.isprintable() for value in found.values())


def test_large_record_reaches_journald_as_a_memory_file(journald):
    journald.connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    journald.connection.send({"MESSAGE": "x" * 300_000, "OTHER": "a\nb"})
    assert journald.record() == {"MESSAGE": "x" * 300_000, "OTHER": "a\nb"}


def test_record_that_journald_does_not_take_goes_to_stderr(journald):
    shown = []

    class Otherwise(logging.Handler):
        def emit(self, record):
            shown.append(record.getMessage())

    log = logger_on(JournalHandler(journald.connection, Otherwise()))
    journald.socket.close()
    log.warning("no journald")
    assert shown == ["no journald"]


def test_stderr_is_the_journal_only_if_it_is_the_stream_systemd_made():
    found = os.fstat(2)
    assert journal.is_stderr(f"{found.st_dev}:{found.st_ino}")
    assert not journal.is_stderr(f"{found.st_dev}:{found.st_ino + 1}")
    assert not journal.is_stderr("")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def limited(monkeypatch):
    """A logger with a limit, what it shows, its clock, and its timers to run."""
    shown, timers = [], []

    class Shown(logging.Handler):
        def emit(self, record):
            shown.append(record.getMessage())

    class Timer:
        def __init__(self, _seconds, act, values):
            timers.append(lambda: act(*values))

        def start(self):
            pass

    monkeypatch.setattr(threading, "Timer", Timer)
    handler, clock = Shown(), Clock()
    handler.addFilter(RateLimit(shown.append, clock))
    return logger_on(handler), shown, clock, timers


def test_same_warning_is_counted_after_some_lines(limited):
    log, shown, _, timers = limited
    for _ in range(MOST_REPEATS + 41):
        log.warning("request refused", extra={"error": EmptyBody(method="X")})
    assert shown == ["request refused"] * MOST_REPEATS
    (tell,) = timers
    tell()
    assert shown[-1] == "request refused (E-301) ... and 41 more"


def test_other_errors_and_information_are_not_counted_with_a_warning(limited):
    log, shown, _, timers = limited
    for _ in range(MOST_REPEATS):
        for error in (EmptyBody(method="X"), UnknownNetwork(network="n")):
            log.warning("request refused", extra={"error": error})
    for _ in range(100):
        log.info("step")
    assert len(shown) == 2 * MOST_REPEATS + 100
    assert not timers


def test_warning_that_comes_now_and_then_is_always_logged(limited):
    log, shown, clock, timers = limited
    for _ in range(10 * MOST_REPEATS):
        log.warning("events lost")
        clock.now += REPEAT_SECONDS / MOST_REPEATS
    assert len(shown) == 10 * MOST_REPEATS
    assert not timers
