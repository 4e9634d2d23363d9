"""Routing daemons in a namespace of the lab: FRR, BIRD, and radvd."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tests.lab import rootfs
from tests.lab.daemon import Daemon, Process


class Router(Daemon):
    """What runs with one configuration, from start() or entering to close()."""

    ROOT = staticmethod(rootfs.routing)
    CONFIG: ClassVar[str]
    """Where the configuration belongs, in the daemon's own /run."""

    def __init__(
        self, start: Callable[..., Process], config: str, *options: str
    ) -> None:
        super().__init__(start, *options)
        file = self.dir / self.CONFIG
        file.parent.mkdir(exist_ok=True)
        file.write_text(config)

    def _wait_for(self, *sockets: str) -> None:
        self._wait_until(lambda: all((self.dir / x).is_socket() for x in sockets))


class Frr(Router):
    """zebra, with options, and bgpd, started as Debian's service starts them."""

    CONFIG = "frr/frr.conf"
    ZEBRA, BGPD = "/usr/lib/frr/zebra", "/usr/lib/frr/bgpd"

    def start(self) -> None:
        """Start both, and give them the one configuration file."""
        for old in (self.dir / "frr").glob("*.vty"):
            old.unlink()
        (self.dir / "frr/vtysh.conf").touch()
        log = ("--log", "stdout")
        self._run(self.ZEBRA, *log, *self._options)
        self._wait_for("frr/zserv.api", "frr/zebra.vty")
        self._run(self.BGPD, *log, "-A", "127.0.0.1")
        self._wait_for("frr/bgpd.vty")
        self.ask("vtysh", "--config_dir", "/run/frr", "-b")


class Bird(Router):
    """BIRD 2."""

    CONFIG = "bird.conf"

    def start(self) -> None:
        """Start it; with a mistake in its configuration it ends at once."""
        (self.dir / "bird.ctl").unlink(missing_ok=True)
        files = ("-c", "/run/bird.conf", "-s", "/run/bird.ctl")
        self._run("bird", "-d", *files, *self._options)
        self._wait_for("bird.ctl")


class Radvd(Router):
    """A router's advertisements."""

    CONFIG = "radvd.conf"

    def start(self) -> None:
        """Start it; it has said something when it has sent its first advertisement."""
        self._run(
            "radvd", "-n", "-m", "stderr", "-C", "/run/radvd.conf", "-p", "/run/pid"
        )
