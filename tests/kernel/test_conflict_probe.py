"""Asking a segment for addresses, and hearing whose they are said to be."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import pytest

from tests.kernel.conftest import ip
from tests.lab import net
from tests.lab.service import wait_until
from underlay.kernel import arp_nd, conflict_probe
from underlay.kernel.conflict_probe import ANSWER_SECONDS, ask
from underlay.kernel.conflict_watch import GATHER_SECONDS, ConflictWatch
from underlay.kernel.linux import LinuxKernel
from underlay.kernel.namespaces import run_in
from underlay.model import Sighting, Verdict
from underlay.model.objects import Owner
from underlay.modes import host_access
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

FOUR, SIX = ip_address("10.0.0.9"), ip_address("fd00::9")
FREE = ip_address("10.0.0.77"), ip_address("fd00::77")
MAC, THEIRS, OTHER, LOWER = (f"02:00:00:00:00:{n:02x}" for n in (9, 1, 0x66, 3))
ETH_P_ALL = 3

pytestmark = pytest.mark.usefixtures("namespace")


@pytest.fixture
def machine(namespace):
    """A machine at the other end of eth0's wire, which has FOUR and SIX."""
    del namespace
    with net.Namespace(f"ulan{secrets.token_hex(3)}", "") as found:
        net.ip(
            f"link set eth0 address {MAC}",
            f"link set wire0 address {THEIRS}",
            f"link set wire0 netns {found.netns}",
        )
        commands = f"""
            ip link set wire0 up
            ip addr add {FOUR}/24 dev wire0
            ip addr add {SIX}/64 dev wire0 nodad
        """
        found.run("sh", "-ec", commands)
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)
        # Its IPv6 hears the wire a moment after that is up.
        wait_until(lambda: ask(["eth0"], [SIX], no_one).used, 10)
        yield found


@contextmanager
def wire_of(machine):
    """Yield a socket at the machine's end of the wire."""

    def opened():
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        s.bind(("wire0", ETH_P_ALL))
        return s

    with run_in(net.NETNS / machine.netns, opened) as s:
        s.settimeout(2)
        yield s


def no_one(_mac):
    return False


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def test_used_addresses_are_answered_at_once_by_both_families(machine):
    before = machine.run("ip", "neigh").stdout, ip("neigh")
    began = time.monotonic()
    assert ask(["eth0"], [FOUR, SIX], no_one).used == {FOUR: THEIRS, SIX: THEIRS}
    assert time.monotonic() - began < ANSWER_SECONDS / 2
    # A question claims nothing: no machine has learnt a MAC by it.
    assert (machine.run("ip", "neigh").stdout, ip("neigh")) == before


@pytest.mark.usefixtures("machine")
def test_free_addresses_take_the_whole_time():
    began = time.monotonic()
    found = ask(["eth0"], [*FREE, FOUR], no_one)
    assert found.used == {FOUR: THEIRS}
    assert not found.unasked
    assert time.monotonic() - began >= ANSWER_SECONDS


@pytest.mark.usefixtures("machine")
def test_device_without_ipv6_hears_answers_of_ipv6():
    ip("link", "set", "eth0", "addrgenmode", "none")
    path = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"
    with open(path, "w", encoding="ascii") as setting:  # noqa: PTH123
        setting.write("1")
    assert ask(["eth0"], [SIX], no_one).used == {SIX: THEIRS}


