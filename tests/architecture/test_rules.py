"""The rules of docs/architecture.md as tests."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from underlay import errors
from underlay.cli.commands import main
from underlay.doctor.checks import CHECKS
from underlay.modes import MODES, bridge, ipvlan, macvlan, routed
from underlay.modes.options import NETWORK_KEYS, PARENT_KEYS, REPAIR_KEYS
from underlay.service.settings import Settings

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "driver/underlay").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}
DOCS = ROOT / "docs"


def refusals():
    found, todo = [], [errors.UnderlayError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if kind.id:
            found.append(kind)
    return found


def named(path):
    return str(path.relative_to(ROOT / "driver"))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_every_module_has_a_docstring(path):
    assert ast.get_docstring(TREES[path])


def drawn(text):
    """Return the paths of the files and packages in a drawn tree."""
    found, above = set(), []
    for line in text.splitlines():
        match = re.match(r"([│ ]*)[├└]── (\S+(?:  [a-z_]+\.py)*)", line)
        if match:
            del above[len(match[1]) // 4 :]
            names = match[2].split()
            found |= {"/".join([*above, name]).replace("//", "/") for name in names}
            above.append(names[0].rstrip("/"))
    return {name for name in found if name.endswith(".py")}


def test_architecture_page_draws_the_tree_of_files():
    (tree,) = re.findall(
        r"^driver/underlay/\n(.*?)^```",
        (DOCS / "architecture.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    package = ROOT / "driver/underlay"
    files = {str(p.relative_to(package)) for p in SOURCES}
    assert drawn(tree) == {
        f for f in files if not f.endswith(("__init__.py", "__main__.py"))
    }


def test_readme_tree_has_every_package():
    text = (ROOT / "README.md").read_text()
    shown = re.findall(r"^[├└]── ([a-z_.]+?)/?\s", text, re.MULTILINE)
    there = [p.name for p in (ROOT / "driver/underlay").iterdir()]
    unshown = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    assert sorted(shown) == sorted(set(there) - unshown)


def test_package_has_at_most_sixteen_entries():
    package = ROOT / "driver/underlay"
    rooms = [p.name for p in package.iterdir() if not p.name.startswith("__")]
    assert len([name for name in rooms if name != "py.typed"]) <= 16


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_modules_and_functions_stay_short(path):
    catalogue = path.name == "errors.py"  # one subject, however many refusals there are
    assert catalogue or len(path.read_text().splitlines()) <= 500
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 40, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_importing_a_module_has_no_side_effects(path):
    allowed = (
        ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign,
        ast.AnnAssign,
    )  # fmt: skip
    for node in TREES[path].body:
        doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        add = isinstance(node, ast.Expr) and "add_command" in ast.unparse(node)
        typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        command = path.name == "__main__.py" or typing
        assert isinstance(node, allowed) or doc or add or command, ast.unparse(node)


def test_mode_modules_stay_short():
    for path in SOURCES:
        if path.parent.name == "modes":
            assert len(path.read_text().splitlines()) <= 200, path


def test_single_module_creates_and_deletes_kernel_objects():
    pattern = re.compile(r"\.link\(\s*\"(add|del|set)\"")
    touching = [named(p) for p in SOURCES if pattern.search(p.read_text())]
    assert touching == ["underlay/kernel/link_changes.py"]


def test_displayed_times_use_the_wall_clock():
    # wiring injects it; status and the health in runtime and standby show it, and
    # `underlay reserve` and `underlay conflict forget` record it, `underlay lease` says
    # by it which leases are over, `underlay exposure` when it looked.
    shown = {"wiring.py", "status.py", "runtime.py", "standby.py"}
    shown |= {"reservations.py", "conflicts.py", "leases.py", "exposure.py"}
    wall = re.compile(r"\btime\.time\b|\b(date|datetime)\.(now|utcnow|today)\b")
    telling = {path.name for path in SOURCES if wall.search(path.read_text())}
    assert telling == shown
    for path in SOURCES:
        assert len(wall.findall(path.read_text())) <= 1, path


def is_wall(node):
    called = isinstance(node, ast.Call) and ast.unparse(node.func)
    return called in ("self.clock", "clock", "time.time")


def wall_clock_arithmetic(tree):
    """Return the functions that reckon with the clock on the wall."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        told = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and is_wall(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            parts = []
            if isinstance(node, ast.BinOp):
                parts = [node.left, node.right]
            elif isinstance(node, ast.Compare):
                parts = [node.left, *node.comparators]
            names = {part.id for part in parts if isinstance(part, ast.Name)}
            if any(map(is_wall, parts)) or told & names:
                yield function.name


