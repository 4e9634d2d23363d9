"""DHCPv6 servers in a namespace of the lab, configured as their manuals begin."""

from __future__ import annotations

import csv
import json
import re
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import ClassVar, NamedTuple

from tests.lab import dhcp_servers


@dataclass(frozen=True)
class Scope:
    """What a server gives: addresses from `first` to `last`, for so many seconds.

    `device` must have an address of `subnet` where the server runs.
    """

    subnet: str = "fd70:1::/64"
    first: str = "fd70:1::1000"
    last: str = "fd70:1::1fff"
    preferred_seconds: int = 60
    lease_seconds: int = 120
    reservations: dict[str, str] = field(default_factory=dict)


class Lease(NamedTuple):
    """An address that is given; DUID in hexadecimal, IAID as a number."""

    address: str
    duid: str
    iaid: int
    hostname: str


class Kea(dhcp_servers.Kea):
    """Kea for DHCPv6."""

    CONFIG = "kea6.json"
    COMMAND = (
        "/usr/bin/busybox", "env", "KEA_PIDFILE_DIR=/run", "KEA_LOCKFILE_DIR=/run",
        "/usr/sbin/kea-dhcp6", "-c", "/run/kea6.json",
    )  # fmt: skip
    READY = "DHCP6_STARTED"
    scope: Scope  # type: ignore[assignment]

    def __init__(self, *args, scope=None, **settings) -> None:
        super().__init__(*args, scope=scope or Scope(), **settings)

    def _config(self) -> str:
        scope = self.scope
        subnet = {
            "id": 1,
            "subnet": scope.subnet,
            "interface": self.device,
            "pools": [{"pool": f"{scope.first} - {scope.last}"}],
            "reservations": [
                {"duid": duid, "ip-addresses": [address]}
                for duid, address in scope.reservations.items()
            ],
        }
        database = {"type": "memfile", "name": "/run/leases6.csv", "lfc-interval": 0}
        logger = {
            "name": "kea-dhcp6",
            "severity": "INFO",
            "output_options": [{"output": "stdout", "flush": True}],
        }
        server = {
            "interfaces-config": {"interfaces": [self.device]},
            "lease-database": database,
            "server-id": {"type": "LL", "persist": False},
            "preferred-lifetime": scope.preferred_seconds,
            "valid-lifetime": scope.lease_seconds,
            "subnet6": [subnet],
            "loggers": [logger],
        }
        return json.dumps({"Dhcp6": server}, indent=1)

    def leases(self) -> list[Lease]:
        """Read its file, in which the last line on an address holds."""
        rows = csv.DictReader(self._file("leases6.csv").splitlines())
        return [
            Lease(
                row["address"], row["duid"].replace(":", ""), int(row["iaid"]),
                row["hostname"].rstrip("."),
            )
            for row in {row["address"]: row for row in rows}.values()
            if row["state"] == self.BOUND
            and int(row["expire"]) > time.time()
            and int(row["valid_lifetime"])
        ]  # fmt: skip

    def forget(self, **changes) -> None:
        """Start again without its leases, with another scope."""
        self.stop()
        (self.dir / "leases6.csv").unlink(missing_ok=True)
        self.scope = Scope(**{**vars_of(self.scope), **changes})
        self.start()


def vars_of(scope: Scope) -> dict:
    return {name: getattr(scope, name) for name in scope.__dataclass_fields__}


class Dnsmasq(dhcp_servers.Dnsmasq):
    """dnsmasq for DHCPv6, which is a router too (with the flag M)."""

    READY = "router advertisement"
    scope: Scope  # type: ignore[assignment]

    def __init__(self, *args, scope=None, **settings) -> None:
        super().__init__(*args, scope=scope or Scope(), **settings)

    def _config(self) -> str:
        scope = self.scope
        lines = [
            f"interface={self.device}",
            *("bind-interfaces", "except-interface=lo", "port=0"),
            *("no-resolv", "no-hosts", "user=root", "group=root"),
            *("log-dhcp", "log-facility=-", "dhcp-leasefile=/run/leases"),
            "enable-ra",
            f"ra-param={self.device},4,60",
            f"dhcp-range={scope.first},{scope.last},64,{scope.lease_seconds}",
        ]
        return "\n".join(lines) + "\n"

    def leases(self) -> list[Lease]:
        """Read its file: the lines behind its DUID are of DHCPv6."""
        _, _, text = self._file("leases").partition("duid ")
        found = []
        for line in text.splitlines()[1:]:
            ends, iaid, address, name, duid = line.split()
            if int(ends) > time.time():
                lease = Lease(
                    address,
                    duid.replace(":", ""),
                    int(iaid.lstrip("T")),
                    name.replace("*", ""),
                )
                found.append(lease)
        return found


class IscDhcpd(dhcp_servers.IscDhcpd):
    """ISC dhcpd for DHCPv6."""

    CONFIG = "dhcpd6.conf"
    COMMAND: ClassVar[tuple[str, ...]] = (
        "/usr/sbin/dhcpd", "-6", "-f", "-d", "-cf", "/run/dhcpd6.conf",
        "-lf", "/run/dhcpd.leases", "-pf", "/run/dhcpd6.pid",
    )  # fmt: skip
    scope: Scope  # type: ignore[assignment]

    def __init__(self, *args, scope=None, **settings) -> None:
        super().__init__(*args, scope=scope or Scope(), **settings)

    def _config(self) -> str:
        scope = self.scope
        lines = [
            "db-time-format local;",
            f"default-lease-time {scope.lease_seconds};",
            f"preferred-lifetime {scope.preferred_seconds};",
            f"subnet6 {scope.subnet} {{ range6 {scope.first} {scope.last}; }}",
        ]
        return "\n".join(lines) + "\n"

    def leases(self) -> list[Lease]:
        """Read its file, in which the last block on a client holds."""
        text = self._file("dhcpd.leases")
        blocks = re.findall(r'^ia-na "(.*)" \{((?:\n  .*)*)\n\}', text, re.MULTILINE)
        found = []
        for packed, block in dict(blocks).items():
            client = b""
            for octal, char in re.findall(r"\\([0-7]{3})|\\?(.)", packed):
                client += bytes([int(octal, 8)]) if octal else char.encode()
            iaid = int.from_bytes(client[:4], "little")
            for address, inner in re.findall(r"iaaddr (\S+) \{([^}]*)\}", block):
                if "binding state active" in inner:
                    plain = str(ip_address(address))
                    found.append(Lease(plain, client[4:].hex(), iaid, ""))
        return found
