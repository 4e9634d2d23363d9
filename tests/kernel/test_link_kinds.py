"""Which kinds of link there are: what tests that need one go by."""

from __future__ import annotations

import os

import pytest

from tests.kernel.conftest import ip
from tests.kinds import WORDS, has, left_out, need
from underlay.kernel.linux import LinuxKernel

KINDS = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in WORDS]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("namespace")
def test_link_kinds_declared_available_can_be_created(kind):
    ip("link", "add", *WORDS[kind].replace("link p", "link eth0").split())
    assert ip("link", "show", "x")
    assert LinuxKernel().has_kind(kind)


@pytest.mark.usefixtures("namespace")
def test_missing_link_kind_skips_a_test_unless_it_is_required(monkeypatch):
    monkeypatch.setitem(WORDS, "nosuch", "name x type nosuch")
    assert not has("nosuch")
    assert not LinuxKernel().has_kind("nosuch")
    with pytest.raises(pytest.skip.Exception, match="this kernel has no nosuch"):
        need("nosuch")
    monkeypatch.setenv("UNDERLAY_MUST_HAVE", "macvlan,nosuch")
    with pytest.raises(pytest.fail.Exception, match="this kernel has no nosuch"):
        need("nosuch")


def test_test_selection_leaves_out_missing_or_unselected_link_kinds(
    monkeypatch,
):
    monkeypatch.setenv("UNDERLAY_LACKS", "nftables")
    monkeypatch.setenv("UNDERLAY_ONLY_NEEDING", "vlan,dummy")
    assert not left_out(["macvlan", "vlan"])
    assert left_out(["macvlan"])
    assert left_out([])
    assert left_out(["vlan", "nftables"])
    monkeypatch.delenv("UNDERLAY_ONLY_NEEDING")
    assert not left_out([])


def test_tests_for_available_link_kinds_are_never_left_out():
    lacking = os.environ.get("UNDERLAY_LACKS", "")
    assert not any(has(kind) for kind in lacking.split(",") if kind)
