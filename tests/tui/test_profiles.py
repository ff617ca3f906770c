"""The list of profiles: switching between brokers and looking at several, without leaving the console."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from dcvtui.config import Files
from dcvtui.known_brokers import known_brokers
from dcvtui.polling import Pace
from dcvtui.tui.app import ConsoleApp, ConsoleOptions
from tests.running_fleet import RunningFleet, running_fleet
from tests.tui.test_app import see, see_gone

QUICK = ConsoleOptions(pace=Pace(visible_s=0.2, page_s=0.1, small_fleet_s=0.3, shortest_retry_s=0.1))


def table(fleet: RunningFleet, name: str) -> str:
    running = fleet.running
    return f"""
[profiles.{name}]
url = "{running.url}"
client_id = "{running.client_id}"
client_secret = "{running.client_secret}"
ca_file = "{running.ca_file}"
"""


@contextlib.asynccontextmanager
async def console(tmp_path: Path) -> AsyncIterator[tuple[Pilot[int], Path, contextlib.AsyncExitStack]]:
    """A console on `east`, with `west` and a profile that cannot be used known, too."""
    async with contextlib.AsyncExitStack() as stack:
        stop_east = await stack.enter_async_context(contextlib.AsyncExitStack())
        east = await stop_east.enter_async_context(running_fleet(tmp_path / "e", servers=2))
        west = await stack.enter_async_context(running_fleet(tmp_path / "w", servers=3, seed=8))
        path = tmp_path / "profiles.toml"
        path.write_text(table(east, "east") + table(west, "west") + '[profiles.broken]\nclient_id = "x"\n')
        path.chmod(0o600)
        files = Files(path, tmp_path / "none.conf")
        app = ConsoleApp(east.connection(name="east"), QUICK, known=lambda: known_brokers(files))
        pilot = await stack.enter_async_context(app.run_test(size=(140, 40)))
        await see(pilot, "east", "● live")
        yield pilot, path, stop_east


async def test_enter_switches_to_another_broker_and_keeps_the_view(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, _, _):
        await pilot.press("3", "slash", *"state:available", "enter", "6")
        await see(pilot, "Profiles", "● live", "○ not open", "broken")
        await pilot.press("j", "enter")
        await see(pilot, " west  ", "Servers › state:available", "gpu-dub-002", "● live")
        await pilot.press("6")
        await see(pilot, "○ not open")


async def test_a_switches_a_second_broker_on_and_off(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, _, _):
        await pilot.press("6", "j", "a")
        await see(pilot, "east + west", "servers 5/5")
        await pilot.press("a")
        await see(pilot, "servers 2/2")
        await see_gone(pilot, "east + west")
        await pilot.press("k", "a")
        await see(pilot, "This is the only broker")


async def test_a_profile_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, _, _):
        await pilot.press("6", "G", "enter")
        await see(pilot, "There is no url in the profile 'broken'")


async def test_a_broker_that_is_away_can_be_left(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, _, stop_east):
        await stop_east.aclose()
        await see(pilot, "stale since")
        await pilot.press("colon", *"profile west", "enter")
        await see(pilot, " west  ", "● live", "servers 3/3")
        await see_gone(pilot, "stale since")


async def test_a_command_with_an_unknown_name_tells_the_nearest(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, _, _):
        await pilot.press("colon", *"profile wset", "enter")
        await see(pilot, "No profile is called wset. The nearest is west.")


@pytest.mark.parametrize("text", ["[profiles", "[profiles.east]\nurl = 7\n"])
async def test_a_damaged_file_is_said_and_the_present_broker_stays(tmp_path: Path, text: str) -> None:
    async with console(tmp_path) as (pilot, path, _):
        path.write_text(text)
        await pilot.press("6")
        await see(pilot, "Profiles", "east", "● live", "profiles.toml")


async def test_a_profile_that_was_added_meanwhile_is_there(tmp_path: Path) -> None:
    async with console(tmp_path) as (pilot, path, _):
        path.write_text(
            path.read_text() + '[profiles.new]\nurl = "https://new.example:8443"\nno_token = true\n'
        )
        await pilot.press("6")
        await see(pilot, "https://new.example:8443")
