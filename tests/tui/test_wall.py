"""The wall shows the rows of the sessions list as pictures, within its rate and only while somebody looks."""

from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.geometry import Size
from textual.pilot import Pilot

from dcvtui.fleet import SessionRecord
from dcvtui.shots import IDS_PER_CALL
from dcvtui.terminal import Answers, Images
from dcvtui.tui.app import ConsoleOptions
from dcvtui.tui.tile_grid import Tile
from dcvtui.tui.wall import IDLE_S, Looking, WallList, next_turn
from tests.tui.screens import assert_screen, screen_text
from tests.tui.still_fleet import StillConsole, StillFleet, still_console, utc
from tests.tui.test_app import cursor_line, loaded, see, until

pytestmark = pytest.mark.usefixtures("utc")
__all__ = ["utc"]


def calls(fleet: StillFleet) -> list[list[dict[str, object]]]:
    return [body for path, body in fleet.asked if path == "/getSessionScreenshots"]


def asked_ids(fleet: StillFleet) -> set[object]:
    return {item["SessionId"] for call in calls(fleet) for item in call}


def wall(console: StillConsole) -> WallList:
    return console.app._console.wall


async def all_drawn(pilot: Pilot[int], console: StillConsole) -> None:
    """Until every session on screen that can have a picture has one."""

    def is_drawn() -> bool:
        one, records = wall(console), wall(console).listing.records
        shown = [records[key] for key in one.table.keys_on_screen()]
        return bool(shown) and all(s.key in one._tiles for s in shown if s.state == "READY")

    await until(pilot, is_drawn)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 48)])
async def test_the_wall_looks_as_agreed(tmp_path: Path, size: tuple[int, int]) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=size) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        assert_screen(console.app, f"wall-{size[0]}x{size[1]}")


