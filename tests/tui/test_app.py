"""The console as its operator sees it: keys in, screens out, over TLS to a broker in the same process."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.theme import Theme

from dcvtui.polling import Link, LinkState, Pace
from dcvtui.tui.app import ConsoleApp, ConsoleOptions
from dcvtui.tui.console_screen import ConsoleScreen, banner_text
from dcvtui.tui.dialogs import ConfirmDialog
from dcvtui.tui.keys import KEYS
from dcvtui.tui.panel import Panel
from dcvtui.tui.size_screen import SizeScreen
from dcvtui.tui.themes import DARK, LIGHT
from tests.awkward_broker import reply
from tests.tui.screens import assert_screen, screen_text
from tests.tui.still_fleet import StillFleet, still_console, utc

__all__ = ["utc"]

WIDE = (120, 30)
SIZES = [(80, 24), (120, 40), (160, 48)]
QUICK = ConsoleOptions(pace=Pace(visible_s=0.1, page_s=0.05, small_fleet_s=0.2, shortest_retry_s=0.1))


async def see(pilot: Pilot[int], *texts: str, seconds: float = 30) -> str:
    """Wait until all texts are on the screen."""
    deadline = time.monotonic() + seconds
    while not all(text in screen_text(pilot.app) for text in texts):
        assert time.monotonic() < deadline, f"{texts} is not on the screen:\n{screen_text(pilot.app)}"
        await pilot.pause(0.02)
    return screen_text(pilot.app)


async def see_gone(pilot: Pilot[int], text: str, seconds: float = 30) -> None:
    """Wait until a text is on the screen no longer."""
    async with asyncio.timeout(seconds):
        while text in screen_text(pilot.app):
            await pilot.pause(0.02)


async def until(pilot: Pilot[int], condition: Callable[[], object]) -> None:
    """Wait for something that the application brings about."""
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.02)


async def loaded(pilot: Pilot[int]) -> None:
    """Wait for the first view after the fleet was read."""
    await see(pilot, "polling", "Attention", "gpu-003")
    await rest(pilot)


async def rest(pilot: Pilot[int]) -> None:
    """Wait until the details have followed the cursor."""
    await pilot.pause(0.2)
    await pilot.pause()


def cursor_line(pilot: Pilot[int]) -> str:
    return next((line for line in screen_text(pilot.app).splitlines() if line.startswith("▸")), "")


# ------------------------------------------------------------------ how it looks


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("utc")
async def test_the_views_at_three_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    name = f"{size[0]}x{size[1]}"
    async with still_console(tmp_path) as console, console.app.run_test(size=size) as pilot:
        await loaded(pilot)
        assert_screen(console.app, f"attention-{name}")
        await pilot.press("2")
        await rest(pilot)
        assert_screen(console.app, f"sessions-{name}")
        await pilot.press("3", "down", "down", "space")
        await rest(pilot)
        assert_screen(console.app, f"servers-{name}")
        await pilot.press("d")
        await rest(pilot)
        assert_screen(console.app, f"details-{name}")


@pytest.mark.usefixtures("utc")
async def test_the_same_in_ascii_and_without_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    options = ConsoleOptions(ascii_only=True)
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "space", "down")
        await rest(pilot)
        assert_screen(console.app, "sessions-ascii-80x24")
        assert screen_text(console.app).isascii()


async def test_both_themes_show_the_same_words(tmp_path: Path) -> None:
    texts = []
    for theme in ("dcvtui-dark", "dcvtui-light"):
        options = ConsoleOptions(theme=theme)
        async with still_console(tmp_path, options) as console, console.app.run_test(size=(100, 30)) as pilot:
            await loaded(pilot)
            texts.append(screen_text(console.app))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("theme", [DARK, LIGHT])
async def test_the_ground_of_a_scrollbar_is_that_of_the_dialog(tmp_path: Path, theme: Theme) -> None:
    options = ConsoleOptions(theme=theme.name)
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("question_mark")
        await see(pilot, "Keys in Attention")
        panel = console.app.screen.query_one(Panel)
        assert panel.show_vertical_scrollbar
        assert panel.styles.scrollbar_background == panel.styles.background


async def test_lists_work_at_60_by_20(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(60, 20)) as pilot:
        await loaded(pilot)
        await pilot.press("2")
        text = await see(pilot, "Sessions", "cad-ana-0")
        assert text.splitlines()[2].split() == ["NAME▴", "OWNER", "STATE", "SERVER"]
        assert "? help" in text.splitlines()[-1]


async def test_a_small_window_names_the_size_and_growing_brings_the_view_back(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.resize_terminal(40, 10)
        text = await see(pilot, "60x15")
        assert "gpu-003" not in text
        await pilot.resize_terminal(90, 25)
        await see(pilot, "gpu-003")


async def test_a_small_window_over_a_form_keeps_what_was_typed(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "n", *"ana")
        for size in ((40, 10), (41, 11), (40, 10)):
            await pilot.resize_terminal(*size)
        await see(pilot, "60x15")
        await pilot.press("escape", "q", "D")
        await pilot.resize_terminal(90, 25)
        await see(pilot, "New session", "ana")
        await pilot.press("x")
        await see(pilot, "anax")


async def test_a_dialog_that_comes_over_the_small_window_leads_back_to_the_view(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.resize_terminal(40, 10)
        await see(pilot, "60x15")
        console.app.push_screen(ConfirmDialog("Delete 1 session?", items=["cad-ana-0"]))
        await pilot.pause()
        await pilot.resize_terminal(41, 11)
        assert [isinstance(one, SizeScreen) for one in console.app.screen_stack] == [False, True, False]
        await pilot.resize_terminal(90, 25)
        await see(pilot, "Delete 1 session?")
        await pilot.press("escape")
        await see(pilot, "gpu-003")
        assert len(console.app.screen_stack) == 1


async def test_the_top_line_gives_up_counts_before_the_address(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 24)) as pilot:
        await loaded(pilot)
        lines = []
        for width in (120, 76, 60):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            lines.append(screen_text(console.app).splitlines()[0])
        assert ["ready" in line for line in lines] == [True, False, False]
        assert all("prod-eu" in line and "● polling" in line and line.endswith("! 7") for line in lines)


# ------------------------------------------------------------------ moving about


async def test_attention_opens_first_unless_a_key_was_pressed(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await pilot.press("3")
        await see(pilot, "polling", "gpu-003")
        assert screen_text(console.app).splitlines()[1].startswith(" Servers")


async def test_a_server_opens_its_sessions_and_back_leads_back(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("3", "down", "enter")
        text = await see(pilot, "Sessions › server:gpu-002")
        assert "cad-bob-1" in text
        assert "cad-ana-0" not in text
        await pilot.press("b")
        await see(pilot, " Servers")
        assert "gpu-002" in cursor_line(pilot)
        await pilot.press("f")
        await see(pilot, "Sessions › server:gpu-002")


async def test_a_session_leads_to_its_server(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "down", "down", "S")
        await see(pilot, " Servers")
        assert "gpu-007" in cursor_line(pilot)


async def test_filtering_as_one_types(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"owner:bob")
        await see(pilot, "Sessions › owner:bob", "6 of 31")
        await pilot.press("enter")
        assert console.app.focused is not None
        await pilot.press("escape")
        await see(pilot, " 31")


async def test_a_bad_filter_says_why_and_the_last_good_one_stays(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"bob ownr:")
        text = await see(pilot, "no column is called ownr, the nearest is owner")
        assert "Sessions › bob ownr " in text
        assert "\n       v\n" in text
        await pilot.press("escape")
        await see_gone(pilot, "no column")
        await see(pilot, " 31")


async def test_deleted_sessions_come_only_when_asked_for(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"old")
        await see(pilot, "0 of 31")
        await pilot.press(*" state:deleted", "enter")
        await see(pilot, "old-ana-1", "○ DELETED")
        await pilot.press("slash", *"bob")
        await see(pilot, "Sessions › bob ")
        await pilot.press("enter", "slash", "end", *" !state:ready")
        await see(pilot, "Sessions › bob !state:ready", "class-1")


async def test_commands_do_what_keys_do(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("colon", *"servers", "enter")
        await see(pilot, " Servers")
        await pilot.press("colon", *"filter rack=1", "enter")
        await see(pilot, "Servers › rack=1", "4 of 12")
        await pilot.press("colon", *"mark-shown", "enter")
        await see(pilot, "4 marked")
        await pilot.press("colon", *"delete-marked", "enter")
        await see(pilot, "delete-marked does not work in Servers.")
        await pilot.press("colon", *"servrs", "enter")
        await see(pilot, "No command is called servrs. The nearest is servers.")


async def test_escape_stops_what_is_being_sent_before_anything_else(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"cad", "enter")
        stopped: list[bool] = []
        screen = pilot.app.screen
        assert isinstance(screen, ConsoleScreen)

        def stop() -> bool:
            stopped.append(not stopped)
            return stopped[-1]

        screen.stop_work = stop
        await pilot.press("escape")
        assert stopped == [True], "something was under way: that is all the key does"
        assert screen.current.filter_text == "cad"
        await pilot.press("escape")
        assert screen.current.filter_text == ""


async def test_marks_and_filters_are_taken_back(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"bob", "enter", "asterisk")
        await see(pilot, "6 marked")
        await pilot.press("Z")
        await see_gone(pilot, "marked")
        await pilot.press("Z")
        await see(pilot, "taken back: filter", " 31")


async def test_help_and_palette_offer_what_works_here(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "question_mark")
        text = await see(pilot, "Keys in Sessions", "Delete the marked sessions")
        assert "Screenshots of many sessions" not in text
        await pilot.press("escape", "ctrl+p")
        await see(pilot, "Search actions")
        await pilot.press(*"delete the m", "down", "enter")
        await see(pilot, "Delete 1 session?")


async def test_json_and_ids_are_copied(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(100, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("3", "Y")
        await see(pilot, "srv-001: sent to the terminal's clipboard")
        await pilot.press("y")
        await see(pilot, '"Hostname": "gpu-001"')


def test_the_default_keys_clash_nowhere_and_are_free() -> None:
    taken = {f"ctrl+{letter}" for letter in "abdhijmnqstwz"} | {"ctrl+backslash", "ctrl+space", "backspace"}
    for views in (("any", "list", "sessions"), ("any", "list", "servers")):
        seen: dict[str, str] = {}
        for row in KEYS:
            if row.view not in views:
                continue
            for key in row.keys.split(","):
                assert key not in taken
                assert not key.startswith(("alt+", "f1"))
                assert seen.setdefault(key, row.id) == row.id, key
    assert "ctrl+q" not in {key for active in ConsoleApp.BINDINGS for key in _keys(active)}


def _keys(binding: Any) -> list[str]:
    return str(getattr(binding, "key", "")).split(",")


# ------------------------------------------------------------------ the network


async def test_a_broker_that_goes_away_leaves_the_data_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(120, 30)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "down")
        before = cursor_line(pilot)
        console.fleet.is_away = True
        text = await see(pilot, "✗ stale since", "Next try")
        assert "cad-ana-0" in text
        assert cursor_line(pilot)[:20] == before[:20]
        console.fleet.is_away = False
        await see(pilot, "● polling")
        await see_gone(pilot, "stale since")


async def test_what_has_not_been_read_yet_is_no_zero(tmp_path: Path) -> None:
    fleet, may_go_on = StillFleet(), asyncio.Event()

    async def slow(asked: Any) -> bytes:
        if asked.path == "/describeSessions":
            await may_go_on.wait()
        return await fleet.answer(asked)

    async with (
        still_console(tmp_path, fleet=fleet) as console,
        console.app.run_test(size=(120, 30)) as pilot,
    ):
        console.broker.answer = slow
        text = await see(pilot, "servers 9/12", "sessions loading")
        assert "sessions 0" not in text
        assert text.splitlines()[1].strip() == "Sessions"
        fleet.sessions.clear()
        may_go_on.set()
        await see(pilot, "sessions 0")


async def test_a_notice_stands_at_the_foot_until_a_key(tmp_path: Path) -> None:
    options = ConsoleOptions(notice="Saved in ~/.config/dcvtui/ (0600).")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        assert "Saved in ~/.config/dcvtui/ (0600)." in screen_text(console.app).splitlines()[-1]
        await pilot.press("down")
        await see(pilot, "? help")
        await see_gone(pilot, "Saved in")


async def test_typing_goes_on_while_the_broker_is_away(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(100, 30)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"own")
        console.fleet.is_away = True
        await see(pilot, "stale since")
        await pilot.press(*"er:bob")
        await see(pilot, "/ owner:bob")
        console.fleet.is_away = False
        await see(pilot, "● polling", "/ owner:bob")


async def test_only_what_changed_is_drawn(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(100, 30)) as pilot:
        await loaded(pilot)
        await pilot.press("2")
        await rest(pilot)
        table = console.app.screen.query_one("#sessions FleetTable")
        drawn = table.lines_drawn  # type: ignore[attr-defined]  # of the fleet table
        asked = len(console.fleet.asked)
        await until(pilot, lambda: len(console.fleet.asked) > asked + 10)
        assert table.lines_drawn == drawn  # type: ignore[attr-defined]  # as above
        console.fleet.session(0)["State"] = "DELETING"
        await until(pilot, lambda: table.lines_drawn > drawn)  # type: ignore[attr-defined]  # as above
        assert table.lines_drawn == drawn + 1  # type: ignore[attr-defined]  # as above


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (reply({"message": "no"}, "503 Service Unavailable"), "503"),
        (reply(content=b"<html>hello</html>"), "broker.example"),
        (reply({"Servers": "none"}), "no list of servers"),
    ],
)
async def test_nonsense_at_start_is_a_banner_on_an_empty_list(
    tmp_path: Path, answer: bytes, sentence: str
) -> None:
    fleet = StillFleet()

    async def nonsense(_asked: Any) -> bytes:
        return answer

    async with (
        still_console(tmp_path, QUICK, fleet) as console,
        console.app.run_test(size=(120, 30)) as pilot,
    ):
        console.broker.answer = nonsense
        text = await see(pilot, "no data yet", "No data yet.", "Next try")
        assert "Traceback" not in text
        console.broker.answer = fleet.answer
        await pilot.press("r")
        await see(pilot, "● polling", "cad-ana-0")


async def test_a_ca_file_that_is_missing_is_a_banner_too(tmp_path: Path) -> None:
    from dcvtui.config import Connection, Credentials
    from dcvtui.trust import Trust

    trust = Trust(ca_file=tmp_path / "missing.pem")
    app = ConsoleApp(Connection("lab", "https://127.0.0.1:1", Credentials("id", "secret"), trust))
    async with app.run_test(size=(100, 24)) as pilot:
        await see(pilot, "missing.pem", "Copy the broker's CA there", "No data yet.")


# ------------------------------------------------------------------ acting


async def test_deleting_asks_and_says_what_came_of_each(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(100, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"~cad30 or name:cad-chloe-2,cad-bob-7", "enter", "asterisk", "D")
        await see(pilot, "Delete 2 sessions?", "cad-bob-7", "cad-chloe-2")
        await pilot.pause(0.4)
        await pilot.press("c", "y")
        await see(pilot, "Delete: 1 done, 1 need force")
        await pilot.press("escape", "U", "G", "D")
        await see(pilot, "Delete 1 session?", "cad-chloe-2")
        await pilot.pause(0.4)
        await pilot.press("c", "y")
        await see(pilot, "1 failed", "The agent of the dcv server is not reachable")
        await pilot.press("r")
        await see(pilot, "Delete 1 session?")
        await pilot.pause(0.4)
        await pilot.press("c", "f", "y")
        await see(pilot, "Delete: 1 done", "◑ DELETING")
        sent = [item for path, items in console.fleet.asked if path == "/deleteSessions" for item in items]
        assert [item.get("Force", False) for item in sent] == [False, False, True]
        await pilot.press("5")
        await see(pilot, "Activity", "delete", "failed", "done", "UNKNOWN → DELETING")


async def test_attention_does_what_its_row_names(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        assert "enter sessions" in cursor_line(pilot)
        await pilot.press("enter")
        await see(pilot, "Sessions › server:gpu-003")
        await pilot.press("1", "G", "enter")
        await see(pilot, "Open 1 server?", "gpu-008")


async def test_connection_data_is_shown_with_the_token_masked(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "c")
        text = await see(pilot, "Connect to cad-ana-0", "authToken=")
        assert "token.of.connection" not in text


async def test_read_only_hides_the_keys_and_says_so(tmp_path: Path) -> None:
    async with (
        still_console(tmp_path, read_only=True) as console,
        console.app.run_test(size=(120, 30)) as pilot,
    ):
        await loaded(pilot)
        await pilot.press("2")
        text = await see(pilot, "read-only", "s screenshot")
        assert "D delete" not in text
        await pilot.press("D")
        await until(pilot, lambda: "read-only" in screen_text(console.app).splitlines()[-1])
        assert not any(path == "/deleteSessions" for path, _ in console.fleet.asked)


async def test_marks_of_vanished_items_are_dropped_with_a_line_in_activity(tmp_path: Path) -> None:
    async with still_console(tmp_path, QUICK) as console, console.app.run_test(size=(100, 30)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "space")
        await see(pilot, "1 marked")
        name = console.fleet.session(0)["Name"]
        del console.fleet.sessions[console.fleet.session(0)["Id"]]
        await see_gone(pilot, "1 marked")
        await pilot.press("5")
        await see(pilot, "dropped: no longer listed", name)


async def test_q_leaves_with_success(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("q")
        await until(pilot, lambda: console.app.return_code == 0)


async def test_q_leaves_details_and_a_window_that_is_too_small(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "d")
        await see(pilot, "esc close")
        await pilot.press("q")
        await see(pilot, "OWNER")
        await pilot.resize_terminal(40, 10)
        await see(pilot, "q or ctrl-c leaves")
        await pilot.press("q")
        await until(pilot, lambda: not console.app.is_running)


def test_a_fingerprint_does_not_run_into_the_next_try() -> None:
    moment = datetime(2026, 3, 30, 12, tzinfo=UTC)
    link = Link(LinkState.STALE, "It shows SHA256:AB:CD", moment, moment)
    assert "SHA256:AB:CD. Next try" in banner_text({"prod": link})
    said = Link(LinkState.STALE, "It is away.", moment, moment)
    assert "It is away. Next try" in banner_text({"prod": said})
