"""What a pass works out is kept as long as it is asked for."""

from underlay.model.cache import GenerationCache


def _counted() -> tuple[GenerationCache[str], list[str]]:
    made: list[str] = []

    def make(what: str, beside: str = "") -> str:
        made.append(what)
        return f"{what}{beside}"

    return GenerationCache(make), made


def test_value_requested_in_every_generation_is_made_once() -> None:
    remembered, made = _counted()
    for _ in range(5):
        assert remembered("a") == "a"
        remembered.next_generation()
    assert made == ["a"]


def test_value_requested_in_the_last_generation_is_kept() -> None:
    remembered, made = _counted()
    remembered("a")
    remembered.next_generation()
    remembered("a")
    assert made == ["a"]


def test_value_not_requested_for_some_generations_is_forgotten() -> None:
    remembered, made = _counted()
    remembered("a")
    for _ in range(10):
        remembered.next_generation()
    remembered("a")
    assert made == ["a", "a"]


def test_value_requested_again_and_again_is_not_forgotten_with_others() -> None:
    remembered, made = _counted()
    remembered("b")
    for _ in range(10):
        remembered("a")
        remembered.next_generation()
    remembered("a")
    remembered("b")
    assert made == ["b", "a", "b"]


def test_cache_key_includes_every_argument() -> None:
    remembered, _ = _counted()
    assert remembered("a", "1") == "a1"
    assert remembered("a", "2") == "a2"
