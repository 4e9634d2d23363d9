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
def test_a_kind_that_is_said_to_be_there_is_there(kind):
    ip("link", "add", *WORDS[kind].replace("link p", "link eth0").split())
    assert ip("link", "show", "x")
    assert LinuxKernel().has_kind(kind)


@pytest.mark.usefixtures("namespace")
def test_a_kind_that_is_not_there_is_a_skip_unless_it_must_be_there(monkeypatch):
    monkeypatch.setitem(WORDS, "nosuch", "name x type nosuch")
    assert not has("nosuch")
    assert not LinuxKernel().has_kind("nosuch")
    with pytest.raises(pytest.skip.Exception, match="this kernel has no nosuch"):
        need("nosuch")
    monkeypatch.setenv("UNDERLAY_MUST_HAVE", "macvlan,nosuch")
    with pytest.raises(pytest.fail.Exception, match="this kernel has no nosuch"):
        need("nosuch")


def test_a_test_is_left_out_that_needs_what_is_lacking_or_none_of_what_is_asked_for(
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


def test_nothing_is_left_out_that_is_there():
    lacking = os.environ.get("UNDERLAY_LACKS", "")
    assert not any(has(kind) for kind in lacking.split(",") if kind)
