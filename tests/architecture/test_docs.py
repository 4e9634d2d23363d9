"""The documentation: links lead somewhere, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "driver/underlay"
PAGES = [
    *(
        ROOT / f"{name}.md"
        for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
# These speak of modules, and so of what is renamed and moved.
ON_THE_SOURCE = [ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md"]
BLOCKS = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCKS.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def in_code(page):
    """Return what a page has in backticks."""
    return re.findall(r"`([^`\n]+)`", BLOCKS.sub("", page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_documents_lead_somewhere(page):
    text = BLOCKS.sub("", page.read_text())
    for path, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", ON_THE_SOURCE, ids=name_of)
def test_paths_that_a_page_names_are_there(page):
    """A path is from the root or from the package, a name without a folder from any."""
    folders = ("driver", "tests", "script", "docs")
    names = {path.name for folder in folders for path in (ROOT / folder).rglob("*")}
    for word in in_code(page):
        if re.fullmatch(r"\w[\w.]*(/[\w.]+)+|\w+\.(py|md|toml)", word):
            ways = (ROOT / word, PACKAGE / word, PACKAGE / f"{word}.py")
            assert word in names or any(way.exists() for way in ways), word


@pytest.mark.parametrize("page", ON_THE_SOURCE, ids=name_of)
def test_classes_and_constants_that_a_page_names_are_there(page):
    files = [*(ROOT / "tests").rglob("*.py"), ROOT / "script/test"]
    program = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    around = "\n".join(path.read_text() for path in files)
    for word in in_code(page):
        if re.fullmatch(r"[A-Z][A-Za-z]+(_[A-Z]+)*", word):
            text = around if word.startswith("UNDERLAY_") else program
            assert re.search(rf"\b{word}\b", text), word
