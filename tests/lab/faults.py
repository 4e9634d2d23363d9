"""`underlay serve` with a fault switch: killed, or held, at a point it is told.

A point is where it matters whether the process is still there: in a request of Docker,
before the first thing it touches and after each: a COMMIT, a LinuxKernel.apply, and
each request to the kernel inside one that makes a link; and where programs may run for
what is about to be built, which is part of no transaction. (Before the second is after
the first: what dies is memory, which nothing reads.) The pass and its like have none.

In the folder $MORTAL_DIR `passed` has the label of every point since it was armed, one
a line; `armed` says at which of them to do what, "3 die" or "3 hold"; `struck` is there
as soon as that is done. One that holds goes on when `armed` is gone. The service that
died is started again at once, as systemd would, without taking half a second to import.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask

from underlay.cli.commands import main
from underlay.kernel import link_changes
from underlay.kernel.linux import LinuxKernel
from underlay.model.objects import Link, Owner
from underlay.model.steps import Step
from underlay.networks.builder import Builder
from underlay.planning.desired import DesiredState
from underlay.records.database import Database

FOLDER = Path(os.environ["MORTAL_DIR"])
ARMED, PASSED, STRUCK = FOLDER / "armed", FOLDER / "passed", FOLDER / "struck"
_passing = threading.Lock()


def point(label: str) -> None:
    """Pass a point, or not."""
    with _passing:
        label = f"{flask.request.path.partition('.')[2]} {label}"
        with PASSED.open("a") as passed:
            passed.write(f"{label}\n")
        number = len(PASSED.read_text().splitlines())
        told = ARMED.read_text().split() if ARMED.exists() else []
        if told[:1] != [str(number)]:
            return
    STRUCK.write_text(label)
    if told[1] == "die":
        os.killpg(0, signal.SIGKILL)
    while ARMED.exists():
        time.sleep(0.005)


def touched(label: str, touch: Callable[[], Any]) -> Any:
    """Touch something, with a point after it; and before it, if it is the first."""
    if not flask.has_request_context():
        return touch()
    if not flask.g.get("touched"):
        point(f"before {label}")
    flask.g.touched = True
    flask.g.learned = False
    done = touch()
    if not flask.g.learned:
        point(f"after {label}")
    return done


def wire_up() -> None:
    """Put points into the service."""
    apply, run, add, alter = (
        LinuxKernel.apply,
        Database.run,
        link_changes.create_link,
        link_changes.change_link,
    )
    preparing = Builder.preparing

    def mortal_apply(self: LinuxKernel, step: Step) -> None:
        touched(str(step), lambda: apply(self, step))

    def mortal_run(self: Database, sql: str, *values: Any) -> int:
        if sql != "COMMIT":
            return run(self, sql, *values)
        return touched(sql, lambda: run(self, sql, *values))

    def inside(label: str) -> None:
        if flask.has_request_context():
            flask.g.learned = True
            point(label)

    def mortal_add(link: Link) -> None:
        add(link)
        inside(f"after link add of {link.name}")

    def mortal_alter(index: int, *change: bytes, up: bool | None) -> None:
        alter(index, *change, up=up)
        inside(f"after link set of {index}")

    def mortal_preparing(self: Builder, owner: Owner, want: DesiredState) -> Any:
        point("before programs")
        return preparing(self, owner, want)

    LinuxKernel.apply, Database.run = mortal_apply, mortal_run
    Builder.preparing = mortal_preparing
    link_changes.create_link, link_changes.change_link = mortal_add, mortal_alter


def serve() -> None:
    """Be the service, in a process group of its own."""
    os.setpgid(0, 0)
    main(["serve"], prog_name="underlay")


def live_for_ever() -> None:
    """Start the service again as often as it is killed."""
    while True:
        service = os.fork()
        if service == 0:
            serve()
        _, status = os.waitpid(service, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        while is_there(service):
            time.sleep(0.001)  # its worker, which holds the lock


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    wire_up()
    live_for_ever()
