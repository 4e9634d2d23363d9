"""The tests themselves: what they import, and what they are called."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.words import PRIVATE

TESTS = Path(__file__).parents[1]
MODULES = sorted(TESTS.rglob("*.py"))
# A name that begins so has its subject in the name above it, or none.
LEANING = r"nor|so|also|it|they|that|those|what|who|whoever|the living"


def name_of(path):
    return str(path.relative_to(TESTS))


def imported(path):
    """Yield the full names of what a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_a_test_module(path):
    """What tests share is in tests/worlds.py or in their package's own module."""
    for name in imported(path):
        words = name.split(".")
        assert words[0] != "tests" or not any(w.startswith("test_") for w in words[1:])


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name.startswith("test_")], ids=name_of
)
def test_names_of_tests_stand_alone_in_a_list_of_failures(path):
    found = re.findall(r"^def test_(\w+)", path.read_text(), re.MULTILINE)
    assert len(found) == len(set(found))
    for name in found:
        words = name.replace("_", " ")
        assert not re.match(rf"({LEANING})\b", words), name
        assert len(words.split()) >= 3, name
        for pattern, instead in PRIVATE.items():
            assert not re.search(rf"\b({pattern})\b", words), f"{name}: say {instead!r}"
