"""The DHCP server of systemd-networkd, and the bus that it is asked on."""

from __future__ import annotations

import json
import re
import subprocess
import time
from ipaddress import IPv4Address, IPv4Interface

from tests.lab import rootfs
from tests.lab.daemon import Daemon
from tests.lab.dhcp_servers import DhcpServer, Lease


class Networkd(DhcpServer):
    """The server of systemd-networkd.

    It leaves other devices as they are, and the addresses and routes of this one.
    """

    ROOT = staticmethod(rootfs.networkd)
    # With a /sys that cannot be written to it does not wait for udev.
    VIEW = f'mount -t sysfs -o ro sysfs "$1/sys"\n{Daemon.VIEW}'
    CONFIG = "systemd/network/lan.network"
    OWN_CONFIG = "systemd/networkd.conf.d/lab.conf"
    COMMAND = (
        "/usr/bin/busybox", "env", "SYSTEMD_LOG_LEVEL=debug",
        "SYSTEMD_NETWORK_PERSISTENT_STORAGE_READY=1",
        "/usr/lib/systemd/systemd-networkd",
    )  # fmt: skip
    READY = "Offering DHCPv4 leases"
    ANSWERS = "Successfully acquired requested service name."
    BUS = "dbus/system_bus_socket"
    BUS_CONFIG = """<busconfig>
        <listen>unix:path=/run/dbus/system_bus_socket</listen>
        <policy context="default">
            <allow own="*"/><allow send_destination="*"/><allow eavesdrop="true"/>
        </policy>
    </busconfig>"""
    # Not by networkctl: on a lab host it is in no pid namespace of the daemon's.
    DESCRIBE = (
        "busctl", "--json=short", "call", "org.freedesktop.network1",
        "/org/freedesktop/network1", "org.freedesktop.network1.Manager",
        "DescribeLink", "i",
    )  # fmt: skip

    def start(self) -> None:
        """Start it, with an address of the device that is there already."""
        for name in ("kept", "dbus", "systemd/network", "systemd/networkd.conf.d"):
            (self.dir / name).mkdir(parents=True, exist_ok=True)
        keep = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"
        (self.dir / self.OWN_CONFIG).write_text(keep)
        (self.dir / self.BUS).unlink(missing_ok=True)
        (self.dir / "bus.conf").write_text(self.BUS_CONFIG)
        self._run("/usr/bin/dbus-daemon", "--nofork", "--config-file=/run/bus.conf")
        self._wait_until((self.dir / self.BUS).is_socket)
        super().start()

    def _hears(self) -> bool:
        """Tell by its log; on a device without a carrier it waits for one."""
        said = self.log[self._said :]
        waits = "configuring -> configured" in said and (
            f"{self.device}: Gained carrier" not in said
        )
        return self.ANSWERS in said and (waits or self.READY in said)

    def _config(self) -> str:
        scope, first = self.scope, IPv4Address(self.scope.first)
        size = int(IPv4Address(scope.last)) - int(first) + 1
        lines = [
            *("[Match]", f"Name={self.device}"),
            *("[Network]", f"Address={self._address()}", "KeepConfiguration=yes"),
            *("LinkLocalAddressing=ipv6", "IPv6AcceptRA=no"),
            *("ConfigureWithoutCarrier=yes", "DHCPServer=yes"),
            "[DHCPServer]",
            f"PoolOffset={int(first) - int(scope.network.network_address)}",
            f"PoolSize={size}",
            f"DefaultLeaseTimeSec={scope.lease_seconds}",
            f"MaxLeaseTimeSec={scope.lease_seconds}",
            f"Router={scope.router}" if scope.router else "EmitRouter=no",
        ]
        if scope.dns:
            lines.append(f"DNS={' '.join(scope.dns)}")
        if scope.mtu:
            lines.append(f"SendOption=26:uint16:{scope.mtu}")
        if scope.routes:
            octets = "".join(f"\\x{octet:02x}" for octet in scope.encoded_routes)
            lines.append(f"SendOption=121:string:{octets}")
        for mac, address in scope.reservations.items():
            lines += ["[DHCPServerStaticLease]", f"MACAddress={mac}"]
            lines.append(f"Address={address}")
        return "\n".join(lines) + "\n"

    def _address(self) -> str:
        """Return the device's address in the subnet; it must be told of one."""
        asked = ("ip", "-4", "-o", "addr", "show", "dev", self.device)
        with self._where(*asked, stdout=subprocess.PIPE, text=True) as process:
            shown, _ = process.communicate()
        for index, found in re.findall(r"^(\d+):.* inet (\S+)", shown, re.MULTILINE):
            if IPv4Interface(found).network == self.scope.network:
                self._index = index
                return str(found)
        raise RuntimeError(f"{self.device} has no address of {self.scope.subnet}")

    def leases(self) -> list[Lease]:
        """Ask it, or read its file, which has a released lease until the next is given.

        The file alone is there when it does not run.
        """
        if self.processes:
            described = json.loads(self.ask(*self.DESCRIBE, self._index))
            given = json.loads(described["data"][0]).get("DHCPServer", {})
        else:
            text = self._file(f"kept/dhcp-server-lease/{self.device}")
            given = json.loads(text) if text else {}
        return [
            Lease(
                str(IPv4Address(bytes(lease["Address"]))),
                bytes(lease["HardwareAddress"][:6]).hex(":"),
                bytes(lease["ClientId"]).hex(),
                lease.get("Hostname", ""),
            )
            for lease in given.get("Leases", [])
            if lease["ExpirationRealtimeUSec"] > time.time() * 1e6
        ]