def test_question_is_a_probe_sent_three_times(machine):
    with wire_of(machine) as wire:
        ask(["eth0"], FREE, no_one)
        frames, deadline = [], time.monotonic() + 1
        wire.settimeout(0.1)
        while time.monotonic() < deadline:
            try:
                frame = wire.recv(2000)
            except TimeoutError:
                break
            if any(a.packed in frame for a in FREE):
                frames.append(frame)
    arp = b"\xff" * 6 + mac(MAC) + bytes.fromhex("0806 0001 0800 06 04 0001")
    assert frames.count(arp + mac(MAC) + bytes(10) + FREE[0].packed) == 3
    (sought,) = {f for f in frames if f[12:14] == b"\x86\xdd"}
    assert len(frames) == 6
    to = "ff02 0000 0000 0000 0000 0001 ff00 0077"
    head = "3333 ff000077" + mac(MAC).hex() + "86dd 60000000 0018 3a ff"
    assert sought[:54] == bytes.fromhex(head) + bytes(16) + bytes.fromhex(to)
    # From no address, a solicitation has no option (RFC 4861, 4.3).
    assert sought[54:56] == b"\x87\0"
    assert sought[58:] == bytes(4) + FREE[1].packed


@pytest.mark.usefixtures("machine")
def test_answer_of_a_mac_of_the_service_is_no_conflict():
    assert ask(["eth0"], [FOUR, SIX], {THEIRS}.__contains__).used == {}


@contextmanager
def answering(machine, *said, late=0.0):
    """Yield a socket of another machine, which says this to the first question."""
    with wire_of(machine) as wire:

        def answer():
            while FREE[0].packed not in wire.recv(2000):
                pass
            time.sleep(late)
            for frame in said:
                wire.send(frame)

        other = threading.Thread(target=answer)
        other.start()
        yield wire
        other.join()


@pytest.mark.parametrize("late", [0.0, 0.15])
def test_answer_and_held_address_of_another_machine_are_heard_in_time(machine, late):
    reply = arp_nd.arp(mac(OTHER), FREE[0], arp_nd.REPLY, mac(MAC), FOUR)
    with answering(machine, reply, arp_nd.hold(mac(OTHER), FREE[1]), late=late):
        found = ask(["eth0"], FREE, no_one)
    assert found == Verdict(used=dict.fromkeys(FREE, OTHER))


def probes_of(by):
    return [arp_nd.probe(mac(by), address) for address in FREE]


def test_of_two_hosts_that_ask_at_once_the_lowest_mac_goes_on(machine):
    """MAC is lower than OTHER; LOWER comes before both."""
    with answering(machine, *probes_of(LOWER)):
        found = ask(["eth0"], FREE, no_one)
    assert found == Verdict(contested=dict.fromkeys(FREE, LOWER))
    with answering(machine, *probes_of(OTHER), late=0.14) as wire:
        assert ask(["eth0"], FREE, no_one) == Verdict()
        wire.settimeout(0.1)
        asked = []
        with suppress(TimeoutError):
            while True:
                asked.append(wire.recv(2000))
    # The other host began when the last question was asked: it hears one more.
    assert sum(FREE[0].packed in frame for frame in asked) == 2 + 1


def test_whose_a_mac_is_is_looked_up_once_for_a_question(machine):
    """A look at all devices costs more than a frame."""
    looked = []
    with answering(machine, *probes_of(OTHER) * 50):
        ask(["eth0"], FREE, lambda mac: looked.append(mac) or True)
    assert looked.count(OTHER) == 1


def test_hosts_that_answer_each_other_do_not_do_so_without_end(machine):
    """Each takes itself for the first if the lowest MACs pass no switch: the shims'."""
    done, asked = threading.Event(), []
    with wire_of(machine) as wire:
        wire.settimeout(0.05)

        def answer_all():
            while not done.is_set():
                with suppress(TimeoutError):
                    if FREE[0].packed in wire.recv(2000):
                        asked.append(1)
                        wire.send(probes_of(OTHER)[0])

        other = threading.Thread(target=answer_all)
        other.start()
        try:
            assert ask(["eth0"], FREE[:1], no_one) == Verdict()
        finally:
            done.set()
            other.join()
    assert len(asked) == 3 + 3  # with each question once more


def test_machine_that_has_an_address_comes_before_a_host_that_asks_too(machine):
    reply = arp_nd.arp(mac(OTHER), FREE[0], arp_nd.REPLY, mac(MAC), FOUR)
    with answering(machine, probes_of(LOWER)[0], reply):
        assert ask(["eth0"], FREE, no_one).used == {FREE[0]: OTHER}


