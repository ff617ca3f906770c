"""Shares and courses as characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.meters import bar, columns, share


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "────────"), (0.5, "━━━━────"), (1, "━━━━━━━━"), (1.7, "━━━━━━━━"), (-1, "────────")],
)
def test_a_bar_is_filled_in_part(part: float, text: str) -> None:
    assert bar(part, 8) == text


def test_a_little_is_not_nothing_and_nearly_all_is_not_all() -> None:
    assert bar(0.001, 8, ascii_only=True) == "#......."
    assert bar(0.999, 8, ascii_only=True) == "#######."


@given(st.floats(-2, 3), st.integers(1, 40), st.booleans())
def test_a_bar_has_its_width_and_only_ascii_where_that_is_asked(
    part: float, cells: int, ascii_only: bool
) -> None:
    drawn = bar(part, cells, ascii_only=ascii_only)
    assert len(drawn) == cells
    assert drawn.isascii() is ascii_only


@pytest.mark.parametrize(
    ("used", "total", "wanted"),
    [(1, 4, 0.25), (None, 4, None), (1, None, None), (1, 0, None), (0, 4, 0), (float("nan"), 4, None)],
)
def test_a_share_is_known_only_where_both_are(
    used: float | None, total: float | None, wanted: float | None
) -> None:
    assert share(used, total) == wanted


def test_a_course_is_one_column_for_each_value_and_a_blank_for_none() -> None:
    assert columns([0, 4, None, 8], 8) == "▁▅ █"
    assert columns([0, None, 9], 8, ascii_only=True) == "_ #"
    assert columns([0, 0], 0) == "▁▁"
    assert columns([], 8) == ""
