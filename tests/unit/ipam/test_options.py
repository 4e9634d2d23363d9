"""Parts of a range for several hosts, and where each host begins."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.errors import BadValue
from underlay.ipam.options import narrowed
from underlay.ipam.subnets import own_start


@given(st.integers(1, 300), st.integers(1, 40))
def test_parts_of_a_range_are_disjoint_and_make_it_up(size, parts):
    first = ip_address("10.0.0.0")
    span = first, first + size - 1
    if parts > size:
        with pytest.raises(BadValue, match=f"of {size} addresses"):
            narrowed({"slice": f"1/{parts}"}, span)
        return
    found = [narrowed({"slice": f"{n}/{parts}"}, span) for n in range(1, parts + 1)]
    assert found[0][0] == span[0]
    assert found[-1][1] == span[1]
    for (_, before), (after, _) in pairwise(found):
        assert after == before + 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "2/", "a/b", "-1/4", "1/0"])
def test_part_that_is_none_is_refused(text):
    span = ip_address("10.0.0.0"), ip_address("10.0.0.255")
    with pytest.raises(BadValue, match="as 2/4"):
        narrowed({"slice": text}, span)


def test_hosts_begin_at_different_addresses_of_a_large_range():
    first, last = ip_address("10.0.0.1"), ip_address("10.0.3.254")
    starts = {own_start(f"host-{n}", first, last) for n in range(20)}
    assert len(starts) > 15
    assert all(first <= start <= last for start in starts)
    assert own_start("a", first, last) == own_start("a", first, last)
    small = first + 62
    assert {own_start(f"host-{n}", first, small) for n in range(9)} == {first}


def test_start_in_a_large_range_of_ipv6_has_a_small_number():
    first, last = ip_address("fd00::1"), ip_address("fd00::ffff:ffff:ffff:ffff")
    assert int(own_start("a", first, last)) - int(first) < 65536
