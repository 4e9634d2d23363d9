"""What listens in a namespace, as the kernel tells it: real sockets."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.kernel.conftest import ip
from tests.kernel.containers import Place
from tests.kernel.world import CHILD, OWNER
from underlay.kernel import links, listeners, namespaces
from underlay.kernel import rtnetlink as nl
from underlay.kernel.linux import LinuxKernel
from underlay.model.listener import Listener
from underlay.model.steps import Create

pytestmark = pytest.mark.usefixtures("namespace")

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@pytest.fixture
def bind():
    """Bind sockets; those of TCP listen. Ends with the test."""
    with ExitStack() as opened:

        def bind(protocol, address, port, *, six_only=False, device=""):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            s = opened.enter_context(socket.socket(family, KINDS[protocol]))
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, six_only)
            if device:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            s.bind((address, port))
            if protocol == "tcp":
                s.listen()
            return s

        yield bind


ANY4, ANY6 = IPv4Address(0), IPv6Address(0)


@pytest.mark.parametrize("protocol", KINDS)
@pytest.mark.parametrize(
    ("address", "six_only", "found", "families"),
    [
        (str(ANY4), False, ANY4, (4,)),
        ("::", False, ANY6, (4, 6)),
        ("::", True, ANY6, (6,)),
        ("127.0.0.1", False, IPv4Address("127.0.0.1"), (4,)),
        ("::1", False, IPv6Address("::1"), (6,)),
        ("::ffff:127.0.0.1", False, IPv4Address("127.0.0.1"), (4,)),
        ("::ffff:0.0.0.0", False, ANY4, (4,)),
    ],
)
def test_socket_is_listed_with_its_address_and_families(
    bind, protocol, address, six_only, found, families
):
    bind(protocol, address, 8080, six_only=six_only)
    assert [*listeners.listeners()] == [Listener(protocol, 8080, found, families)]


def test_socket_that_is_bound_to_a_device_is_listed_with_it(bind):
    bind("udp", str(ANY4), 53, device="eth0")
    (found,) = listeners.listeners()
    assert found.device == links.index_of("eth0")


def test_connections_and_sockets_that_do_not_listen_are_left_out(bind):
    server = bind("tcp", "127.0.0.1", 80)
    ends = [socket.create_connection(("127.0.0.1", 80)), server.accept()[0]]
    bind("udp", "127.0.0.1", 0).connect(("127.0.0.1", 53))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 81))
        assert {found.port for found in listeners.listeners()} == {80}
    for end in ends:
        end.close()


def test_thousands_of_sockets_are_listed(bind):
    for port in range(1_000, 4_000):
        bind("udp", str(ANY4), port)
    assert {found.port for found in listeners.listeners()} == {*range(1_000, 4_000)}


def test_kernel_without_a_list_of_sockets_is_named(monkeypatch):
    """A kernel that was built without inet_diag answers so."""

    def dump(*_words, empty, **_more):
        if not empty:
            raise FileNotFoundError
        return []

    monkeypatch.setattr(nl, "dump", dump)
    with pytest.raises(OSError, match="lists no tcp sockets") as refused:
        list(listeners.listeners())
    assert not namespaces.is_gone(refused.value)


def test_addresses_of_an_sctp_socket_are_read():
    """Of a list in the kernel's layout: the kernel here may have no SCTP."""
    four = struct.pack("=H2x4s120x", socket.AF_INET, IPv4Address("10.0.0.5").packed)
    six = struct.pack("=H6x16s104x", socket.AF_INET6, IPv6Address("fd00::5").packed)
    head = struct.pack("!BB2xH66x", socket.AF_INET6, 10, 9)
    answer = head + nl.attribute(12, four + six)
    assert [*listeners._listeners("sctp", answer)] == [
        Listener("sctp", 9, IPv4Address("10.0.0.5"), (4,)),
        Listener("sctp", 9, IPv6Address("fd00::5"), (6,)),
    ]


def test_look_into_a_sandbox_has_the_driver_s_devices_with_all_their_addresses():
    with Place("ulp") as place:
        LinuxKernel().apply(Create(CHILD))
        ip("link", "set", OWNER.device, "netns", place.netns)
        place.ip(
            f"addr add 10.0.0.5/24 dev {OWNER.device}",
            f"addr add fd00::5/64 dev {OWNER.device} nodad",
            f"link set {OWNER.device} name eth7 up",
        )
        found = listeners.look(place.path)
        (device,) = found.devices.values()
        assert [*found.devices] == [OWNER.mark]
        shown = {str(a) for a in device.addresses if not a.ip.is_link_local}
        assert shown == {"10.0.0.5/24", "fd00::5/64"}
        assert found.listeners == frozenset()
    with pytest.raises(OSError, match=r"Errno") as gone:
        listeners.look(place.path)
    assert namespaces.is_gone(gone.value)
