"""Regular expressions of filters: useful ones work, costly ones are refused before they run."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dcvtui.patterns import Pattern, PatternError


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^cad-\d+$", "ana\ncad-17\nready"),
        ("gpu-.*7", "GPU-017"),
        ("a.*b.*c.*d", "abcd"),
        ("(gpu|cpu)-0[0-9]{2}", "cpu-012"),
        (r"(?:cad|viz)-?\w+?-1", "viz-ben-1"),
        (r"(ab)+c", "ababc"),
        (r"[()*+]\(", "x*("),
        (r"[]a*]x", "]x"),
        ("[[]x", "[x"),
        ("(a?b)?c", "c"),
        ("one|two|three", "two"),
    ],
)
def test_what_operators_write_works(pattern: str, text: str) -> None:
    assert Pattern(pattern).is_in(text)
    assert not Pattern(pattern).is_in("nothing of it")


@pytest.mark.parametrize(
    ("pattern", "position"),
    [
        ("(a+)+$", 4),
        ("x(a*)*", 5),
        ("(a|aa)+$", 6),
        ("((a{2,}))*b", 9),
        ("(a?){50}a{50}", 4),
        (r"([\w]+\s)+!", 9),
        (".*.*.*.*x", 7),
        ("a?" * 20, 21),
        ("(a|a)" * 20, 52),
        ("a" * 201, 200),
    ],
)
def test_what_could_take_for_ever_is_refused_at_its_place(pattern: str, position: int) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)
    assert caught.value.position == position


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "a{2,1}", "a{99999999999}", "(" * 500])
def test_what_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


@settings(max_examples=300, deadline=None)
@given(some.text("ab.*+?|()[]{}2,\\^$", max_size=20))
def test_whatever_is_let_through_is_quick(pattern: str) -> None:
    """On the longest name a broker takes, and then some."""
    try:
        understood = Pattern(pattern)
    except PatternError:
        return
    began = time.process_time()
    understood.is_in("a" * 60 + "\n" + "b" * 60 + "!")
    assert time.process_time() - began < 1
