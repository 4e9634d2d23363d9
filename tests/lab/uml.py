"""Commands inside other Linux kernels: user-mode Linux, as Debian ships it.

The kernel of a machine need not have every kind of link; these have them. A command
in there sees the machine's own files, and what it changes is gone afterwards.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import pidns
from tests.lab.debian import built, cache, unpacked

KERNELS = {"6.1": "bookworm", "7.2": "sid"}
PACKAGES = ["user-mode-linux", "busybox-static", "libc6", "patchelf"]
# These panic at "ptrace set fp regs failed" if a processor has more than AVX-512.
SMALL_REGISTERS = ("6.1",)
INIT = Path(__file__).with_name("uml-init.sh")
# What no test in there is skipped for. The kernel calls the module of vlan 8021q.
KINDS = "macvlan,ipvlan,vlan,dummy,bond,ifb,vxlan"
# Of nftables they have only the core, without a family of tables.
LACKS = "nftables"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = "ld-linux-x86-64.so.2"

# The exchange directory is the machine's, TMPDIR that of the kernel alone: its memory
# is a file in there, for which /dev/shm may be too small. The kernel must not be PID 1
# itself: one that panics ends by aborting, to which a PID 1 is deaf.
START = 'mount -t tmpfs -o mode=700,size=100% tmpfs "$TMPDIR"; "$@"; exit'


def kernel(name: str) -> Path:
    """The directory of a kernel, fetched if it is not there yet."""
    suite = KERNELS[name]
    return built(f"uml-{suite}", lambda work: _fetch(suite, work))


def why_not(name: str) -> str:
    """Return why a kernel cannot run on this machine's processor, "" if it can."""
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii")
    if name in SMALL_REGISTERS and " amx_tile " in flags:
        return f"UML {name} has no room for the registers of a processor with AMX"
    return ""


def run(
    name: str,
    argv: Sequence[str],
    *,
    timeout: float,
    memory: str = "2G",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Boot a kernel, run a command in it to its end, in this directory.

    Its stdout and stderr are both in the result's stdout. Nothing outlives the call,
    nor a caller that is killed.
    """
    directory = Path(tempfile.mkdtemp(prefix="underlay-uml-"))
    try:
        _write_command(directory / "command", argv, env or {})
        return _boot(kernel(name), directory, argv, memory, timeout)
    finally:
        shutil.rmtree(directory)


def _write_command(file: Path, argv: Sequence[str], env: Mapping[str, str]) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "UNDERLAY_LAB_CACHE": str(cache()),
        "UNDERLAY_MUST_HAVE": KINDS,
        "UNDERLAY_LACKS": LACKS,
        # These kernels lack what NAT needs.
        "UNDERLAY_LAB_DOCKERD_ARGS": "--bridge=none --iptables=false --ip6tables=false",
        **env,
    }
    words = ["env", "-i", *(f"{k}={v}" for k, v in environment.items()), *argv]
    file.write_text(f"cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(words)}\n")


def _boot(
    kernel: Path, directory: Path, argv: Sequence[str], memory: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    init, console, tmp = (directory / n for n in ("init", "console", "tmp"))
    tmp.mkdir()
    shutil.copy(INIT, init)
    init.chmod(0o755)
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount"]
    command += ["sh", "-ec", START, "sh", str(kernel / "linux"), f"mem={memory}"]
    command += ["rootfstype=hostfs", "rootflags=/", "ro", f"init={init}", "quiet"]
    command += ["con=null", "con0=null,fd:1", "seccomp=auto", "panic=-1"]
    command += [f"kernel={kernel}", f"exchange={directory}", f"disks={cache()}/hosts"]
    env = {"HOME": str(tmp), "TMPDIR": str(tmp), "PATH": os.environ["PATH"]}
    # A kernel is a tree of processes, which in a pid namespace ends with its first.
    # When it panics it terminates its process group, which must not be ours.
    with console.open("wb") as log, pidns.new():
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired as late:
        late.output = _text(directory / "output")
        late.add_note(late.output[-4000:])
        raise
    finally:
        process.kill()
        process.wait()
    code = _text(directory / "code")
    if not code:
        said = _text(console)[-4000:] + _text(directory / "output")[-4000:]
        raise RuntimeError(f"{kernel.name} did not run the command: {said}")
    return subprocess.CompletedProcess(argv, int(code), _text(directory / "output"))


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _fetch(suite: str, work: Path) -> Path:
    """Take the kernel, its modules and what both need, whatever this machine has."""
    root = unpacked(suite, PACKAGES, work)
    dest = work / "uml"
    (dest / "lib").mkdir(parents=True)
    shutil.copy(root / "usr/lib64" / LOADER, dest / "lib")
    shutil.copy(root / LIBRARIES / "libc.so.6", dest / "lib")
    shutil.copy(root / "usr/bin/linux.uml", dest / "linux")
    shutil.copy(root / "usr/bin/busybox", dest)
    shutil.move(root / "usr/lib/uml/modules", dest)
    # It starts itself once more, so to start it through the loader is not enough.
    library = cache() / f"uml-{suite}" / "lib"
    loader = [root / "usr/lib64" / LOADER, "--library-path", root / LIBRARIES]
    options = ["--set-interpreter", library / LOADER, "--set-rpath", library]
    patchelf = [*loader, root / "usr/bin/patchelf", *options, dest / "linux"]
    subprocess.run(patchelf, check=True)
    return dest
