from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dcvtui.api.text import cell_width, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain, and Überläufer ✓ 日本", "plain, and Überläufer ✓ 日本"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("tab\there", "tab␉here"),
        ("two\r\nlines", "two␍␊lines"),
        ("\x7f", "␡"),
        ("\x9b31m", "<U+009B>31m"),
        ("gpj\u202egnp.exe", "gpj<U+202E>gnp.exe"),
        ("\u200fright", "<U+200F>right"),
        ("\u2066isolated\u2069", "<U+2066>isolated<U+2069>"),
        ("zero\u200bwidth", "zero<U+200B>width"),
        ("line\u2028separator", "line<U+2028>separator"),
        ("\ud800", "<U+D800>"),
        ("\U000e0041", "<U+E0041>"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468<U+200D>\U0001f469"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("warning \u26a0\ufe0f", "warning \u26a0<U+FE0F>"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d<U+1F3FD>"),
        ("\u3164 \uffa0", "<U+3164> <U+FFA0>"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_as_a_code(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_visible_text_has_no_control_character_and_can_be_encoded(text: str) -> None:
    shown = visible(text)
    assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in shown)
    shown.encode()
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("text", "cells"),
    [("", 0), ("ana", 3), ("日本", 4), ("e\u0301", 1), ("█▌", 2), ("한글", 4), ("ที่นี่", 2), ("हिन्दी", 3)],
)
def test_width_counts_terminal_cells(text: str, cells: int) -> None:
    assert cell_width(text) == cells


def test_widths_are_those_that_the_screen_reckons_with() -> None:
    points = (chr(point) for point in range(0x20, 0x20000))
    shown = [one for one in points if visible(one) == one and category(one) not in ("Cn", "Co")]
    differing = [one for one in shown if cell_width(one) != cell_len("a" + one) - 1]
    # Signs that became wide after the Unicode of this Python, and joining letters of dead scripts.
    assert {category(one) for one in differing} <= {"So", "No", "Lo", "Cf"}
    assert len(differing) < 350
