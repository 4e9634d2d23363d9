"""Gates in a real namespace: what is seen of them, and what counts as a change."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from subprocess import run

import pytest

import underlay.kernel.gates
from underlay.kernel import namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.forward_chains import generation
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network
from underlay.model.objects import NftElements, NftTable
from underlay.model.steps import Amend, Create, Delete
from underlay.planning.desired import DesiredState, endpoint_objects
from underlay.planning.plan import plan

pytestmark = [pytest.mark.needs("nftables"), pytest.mark.usefixtures("namespace")]
LAN = Network("n1", {"mode": "routed", "isolate": "on"})
WEB = Endpoint(
    "e1", "n1", IPv4Interface("10.0.0.5/32"), IPv6Interface("fd00::5/128"),
    "02:00:00:00:00:42",
)  # fmt: skip


def gates(endpoint=WEB):
    objects = endpoint_objects(LAN, endpoint).objects
    return [o for o in objects if isinstance(o, NftTable | NftElements)]


def is_filled(o):
    return isinstance(o, NftElements)


def filled(endpoint):
    return next(filter(is_filled, gates(endpoint)))


def seen(kernel):
    found = (o for o in kernel.observe() if isinstance(o, NftTable | NftElements))
    return {o.key for o in found}


def make(kernel, wanted):
    for o in sorted(wanted, key=lambda o: o.build_order):
        kernel.apply(Create(o))


def test_elements_are_seen_as_they_were_made():
    kernel, wanted = LinuxKernel(), gates()
    make(kernel, wanted)
    make(kernel, wanted)  # as what is there is made once more
    for looking in (kernel, LinuxKernel()):
        assert seen(looking) == {o.key for o in wanted}
        assert plan(DesiredState(tuple(wanted)), looking.observe()) == ()
    gone = next(o for o in wanted if isinstance(o, NftElements))
    kernel.apply(Delete(gone))
    kernel.apply(Delete(gone))
    for looking in (kernel, LinuxKernel()):
        assert seen(looking) == {o.key for o in wanted} - {gone.key}


def test_gates_are_no_change_of_the_rules_that_packets_of_others_pass():
    kernel = LinuxKernel()
    make(kernel, gates())
    mark = kernel.forward_change_mark()
    more = gates(replace(WEB, id="e2", mac="02:00:00:00:00:43"))
    make(kernel, more)
    make(kernel, more)
    kernel.apply(Delete(more[-1]))
    assert kernel.forward_change_mark() == mark
    run(["nft", "add", "table", "inet", "foreign"], check=True)
    assert kernel.forward_change_mark() != mark


def test_elements_that_the_service_changes_are_known_without_a_list(monkeypatch):
    kernel, wanted = LinuxKernel(), gates()
    make(kernel, wanted)
    assert seen(kernel)
    asked = []
    listed = underlay.kernel.gates.elements
    monkeypatch.setattr(
        underlay.kernel.gates, "elements", lambda t: asked.append(t) or listed(t)
    )

    def elements(looking):
        return set(filter(is_filled, looking.observe()))

    more = gates(replace(WEB, id="e2", mac="02:00:00:00:00:43"))
    for change in (
        lambda: make(kernel, more),
        lambda: make(kernel, gates(replace(WEB, mac="02:00:00:00:00:44"))),
        lambda: kernel.apply(Amend(filled(WEB), filled(replace(WEB, ipv6=None)))),
        lambda: kernel.apply(Delete(filled(replace(WEB, id="e2")))),
        lambda: kernel.apply(Delete(next(o for o in more if is_filled(o)))),
        lambda: kernel.apply(Delete(next(o for o in more if is_filled(o)))),
    ):
        change()
        known = elements(kernel)
        assert asked == []
        assert known == elements(LinuxKernel())
        asked.clear()
    kernel.apply(Delete(next(o for o in wanted if isinstance(o, NftTable))))
    assert elements(kernel) == elements(LinuxKernel())


def test_one_socket_to_nftables_is_kept_and_none_of_a_sandbox(monkeypatch, tmp_path):
    """Its end waits where something was deleted, and a sandbox would outlive it."""
    generation()
    opened, real = [], socket.socket

    class Counted(socket.socket):
        def __init__(self, *given):
            opened.append(given)
            super().__init__(*given)

    monkeypatch.setattr(nl.socket, "socket", Counted)
    for _ in range(3):
        generation()
    assert opened == []
    other = tmp_path / "room"
    other.touch()
    run(["unshare", f"--net={other}", "true"], check=True)
    for _ in range(2):
        namespaces.run_in(other, generation)
    generation()
    assert len(opened) == 2
    monkeypatch.setattr(nl.socket, "socket", real)
    run(["umount", other], check=True)


def test_gates_that_another_program_changed_are_seen_so():
    kernel, wanted = LinuxKernel(), gates()
    make(kernel, wanted)
    assert seen(kernel)
    run(["nft", "flush", "ruleset"], check=True)
    assert not seen(kernel)
    make(kernel, wanted)
    assert seen(kernel) == {o.key for o in wanted}


def change_of_another_program(monkeypatch, name):
    """Have each set emptied just before the module of gates does something."""
    does = getattr(underlay.kernel.gates, name)

    words = [
        f"flush set {table.family} {table.name} {line.split()[1]}"
        for table in gates()
        if isinstance(table, NftTable)
        for line in table.body
        if line.startswith("set ")
    ]

    def changed(*given):
        run(["nft", "; ".join(words)], check=True)  # one change
        does(*given)

    monkeypatch.setattr(underlay.kernel.gates, name, changed)


def elements_of(kernel):
    return set(filter(is_filled, kernel.observe()))


@pytest.mark.parametrize("step", ["table", "elements", "deletion"])
def test_change_of_another_program_beside_a_step_that_changes_nothing_is_seen(
    monkeypatch, step
):
    kernel, wanted = LinuxKernel(), gates()
    make(kernel, wanted)
    other = filled(replace(WEB, id="e2", mac="02:00:00:00:00:43"))
    kernel.apply(Create(other))
    if step == "deletion":
        kernel.apply(Delete(filled(WEB)))
    assert seen(kernel)
    mark = kernel.forward_change_mark()
    change_of_another_program(monkeypatch, "delete" if step == "deletion" else "create")
    if step == "elements":
        kernel.apply(Create(replace(other, elements=frozenset())))
    elif step == "table":
        kernel.apply(Create(next(o for o in wanted if isinstance(o, NftTable))))
    else:
        kernel.apply(Delete(filled(WEB)))
    assert elements_of(kernel) == elements_of(LinuxKernel())
    if step != "table":
        assert kernel.forward_change_mark() != mark


def test_gate_that_is_made_while_gates_are_listed_is_seen_with_its_elements(
    monkeypatch,
):
    kernel, wanted = LinuxKernel(), gates()
    listed = underlay.kernel.gates.tables

    def late():
        found = list(listed())
        monkeypatch.setattr(underlay.kernel.gates, "tables", listed)
        make(LinuxKernel(), wanted)
        return found

    run(["nft", "add", "table", "inet", "underlay-ul-000000000000"], check=True)
    monkeypatch.setattr(underlay.kernel.gates, "tables", late)
    kernel.observe()
    assert elements_of(kernel) == elements_of(LinuxKernel()) != set()
