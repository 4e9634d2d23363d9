"""Tests of this suite inside kernels that have what this machine's may lack.

By default those that need a kind of link which this machine's kernel does not have; in
`script/test long` what this machine's kernel has run, too.

Here they can neither be skipped nor lost: the kernels have every kind of link, and
a kernel that does not boot is a failure. Only what needs nftables, by its mark, is left
out: of that these kernels have only the core, without a family of tables.
"""

from __future__ import annotations

import re
import sys

import pytest

from tests.kinds import lacking
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
        "::test_bridge_keeps_its_mac_and_mtu_whichever_containers_come_and_go",
    )
}


# Tests of tests/kernel and tests/doctor for what this machine's kernel lacks: all, and
# in the old kernel some. test_link_kinds.py has one for every kind.
LACKED = {
    "7.2": ("tests/kernel", "tests/doctor", NO_CHURN),
    "6.1": tuple(
        f"tests/kernel/test_{x}.py" for x in ("link_kinds", "contract", "netlink")
    ),
}
# Tests of tests/docker in one kernel with one engine, and the kinds of link that they
# are there for.
ENGINES = {
    "ipvlan": (
        {"ipvlan"},
        "ipvlan mtu missing_parent",
        "ipvlan and not (20.10 or 26.1)",
    ),
    # Without nftables the host has no way to macvlan containers there.
    "vlan": (
        {"vlan", "dummy", "ipvlan"},
        "vlan host_access mode_table",
        "test_vlan or (ipvlan and test_mode_table) or (every_address and 28.5 and l2)",
    ),
}
# What older engines ask for, leases, and fifty containers in the place of three.
MORE = {
    "older": ({"ipvlan"}, "ipvlan", "20.10 or 26.1"),
    "dhcp": ({"ipvlan", "vlan"}, "dhcp dhcpv6", "ipvlan or vlan"),
    "host access": ({"ipvlan"}, "host_access", "28.5 and (l2 or l3)"),
    "macs": ({"ipvlan"}, "macs", "ipvlan"),
}


def passed(name, *words, only=(), memory="2G", timeout=1200):
    """Run pytest in a kernel; fail with what it says unless every test passes there.

    `only` tests that need one of these kinds are run, of which there must be some.
    """
    if reason := uml.why_not(name):
        pytest.skip(reason)
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words)
    env = {"PYTHONDONTWRITEBYTECODE": "1", "UNDERLAY_ONLY_NEEDING": ",".join(only)}
    done = uml.run(name, command, memory=memory, timeout=timeout, env=env)
    last = done.stdout.rstrip().rpartition("\n")[2]
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", last), done.stdout
    assert not re.search(r"skipped|xfailed", last), done.stdout
    return done.stdout


def lacked():
    """Return the kinds that this machine's kernel does not have, or skip the test."""
    kinds = lacking()
    if not kinds:
        pytest.skip("this machine's kernel has every kind; see script/test long")
    return kinds


def passed_with_engines(files, choice, *more, **only):
    words = (f"tests/docker/test_{name}.py" for name in files.split())
    passed("7.2", *words, "-k", choice, *more, **only, memory="3G")


@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", ENGINES)
def test_docker_tests_of_missing_link_kinds_pass_in_other_kernels(name):
    (kinds, *words), only = ENGINES[name], lacked()
    if kinds.isdisjoint(only):
        pytest.skip(f"this machine's kernel has {kinds}; see script/test long")
    passed_with_engines(*words, only=only)


@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", LACKED)
def test_kernel_tests_of_missing_link_kinds_pass_in_other_kernels(name):
    passed(name, *LACKED[name], only=lacked())


@pytest.mark.long
@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", uml.KERNELS)
def test_kernel_tests_pass_in_other_kernels(name):
    passed(name, "tests/kernel", NO_CHURN, *SHORTER.get(name, ()))


@pytest.mark.long
@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", ENGINES | MORE)
def test_docker_tests_of_real_engines_pass_in_other_kernels(name):
    _, *words = (ENGINES | MORE)[name]
    passed_with_engines(*words, "-m", "")  # both older engines, too
