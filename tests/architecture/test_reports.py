"""What users of other DHCP drivers ran into: each report is named by a test here.

A line above the test has them: `# lxc/lxc#4593`. So the name of a project and a number
lead from its report to the test, and back.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
REPORTS = {
    "devplayer0/docker-net-dhcp": (1, 2, 5, 15, 23, 44),
    "claymore666/docker-net-dhcp": (
        *(
            62,
            103,
            104,
            128,
            152,
            219,
            243,
            317,
            332,
            353,
            370,
            371,
            402,
            406,
            408,
            486,
        ),
        *(524, 528, 608),
    ),
    "containers/netavark": (
        *(618, 690, 714, 1008, 1072, 1130, 1271, 1280, 1290, 1307, 1308, 1368),
        *(1437, 1456),
    ),
    "containernetworking/plugins": (78, 105, 217, 235, 587, 709, 767, 792, 1092, 1278),
    "containernetworking/cni": (17, 83),
    "jpetazzo/pipework": (111, 133, 152),
    "kube-vip/kube-vip": (871,),
    "kubernetes-sigs/dranet": (304,),
    "lxc/incus": (1106, 1265),
    "lxc/lxc": (4593,),
    "openai/softnet": (186,),
    "Sanne/incus-spawn": (247,),
    "svinota/pyroute2": (1436,),
    "zephyrproject-rtos/zephyr": (50868,),
}
COMMENTS = [
    line
    for path in TESTS.rglob("test_*.py")
    for line in re.findall(r"^# .*", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(
    "report", [f"{p}#{n}" for p, numbers in REPORTS.items() for n in numbers]
)
def test_report_of_another_project_is_named_by_a_test(report):
    assert [line for line in COMMENTS if re.search(rf"{report}\b", line)]
