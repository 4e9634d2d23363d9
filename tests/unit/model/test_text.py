"""Texts that leave the program: nothing in them moves a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underlay.model.text import as_json, printable

ANYTHING = st.text(st.characters(codec=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td\x7f", r"a\rb\nc\td\x7f"),
        ("\u202egro.rekcod", r"\u202egro.rekcod"),
        ("half \udc80", r"half \udc80"),
        ("no\xa0break\u2028\u200b", r"no\xa0break\u2028\u200b"),
        ("Zürich 東京 - x", "Zürich 東京 - x"),
        ("", ""),
    ],
)
def test_unprintable_characters_are_shown_escaped(text, shown):
    assert printable(text) == shown


@given(ANYTHING)
def test_escaped_text_is_printable_for_any_input(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert printable(shown) == shown


@given(st.dictionaries(ANYTHING, ANYTHING))
def test_escaped_json_is_printable_ascii_and_means_the_same(facts):
    shown = as_json(facts)
    assert shown.isascii()
    assert shown.isprintable()
    assert json.loads(shown) == json.loads(json.dumps(facts))
