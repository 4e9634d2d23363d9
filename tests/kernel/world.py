"""Links, filters and listeners that several tests of the kernel use."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from dataclasses import replace
from functools import partial

from tests.lab import net
from tests.worlds import HERE, ROUTED, network
from underlay.kernel import events
from underlay.model import Network, Uplink
from underlay.model.objects import (
    Link,
    Owner,
)
from underlay.modes import host_access, masquerade
from underlay.modes.child_device import QUIET
from underlay.planning.desired import DesiredState
from underlay.planning.plan import plan

OWNER = Owner("n1", "e1")
CHILD = Link(OWNER.device, "macvlan", OWNER, parent="eth0", flavour="bridge")
TAGS = Owner.parse("underlay::eth0.50"), Owner.parse("underlay::eth0.50.7")
VLAN = Link("", "vlan", None, up=True, sysctls=QUIET)
STACK = (
    replace(VLAN, name=TAGS[0].device, owner=TAGS[0], parent="eth0", vlan=50),
    replace(VLAN, name=TAGS[1].device, owner=TAGS[1], parent=TAGS[0].device, vlan=7),
)


def nft(*words):
    done = subprocess.run(["nft", *words], capture_output=True, text=True, check=True)
    return done.stdout


def chains():
    """Return chains as the modes make them, on a device that is there."""
    owner = Owner.parse("underlay::shim/eth0")
    seen = Uplink(host_addresses=HERE, container_bridges=("docker0",))
    return [
        *host_access.filters(owner),
        *masquerade.through(Network("n1", uplink=seen), owner),
        *masquerade.objects(network("n1", **ROUTED)),
    ]


def bring_about(kernel, *objects):
    for step in plan(DesiredState(objects), kernel.observe()):
        kernel.apply(step)
    assert plan(DesiredState(objects), kernel.observe()) == ()


def born(room):
    return Link(
        "eth0", "macvlan", OWNER, "eth0", "bridge", up=True, sandbox=sandbox_path(room)
    )


def sandbox_path(room):
    return str(net.NETNS / room)


LONG_ENOUGH = 0.3  # for any event of this machine to arrive


class Hearing:
    """A listener at work in this thread's namespace, and what it told."""

    def __init__(self):
        self.told, self.urgent, self.rules, self.doubled = [], [], [], []
        self.parents = {"eth0"}
        self._ours, self._theirs = socket.socketpair()
        self.listener = events.Listener(self._theirs, self.parents.__contains__)
        self.thread = threading.Thread(
            target=self.listener.listen,
            args=(
                self.hear,
                partial(self.rules.append, "changed"),
                lambda path, address: self.doubled.append((path, str(address))),
            ),
        )
        self.thread.start()
        self.hush()

    def hear(self, paths, is_urgent):
        self.told.append(paths)
        self.urgent.append(is_urgent)

    def hush(self):
        """Wait until nothing is told any more, and forget what was."""
        while True:
            before = len(self.told)
            time.sleep(LONG_ENOUGH)
            if len(self.told) == before:
                return self.told.clear()

    def upon(self, *lines, here=None):
        """Return what is told upon `ip` commands, each but once."""
        self.told.clear()
        self.urgent.clear()
        inside(here, *lines) if here else net.ip(*lines)
        time.sleep(LONG_ENOUGH)
        return set().union(*({None} if told is None else told for told in self.told))

    def close(self):
        self._ours.close()
        self.thread.join(timeout=5)
        self._theirs.close()
        assert not self.thread.is_alive()


def inside(sandbox, *lines):
    words = ["ip", "-n", sandbox.netns, "-batch", "-"]
    subprocess.run(words, input="\n".join(lines), text=True, check=True)


def die_before_the_mark(*_, **__):
    """Be a process that dies when it is about to set the alias."""
    raise KeyboardInterrupt
