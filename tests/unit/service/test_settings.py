"""The settings: file, environment, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from underlay.errors import BadSettings
from underlay.service.settings import Settings, load

NO_FILE = Path("/nonexistent/underlay.toml")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "underlay.toml"


def test_missing_settings_file_means_defaults(file):
    assert load({}, file) == Settings()


def test_environment_overrides_the_settings_file(file):
    file.write_text('period = 5\ngrace = 7.5\nlog_level = "debug"\n')
    found = load({"UNDERLAY_PERIOD": "9", "UNDERLAY_OTHER": "ignored"}, file)
    assert (found.period, found.grace, found.log_level) == (9.0, 7.5, "debug")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("perod = 5", "unknown key 'perod'. Did you mean 'period'"),
        ("period = 'x'", "'x' is not a number"),
        ("period = -1", "out of range"),
        ("period = 0", "out of range, the least is 0.1"),
        ("docker_timeout = 0.5", "the least is 1"),
        ("state_dir = 5", "5 is not text"),
        (
            "status_listen = 9157",
            'is not text. Write it in quotes: status_listen = "9157".',
        ),
        ("state_dir = ''", "is not text"),
        ("route_protocol = 16", "not a number from 19 to 255"),
        ("route_protocol = 186", "not a number from 19 to 255, but 42"),
        ("route_protocol = 'bgp'", "not a number from 19 to 255"),
        ("status_listen = 'here'", "'here' is not a port, or an address and a port"),
        ("status_listen = '0.0.0.0'", "is not a port"),
        ("status_listen = '::1:9157'", "is not a port"),
        ("status_listen = '1.2.3.4:x'", "is not a port"),
        ("status_listen = '99999'", "'99999' is not a port"),
        ("metrics_by_container = 'yes'", "'yes' is not true or false"),
        ("log_level = 'loud'", "not one of debug, info"),
        ("period = ", "underlay.toml"),
    ],
)
def test_wrong_setting_is_refused_by_its_place(file, text, words):
    file.write_text(text)
    with pytest.raises(BadSettings, match=words):
        load({}, file)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", ""),
        ("9157", "127.0.0.1:9157"),
        (":9157", "127.0.0.1:9157"),
        ("0.0.0.0:9157", "0.0.0.0:9157"),
        ("[::]:9157", "[::]:9157"),
        ("host1.example:80", "host1.example:80"),
    ],
)
def test_status_listens_on_loopback_unless_an_address_is_given(given, address):
    found = load({"UNDERLAY_STATUS_LISTEN": given}, NO_FILE)
    assert found.status_address == address


def test_status_hosts_are_names_with_commas_or_blanks():
    given = {"UNDERLAY_STATUS_HOSTS": "metrics.example, host1  host2"}
    found = load(given, NO_FILE)
    assert found.status_names == ("metrics.example", "host1", "host2")
    assert Settings().status_names == ()
