"""What systemd and the service tell each other: sockets, readiness, the watchdog.

With what the watchdog needs to know: that a pass gets on.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress

from underlay.kernel.linux import LinuxKernel
from underlay.model import Device
from underlay.model.objects import Object
from underlay.model.steps import Step
from underlay.model.text import printable


def holds_sockets(environment: MutableMapping[str, str]) -> bool:
    """Return whether systemd holds the sockets and has passed them to this process."""
    is_meant = environment.get("LISTEN_PID") == str(os.getpid())
    return is_meant and environment.get("LISTEN_FDS", "0") != "0"


class Supervisor:
    """systemd, if it has started the service; otherwise nothing is sent."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take systemd's variables out of the environment, for no other program."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        self._watchdog = int(environment.pop("WATCHDOG_USEC", "0")) / 1e6
        self._stopping = threading.Event()

    def tell_ready(self, status: str) -> None:
        """Tell that calls are answered; `status`: why they are refused, or ""."""
        lines = ["READY=1", *([f"STATUS={printable(status)}"] if status else [])]
        self._tell("\n".join(lines))

    def watch(self, stalled_seconds: Callable[[], float]) -> None:
        """Start to tell that the service is alive, as long as it is not stalled.

        systemd kills and restarts a service that has not told so for WatchdogSec.
        """
        if self._watchdog:
            threading.Thread(
                target=self._run, args=(stalled_seconds,), name="watchdog", daemon=True
            ).start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()

    def _run(self, stalled_seconds: Callable[[], float]) -> None:
        # Half of it may be lost to a slow pass, and a busy host wakes nothing in time.
        pause, longest = self._watchdog / 8, self._watchdog / 2
        while True:
            if stalled_seconds() < longest:
                with suppress(OSError):  # one failure is no reason to be killed
                    self._tell("WATCHDOG=1")
            if self._stopping.wait(pause):
                return

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # an abstract one
            address = f"\0{address[1:]}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.connect(address)
            sending.sendall(text.encode())


class WatchedKernel(LinuxKernel):
    """The kernel adapter, which tells when it is used: a pass that hangs no longer is.

    A pass may take minutes on a host with many networks, but no use of the kernel does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used: Callable[[], None] = lambda: None

    def observe(self, names: Collection[str] | None = None) -> frozenset[Object]:
        """Observe, and tell so."""
        self.used()
        found = super().observe(names)
        self.used()
        return found

    def device(self, name: str) -> Device | None:
        """Find a device, and tell so."""
        self.used()
        return super().device(name)

    def apply(self, step: Step) -> None:
        """Apply a step, and tell so."""
        self.used()
        super().apply(step)
        self.used()
