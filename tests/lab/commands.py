"""Commands of `underlay` on a lab host, by a process that has loaded it already.

To load it takes a quarter second of processor time, and tests run hundreds of commands.
Each is a fork of this process, with arguments and an environment of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

# Whatever a command needs is loaded here and once.
from underlay.cli.commands import main
from underlay.service import wiring

__all__ = ["wiring"]


def serve() -> None:
    """Run a command for each line that comes, and tell in a line what came of it."""
    for line in sys.stdin:
        asked = json.loads(line)
        out, err = os.memfd_create("out"), os.memfd_create("err")
        pid = os.fork()
        if not pid:
            run(asked, out, err)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps([code, *map(text, (out, err))]), flush=True)  # noqa: T201


def run(asked: dict[str, Any], out: int, err: int) -> None:
    """Be the command, and end; it may take as long as one on a host."""
    signal.alarm(asked["timeout"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.clear()
    os.environ.update(asked["env"])
    code: Any = 1
    try:
        main(asked["words"], prog_name="underlay")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - told as Python does, and the end all the same
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def text(file: int) -> str:
    """Return what is in such a file, and close it."""
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, errors="replace") as opened:
        return opened.read()


if __name__ == "__main__":
    serve()
