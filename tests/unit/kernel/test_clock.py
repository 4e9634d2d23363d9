"""What was noted lately, by a clock that is never set."""

from __future__ import annotations

from underlay.kernel.clock import Recent


def test_noted_item_has_an_age_until_it_expires():
    recent = Recent(10.0)
    recent.note("a", 0.0)
    recent.note("b", 4.0)
    assert (recent.age("a", 5.0), recent.age("b", 5.0)) == (5.0, 1.0)
    recent.note("c", 11.0)
    assert recent.age("a", 11.0) == float("inf")
    assert recent.age("b", 11.0) == 7.0
    recent.clear()
    assert recent.age("c", 11.0) == float("inf")


def test_item_noted_again_replaces_the_older_notes():
    recent = Recent(10.0)
    for identity, now in (("a", 0.0), ("b", 1.0), ("a", 9.0), ("c", 15.0)):
        recent.note(identity, now)
    assert recent.age("b", 15.0) == float("inf")
    assert recent.age("a", 15.0) == 6.0
