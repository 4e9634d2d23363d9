"""What a pass works out is kept as long as somebody asks for it."""

from underlay.model.cache import GenerationCache


def _counted() -> tuple[GenerationCache[str], list[str]]:
    made: list[str] = []

    def make(what: str, beside: str = "") -> str:
        made.append(what)
        return f"{what}{beside}"

    return GenerationCache(make), made


def test_what_is_asked_for_in_every_turn_is_made_once() -> None:
    remembered, made = _counted()
    for _ in range(5):
        assert remembered("a") == "a"
        remembered.next_generation()
    assert made == ["a"]


def test_what_was_asked_for_in_the_last_turn_is_still_known() -> None:
    remembered, made = _counted()
    remembered("a")
    remembered.next_generation()
    remembered("a")
    assert made == ["a"]


def test_what_nobody_asked_for_in_two_turns_is_forgotten() -> None:
    remembered, made = _counted()
    remembered("a")
    remembered.next_generation()
    remembered.next_generation()
    remembered("a")
    assert made == ["a", "a"]


def test_everything_given_tells_results_apart() -> None:
    remembered, _ = _counted()
    assert remembered("a", "1") == "a1"
    assert remembered("a", "2") == "a2"
