"""The alerts of docs/alerts.yml: each fires when it should, and not otherwise."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ALERTS = Path(__file__).parents[2] / "docs/alerts.yml"
NAMES = re.findall(r"- alert: (\w+)", ALERTS.read_text())
HOST = 'instance="h1"'
# A sound host for an hour, a sample each minute.
SOUND = {
    f"underlay_healthy{{{HOST}}}": "1x60",
    f'underlay_call_seconds_count{{method="Join",outcome="done",{HOST}}}': "0+60x60",
    f'underlay_call_seconds_bucket{{le="0.05",{HOST}}}': "0+60x60",
    f'underlay_call_seconds_bucket{{le="10.0",{HOST}}}': "0+60x60",
    f'underlay_call_seconds_bucket{{le="+Inf",{HOST}}}': "0+60x60",
    f'underlay_last_error_timestamp_seconds{{id="E-141",{HOST}}}': "60x60",
    f"underlay_failed_passes_total{{{HOST}}}": "1x60",
    f'underlay_pass_seconds_count{{scope="everywhere",{HOST}}}': "1x60",
    f'underlay_pass_seconds_count{{scope="period",{HOST}}}': "0+2x60",
    f'underlay_repairs_total{{kind="link",result="done",{HOST}}}': "0+1x60",
    f'underlay_parent_up{{parent="eth0",{HOST}}}': "1x60",
    f'underlay_pool_addresses{{range="r",{HOST}}}': "254x60",
    f'underlay_pool_free_addresses{{range="r",{HOST}}}': "100x60",
    f"underlay_docker_view_age_seconds{{{HOST}}}": "20x60",
    f"underlay_unwritten_endings{{{HOST}}}": "0x60",
    f'underlay_dhcp_exchanges_total{{kind="new",result="silent",{HOST}}}': "2x60",
    f'underlay_dhcp_servers{{parent="eth0",{HOST}}}': "1x60",
}
# What differs for an alert to fire.
BROKEN = {
    "UnderlayUnhealthy": {f"underlay_healthy{{{HOST}}}": "0x60"},
    "UnderlayCallsFail": {
        f'underlay_last_error_timestamp_seconds{{id="E-504",{HOST}}}': "_x55 3300x5"
    },
    "UnderlayCallsSlow": {
        f'underlay_call_seconds_bucket{{le="0.05",{HOST}}}': "0x60",
    },
    "UnderlayPassesFail": {f"underlay_failed_passes_total{{{HOST}}}": "0+1x60"},
    "UnderlayNoPass": {f'underlay_pass_seconds_count{{scope="period",{HOST}}}': "9x60"},
    "UnderlayObjectsFail": {
        f'underlay_failing_objects{{network="lan",{HOST}}}': "2x60"
    },
    "UnderlayNotice": {f'underlay_notices{{check="wireless",{HOST}}}': "1x60"},
    "UnderlayRepairsKeepComing": {
        f'underlay_repairs_total{{kind="link",result="done",{HOST}}}': "0+9x60"
    },
    "UnderlayParentDown": {f'underlay_parent_up{{parent="eth0",{HOST}}}': "0x60"},
    "UnderlayPoolNearlyFull": {
        f'underlay_pool_free_addresses{{range="r",{HOST}}}': "20x60"
    },
    "UnderlayDhcpSilent": {
        f'underlay_dhcp_exchanges_total{{kind="new",result="silent",{HOST}}}': "0+1x60"
    },
    "UnderlayDhcpServers": {f'underlay_dhcp_servers{{parent="eth0",{HOST}}}': "2x60"},
    "UnderlayDockerDoesNotAnswer": {
        f"underlay_docker_view_age_seconds{{{HOST}}}": "0+60x60"
    },
    "UnderlayEndingsNotRecorded": {f"underlay_unwritten_endings{{{HOST}}}": "3x60"},
}


def firing(promtool, folder, series):
    """Return the alerts that fire after an hour of these series."""
    found = set()
    for name in NAMES:
        test = {
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in series.items()],
            "alert_rule_test": [{"eval_time": "1h", "alertname": name}],
        }
        file = folder / "test.yml"
        file.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}))
        done = subprocess.run(
            [promtool, "test", "rules", file], capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        # It fails if an alert fires that is not expected, and says which.
        if done.returncode:
            assert f"alertname: {name}" in done.stdout + done.stderr
            found.add(name)
    return found


def test_no_alert_fires_on_a_sound_host(promtool, tmp_path):
    assert firing(promtool, tmp_path, SOUND) == set()


def test_every_alert_has_a_host_on_which_it_fires():
    assert set(BROKEN) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_alert_fires_alone(promtool, tmp_path, name):
    assert firing(promtool, tmp_path, {**SOUND, **BROKEN[name]}) == {name}
