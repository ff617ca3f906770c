"""What fields hold reaches the broker as it is and the terminal never."""

from collections.abc import Callable

import pytest
from textual.app import App, ComposeResult
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, TextArea

from dcvtui.api.text import visible
from dcvtui.tui.form_fields import text_input
from dcvtui.tui.frame import LineInput
from dcvtui.tui.permissions_area import PermissionsText
from tests.tui.screens import screen_text

EVIL = "a\x1b[31mb\x9bc\u202ed"


class OneField(App[None]):
    """An application around one field."""

    def __init__(self, make: Callable[[], Widget]) -> None:
        super().__init__()
        self.make = make

    def compose(self) -> ComposeResult:
        yield self.make()


def shown(app: OneField) -> str:
    text = screen_text(app)
    assert all(visible(line) == line for line in text.splitlines())
    return text


@pytest.mark.parametrize("make", [lambda: text_input(EVIL), lambda: LineInput(id="line")])
async def test_a_field_draws_what_is_unsafe_as_a_sign_and_keeps_it(make: Callable[[], Input]) -> None:
    app = OneField(make)
    async with app.run_test(size=(40, 5)) as pilot:
        field = app.query_one(Input)
        field.value = EVIL
        await pilot.pause()
        assert "a?[31mb?c?d" in shown(app)
        await pilot.press("end", "left", "left", "x")
        assert field.value == "a\x1b[31mb\x9bcx\u202ed"
        assert "a?[31mb?cx?d" in shown(app)


async def test_suggestions_are_safe_too() -> None:
    app = OneField(lambda: text_input(suggester=SuggestFromList([EVIL])))
    async with app.run_test(size=(40, 5)) as pilot:
        app.query_one(Input).focus()
        await pilot.press("a")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "a?[31mb?c?d" in shown(app)


async def test_an_editor_draws_what_is_unsafe_as_a_sign_and_keeps_it() -> None:
    text = f"[permissions]\n%owner% allow {EVIL}\n"
    app = OneField(lambda: PermissionsText(text))
    async with app.run_test(size=(60, 8)) as pilot:
        await pilot.pause()
        assert "%owner% allow a?[31mb?c?d" in shown(app)
        assert app.query_one(TextArea).text == text
