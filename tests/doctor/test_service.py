"""The service, its records and its sockets, as the doctor finds them."""

from __future__ import annotations

import socket

from underlay.doctor.checks import fix
from underlay.errors import NoRecords, RecordsDamaged


def listening(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    found.listen()
    return found


def test_service_that_does_not_answer_fails_where_networks_need_it(bench):
    (found,) = bench.check("service")
    assert found.level == "warning"
    bench.network()
    (found,) = bench.check("service")
    assert (found.level, found.where) == ("failure", "service")
    assert "systemctl start underlay" in found.remedy


def test_service_that_answers_passes_and_one_that_fails_says_why(bench):
    bench.network()
    assert bench.check("service", health={"ok": True, "error": ""}) == ()
    health = {"ok": False, "error": "E-504 the records cannot be written"}
    (found,) = bench.check("service", health=health)
    assert (found.level, found.what) == (
        "failure",
        "it reports: E-504 the records cannot be written",
    )


def test_missing_records_warn_and_damaged_records_fail(bench):
    assert bench.check("records") == ()
    why = str(NoRecords(path="/x/underlay.db"))
    (found,) = bench.check("records", records=None, records_error=why)
    assert found.level == "warning"
    why = str(RecordsDamaged(path="/x/underlay.db", why="malformed"))
    (found,) = bench.check("records", records=None, records_error=why)
    assert (found.level, found.what) == ("failure", why)


def test_settings_that_cannot_be_used_fail_and_nothing_is_said_of_the_records(bench):
    assert bench.check("settings") == ()
    why = "E-505 UNDERLAY_PERIOD: 'often' is not a number."
    (found,) = bench.check("settings", records=None, settings_error=why)
    assert (found.level, found.what) == ("failure", why)
    assert bench.check("records", records=None, settings_error=why) == ()


def test_steps_that_stay_fail_and_those_of_a_starting_container_do_not(bench):
    assert bench.check("drift") == ()
    (found,) = bench.check("drift", plan=lambda: ["ip link add a", "ip link add b"])
    assert found.what == "it differs from the records: ip link add a; ip link add b"
    once = iter([["ip link add a"], []])
    assert bench.check("drift", plan=lambda: next(once)) == ()
    (found,) = bench.check("drift", plan=lambda: [f"step {n}" for n in range(9)])
    assert found.what.endswith("step 0; step 1; step 2 and 6 more")


def test_socket_that_no_program_answers_fails_and_fix_removes_it(bench):
    path = bench.given["places"].plugin_socket
    with listening(path):
        assert bench.check("sockets") == ()
    result = bench.result("sockets")
    (found,) = result.findings
    assert (found.level, found.where) == ("failure", str(path))
    ((step, revert, error),) = fix([result])
    assert (step, revert, error) == (f"rm {path}", "systemctl restart underlay", "")
    assert not path.exists()
    assert bench.check("sockets") == ()


def test_fix_spares_a_socket_that_is_answered_by_now(bench):
    path = bench.given["places"].plugin_socket
    listening(path).close()
    result = bench.result("sockets")
    path.unlink()
    with listening(path):
        assert [error for _, _, error in fix([result])] == [""]
        assert path.exists()


def test_stale_socket_of_another_plugin_warns_and_is_left_alone(bench):
    path = bench.given["places"].plugin_socket.with_name("other.sock")
    listening(path).close()
    (found,) = bench.check("sockets")
    assert (found.level, found.where, found.fix) == ("warning", str(path), None)
