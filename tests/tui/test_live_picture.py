"""The screen of the session under the cursor, below its details: asked for only where it is seen."""

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from dcvtui.settings import Settings
from dcvtui.tui import live_picture
from dcvtui.tui.app import ConsoleOptions
from dcvtui.tui.live_picture import LivePicture
from tests.tui.screens import screen_text
from tests.tui.still_fleet import StillConsole, still_console, utc
from tests.tui.test_app import loaded, see, see_gone, until
from tests.tui.test_wall import asked_ids, calls

__all__ = ["utc"]
pytestmark = pytest.mark.usefixtures("utc")
WITH_PICTURE = ConsoleOptions(settings=Settings(live_picture=True))
SIZE = (120, 40)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns come at once, so that a test waits for what happens and not for the clock."""
    monkeypatch.setattr(live_picture, "REST_S", 0.01)
    monkeypatch.setattr(live_picture, "PAUSE_S", 0.02)


async def in_sessions(pilot: Pilot[int]) -> None:
    await loaded(pilot)
    await pilot.press("2")


def live(console: StillConsole) -> LivePicture:
    return console.app._console.query_one(LivePicture)


@pytest.mark.usefixtures("quick")
async def test_the_picture_of_the_session_under_the_cursor_follows_it(tmp_path: Path) -> None:
    async with still_console(tmp_path, WITH_PICTURE) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        first = await see(pilot, "taken 12:00:00")
        asked = asked_ids(console.fleet)
        assert len(asked) == 1
        picture = live(console)._view.picture
        assert picture is not None
        await pilot.press("down")
        await until(pilot, lambda: len(asked_ids(console.fleet)) == 2)
        await until(pilot, lambda: live(console)._view.picture not in (None, picture))
        assert "state" in first


async def test_only_the_pixels_that_it_can_show_are_asked_for(tmp_path: Path) -> None:
    async with still_console(tmp_path, WITH_PICTURE) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        await see(pilot, "taken 12:00:00")
        (item,) = calls(console.fleet)[0]
        size = live(console)._view.pixels_shown()
        assert (item["MaxWidth"], item["MaxHeight"]) == tuple(size)
        assert size.width < 200


@pytest.mark.usefixtures("quick")
async def test_nothing_is_asked_for_below_a_dialog_in_another_view_or_where_nobody_looks(
    tmp_path: Path,
) -> None:
    async with still_console(tmp_path, WITH_PICTURE) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        await see(pilot, "taken 12:00:00")

        async def is_quiet() -> bool:
            await pilot.pause(0.1)  # a call that was under way
            before = len(calls(console.fleet))
            await pilot.pause(0.3)
            return len(calls(console.fleet)) == before

        async def goes_on() -> None:
            before = len(calls(console.fleet))
            await until(pilot, lambda: len(calls(console.fleet)) > before)

        await goes_on()
        await pilot.press("question_mark")
        await see(pilot, "Keys in Sessions")
        assert await is_quiet()
        await pilot.press("escape")
        await goes_on()
        await pilot.press("3")
        assert await is_quiet()
        await pilot.press("2")
        await goes_on()
        console.app.post_message(events.AppBlur())
        assert await is_quiet()
        console.app.post_message(events.AppFocus())
        await goes_on()
        await pilot.press("i")
        assert await is_quiet()


async def test_a_session_that_is_not_ready_says_so(tmp_path: Path) -> None:
    async with still_console(tmp_path, WITH_PICTURE) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        await pilot.press("slash", *"state:unknown", "enter")
        await see(pilot, "no picture while UNKNOWN")
        assert not any("000000000002" in str(one) for one in asked_ids(console.fleet))


async def test_a_low_window_keeps_its_room_for_the_details(tmp_path: Path) -> None:
    async with still_console(tmp_path, WITH_PICTURE) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        await see(pilot, "taken 12:00:00")
        await pilot.resize_terminal(120, 24)
        await see_gone(pilot, "taken 12:00:00")


async def test_without_the_setting_nothing_is_asked_for(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=SIZE) as pilot:
        await in_sessions(pilot)
        await pilot.pause(0.8)
        assert not calls(console.fleet)
        assert "taken" not in screen_text(console.app)
