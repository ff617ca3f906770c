"""Every key has an id, can be rebound or taken away, clashes with none, and is none that terminals take."""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding, BindingsMap

import dcvtui.tui
from dcvtui.settings import Settings
from dcvtui.tui.app import ConsoleOptions
from dcvtui.tui.dialog_ids import DIALOG_IDS
from dcvtui.tui.keys import BY_ID, KEYS, is_bound, unknown_keys
from tests.tui.screens import screen_text
from tests.tui.still_fleet import still_console
from tests.tui.test_app import cursor_line, loaded, see

TAKEN_CONTROLS = [f"ctrl+{letter}" for letter in "abdhijmnqstwz"]
TAKEN = {*TAKEN_CONTROLS, "ctrl+left_square_bracket", "ctrl+right_square_bracket", "ctrl+backslash",
         "ctrl+at", "ctrl+space", "backspace"}  # fmt: skip


def classes() -> Iterator[type[Any]]:
    for found in pkgutil.iter_modules(dcvtui.tui.__path__):
        module = importlib.import_module(f"dcvtui.tui.{found.name}")
        yield from (
            one
            for one in vars(module).values()
            if isinstance(one, type) and one.__module__ == module.__name__
        )


def own_bindings(one: type[Any]) -> list[Binding]:
    return [binding for binding in one.__dict__.get("BINDINGS", []) if isinstance(binding, Binding)]


ALL = [(one, binding) for one in classes() for binding in own_bindings(one)]


@pytest.mark.parametrize(("one", "binding"), ALL, ids=lambda value: getattr(value, "id", None) or "")
def test_each_binding_has_an_id_and_no_key_that_terminals_take(one: type[Any], binding: Binding) -> None:
    assert binding.id, (one, binding)
    for key in binding.key.split(","):
        assert key not in TAKEN, (one, binding)
        assert not key.startswith("alt+"), (one, binding)
        assert not (key.startswith("f") and key[1:].isdigit()), (one, binding)


def test_the_ids_of_dialogs_are_listed() -> None:
    declared = {binding.id for _, binding in ALL}
    assert declared - set(BY_ID) == DIALOG_IDS


def test_an_id_names_one_action_of_the_table() -> None:
    assert all(count == 1 for count in Counter(row.id for row in KEYS).values())


@pytest.mark.parametrize("one", [one for one in classes() if own_bindings(one)], ids=lambda one: one.__name__)
def test_no_two_bindings_of_one_place_clash(one: type[Any]) -> None:
    """Where a key stands twice, what the row is about decides, as in the list of what needs a person."""
    keys = Counter(key for binding in own_bindings(one) for key in binding.key.split(",") if is_bound(key))
    twice = {key for key, count in keys.items() if count > 1}
    assert twice <= ({"c", "n"} if one.__name__ == "AttentionList" else set())


HIDDEN = {
    "attention": {"enter"},  # the fix in place of opening
    "wall": {"enter", "tab"},  # zoom and the next display
    "profiles": {"enter"},  # switching
}
"""Keys that mean something else in a view than in every list, each as the design has it."""


@pytest.mark.parametrize("view", ["attention", "sessions", "servers", "wall", "activity", "profiles"])
def test_a_key_means_one_thing_in_a_view(view: str) -> None:
    """Not only in one class: keys of the view stand above those of lists, and these above those of all."""
    more = {"attention": {"sessions", "servers"}, "wall": {"sessions"}}.get(view, set())
    # What a row of attention is about decides between the keys of sessions and those of servers.
    layers = [{view, *(more - {"servers"})}, {"list"}, {"any"}]
    meanings: dict[str, set[str]] = {}
    for row in KEYS:
        if any(row.view in layer for layer in layers):
            for key in filter(None, row.keys.split(",")):
                meanings.setdefault(key, set()).add(row.id)
    assert {key for key, ids in meanings.items() if len(ids) > 1} == HIDDEN.get(view, set())


def test_no_dialog_gives_a_key_that_it_inherits_another_meaning() -> None:
    """Save for the list of what needs a person, where the kind of the row under the cursor decides."""
    clashes = {
        (one.__name__, key)
        for one in classes()
        for key, found in getattr(one, "_merged_bindings", BindingsMap()).key_to_bindings.items()
        if len({binding.id for binding in found if binding.id}) > 1
    }
    assert clashes <= {("AttentionList", "c"), ("AttentionList", "n")}


async def test_textuals_own_quit_is_taken_away(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        assert "ctrl+q" not in console.app.screen.active_bindings
        await pilot.press("ctrl+q")
        assert console.app.is_running


async def test_keys_are_rebound_and_taken_away_by_id(tmp_path: Path) -> None:
    keys = {
        "sessions.delete-marked": "X",
        "list.move-down": "down, n",
        "sessions.create-session": "",
        "any.redraw-screen": "ctrl+e",
        "confirm.cancel-action": "0",
    }
    options = ConsoleOptions(settings=Settings(keys=keys))
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(120, 90)) as pilot:
        await loaded(pilot)
        await pilot.press("2")
        await see(pilot, "X delete")
        assert "n new" not in screen_text(console.app)
        before = cursor_line(pilot)
        await pilot.press("n")
        assert cursor_line(pilot) != before
        await pilot.press("D")
        assert len(console.app.screen_stack) == 1
        await pilot.press("X")
        await see(pilot, "Delete 1 session?", "0 cancel")
        await pilot.press("0")
        await pilot.press("question_mark")
        text = await see(pilot, "Keys in Sessions")
        assert re.search(r"  X +Delete the marked sessions", text)
        await pilot.press("escape", "colon", *"create-session", "enter")
        await see(pilot, "New session")


async def test_every_action_of_the_views_is_in_the_help(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 200)) as pilot:
        await loaded(pilot)
        seen = ""
        for view in "123456":
            await pilot.press(view, "question_mark")
            seen += await see(pilot, "Keys in ")
            await pilot.press("escape")
        words = " ".join(seen.split())
        missing = [row.id for row in KEYS if row.tip not in words]
        assert not missing


def test_an_id_that_no_action_has_is_named_with_the_nearest() -> None:
    (said,) = unknown_keys({"session.delete-marked": "X", "confirm.accept-action": "j"})
    assert "session.delete-marked" in said
    assert "Did you mean 'sessions.delete-marked'?" in said
