"""One console on two real brokers: their fleets in the same lists, each acted upon by its own broker."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from dcvtui.polling import Pace
from dcvtui.tui.app import ConsoleApp, ConsoleOptions
from tests.broker.api_calls import queue
from tests.running_fleet import RunningFleet, running_fleet
from tests.tui.test_app import see, see_gone

QUICK = ConsoleOptions(pace=Pace(visible_s=0.2, page_s=0.1, small_fleet_s=0.3, shortest_retry_s=0.1))
TYPED_AHEAD_S = 0.4
SOME = "name:shared-*"


@dataclass
class TwoBrokers:
    east: RunningFleet
    west: RunningFleet
    pilot: Pilot[int]
    stop_west: contextlib.AsyncExitStack


@contextlib.asynccontextmanager
async def console_on_two(tmp_path: Path, **west: Any) -> AsyncIterator[TwoBrokers]:
    async with contextlib.AsyncExitStack() as stack:
        east_fleet = await stack.enter_async_context(running_fleet(tmp_path / "east", servers=2))
        stop_west = await stack.enter_async_context(contextlib.AsyncExitStack())
        west_fleet = await stop_west.enter_async_context(running_fleet(tmp_path / "west", servers=2, seed=8))
        for fleet in (east_fleet, west_fleet):
            await queue(fleet.running, "ana", Name="shared-1", Requirements="tag:none = 'such'")
        connections = [
            east_fleet.connection(name="east"),
            west_fleet.connection(name="west", **west),
        ]
        app = ConsoleApp(connections, QUICK)
        pilot = await stack.enter_async_context(app.run_test(size=(140, 40)))
        await see(pilot, "east + west", "● live")
        await pilot.press("2", "slash", *SOME, "enter")
        yield TwoBrokers(east_fleet, west_fleet, pilot, stop_west)


async def names(fleet: RunningFleet) -> list[str]:
    return [one["Name"] for one in await fleet.sessions() if one["State"] != "DELETED"]


async def test_both_fleets_are_in_one_list_with_the_name_of_their_broker(tmp_path: Path) -> None:
    async with console_on_two(tmp_path) as two:
        text = await see(two.pilot, "2 of ")
        rows = [line for line in text.splitlines() if "shared-1" in line]
        assert sum("east" in line for line in rows) == 1
        assert sum("west" in line for line in rows) == 1
        await two.pilot.press("slash", *"profile:west", "enter")
        await see(two.pilot, "profile:west")
        await see_gone(two.pilot, " east  ")


async def test_each_item_is_changed_by_its_own_broker(tmp_path: Path) -> None:
    async with console_on_two(tmp_path) as two:
        await see(two.pilot, "2 of ")
        await two.pilot.press("asterisk", "D")
        for name in ("east", "west"):
            await see(two.pilot, f"Delete 1 session on {name}?", "shared-1")
            await two.pilot.pause(TYPED_AHEAD_S)
            await two.pilot.press("y")
        await see(two.pilot, "0 of ")
        assert "shared-1" not in await names(two.east)
        assert "shared-1" not in await names(two.west)


async def test_a_broker_that_is_away_leaves_the_other_one_as_it_is(tmp_path: Path) -> None:
    async with console_on_two(tmp_path) as two:
        await see(two.pilot, "2 of ")
        await two.stop_west.aclose()
        await see(two.pilot, "west stale since", "west is stale since")
        await queue(two.east.running, "ana", Name="shared-2", Requirements="tag:none = 'such'")
        await see(two.pilot, "3 of ", "shared-2")
        await two.pilot.press("1")
        await see(two.pilot, "west", "STALE")


async def test_a_new_session_goes_to_the_broker_of_the_row_that_was_looked_at(tmp_path: Path) -> None:
    async with console_on_two(tmp_path) as two:
        await see(two.pilot, "2 of ")
        await two.pilot.press("slash", *f"{SOME} profile:west", "enter")
        await see(two.pilot, "1 of ")
        await two.pilot.press("n")
        await see(two.pilot, "On which broker?")
        await two.pilot.press("enter")
        await see(two.pilot, "New session on west", "can take a VIRTUAL")
        await two.pilot.press(*"ana", "tab", *"shared-3", "ctrl+o")
        await see(two.pilot, "1 session accepted", "2 of ")
        assert "shared-3" in await names(two.west)
        assert "shared-3" not in await names(two.east)


async def test_a_broker_that_may_only_be_looked_at_is_not_changed(tmp_path: Path) -> None:
    async with console_on_two(tmp_path, read_only=True) as two:
        await see(two.pilot, "2 of ")
        await two.pilot.press("slash", *f"{SOME} profile:west", "enter")
        await see(two.pilot, "1 of ")
        await two.pilot.press("D")
        await see(two.pilot, "read-only")
        assert "shared-1" in await names(two.west)