async def test_a_call_asks_for_five_sessions_at_most_and_for_the_pixels_of_a_tile(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        assert not calls(console.fleet)
        await pilot.press("4")
        await all_drawn(pilot, console)
        assert max(len(call) for call in calls(console.fleet)) == IDS_PER_CALL
        assert len(calls(console.fleet)) >= 2
        tile = wall(console).grid.picture_size
        sizes = {(item["MaxWidth"], item["MaxHeight"]) for call in calls(console.fleet) for item in call}
        assert sizes == {(2 * tile.width, 4 * tile.height)}


async def test_a_session_that_is_not_ready_is_not_asked_for_and_says_its_state(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"state:unknown or name:cad-ana-0", "enter", "w")
        await all_drawn(pilot, console)
        text = await see(pilot, "Wall", "UNKNOWN", "✗ cad-chloe-2")
        assert " ● cad-ana-0" in text
        ready = console.fleet.session(0)["Id"]
        assert asked_ids(console.fleet) == {ready}


async def test_the_wall_keeps_cursor_and_marks_of_the_list_and_gives_them_back(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "space", "space", "w")
        await see(pilot, "Wall", "2 marked")
        await pilot.press("right", "down", "space")
        await see(pilot, "3 marked")
        moved_to = console.app._console.current.table.cursor_record.name
        await pilot.press("2")
        await see(pilot, " Sessions", "3 marked")
        assert moved_to in cursor_line(pilot)


async def test_enter_zooms_and_the_wall_goes_on_afterwards(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        await pilot.press("enter")
        await see(pilot, "cad-ana-0", "taken 12:00:00", "monitor 1 of 2")
        await pilot.press("tab")
        await see(pilot, "monitor 2 of 2")
        await pilot.press("escape")
        await see(pilot, "Wall")


async def test_tiles_grow_and_shrink(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        sizes = [wall(console).grid.across]
        for key in ("plus", "plus", "plus", "minus", "minus", "minus", "minus"):
            await pilot.press(key)
            sizes.append(wall(console).grid.across)
        assert sizes == [3, 2, 1, 1, 2, 3, 4, 5]
        await all_drawn(pilot, console)
        assert screen_text(console.app).splitlines()[2].count("●") == 5


async def test_tab_shows_the_next_display_of_the_session_under_the_cursor(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        one = wall(console)
        key = one.table.cursor_key
        assert key is not None
        first = one._tiles[key]
        await pilot.press("tab")
        await until(pilot, lambda: one._tiles[key] != first)
        await pilot.press("tab")
        await until(pilot, lambda: one._tiles[key] == first)


async def test_nothing_is_asked_for_while_nobody_looks(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        console.app.post_message(events.AppBlur())
        await see(pilot, "paused: the terminal has lost the focus")
        await until(pilot, lambda: not wall(console).is_asking)
        count = len(calls(console.fleet))
        await pilot.pause(1.2)
        assert len(calls(console.fleet)) == count
        console.app.post_message(events.AppFocus())
        await until(pilot, lambda: len(calls(console.fleet)) > count)
        await pilot.press("2")
        await see(pilot, " Sessions")
        await until(pilot, lambda: not [w for w in console.app.workers if w.group == "wall"])


async def test_after_ten_minutes_without_a_key_the_wall_pauses_until_the_next_one(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        wall(console).looking.last_key -= IDLE_S + 1
        await see(pilot, "paused: no key for 10 min")
        await pilot.press("j")
        await until(pilot, lambda: "paused" not in screen_text(console.app))


async def test_the_reason_of_a_broker_that_does_not_answer_is_said(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        tiles = dict(wall(console)._tiles)
        console.fleet.is_away = True
        await until(pilot, lambda: wall(console)._trouble)
        assert wall(console)._tiles == tiles
        console.fleet.is_away = False
        await until(pilot, lambda: not wall(console)._trouble)


@pytest.mark.parametrize("images", [Images.KITTY, Images.SIXEL])
async def test_pixels_are_written_into_their_tiles_and_taken_down_with_the_view(
    tmp_path: Path, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ConsoleOptions(images=images)
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        sent: list[str] = []
        grid = wall(console).grid
        monkeypatch.setattr(grid._poster, "_send", sent.append)  # the terminal, as the poster sees it
        await pilot.press("4")
        await all_drawn(pilot, console)
        await until(pilot, lambda: len(grid._poster._up) == grid.page_height)
        size = grid.picture_size
        places = {text[len("\x1b7\x1b[") :].partition("H")[0] for text in sent if text.startswith("\x1b7")}
        left_edges = {int(place.partition(";")[2]) for place in places}
        assert len(left_edges) == grid.across
        assert all(edge >= 1 for edge in left_edges)
        assert max(left_edges) <= 120 - size.width + 1
        await pilot.press("2")
        await see(pilot, " Sessions")
        assert not grid._poster.is_up


async def test_a_picture_that_comes_below_a_dialog_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The screen below a dialog shines through, and was once taken for one that may be written on."""
    options = ConsoleOptions(images=Images.KITTY)
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        sent: list[str] = []
        grid = wall(console).grid
        monkeypatch.setattr(grid._poster, "_send", sent.append)
        await pilot.press("4")
        await all_drawn(pilot, console)
        await until(pilot, lambda: len(grid._poster._up) == grid.page_height)
        await pilot.press("question_mark")
        await see(pilot, "Keys in Wall")
        assert not grid._poster.is_up
        sent.clear()
        grid.put_up()
        await pilot.pause()
        await pilot.pause()
        assert not sent
        await pilot.press("escape")
        await until(pilot, lambda: len(grid._poster._up) == grid.page_height)


def test_the_oldest_pictures_come_first() -> None:
    def session(name: str, state: str = "READY") -> SessionRecord:
        return SessionRecord(key=("p", name), profile="p", id=name, name=name, owner="ana", state=state)

    shown = [session(name) for name in "abcdefg"] + [session("h", "UNKNOWN")]
    first = next_turn(shown, {})
    assert [one.name for one in first] == list("abcde")
    asked = {one.key: 1.0 for one in first}
    assert [one.name for one in next_turn(shown, asked)] == list("fgabc")


def test_somebody_looks_while_keys_come_and_the_terminal_has_the_focus() -> None:
    now = 0.0
    looking = Looking(clock=lambda: now, last_key=0.0)
    assert not looking.why_not
    now = IDLE_S + 1
    assert "no key" in looking.why_not
    looking.has_focus = False
    assert "focus" in looking.why_not
    assert Answers().is_complete


async def test_a_session_that_goes_while_pictures_are_drawn_ends_nothing(tmp_path: Path) -> None:
    """Two drawings run at once; the first to end forgets what is gone, also what the other is to draw."""
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        one = wall(console)
        gone, others = ("lab", "gone"), list(one._shots)
        one._monitors[gone] = 1
        one._asked[gone] = 0.0
        await one._draw([gone, *others])
        assert gone not in one._asked
        assert gone not in one._monitors
        assert set(others) <= set(one._tiles)


async def test_a_picture_that_was_drawn_for_another_size_is_not_shown(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("4")
        await all_drawn(pilot, console)
        one = wall(console)
        key = next(key for key, shots in one._shots.items() if not isinstance(shots, str))
        before, draw = one._tiles[key], one._tile

        def grown_meanwhile(*wanted: Any) -> Tile:
            one._drawn_for = Size(1, 1)
            return draw(*wanted)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one, "_tile", grown_meanwhile)
            await one._draw([key])
        assert one._tiles[key] is before