def test_answers_are_read_also_if_the_host_was_too_busy(machine, monkeypatch):
    """The frames wait in the socket while its process does not run."""
    late = [time.sleep, lambda: None]
    select = conflict_probe.select.select

    def busy(*words):
        late.pop(0)(ANSWER_SECONDS * 2) if len(late) == 2 else None
        return select(*words)

    monkeypatch.setattr(conflict_probe.select, "select", busy)
    assert ask(["eth0"], [FOUR], no_one).used == {FOUR: THEIRS}
    del machine


@pytest.mark.parametrize("address", FREE)
def test_held_address_is_a_probe_to_other_machines(machine, address):
    """No neighbour learns anything, and a machine that is about to take it does not."""
    watch = ConflictWatch()
    watch.watch({"eth0": (4, 6)})
    thread = threading.Thread(target=watch.listen, args=(lambda _: None,))
    thread.start()
    size = address.max_prefixlen
    try:
        before = machine.run("ip", "neigh").stdout
        wait_until(lambda: watch._sockets, 5)
        machine.run("ip", "addr", "add", f"{address}/{size}", "dev", "wire0")
        with wire_of(machine) as wire:
            watch.hold("eth0", address)
            while address.packed not in (frame := wire.recv(2000)):
                pass
        said = arp_nd.said(frame)
        assert (said.address, said.mac, said.kind) == (address, MAC, "hold")
        assert machine.run("ip", "neigh").stdout == before
        if address.version == 6:
            shown = ("ip", "-6", "addr", "show", "dadfailed")
            wait_until(lambda: str(address) in machine.run(*shown).stdout, 5)
        watch.hold("none0", address)  # none is told
    finally:
        watch.stop()
        thread.join()


@pytest.mark.usefixtures("machine")
def test_dead_parent_is_not_asked_and_says_why():
    ip("link", "set", "eth0", "down")
    assert ask(["eth0"], [FOUR], no_one).unasked == "eth0 is down"
    assert ask(["none0"], [FOUR], no_one).unasked == "no device none0"


def test_parent_without_carrier_is_not_asked_and_says_why(machine):
    machine.run("ip", "link", "set", "wire0", "down")
    wait_until(lambda: ask(["eth0"], [FOUR], no_one).unasked, 5)
    assert ask(["eth0"], [FOUR], no_one).unasked == "eth0 has no carrier"


def test_answer_with_the_tag_of_a_vlan_is_of_another_segment(machine):
    """Here the tag is taken off before a socket sees the frame, as most NICs do."""
    machine.run("ip", "addr", "flush", "dev", "wire0")
    reply = arp_nd.arp(mac(OTHER), FOUR, arp_nd.REPLY, mac(MAC), FREE[0])
    with wire_of(machine) as wire:
        frame = reply[:12] + bytes.fromhex("8100 0005") + reply[12:]
        done = threading.Event()

        def lie():
            while not done.wait(0.01):
                wire.send(frame)

        liar = threading.Thread(target=lie)
        liar.start()
        try:
            assert ask(["eth0"], [FOUR], no_one).used == {}
            assert Heard().upon(lambda: time.sleep(0.2)) == set()
        finally:
            done.set()
            liar.join()


