"""A headless Chromium of Debian's, in a root of its own."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("browser.sh")
SECONDS = 60
# Without a sandbox: it is root here, and looks at our own page only.
WORDS = (
    "--no-sandbox",
    "--disable-gpu",
    "--user-data-dir=/tmp/user",
    "--hide-scrollbars",
)
# Chromium's own numbers of color schemes.
DARK, LIGHT = 0, 1


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser in the network namespace of a process.

    `root` is that of tests/lab/rootfs.py; `folder` is where its pictures go, and pages
    in it are at file:///tmp/out/.
    """

    root: Path
    folder: Path
    pid: int | str = "self"

    def screenshot(
        self, url: str, name: str, *, dark: bool = False, size: tuple[int, int]
    ) -> Path:
        """Make a picture of a page, of so many pixels, and return its file."""
        scheme = DARK if dark else LIGHT
        self._run(
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot=/tmp/out/{name}",
            f"--window-size={size[0]},{size[1]}",
            url,
        )
        return self.folder / name

    def document(self, url: str) -> tuple[str, list[str]]:
        """Return the document as the browser has it, and the lines of its console."""
        done = self._run("--enable-logging=stderr", "--dump-dom", url)
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return done.stdout, console

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        namespaces = ("unshare", "-m", "--propagation", "private", "-p", "--fork")
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *namespaces, "--kill-child",
             "sh", SCRIPT, self.root, self.folder, *WORDS, *words],
            env={"HOME": "/tmp", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            capture_output=True, text=True, check=True, timeout=SECONDS,
        )  # fmt: skip
