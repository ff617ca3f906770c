"""Keys that arrive together: each has its effect before the next counts, also while the program is busy."""

import asyncio
import time
from typing import ClassVar

import pytest
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from dcvtui.tui.ordered_keys import OrderedKeysApp


class Step(Message):
    """Travels from the widget to the application; the last one opens the line."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left


class Listed(Widget, can_focus=True):
    """Stands for a list whose keys do something."""


class Typing(OrderedKeysApp[None]):
    """An application whose `/` opens a line in two messages, and holds everything up for a while."""

    AUTO_FOCUS = "Listed"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "open_line", "open"),
        Binding("escape", "leave_line", "leave"),
        Binding("d", "note('d')", "note"),
        Binding("D", "note('D')", "note"),
    ]

    def __init__(self, held_up_s: float = 0.0) -> None:
        super().__init__()
        self.held_up_s = held_up_s
        self.noted: list[str] = []

    def compose(self) -> ComposeResult:
        yield Listed()
        yield Input()

    def action_open_line(self) -> None:
        self.query_one(Listed).post_message(Step(1))
        time.sleep(self.held_up_s)

    @on(Step)
    def go_on(self, message: Step) -> None:
        if message.left:
            self.query_one(Listed).post_message(Step(message.left - 1))
        else:
            self.screen.set_focus(self.query_one(Input))

    def action_leave_line(self) -> None:
        self.screen.set_focus(self.query_one(Listed))

    def action_note(self, key: str) -> None:
        self.noted.append(key)


def type_at_once(app: Typing, *keys: str | events.Event) -> None:
    for key in keys:
        app.post_message(key if isinstance(key, events.Event) else events.Key(key, key[-1:]))


@pytest.mark.parametrize("held_up_s", [0.0, 0.7])
async def test_what_is_typed_behind_the_key_that_opens_a_line_is_typed_into_it(held_up_s: float) -> None:
    app = Typing(held_up_s)
    async with app.run_test() as pilot:
        type_at_once(app, events.Key("slash", "/"), "d", "D", events.Paste("pasted"), "d")
        async with asyncio.timeout(30):
            while len(app.query_one(Input).value) < len("dDpastedd") and not app.noted:
                await pilot.pause(0.01)
        assert app.query_one(Input).value == "dDpastedd"
        assert app.noted == []


async def test_escape_and_a_letter_in_one_read_are_two_keys() -> None:
    app = Typing()
    async with app.run_test() as pilot:
        type_at_once(
            app, events.Key("slash", "/"), "a", events.Key("alt+d", "d"), events.Key("alt+shift+d", "D")
        )
        async with asyncio.timeout(30):
            while len(app.noted) < 2:
                await pilot.pause(0.01)
        assert app.query_one(Input).value == "a"
        assert app.noted == ["d", "D"]
