"""A command in a kernel is one like any other, and nothing is left of the kernel."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.lab import uml
from tests.lab.service import wait_until


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Give the test a directory for temporary files, which must be empty at its end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


def processes(scratch):
    """The command lines of kernels started from this test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_text().split("\0")
        except OSError:
            continue
        if any(w.startswith(f"exchange={scratch}") for w in words):
            found.append(words)
    return found


def skip_if_unable(name):
    if reason := uml.why_not(name):
        pytest.skip(reason)


@pytest.mark.parametrize("name", uml.KERNELS)
def test_uml_command_keeps_its_output_exit_code_directory_and_environment(name):
    skip_if_unable(name)
    script = "uname -r; pwd; echo $WORD >&2; exit 7"
    done = uml.run(name, ["sh", "-c", script], timeout=200, env={"WORD": "a  'b'"})
    release, *rest = done.stdout.splitlines()
    assert release.startswith(f"{name}.")
    assert (done.returncode, rest) == (7, [str(Path.cwd()), "a 'b'"])


def test_files_written_inside_the_kernel_are_discarded(scratch):
    file = scratch / "file"
    uml.run("7.2", ["sh", "-c", f"echo > {file} && test -e {file}"], timeout=200)
    assert not file.exists()


@pytest.mark.parametrize("name", uml.KERNELS)
def test_kernel_that_does_not_boot_says_why(name, tmp_path_factory, monkeypatch):
    skip_if_unable(name)
    script = tmp_path_factory.mktemp("broken") / "init"
    script.write_text("#!/bin/sh\necho 'cannot go on'; exit 1\n")
    monkeypatch.setattr(uml, "INIT", script)
    with pytest.raises(RuntimeError, match=r"(?s)cannot go on.*panic"):
        uml.run(name, ["true"], timeout=200)


def test_hanging_command_ends_with_its_output_so_far():
    with pytest.raises(subprocess.TimeoutExpired) as late:
        uml.run("7.2", ["sh", "-c", "echo so far; sleep 1000"], timeout=20)
    assert late.value.output == "so far\n"


def test_uml_kernel_dies_with_its_caller(scratch):
    code = "from tests.lab import uml; uml.run('7.2', ['sleep', '1000'], timeout=1000)"
    caller = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: list(scratch.glob("*/output")), 60)
    assert processes(scratch)
    caller.kill()
    caller.wait()
    wait_until(lambda: not processes(scratch), 20, lambda: processes(scratch))
    for file in sorted(scratch.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
