"""Tests of this suite again, inside kernels that have what this machine's may lack.

Here they can neither be skipped nor lost: the kernels have every kind of link, and
a kernel that does not boot is a failure. Only what needs nftables, by its mark, is left
out: of that these kernels have only the core, without a family of tables.
"""

from __future__ import annotations

import re
import sys

import pytest

from tests.lab import uml

# Of no kernel in particular, and slow on one processor.
NO_CHURN = "--ignore=tests/kernel/test_churn.py"
# In the old kernel a process takes 40 ms: whole stories are told in the new one.
SHORTER = {
    "6.1": (
        "--ignore=tests/kernel/test_proxies.py",
        "--ignore=tests/kernel/test_takeover.py",
        "--ignore=tests/kernel/test_takeover_waits.py",
        "--ignore=tests/kernel/test_vlan_repair.py",
        "--deselect=tests/kernel/test_bridges.py"
        "::test_a_bridge_keeps_its_mac_and_mtu_whichever_containers_come_and_go",
    )
}


def passed(name, *words, memory="2G", timeout=1200):
    """Run pytest in a kernel; fail with what it says unless every test passes there."""
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words)
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = uml.run(name, command, memory=memory, timeout=timeout, env=env)
    last = done.stdout.rstrip().rpartition("\n")[2]
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", last), done.stdout
    assert not re.search(r"skipped|xfailed", last), done.stdout
    return done.stdout


@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", uml.KERNELS)
def test_the_kernel_tests_pass(name):
    passed(name, "tests/kernel", NO_CHURN, *SHORTER.get(name, ()))


@pytest.mark.timeout(1260)
@pytest.mark.parametrize(
    "words",
    [
        ("tests/docker/test_ipvlan.py",),
        ("tests/docker/test_vlan.py",),
        # Without nftables the host has no way to macvlan containers there.
        ("tests/docker/test_mode_table.py", "-k", "ipvlan"),
        ("tests/docker/test_macs.py", "-k", "ipvlan"),
        ("tests/docker/test_host_access.py", "-k", "28.5 and (l2 or l3)"),
        ("tests/docker/test_missing_parent.py", "-k", "ipvlan"),
        ("tests/docker/test_mtu.py", "-k", "ipvlan"),
    ],
    ids=lambda words: words[0],
)
def test_containers_of_real_engines_pass(words):
    passed("7.2", *words, memory="3G")