def test_sibling_of_another_driver_answers_through_the_shim(machine):
    """It hears no frame of the parent, and the parent none of its."""
    shim = Owner.parse("underlay::shim/eth0")
    ip("link", "add", shim.device, "link", "eth0", "type", "macvlan", "mode", "bridge")
    kernel = LinuxKernel()
    filters = DesiredState(tuple(host_access.filters(shim)))
    for step in plan(filters, kernel.observe()):
        kernel.apply(step)
    ip("link", "set", shim.device, "up")
    name = f"usib{secrets.token_hex(3)}"
    with net.Namespace(name, "") as sibling:
        words = ("link", "add", "kid", "netns", name, "link", "eth0")
        ip(*words, "address", OTHER, "type", "macvlan", "mode", "bridge")
        commands = f"""
            ip addr add {FREE[0]}/24 dev kid
            ip addr add {FREE[1]}/64 dev kid nodad
            ip link set kid up
        """
        sibling.run("sh", "-ec", commands)
        assert ask(["eth0"], FREE, no_one).used == {}
        devices = ["eth0", shim.device]
        wait_until(lambda: len(ask(devices, FREE, no_one).used) == len(FREE), 10)
        asked = [FOUR, SIX, *FREE]
        theirs = dict.fromkeys((FOUR, SIX), THEIRS) | dict.fromkeys(FREE, OTHER)
        assert ask(devices, asked, no_one).used == theirs
    del machine


class Heard:
    """What a watch hears in this namespace."""

    def __init__(self, devices=("eth0",), families=(4, 6)):
        self.devices = dict.fromkeys(devices, families)

    def upon(self, act, watching=lambda _: None):
        """Return what is heard while something happens."""
        found, watch = set(), ConflictWatch()
        watch.watch(self.devices)
        thread = threading.Thread(target=watch.listen, args=(found.update,))
        thread.start()
        try:
            time.sleep(0.1)
            watching(watch)
            act()
            time.sleep(GATHER_SECONDS + 0.15)
        finally:
            watch.stop()
            thread.join(timeout=5)
        assert not thread.is_alive()
        return found


def speak(machine, *frames):
    def act():
        with wire_of(machine) as wire:
            for frame in frames:
                wire.send(frame)

    return act


def claims(by):
    gateway = ip_address("10.0.0.1")
    return (
        arp_nd.arp(mac(by), FREE[0], arp_nd.REQUEST, bytes(6), gateway),
        arp_nd.question(mac(by), FREE[1], ip_address("fd00::1")),
    )


def test_watch_hears_machines_that_have_an_address_and_that_ask(machine):
    probes = [arp_nd.probe(mac(OTHER), a) for a in (FOUR, SIX)]
    garbage = [f[:40] for f in claims(OTHER)]
    found = Heard().upon(speak(machine, *claims(OTHER), *probes, *garbage))
    ours = {s for s in found if s.mac == OTHER}
    asked = {Sighting(a, OTHER, "eth0", kind="probe") for a in (FOUR, SIX)}
    assert ours == {Sighting(a, OTHER, "eth0") for a in FREE} | asked


def test_thread_that_catches_up_goes_on_when_all_that_was_said_is_reported(machine):
    found, watch = set(), ConflictWatch()
    watch.watch({"eth0": (4, 6)})
    thread = threading.Thread(target=watch.listen, args=(found.update,))
    thread.start()
    try:
        wait_until(lambda: len(watch._sockets) == 2, 5)
        wait_until(lambda: watch._heard == found.update, 5)
        for _ in range(20):  # also where the listening thread rests
            found.clear()
            speak(machine, *claims(OTHER))()
            watch.catch_up()
            assert {s.address for s in found if s.mac == OTHER} == {*FREE}
    finally:
        watch.stop()
        thread.join(timeout=5)
    watch.catch_up()  # then there is nothing to hear


def test_advertisement_that_a_router_passed_on_is_not_believed(machine):
    """Any machine in the Internet can send it (RFC 4861, 7.1)."""
    fields = arp_nd.ADVERTISEMENT, 0, 0, FREE[1].packed, arp_nd.TARGET_MAC
    words = mac(OTHER), SIX, FREE[1].packed, mac(MAC), fields
    near = arp_nd.discovery(*words)
    far = near[:21] + b"\x40" + near[22:]
    said = {Sighting(FREE[1], OTHER, "eth0")}
    assert Heard().upon(speak(machine, far)) & said == set()
    assert Heard().upon(speak(machine, near)) >= said


def test_watch_of_one_family_hears_that_alone(machine):
    found = Heard(families=(4,)).upon(speak(machine, *claims(OTHER)))
    assert {s.address.version for s in found} == {4}


