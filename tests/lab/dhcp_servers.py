"""DHCP servers in a namespace of the lab, each with the manners it has in the field.

They are configured as their manuals begin: with one subnet on one device, and with
nothing set of what changes their manners. A second one on the same LAN has to be in a
namespace of its own, because they share no port. Where they were seen to differ:

| | looks before an offer | knows a client by |
| --- | --- | --- |
| Dnsmasq | one ping, 3 s, seldom when there are many | client id, else MAC |
| Kea | no | client id, else MAC |
| IscDhcpd | one ping, 1 s | client id, else MAC |
| Udhcpd | ARP, 2 s | MAC only |
| Networkd (networkd.py) | no | client id, else MAC |
"""

from __future__ import annotations

import csv
import json
import re
import signal
import struct
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tests.lab import rootfs
from tests.lab.daemon import Daemon, Process


@dataclass(frozen=True)
class Scope:
    """What a server gives: addresses from `first` to `last`, and options.

    `device` must have an address of `subnet` where the server runs. `reservations` are
    addresses by MAC; `routes` are networks and their routers (RFC 3442). No option is
    sent for what is empty, but dnsmasq then names itself for `dns`. `pasted` are lines
    for reservations in the server's own words, where it has a file for these.
    """

    subnet: str = "10.77.0.0/24"
    first: str = "10.77.0.100"
    last: str = "10.77.0.199"
    router: str = "10.77.0.1"
    lease_seconds: int = 120
    reservations: Mapping[str, str] = field(default_factory=dict)
    routes: tuple[tuple[str, str], ...] = ()
    mtu: int = 0
    dns: tuple[str, ...] = ()
    pasted: tuple[str, ...] = ()

    @property
    def network(self) -> IPv4Network:
        return IPv4Network(self.subnet)

    @property
    def encoded_routes(self) -> bytes:
        """The routes as option 121 has them: width, significant octets, router."""
        found = b""
        for to, router in self.routes:
            network = IPv4Network(to)
            octets = network.network_address.packed[: (network.prefixlen + 7) // 8]
            found += bytes([network.prefixlen]) + octets + IPv4Address(router).packed
        return found


class Lease(NamedTuple):
    """An address that is given, in a server's own words; client id in hexadecimal.

    "" stands for a client id or a host name that the server has not kept.
    """

    address: str
    mac: str
    client_id: str
    hostname: str


class DhcpServer(Daemon):
    """One server for one device; its leases outlive stop() and kill(), not close().

    `scope` may be replaced: start() reads it. `options` are added to its command.
    """

    ROOT = staticmethod(rootfs.serving)
    CONFIG: ClassVar[str]
    COMMAND: ClassVar[tuple[str, ...]]
    READY: ClassVar[str]
    """What it logs when it hears clients."""
    SHORTEST_LEASE: ClassVar[int] = 1

    def __init__(
        self,
        start: Callable[..., Process],
        *options: str,
        scope: Scope | None = None,
        device: str = "br0",
    ) -> None:
        super().__init__(start, *options)
        self.scope, self.device, self._said = scope or Scope(), device, 0

    def start(self) -> None:
        """Start it, and wait until it hears clients."""
        if self.scope.lease_seconds < self.SHORTEST_LEASE:
            raise ValueError(f"its shortest lease is {self.SHORTEST_LEASE} s")
        (self.dir / self.CONFIG).write_text(self._config())
        self._said = len(self.log)
        self._run(*self._command())
        self._wait_until(self._hears)

    @abstractmethod
    def leases(self) -> list[Lease]:
        """The leases that have not ended, as the server has them on record."""

    @abstractmethod
    def _config(self) -> str: ...

    def _command(self) -> tuple[str, ...]:
        return (*self.COMMAND, *self._options)

    def _hears(self) -> bool:
        return self.READY in self.log[self._said :]

    def _file(self, name: str) -> str:
        """Return the text of a file of the server's, "" if it has not made it.

        It may be writing there: the text is what two looks in a row have found.
        """
        path, text, before = self.dir / name, "", None
        while text != before:
            before, text = text, path.read_text() if path.exists() else ""
            time.sleep(0.005)
        return text


class Dnsmasq(DhcpServer):
    """dnsmasq, which also answers DNS questions for the names of its clients."""

    CONFIG = "dnsmasq.conf"
    COMMAND = ("/usr/sbin/dnsmasq", "--keep-in-foreground", "-C", "/run/dnsmasq.conf")
    READY = "started, version"
    SHORTEST_LEASE = 120  # it silently gives this much for less

    def _config(self) -> str:
        scope = self.scope
        routes = ",".join(f"{to},{router}" for to, router in scope.routes)
        given = {3: scope.router, 6: ",".join(scope.dns), 26: scope.mtu, 121: routes}
        lines = [
            f"interface={self.device}",
            # Beside another server of this namespace.
            *("bind-interfaces", "except-interface=lo"),
            *("no-resolv", "no-hosts", "user=root", "group=root"),
            *("log-dhcp", "log-facility=-", "dhcp-leasefile=/run/leases"),
            f"dhcp-range={scope.first},{scope.last},{scope.network.netmask},"
            f"{scope.lease_seconds}",
            *(f"dhcp-host={mac},{ip}" for mac, ip in scope.reservations.items()),
            *scope.pasted,
            *(f"dhcp-option={code},{value}" for code, value in given.items() if value),
        ]
        if not scope.router:
            lines.append("dhcp-option=3")
        return "\n".join(lines) + "\n"

    def leases(self) -> list[Lease]:
        """Read its file: it has them there as soon as it has answered."""
        found = []
        for line in self._file("leases").splitlines():
            ends, mac, address, name, client = line.split()
            if int(ends) > time.time():
                lease = Lease(address, mac, _hex(client), name.replace("*", ""))
                found.append(lease)
        return found


class Kea(DhcpServer):
    """Kea on raw sockets, as it is by default."""

    CONFIG = "kea.json"
    # Its root has no directories for these.
    COMMAND = (
        "/usr/bin/busybox", "env", "KEA_PIDFILE_DIR=/run", "KEA_LOCKFILE_DIR=/run",
        "/usr/sbin/kea-dhcp4", "-c", "/run/kea.json",
    )  # fmt: skip
    READY = "DHCP4_STARTED"
    BOUND = "0"

    def _config(self) -> str:
        scope = self.scope
        options: list[dict[str, Any]] = [
            {"name": name, "data": str(value)}
            for name, value in {
                "routers": scope.router,
                "domain-name-servers": ",".join(scope.dns),
                "interface-mtu": scope.mtu,
            }.items()
            if value
        ]
        if scope.routes:
            data = scope.encoded_routes.hex()
            options.append({"code": 121, "csv-format": False, "data": data})
        subnet = {
            "id": 1,
            "subnet": scope.subnet,
            "pools": [{"pool": f"{scope.first} - {scope.last}"}],
            "option-data": options,
            "reservations": [
                *(
                    {"hw-address": mac, "ip-address": address}
                    for mac, address in scope.reservations.items()
                ),
                *map(json.loads, scope.pasted),
            ],
        }
        # A process of its own would tidy the file up now and then.
        database = {"type": "memfile", "name": "/run/leases.csv", "lfc-interval": 0}
        logger = {
            "name": "kea-dhcp4",
            "severity": "INFO",
            "output_options": [{"output": "stdout", "flush": True}],
        }
        server = {
            "interfaces-config": {"interfaces": [self.device]},
            "lease-database": database,
            "valid-lifetime": scope.lease_seconds,
            "subnet4": [subnet],
            "loggers": [logger],
        }
        return json.dumps({"Dhcp4": server}, indent=1)

    def leases(self) -> list[Lease]:
        """Read its file, in which the last line on an address holds."""
        rows = csv.DictReader(self._file("leases.csv").splitlines())
        return [
            Lease(
                row["address"], row["hwaddr"], _hex(row["client_id"]), row["hostname"]
            )
            for row in {row["address"]: row for row in rows}.values()
            if row["state"] == self.BOUND
            and int(row["expire"]) > time.time()
            # A lease that was given back ends with a line that lasts no time.
            and int(row["valid_lifetime"])
        ]


class IscDhcpd(DhcpServer):
    """ISC dhcpd; it has no record of leases of reserved addresses.

    A lease that is asked for again in its first quarter ends when it would have ended.
    """

    CONFIG = "dhcpd.conf"
    COMMAND = (
        "/usr/sbin/dhcpd", "-4", "-f", "-d", "-cf", "/run/dhcpd.conf",
        "-lf", "/run/dhcpd.leases", "-pf", "/run/dhcpd.pid",
    )  # fmt: skip
    READY = "Server starting service."

    def start(self) -> None:
        """Start it; its file of leases must be there."""
        (self.dir / "dhcpd.leases").touch()
        super().start()

    def _command(self) -> tuple[str, ...]:
        return (*super()._command(), self.device)

    def _config(self) -> str:
        scope, network = self.scope, self.scope.network
        given = {
            "routers": scope.router,
            "domain-name-servers": ", ".join(scope.dns),
            "interface-mtu": scope.mtu,
            "classless-routes": scope.encoded_routes.hex(":"),
        }
        lines = [
            "db-time-format local;",
            "option classless-routes code 121 = string;",
            f"default-lease-time {scope.lease_seconds};",
            f"max-lease-time {scope.lease_seconds};",
            f"subnet {network.network_address} netmask {network.netmask} {{",
            f"  range {scope.first} {scope.last};",
            *(f"  option {name} {value};" for name, value in given.items() if value),
            "}",
        ]
        for number, (mac, address) in enumerate(scope.reservations.items()):
            lines += [
                f"host reserved-{number} {{",
                f"  hardware ethernet {mac};",
                f"  fixed-address {address};",
                "}",
            ]
        return "\n".join([*lines, *scope.pasted]) + "\n"

    def leases(self) -> list[Lease]:
        """Read its file, in which the last block on an address holds."""
        text = self._file("dhcpd.leases")
        blocks = re.findall(r"^lease (\S+) \{((?:\n  .*)*)\n\}", text, re.MULTILINE)
        found = []
        for address, block in dict(blocks).items():
            ends = re.search(r"^  ends epoch (\d+);", block, re.MULTILINE)
            live = ends and int(ends[1]) > time.time()
            if live and "\n  binding state active;" in block:
                found.append(Lease(address, *self._client(block)))
        return found

    @staticmethod
    def _client(block: str) -> tuple[str, str, str]:
        mac = re.search(r"^  hardware ethernet (\S+);", block, re.MULTILINE)
        uid = re.search(r'^  uid "(.*)";$', block, re.MULTILINE)
        name = re.search(r'^  client-hostname "(.*)";$', block, re.MULTILINE)
        client = b""
        for octal, char in re.findall(r"\\([0-7]{3})|\\?(.)", uid[1] if uid else ""):
            client += bytes([int(octal, 8)]) if octal else char.encode()
        return mac[1] if mac else "", client.hex(), name[1] if name else ""


class Udhcpd(DhcpServer):
    """udhcpd of busybox, which goes by the MAC alone.

    A reserved address has its lease as soon as it is confirmed, any other as soon as it
    is offered. A host name is cut off after 19 letters. It writes its leases down when
    it is asked to or stopped, every two hours, and not when it is killed.
    """

    CONFIG = "udhcpd.conf"
    COMMAND = ("/usr/bin/busybox", "udhcpd", "-f")
    _ENTRY = struct.Struct("!II6s20s2x")

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # It is run with the name of the file when that is complete.
        told = self.dir / "written"
        told.write_text('#!/usr/bin/busybox sh\ncp "$1" /run/new\nmv /run/new /run/all')
        told.chmod(0o755)

    def _command(self) -> tuple[str, ...]:
        return (*super()._command(), "/run/udhcpd.conf")

    def _config(self) -> str:
        scope = self.scope
        routes = ", ".join(f"{to} {router}" for to, router in scope.routes)
        given = {
            "lease": scope.lease_seconds,
            "subnet": scope.network.netmask,
            "router": scope.router,
            "dns": " ".join(scope.dns),
            "mtu": scope.mtu,
            "staticroutes": routes,
        }
        lines = [
            f"start {scope.first}",
            f"end {scope.last}",
            f"interface {self.device}",
            "lease_file /run/leases",
            "notify_file /run/written",
            "pidfile /run/udhcpd.pid",
            *(f"opt {name} {value}" for name, value in given.items() if value),
            *(f"static_lease {mac} {ip}" for mac, ip in scope.reservations.items()),
        ]
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start it; its file of leases must be there."""
        (self.dir / "leases").touch()
        super().start()

    def _hears(self) -> bool:
        """Tell by its socket: it logs nothing once it has that."""
        process = Path(f"/proc/{self.processes[0].pid}")
        try:
            sockets = (process / "net/udp").read_text()
            files = [str(file.readlink()) for file in (process / "fd").iterdir()]
        except OSError:
            return False  # it has just ended, or closed a file
        on_its_port = re.findall(r"^ *\d+: \w+:0043 .* (\d+) 2 ", sockets, re.MULTILINE)
        return any(f"socket:[{inode}]" in files for inode in on_its_port)

    def leases(self) -> list[Lease]:
        """Have it write them down, if it runs, and read its file."""
        if self.processes:
            (self.dir / "all").unlink(missing_ok=True)
            self.processes[0].send_signal(signal.SIGUSR1)
            self._wait_until((self.dir / "all").exists)
        data = (self.dir / "leases").read_bytes()
        found = []
        written = int.from_bytes(data[:8])
        for left, address, mac, name in self._ENTRY.iter_unpack(data[8:]):
            # One without a MAC stands for an address that is in use by another.
            if any(mac) and written + left > time.time():
                hostname = name.split(b"\0")[0].decode()
                found.append(
                    Lease(str(IPv4Address(address)), mac.hex(":"), "", hostname)
                )
        return found


def _hex(written: str) -> str:
    """Return a client id as `Lease` has it; "*" stands for none."""
    return re.sub(r"[:*]", "", written)
