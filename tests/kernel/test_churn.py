"""Containers come, go and die by the thousand while passes run: none loses anything.

Thousands on the kernel in memory, which is as fast as the records are; some hundreds
on a real one, with devices that are moved into sandboxes and back: UNDERLAY_CHURN_LIVES
of them, and ten times as many in memory. `script/test long` asks for 2000.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_network
from operator import le
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.fakes import FakeKernel, engine_on
from tests.kernel.conftest import ip
from tests.lab.sandbox import Dock
from tests.lab.service import wait_until
from underlay.docker_sync.cleanup import Cleanup
from underlay.errors import AddressTaken, PoolExhausted
from underlay.ipam.driver import IpamDriver
from underlay.kernel.clock import since_boot
from underlay.kernel.linux import LinuxKernel
from underlay.model import Endpoint, Network, Subnet
from underlay.model.docker import DockerNetwork, DockerView
from underlay.model.objects import Owner
from underlay.records import Records

# So few addresses that each is another container's again and again.
SUBNETS = {"lan": "10.1.0.0/27", "way": "10.2.0.0/27"}
OPTIONS = {"lan": {"parent": "eth0"}, "way": {"mode": "routed", "proxy": "eth0"}}
# Longer than a thread of a busy machine stands still in the middle of a start.
GRACE_SECONDS = 1.0
# Two megabytes of it are what SQLite keeps of a file that has grown.
MEMORY_BYTES = 6 << 20
# On the real kernel each takes some 20 ms to be forgotten.
REAL_LIVES = int(os.environ.get("UNDERLAY_CHURN_LIVES", "200"))
LIVES = 10 * REAL_LIVES


class LockedKernel(FakeKernel):
    """The kernel in memory for many threads. It remembers no announcements."""

    def __init__(self):
        super().__init__()
        self.lock = threading.RLock()
        self.host_addresses = {"eth0": (IPv4Interface("10.1.0.30/27"),)}

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not callable(found) or name.startswith("_"):
            return found

        def locked(*given):
            with self.lock:
                return found(*given)

        return locked

    def announce(self, *_):
        return frozenset()


class FakeRoom:
    """A sandbox of the kernel in memory."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.path = f"/run/{secrets.token_hex(6)}"

    def take(self, given, endpoint, device):
        del endpoint
        self.kernel.dock(given.device, self.path, device)

    def give_back(self, device, name):
        with self.kernel.lock:
            link = self.kernel.rooms.get(self.path, {}).get(device)
            if link:
                self.kernel.lose(self.path, device)
                self.kernel.links[name] = replace(link, name=name, sandbox="")

    def close(self):
        with self.kernel.lock:
            for link in self.kernel.rooms.pop(self.path, {}).values():
                self.kernel.rooms[self.path] = {link.name: link}
                self.kernel._lose_pair(link)
                self.kernel.lose(self.path, link.name)
            self.kernel.rooms.pop(self.path, None)
            self.kernel.sandboxes.discard(self.path)


class Truth:
    """The live containers, with their addresses: what Docker would list."""

    def __init__(self):
        self.lock = threading.Lock()
        self.owners = {}  # address -> endpoint
        self.settled = {}  # the same, of those that were created to the end
        self.wrong = []

    def has(self, address, identity):
        with self.lock:
            if address in self.owners:
                self.wrong.append(f"{address}: {self.owners[address]}, {identity}")
            self.owners[address] = identity

    def is_created(self, address, identity):
        with self.lock:
            self.settled[address] = identity

    def is_going(self, address):
        with self.lock:
            self.settled.pop(address, None)

    def has_no_more(self, address):
        with self.lock:
            self.settled.pop(address, None)
            del self.owners[address]

    def view(self):
        networks = tuple(
            DockerNetwork(name, name, "default", (ip_network(subnet),), ours=True)
            for name, subnet in SUBNETS.items()
        )
        with self.lock:
            listed = dict.fromkeys(self.owners.values(), "c")
            return DockerView(networks, listed, frozenset(self.owners))