@pytest.mark.usefixtures("machine")
def test_thread_that_catches_up_does_not_wait_for_a_socket_to_open(monkeypatch):
    """The kernel opens it when no other changes links: seconds later, perhaps."""
    opened, begun, go_on = arp_nd.opened, threading.Event(), threading.Event()

    def slow(*words):
        begun.set()
        assert go_on.wait(10)
        return opened(*words)

    monkeypatch.setattr(arp_nd, "opened", slow)
    watch = ConflictWatch()
    watch.watch({"eth0": (4, 6)})
    listening = threading.Thread(target=watch.listen, args=(print,))
    listening.start()
    try:
        assert begun.wait(5)
        other = threading.Thread(target=watch.catch_up)
        other.start()
        other.join(timeout=5)
        assert not other.is_alive()
    finally:
        go_on.set()
        watch.stop()
        listening.join(timeout=5)


def test_watch_hears_again_after_a_device_and_what_hears_failed(machine):
    """Its socket is closed already when the failure of the device is seen."""
    found, watch = set(), ConflictWatch()
    watch.watch({"eth0": (4,)})

    def fail(_):
        watch._failed.add(("eth0", 4))
        raise OSError

    def listen():
        with suppress(OSError):
            watch.listen(fail)

    thread = threading.Thread(target=listen)
    thread.start()
    wait_until(lambda: watch._sockets, 5)
    speak(machine, *claims(OTHER))()
    thread.join(timeout=5)
    assert not thread.is_alive()
    thread = threading.Thread(target=watch.listen, args=(found.update,))
    thread.start()
    try:
        wait_until(lambda: watch._sockets, 5)
        speak(machine, *claims(OTHER))()
        wait_until(lambda: Sighting(FREE[0], OTHER, "eth0") in found, 5)
    finally:
        watch.stop()
        thread.join(timeout=5)


def test_ip_traffic_does_not_wake_a_watch(machine):
    with wire_of(machine) as wire:
        ipv4 = mac(MAC) + mac(THEIRS) + b"\x08\0" + b"\x45" + bytes(40)
        ipv6 = mac(MAC) + mac(THEIRS) + b"\x86\xdd" + b"\x60" + bytes(60)
        watch = ConflictWatch()
        watch.watch({"eth0": (4, 6)})
        read = []

        def note(s, _place):
            # What the kernels themselves say of neighbours may be heard.
            with suppress(BlockingIOError):
                read.append(s.recv(128))
            return []

        watch._read = note
        thread = threading.Thread(target=watch.listen, args=(print,))
        thread.start()
        try:
            time.sleep(0.1)
            for frame in (ipv4, ipv6) * 100:
                wire.send(frame)
            time.sleep(0.2)
        finally:
            watch.stop()
            thread.join(timeout=5)
    assert not {ipv4, ipv6} & set(read)


def test_watch_survives_devices_that_go_and_come(machine):
    """Down and up in one piece, and as another device of its name."""

    def flap(_watch):
        ip("link", "set", "eth0", "down")
        time.sleep(0.1)
        ip("link", "set", "eth0", "up")
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)

    assert Heard().upon(speak(machine, *claims(OTHER)), flap) >= {
        Sighting(a, OTHER, "eth0") for a in FREE
    }

    def renew(watch):
        ip("link", "del", "eth0")
        watch.watch({"eth0": (4,)})
        time.sleep(0.1)
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire0")
        ip("link", "set", "wire0", "netns", machine.netns)
        machine.run("ip", "link", "set", "wire0", "up")
        ip("link", "set", "eth0", "up")
        wait_until(lambda: " UP " in ip("-br", "link", "show", "eth0"), 5)
        watch.watch({"eth0": (4,)})
        time.sleep(0.1)

    found = Heard().upon(speak(machine, *claims(OTHER)), renew)
    assert Sighting(FREE[0], OTHER, "eth0") in found
