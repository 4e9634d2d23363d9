"""The numbers of netlink, written down here, are those of pyroute2."""

from __future__ import annotations

import pytest
from pyroute2 import netlink
from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl import ifaddrmsg, ifinfmsg, ndmsg, rtmsg

from underlay.kernel import rtnetlink

KNOWN = {
    name: value
    for module in (netlink, rtnl, ifaddrmsg, ifinfmsg, ndmsg, rtmsg)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, int)
}
BOTH = sorted(KNOWN.keys() & vars(rtnetlink).keys())


@pytest.mark.parametrize("name", BOTH)
def test_netlink_number_is_that_of_pyroute2(name):
    assert getattr(rtnetlink, name) == KNOWN[name]


def test_most_netlink_numbers_are_known_to_pyroute2():
    assert len(BOTH) > 40
