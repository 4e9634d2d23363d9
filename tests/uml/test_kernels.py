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
        "::test_a_bridge_keeps_its_mac_and_mtu_whichever_containers_come_and_go",
    )
}


# Tests of tests/kernel for what this machine's kernel lacks: all, and in the old kernel
# some. test_kinds.py has one for every kind.
LACKED = {
    "7.2": ("tests/kernel", NO_CHURN),
    "6.1": tuple(f"tests/kernel/test_{x}.py" for x in ("kinds", "contract", "netlink")),
}
# Tests of tests/docker, and the kinds of link that they are there for.
ENGINES = [
    ({"ipvlan"}, ("tests/docker/test_ipvlan.py",)),
    ({"ipvlan"}, ("tests/docker/test_macs.py", "-k", "ipvlan")),
    ({"vlan", "dummy"}, ("tests/docker/test_vlan.py",)),
    ({"ipvlan"}, ("tests/docker/test_host_access.py", "-k", "28.5 and (l2 or l3)")),
    # Without nftables the host has no way to macvlan containers there.
    ({"ipvlan"}, ("tests/docker/test_mode_table.py", "-k", "ipvlan")),
    ({"ipvlan"}, ("tests/docker/test_missing_parent.py", "-k", "ipvlan")),
    ({"ipvlan"}, ("tests/docker/test_mtu.py", "-k", "ipvlan")),
]
on_engines = pytest.mark.parametrize(
    ("kinds", "words"), ENGINES, ids=[words[0] for _, words in ENGINES]
)


def passed(name, *words, only=(), memory="2G", timeout=1200):
    """Run pytest in a kernel; fail with what it says unless every test passes there.

    `only` tests that need one of these kinds are run, of which there must be some.
    """
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


@pytest.mark.timeout(1260)
@on_engines
def test_containers_on_what_this_machine_s_kernel_lacks_pass(kinds, words):
    only = lacked()
    if kinds.isdisjoint(only):
        pytest.skip(f"this machine's kernel has {kinds}; see script/test long")
    passed("7.2", *words, only=only, memory="3G")


@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", LACKED)
def test_what_this_machine_s_kernel_lacks_passes(name):
    passed(name, *LACKED[name], only=lacked())


@pytest.mark.long
@pytest.mark.timeout(1260)
@pytest.mark.parametrize("name", uml.KERNELS)
def test_the_kernel_tests_pass(name):
    passed(name, "tests/kernel", NO_CHURN, *SHORTER.get(name, ()))


@pytest.mark.long
@pytest.mark.timeout(1260)
@on_engines
def test_containers_of_real_engines_pass(kinds, words):
    del kinds
    passed("7.2", *words, memory="3G")
