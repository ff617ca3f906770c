"""Columns, saved filters, rows in files and command lines, by their keys."""

import csv
import json
from pathlib import Path

import pytest

from dcvtui.tui.app import ConsoleOptions
from tests.tui.screens import assert_screen, screen_text
from tests.tui.still_fleet import still_console, utc
from tests.tui.test_app import loaded, see, see_gone

pytestmark = pytest.mark.usefixtures("utc")
__all__ = ["utc"]


def heads(text: str) -> list[str]:
    return text.splitlines()[2].replace("▴", "").replace("▾", "").split()


async def test_columns_are_chosen_moved_and_remembered_tags_among_them(tmp_path: Path) -> None:
    options = ConsoleOptions(state_folder=tmp_path / "state")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "C")
        await see(pilot, "Columns of Sessions")
        assert_screen(console.app, "columns-80x24")
        # OWNER goes, STATE comes before NAME's neighbour, and the tag at the end is taken.
        await pilot.press("down", "space", "down", "K", *["pagedown"] * 5, "space", "enter")
        text = await see(pilot, " tag:rack\n")
        assert heads(text)[:2] == ["NAME", "STATE"]
        assert "OWNER" not in heads(text)
        assert heads(text)[-1] == "tag:rack"
        await pilot.press("slash", *"tag:rack=2", "enter")
        shown = [line.split()[-1] for line in screen_text(console.app).splitlines()[3:-1] if line.strip()]
        assert set(shown) <= {"2", "┃"}
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2")
        text = await see(pilot, "tag:rack")
        assert heads(text)[:2] == ["NAME", "STATE"]
        await pilot.press("C", "r")
        text = await see(pilot, "OWNER")
        assert "tag:rack" not in text


async def test_a_list_can_be_sorted_by_a_tag(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("3")
        servers = console.app._console.current
        servers.show_columns(["NAME", "tag:rack"])
        await pilot.press("o")
        await see(pilot, "tag:rack▴")
        rows = [line.split() for line in screen_text(console.app).splitlines()[3:15]]
        racks = [row[row.index(next(one for one in row if one.startswith("gpu-"))) + 1] for row in rows]
        assert racks == sorted(racks)


async def test_filters_are_saved_used_and_forgotten_by_name(tmp_path: Path) -> None:
    options = ConsoleOptions(state_folder=tmp_path / "state")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"owner:bob", "enter", "F")
        await see(pilot, "Filters of Sessions", "Nothing is saved yet", "The present one: owner:bob")
        await pilot.press("s", *["backspace"] * 12, *"bobs own", "enter")
        await see(pilot, "Sessions › bobs own: owner:bob")
        await pilot.press("escape")
        await see_gone(pilot, "bobs own")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(80, 24)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "F")
        await see(pilot, "bobs own  owner:bob")
        await pilot.press("enter")
        await see(pilot, "Sessions › bobs own: owner:bob")
        await pilot.press("Z")
        await see_gone(pilot, "bobs own")
        await pilot.press("F", "D")
        await see(pilot, "forgotten: bobs own")
        await pilot.press("F")
        await see(pilot, "Nothing is saved yet")


async def test_rows_are_saved_as_csv_and_json_for_their_owner_only(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.csv", tmp_path / "rows.json"
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        console.fleet.session(6)["Name"] = "=1+1"
        await loaded(pilot)
        await pilot.press("2", "slash", *"owner:ana", "enter", "E")
        await see(pilot, "Save Sessions")
        await pilot.press(*["backspace"] * 20, *str(path), "enter")
        await see(pilot, "saved 5 rows")
        await pilot.press("E", *["backspace"] * 20, *str(other), "enter")
        await see(pilot, "saved 5 rows", "rows.json")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 5
    assert {row["owner"] for row in rows} == {"ana"}
    assert "'=1+1" in {row["name"] for row in rows}
    assert [row["Owner"] for row in json.loads(other.read_text())] == ["ana"] * 5
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_command_line_that_does_the_same_is_shown(tmp_path: Path) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "slash", *"state:unknown or idle>7d", "enter", "o")
        await pilot.press("colon", *"show-command", "enter")
        wanted = "'state:unknown or idle>7d'"
        text = await see(pilot, f"dcvtui --profile prod-eu describe-sessions --filter {wanted}")
        assert "--sort=owner" in text
        assert f"dcvtui --profile prod-eu reap --filter {wanted} --force --dry-run" in text
        await pilot.press("escape", "5", "colon", *"show-command", "enter")
        await see(pilot, "There is no command line for Activity.")


async def test_what_was_done_is_in_the_audit_trail_without_permissions(tmp_path: Path) -> None:
    options = ConsoleOptions(state_folder=tmp_path / "state")
    async with still_console(tmp_path, options) as console, console.app.run_test(size=(120, 40)) as pilot:
        await loaded(pilot)
        await pilot.press("2", "D")
        await see(pilot, "Delete 1 session?")
        await pilot.pause(0.35)
        await pilot.press("y")
        await see(pilot, "Delete: 1 done")
    trail = tmp_path / "state" / "audit.jsonl"
    (line,) = trail.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["profile"], entry["broker"]) == ("prod-eu", "https://broker.example:8443")
    assert (entry["action"], entry["outcome"], entry["requestId"]) == ("delete", "done", "r-1")
    assert trail.stat().st_mode & 0o777 == 0o600