def test_durations_use_the_monotonic_clock():
    # How long history is kept is counted in days of the calendar. What is on record
    # from an earlier boot has no other clock.
    found = {
        (named(path), name)
        for path, tree in TREES.items()
        for name in wall_clock_arithmetic(tree)
        if path.stem != "clock"
    }
    announcing = {f for f in found if f[0] == "underlay/reconcile/announcer.py"}
    assert found - announcing == {
        ("underlay/docker_sync/cleanup.py", "forget"),
        ("underlay/ipam/dhcp_servers.py", "when"),
    }


def test_records_are_never_written_to_a_view():
    # records/endings.py puts views in the place of these while nothing can be written.
    tables = "network|endpoint|sandbox"
    pattern = re.compile(rf"(INTO|UPDATE|DELETE FROM) ({tables})\b")
    for path in (ROOT / "driver/underlay/records").glob("*.py"):
        if path.stem != "migrations":
            assert not pattern.search(path.read_text()), f"{path}: name main.<table>"


def test_no_name_is_a_manager_helper_or_utility():
    for path, tree in TREES.items():
        names = [path.stem]
        names += [
            n.name
            for n in ast.walk(tree)
            if isinstance(n, (ast.ClassDef, ast.FunctionDef))
        ]
        for name in names:
            assert not re.search(r"manager|helper|util", name, re.IGNORECASE), name


def test_only_one_function_prints():
    """It escapes whatever would move a terminal."""
    for path in SOURCES:
        printing = path.read_text().count("click.echo(")
        assert printing == (path.name == "terminal.py"), path


def test_every_error_has_an_id_of_its_own():
    ids = [kind.id for kind in refusals()]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"E-\d{3}", i) for i in ids)


def test_every_error_id_has_its_paragraph_and_no_other_has():
    text = (DOCS / "errors.md").read_text()
    sections = dict(
        re.findall(
            r"^## (E-\d{3})\b[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
        )
    )
    assert set(sections) == {kind.id for kind in refusals()}
    for identity, body in sections.items():
        assert len(body.split()) >= 20, f"{identity} is explained in too few words"


def test_every_check_of_the_doctor_has_its_section_in_this_order():
    text = (DOCS / "doctor.md").read_text()
    sections = re.findall(
        r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in sections] == [check.id for check in CHECKS]
    for name, body in sections:
        assert len(body.split()) >= 25, f"{name} is explained in too few words"


def test_every_mode_and_option_is_documented():
    text = (DOCS / "modes.md").read_text()
    for word in (
        *MODES,
        *NETWORK_KEYS,
        *PARENT_KEYS,
        *macvlan.OWN_KEYS,
        *macvlan.FLAVOURS,
        *ipvlan.OWN_KEYS,
        *ipvlan.FLAVOURS,
        *ipvlan.FLAGS,
        *routed.OWN_KEYS,
        *REPAIR_KEYS,
        *bridge.OWN_KEYS,
    ):
        assert f"`{word}`" in text, word


def test_every_setting_is_in_the_sample_file_with_its_default():
    text = (DOCS / "underlay.toml").read_text()
    for field in fields(Settings):
        default = (
            f'"{field.default}"'
            if isinstance(field.default, str)
            else str(field.default).lower()
        )
        assert f"# {field.name} = {default}" in text, field.name
        assert f"`{field.name}`" in (DOCS / "settings.md").read_text(), field.name


def commands(group, *path):
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)


def test_every_command_has_help_and_a_place_in_the_docs():
    text = (DOCS / "cli.md").read_text()
    for path, command in commands(main):
        assert command.help, path
        assert f"underlay {' '.join(path)}" in text, path


def test_readme_names_both_commands():
    text = (ROOT / "README.md").read_text()
    assert "sudo script/server" in text
    assert "sudo script/test" in text


def test_ci_runs_the_readme_s_test_command():
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("exec script/test")


def test_pre_commit_hook_is_the_lint():
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"^ +entry: (.+)$", text, re.MULTILINE) == ["script/lint"]