class Crowd:
    """The service's parts, and threads that play Docker against them."""

    def __init__(self, kernel, records, make_room):
        self.records, self.kernel, self.make_room = records, kernel, make_room
        self.engine = engine_on(records, kernel, time.time, since_boot)
        self.ipam = IpamDriver(
            records,
            time.time,
            self.engine.remove_dead_endpoint,
            kernel.is_own,
            self.engine.live_endpoints,
            finish_deletions=self.engine.dropper.finish_all,
            wire=self.engine.parts.ipam.wire,
        )
        self.cleanup = Cleanup(
            records, kernel, self.engine, self.ipam, self.engine.reconciler.observer,
            time.time, time.monotonic, GRACE_SECONDS, 30,
        )  # fmt: skip
        self.truth = Truth()
        self.claims = {name: self._network(name) for name in SUBNETS}
        self.pools = {name: claim.pool.id for name, claim in self.claims.items()}
        # The host's device for its containers, for one.
        self.of_networks = {found.key for found in kernel.observe()}
        self.stopping = threading.Event()

    def _network(self, name):
        subnet = ip_network(SUBNETS[name])
        gateway = ip_address("10.1.0.1" if name == "lan" else "10.2.0.1")
        claim = self.ipam.request_pool(str(subnet), "", {}, 4)
        self.ipam.request_gateway(claim.id, str(gateway))
        segment = Subnet(subnet, gateway, pooled=True)
        self.engine.create_network(Network(name, OPTIONS[name], subnets=(segment,)))
        return claim

    @contextmanager
    def watched(self):
        """Have passes, deletions and all else go on in the background."""
        drop = self.engine.dropper.run
        jobs = (self._pass, self._clean_up, self._check, self._announce, drop)
        threads = [threading.Thread(target=self._going_on, args=(j,)) for j in jobs]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            self.engine.reconciler.announcer.stop()
            self.engine.dropper.stop()
            for thread in threads:
                thread.join()

    def _announce(self):
        self.engine.reconciler.announcer.run()

    def _going_on(self, job):
        while not self.stopping.is_set():
            try:
                job()
            except BaseException as error:
                self.truth.wrong.append(repr(error))
                raise
            self.stopping.wait(0.02)

    def _pass(self):
        self.engine.reconciler.run_pass(None, time.time(), lambda _: None)

    def _clean_up(self):
        self.cleanup.run(self.truth.view())

    def _check(self):
        """Compare the living with the records: each has its address, and alone."""
        with self.records.transaction(durable=False), self.truth.lock:
            for address, identity in self.truth.settled.items():
                segment = next(
                    n for n, s in SUBNETS.items() if address in ip_network(s)
                )
                live = self.records.leases.live(self.pools[segment], address)
                had = [t.endpoint for t in live]
                if had != [identity] or not self.records.endpoints.get(identity):
                    self.truth.wrong.append(f"{address}: {identity} lives, not {had}")

    def churn(self, lives, threads, seed):
        """Have so many containers live, in so many threads."""
        dice = [random.Random(f"{seed}-{n}") for n in range(threads)]
        jobs = [
            threading.Thread(target=self._lives, args=(d, lives // threads))
            for d in dice
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    def _lives(self, dice, count):
        try:
            done = 0
            while done < count:
                done += self._life(dice)
        except BaseException as error:
            self.truth.wrong.append(repr(error))
            raise

    def _life(self, dice):
        name = dice.choice([*SUBNETS])
        claim, identity = self.claims[name].id, f"{dice.getrandbits(64):016x}"
        wish = str(ip_network(SUBNETS[name])[dice.randrange(2, 20)])
        try:
            given = self.ipam.request_address(
                claim, wish if dice.random() < 0.3 else "", ""
            )
        except (AddressTaken, PoolExhausted):
            time.sleep(0.01)
            return False
        self.truth.has(given.ip, identity)
        if dice.random() < 0.05:  # no endpoint is ever made for it
            self.truth.has_no_more(given.ip)
            self._give_up(dice, claim, given.ip)
            return True
        made = self.engine.create_endpoint(Endpoint(identity, name, given))
        self.truth.is_created(given.ip, identity)
        room = self._join(name, made) if dice.random() < 0.6 else None
        if dice.random() < 0.2:
            time.sleep(dice.random() / 100)
        if dice.random() < 0.1:  # dockerd dies, and forgets it
            self.truth.has_no_more(given.ip)
            if room:
                room.close()
            return True
        self._leave(dice, claim, name, made, room)
        return True

    def _join(self, name, made):
        room = self.make_room()
        answer = self.engine.join(name, made.id, room.path)
        room.take(answer, made, "eth0")
        return room

    def _leave(self, dice, claim, name, made, room):
        address = made.addresses[0].ip
        self.truth.is_going(address)
        if room:
            self.engine.leave(made.id)
            room.give_back("eth0", Owner(name, made.id).device)
        self.truth.has_no_more(address)
        # Docker 29 releases one family's address early, and not again.
        is_early = dice.random() < 0.1
        if is_early:
            self.ipam.release_address(claim, str(address))
        for _ in range(dice.choice((1, 1, 1, 2))):
            self.engine.delete_endpoint(name, made.id)
        if room:
            room.close()
        if not is_early:
            self._give_up(dice, claim, address)

    def _give_up(self, dice, claim, address):
        if dice.random() < 0.9:  # else Docker forgets to
            self.ipam.release_address(claim, str(address))

    def left(self):
        """Return what is on record or in the kernel of containers."""
        addresses = [
            str(t.address)
            for pool in self.pools.values()
            for t in self.records.leases.live_in(pool)
            if t.role == "endpoint"
        ]
        seen = (o for o in self.kernel.observe() if o.key not in self.of_networks)
        devices = [o.device for o in seen if o.device]
        endpoints = [e.id for e in self.records.endpoints.all()]
        return addresses + devices + endpoints + self.records.repairs.failures()

    def assert_clean(self, seconds=20.0):
        end = time.monotonic() + seconds
        while self.left() and time.monotonic() < end:
            time.sleep(0.05)
        assert self.truth.wrong == []
        assert self.left() == []
        assert self.records.endpoints.joined() == []

    def end(self):
        """Have the networks removed, as Docker does."""
        for name, claim in self.claims.items():
            self.engine.delete_network(name)
            self.ipam.release_pool(claim.id)
        assert self.engine.reconcile() == []
        assert self.kernel.observe() == frozenset()


def resident():
    """Return the bytes of memory this process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held():
    """Return the numbers of file descriptors and threads of this process."""
    gc.collect()  # sockets of earlier tests, too
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()


def at_rest(seconds=1.0):
    """Return the least of these in some time: passes have more for a moment."""
    end, found = time.monotonic() + seconds, [held()]
    while time.monotonic() < end:
        time.sleep(0.01)
        found.append(held())
    return tuple(map(min, zip(*found, strict=True)))


@pytest.fixture
def crowded():
    """Records where a flush to the disk costs nothing."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        records = Records(Path(folder) / "underlay.db")
        yield records
        records.close()


@pytest.fixture(autouse=True)
def quiet():
    """Have pytest not keep what is logged: it would be counted as memory."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def seed(record_property):
    found = os.environ.get("UNDERLAY_CHURN_SEED") or secrets.token_hex(4)
    record_property("UNDERLAY_CHURN_SEED", found)
    return found


@pytest.mark.longer
def test_thousands_of_container_lifecycles_leave_nothing_behind(crowded, seed):
    kernel = LockedKernel()
    crowd = Crowd(kernel, crowded, lambda: FakeRoom(kernel))
    with crowd.watched():
        crowd.churn(1_000, 4, f"{seed}-first")
        crowd.assert_clean()
        before, memory = at_rest(), resident()
        crowd.churn(LIVES, 4, f"{seed}-then")
        crowd.assert_clean()
        assert at_rest() == before
        assert resident() - memory < MEMORY_BYTES
    crowd.end()
    assert (kernel.links, kernel.others, kernel.sandboxes) == ({}, {}, set())


@pytest.mark.longer
@pytest.mark.needs("macvlan")
@pytest.mark.usefixtures("namespace")
def test_hundreds_of_container_lifecycles_on_a_real_kernel_leave_nothing_behind(
    crowded, seed
):
    ip("addr", "add", "10.1.0.30/27", "dev", "eth0")
    tag = f"ul{os.getpid():x}{secrets.token_hex(2)}"
    rooms = []

    def make_room():
        rooms.append(Dock(f"{tag}-{secrets.token_hex(4)}"))
        return rooms[-1]

    crowd = Crowd(LinuxKernel(), crowded, make_room)
    try:
        with crowd.watched():
            crowd.churn(100, 4, f"{seed}-first")
            crowd.assert_clean()
            before, memory = held(), resident()
            crowd.churn(REAL_LIVES, 4, f"{seed}-then")
            crowd.assert_clean()
            # A pass holds some more for a moment.
            wait_until(lambda: all(map(le, held(), before)), 10, held)
            assert resident() - memory < MEMORY_BYTES
        crowd.end()
    finally:
        for room in rooms:
            room.close()
    assert "ul-" not in ip("link")
