"""Forms saved by name, and what a form held last, come back as they were."""

from pathlib import Path

import pytest

from dcvtui.tui.app import ConsoleOptions
from dcvtui.tui.session_draft import SessionDraft, form_line, from_form, to_form
from tests.tui.still_fleet import still_console, utc
from tests.tui.test_app import loaded, see, see_gone

pytestmark = pytest.mark.usefixtures("utc")
__all__ = ["utc"]


async def test_a_form_is_saved_by_name_and_fills_in_another_one(tmp_path: Path) -> None:
    options = ConsoleOptions(state_folder=tmp_path / "state")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(100, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "n")
        await see(pilot, "New session")
        await pilot.press(*"bob", "tab", *"class-{n}", "tab", "backspace", *"3", "ctrl+r")
        await see(pilot, "Templates", "Nothing is saved yet")
        await pilot.press("s", *["backspace"] * 30, *"class", "enter")
        await see(pilot, "saved: class")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(100, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "n")
        await see(pilot, "New session")
        await pilot.press("ctrl+r")
        await see(pilot, "class  class-{n}  bob  VIRTUAL  x3")
        await pilot.press("enter")
        await see_gone(pilot, "Templates")
        await see(pilot, "class-1 to class-3")
        await pilot.press("ctrl+r", "D")
        await see(pilot, "forgotten: class")


@pytest.mark.parametrize(
    "draft",
    [
        SessionDraft(),
        SessionDraft("ana", "x-{n}", "4", "CONSOLE", "tag:gpu = 'yes'", True, "[permissions]\n", retry=False),
    ],
)
def test_what_is_saved_of_a_draft_comes_back(draft: SessionDraft) -> None:
    assert from_form(to_form(draft)) == draft


@pytest.mark.parametrize("form", [{}, {"owner": 7, "type": "OTHER", "enqueue": "yes", "gone": 1}])
def test_a_damaged_form_is_as_an_empty_one(form: dict[str, object]) -> None:
    assert from_form(form) == SessionDraft()
    assert form_line(form) == "VIRTUAL"
