"""Dialogs ask before harm is done, ignore what was typed ahead, and tell what came of each item."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from dcvtui.operations import ItemResult, Outcome
from dcvtui.terminal import CopyError
from dcvtui.tui.dialogs import (
    FORCE_DELETE,
    Confirmation,
    ConfirmDialog,
    HelpScreen,
    ResultDialog,
    SizeScreen,
)
from dcvtui.tui.panel import Choice, Panel
from tests.tui.screens import assert_screen, screen_text

NOTHING = object()


class Clock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Opener(App[None]):
    """Opens one dialog and keeps what it dismissed."""

    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("D", "nothing", "delete", id="sessions.delete-marked", tooltip="Delete what is marked"),
        Binding("r,f5", "nothing", "refresh", id="any.refresh-view"),
    ]

    def __init__(self, dialog: Screen[Any] | None) -> None:
        super().__init__()
        self.dialog = dialog
        self.answer: Any = NOTHING

    def compose(self) -> ComposeResult:
        yield Static("below")

    def on_mount(self) -> None:
        if self.dialog:
            self.push_screen(self.dialog, self.take)

    def take(self, answer: Any) -> None:
        self.answer = answer


def confirm(
    clock: Clock, connected: Sequence[str] = ("cad-bob-1   bob   2 clients",), **more: Any
) -> ConfirmDialog:
    options: dict[str, Any] = {
        "title": "Delete 3 sessions of 2 owners?",
        "sentences": ["What runs in them ends."],
        "items": ["cad-ana-1   ana   gpu-017", "cad-ana-2   ana   gpu-018"],
        "force": FORCE_DELETE,
        "accept": "delete",
    }
    return ConfirmDialog(**(options | more), connected=connected, clock=clock)


async def opened(pilot: Pilot[None], clock: Clock) -> None:
    """Until the dialog has been on the screen long enough to be read."""
    await pilot.pause()
    clock.now += 1


# ------------------------------------------------------------------ confirm


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
async def test_the_question_fits_and_looks_as_agreed(size: tuple[int, int]) -> None:
    async with Opener(confirm(Clock())).run_test(size=size) as pilot:
        await pilot.pause()
        assert_screen(pilot.app, f"confirm-{size[0]}x{size[1]}")


@pytest.mark.parametrize(
    ("keys", "answer"),
    [
        (["y"], Confirmation()),
        (["f", "y"], Confirmation(force=True)),
        (["f", "f", "y"], Confirmation()),
        (["c", "y"], Confirmation(include_connected=True)),
        (["c", "f", "y"], Confirmation(force=True, include_connected=True)),
        (["n"], None),
        (["escape"], None),
        (["enter"], None),
        (["left", "enter"], NOTHING),
        (["left", "left", "left", "enter"], Confirmation()),
        (["tab", "enter"], Confirmation()),
    ],
)
async def test_keys_answer_the_question(keys: list[str], answer: object) -> None:
    clock = Clock()
    app = Opener(confirm(clock))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        await pilot.press(*keys)
        await pilot.pause()
        assert app.answer == answer


async def test_cancel_has_the_focus_and_a_sign() -> None:
    async with Opener(confirm(Clock())).run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        focused = pilot.app.focused
        assert isinstance(focused, Choice)
        assert focused.binding_id == "confirm.cancel-action"
        assert "▸ n cancel" in screen_text(pilot.app)


@pytest.mark.parametrize("keys", [["y"], ["f", "y"], ["tab", "enter"]])
async def test_what_was_typed_ahead_confirms_nothing(keys: list[str]) -> None:
    clock = Clock()
    app = Opener(confirm(clock))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        clock.now += 0.29
        await pilot.press(*keys)
        await pilot.pause()
        assert app.answer is NOTHING
        assert "[x]" not in screen_text(app)
        clock.now += 0.02
        await pilot.press("y")
        await pilot.pause()
        assert app.answer == Confirmation()


async def test_cancelling_needs_no_waiting() -> None:
    app = Opener(confirm(Clock()))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("escape")
        await pilot.pause()
        assert app.answer is None


async def test_force_and_connected_are_offered_only_where_there_is_something_to_decide() -> None:
    clock = Clock()
    app = Opener(confirm(clock, connected=(), force=None))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        assert "force" not in screen_text(app)
        assert "connected" not in screen_text(app)
        await pilot.press("f", "c", "y")
        await pilot.pause()
        assert app.answer == Confirmation()


async def test_options_say_in_words_how_they_stand() -> None:
    clock = Clock()
    app = Opener(confirm(clock))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        assert "[ ] force: the broker forgets the session at once" in screen_text(app)
        assert "[ ] 1 item somebody is connected to: left out" in screen_text(app)
        await pilot.press("f", "c")
        await pilot.pause()
        assert "[x] force: " in screen_text(app)
        assert "[x] 1 item somebody is connected to: taken in" in screen_text(app)


async def test_when_all_are_left_out_there_is_nothing_to_confirm() -> None:
    clock = Clock()
    app = Opener(confirm(clock, items=[]))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        await pilot.press("y")
        await pilot.pause()
        assert app.answer is NOTHING
        assert "Nothing to do yet" in screen_text(app)
        await pilot.press("c", "y")
        await pilot.pause()
        assert app.answer == Confirmation(include_connected=True)


async def test_hundreds_of_items_scroll_between_the_question_and_the_keys() -> None:
    clock = Clock()
    app = Opener(confirm(clock, items=[f"cad-{number}   ana" for number in range(400)]))
    async with app.run_test(size=(60, 20)) as pilot:
        await opened(pilot, clock)
        seen = screen_text(app)
        assert "Delete 3 sessions" in seen
        assert "y delete" in seen
        for _ in range(60):
            await pilot.press("pagedown")
        await pilot.pause()
        seen = screen_text(app)
        assert "cad-bob-1" in seen
        assert "Delete 3 sessions" in seen
        assert "y delete" in seen


async def test_names_cannot_steer_the_terminal() -> None:
    app = Opener(confirm(Clock(), items=["evil\x1b[2Jname [bold]x[/bold]"]))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "evil␛[2Jname [bold]x[/bold]" in screen_text(app)


async def test_the_mouse_takes_a_choice() -> None:
    clock = Clock()
    app = Opener(confirm(clock))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        await pilot.click(
            next(c for c in app.screen.query(Choice) if c.binding_id == "confirm.accept-action")
        )
        await pilot.pause()
        assert app.answer == Confirmation()


async def test_rebound_keys_are_the_ones_shown() -> None:
    clock = Clock()
    app = Opener(confirm(clock))
    app.set_keymap({"confirm.accept-action": "x"})
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, clock)
        assert "x delete" in screen_text(app)
        await pilot.press("x")
        await pilot.pause()
        assert app.answer == Confirmation()


# ------------------------------------------------------------------ results


def results() -> list[ItemResult]:
    done = [ItemResult(f"id{number}", f"cad-{number}", Outcome.DONE, request_id="r1") for number in range(27)]
    reason = "The agent of the dcv server is not reachable"
    return [
        *done,
        ItemResult("a", "cad-a", Outcome.FAILED, reason, request_id="r1"),
        ItemResult("b", "cad-b", Outcome.FAILED, reason, request_id="r2"),
        ItemResult("c", "cad-c", Outcome.FAILED, "The requested dcvSession does not exist"),
        ItemResult("d", "cad-d", Outcome.NOT_SENT, "cancelled"),
        ItemResult("e", "cad-e", Outcome.NOT_KNOWN, "no answer in 10 s"),
    ]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_results_are_grouped_and_counted(size: tuple[int, int]) -> None:
    async with Opener(ResultDialog("Delete", results())).run_test(size=size) as pilot:
        await pilot.pause()
        assert_screen(pilot.app, f"result-{size[0]}x{size[1]}")


@pytest.mark.parametrize(("key", "answer"), [("r", True), ("escape", False), ("enter", False)])
async def test_the_failed_are_retried_on_a_key(key: str, answer: bool) -> None:
    app = Opener(ResultDialog("Delete", results()))
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.press(key)
        await pilot.pause()
        assert app.answer is answer


async def test_without_failures_nothing_is_retried() -> None:
    app = Opener(ResultDialog("Delete", results()[:3]))
    async with app.run_test() as pilot:
        await pilot.pause()
        assert "retry" not in screen_text(app)
        await pilot.press("r")
        await pilot.pause()
        assert app.answer is NOTHING


async def test_rows_are_copied_with_reasons_and_request_ids() -> None:
    copied: list[str] = []

    async def copy(text: str) -> str:
        copied.append(text)
        return "sent to the terminal's clipboard"

    app = Opener(ResultDialog("Delete", results(), copy))
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.pause()
        await pilot.press("y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "sent to the terminal's clipboard" in screen_text(app)
    rows = copied[0].splitlines()
    assert len(rows) == 32
    assert rows[27] == "cad-a\ta\tfailed\tThe agent of the dcv server is not reachable\tr1"


async def test_a_failed_copy_is_said() -> None:
    async def copy(text: str) -> str:
        raise CopyError("too long.")

    app = Opener(ResultDialog("Delete", results(), copy))
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.pause()
        await pilot.press("y")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "not copied: too long." in screen_text(app)


# ------------------------------------------------------------------ help


async def test_help_is_made_of_the_bindings_in_force() -> None:
    app = Opener(None)
    app.set_keymap({"sessions.delete-marked": "X"})
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(HelpScreen(app.screen.active_bindings, "Keys of Sessions"))
        await pilot.pause()
        seen = screen_text(app)
        assert "Keys of Sessions" in seen
        assert "X              Delete what is marked" in seen
        assert "r, f5          refresh" in seen
        assert seen.index("Delete what is marked") < seen.index("Everywhere") < seen.index("refresh")
        await pilot.press("question_mark")
        await pilot.pause()
        assert not isinstance(app.screen, HelpScreen)


# ------------------------------------------------------------------ too small a terminal


async def test_a_small_terminal_gets_a_sentence_and_growing_brings_the_view_back() -> None:
    app = Opener(SizeScreen())
    async with app.run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        seen = " ".join(screen_text(app).split())
        assert "This terminal is 40x10; the console needs 60x15." in seen
        await pilot.resize_terminal(50, 20)
        await pilot.pause()
        assert "This terminal is 50x20" in screen_text(app)
        await pilot.resize_terminal(60, 15)
        await pilot.pause()
        assert app.answer is None
        assert app.size == Size(60, 15)


async def test_dialogs_write_nothing_while_nothing_happens() -> None:
    """No clock, no spinner, no blinking: an idle console sends nothing over the line."""
    app = Opener(confirm(Clock()))
    async with app.run_test() as pilot:
        await pilot.pause()
        panel = app.screen.query_one(Panel)
        assert not panel.auto_refresh
        assert not any(widget.auto_refresh for widget in panel.walk_children())
