"""Acting from the console on a real broker with simulated servers: what is asked, sent and said."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from dcvtui.api.permissions import DEFAULT_TEXT
from dcvtui.polling import Pace
from dcvtui.tui.app import ConsoleApp, ConsoleOptions
from tests.running_fleet import RunningFleet, running_fleet
from tests.tui.screens import screen_text
from tests.tui.test_app import see, see_gone

QUICK = ConsoleOptions(pace=Pace(visible_s=0.2, page_s=0.1, small_fleet_s=0.3))
TYPED_AHEAD_S = 0.35


@asynccontextmanager
async def console_on(
    tmp_path: Path, servers: int = 4, **connection: Any
) -> AsyncIterator[tuple[RunningFleet, Pilot[int]]]:
    """A console on a real broker with a still fleet."""
    async with running_fleet(tmp_path, servers=servers) as fleet:
        app = ConsoleApp(fleet.connection(**connection), QUICK)
        async with app.run_test(size=(120, 40)) as pilot:
            await see(pilot, "live", "servers")
            await pilot.press("2")
            yield fleet, pilot


async def filtered(pilot: Pilot[int], view: str, text: str) -> None:
    await pilot.press(view, "slash", *text, "enter")


async def test_sessions_are_created_as_the_form_says(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (fleet, pilot):
        await pilot.press("n")
        await see(pilot, "New session", "can take a VIRTUAL")
        await pilot.press(*"ana", "tab", *"class-{n}", "tab", "end", "backspace", "2", "ctrl+o")
        await see(pilot, "2 sessions accepted", "class-1", "class-2")
        await filtered(pilot, "2", "name:class-*")
        await see(pilot, "2 of ", "● READY")
        names = {session["Name"] for session in await fleet.sessions()}
        assert {"class-1", "class-2"} <= names
        await pilot.press("5")
        await see(pilot, "create", "done")


async def test_a_refused_request_stays_in_the_form(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (fleet, pilot):
        before = len(await fleet.sessions())
        await pilot.press("n")
        await see(pilot, "New session")
        await pilot.press(*"ana", "tab", *"class-1", "tab", "tab", "tab", *"tag:rack = 'none'", "ctrl+o")
        text = await see(pilot, "no dcv server found for placement")
        assert "class-1" in text
        assert len(await fleet.sessions()) == before


@pytest.mark.covers("P20")
async def test_permissions_are_sent_and_remembered(tmp_path: Path) -> None:
    """What stands in the editor is what the host gets, character by character."""
    async with console_on(tmp_path) as (fleet, pilot):
        await pilot.press("p")
        await see(pilot, "What is in force is not known", "%owner% allow builtin")
        await pilot.press("ctrl+end", *"bob allow display", "ctrl+o")
        await see(pilot, "bob gains")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("y")
        await see(pilot, "permissions: 1 sent.")
        await pilot.press("p")
        await see(pilot, "Sent by you", "bob allow display")
        texts = [
            server.permissions(session.id) or ""
            for server in fleet.fleet.servers
            for session in server.sessions
        ]
        assert DEFAULT_TEXT + "bob allow display" in texts
        assert base64.b64encode(b"bob allow display").decode() not in screen_text(pilot.app)


async def test_a_link_for_somebody_whom_the_permissions_shut_out_says_so(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (_, pilot):
        await pilot.press("p")
        await see(pilot, "%owner% allow builtin")
        await pilot.press("ctrl+end", *"bob allow display", "ctrl+o")
        await see(pilot, "bob gains")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("y")
        await see(pilot, "permissions: 1 sent.")
        await pilot.press("c")
        await see(pilot, "Connect to", "authToken=")
        for user, is_shut_out in (("carl", True), ("bob", False)):
            await pilot.press("u", "end", *["backspace"] * 20, *user, "enter")
            shown = see if is_shut_out else see_gone
            await shown(pilot, f"not let {user if is_shut_out else 'carl'} see this session")


async def test_servers_are_closed_opened_and_the_closing_is_taken_back(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (fleet, pilot):
        await pilot.press("3")
        await pilot.press("c")
        await see(pilot, "Close 1 server?")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("f", "y")
        await see(pilot, "□ SERVER_CLOSED", "servers 2/4")
        await pilot.press("Z")
        await see(pilot, "Open 1 server?")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("y")
        await see(pilot, "servers 3/4")
        assert (await fleet.servers())["cpu-fra-001"]["Availability"] == "AVAILABLE"


async def test_draining_servers_are_followed_in_attention(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (fleet, pilot):
        await pilot.press("3", "down", "down", "R")
        text = await see(pilot, "Drain 1 server?", "ends none")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("y")
        await see(pilot, "drain: 0 of 1 empty, 6 sessions left", "SERVER_CLOSED")
        await pilot.press("1")
        await see(pilot, "Attention", "drain")
        assert "session" in text
        assert len(await fleet.sessions()) == fleet.fleet.plan.session_count


async def test_the_screen_of_a_session_is_shown_and_left(tmp_path: Path) -> None:
    async with console_on(tmp_path) as (_, pilot):
        await pilot.press("s")
        await see(pilot, "taken", "fit or 1:1")
        await pilot.press("escape")
        await see(pilot, " Sessions")


async def test_a_batch_of_many_says_how_far_it_is(tmp_path: Path) -> None:
    async with console_on(tmp_path, servers=12) as (fleet, pilot):
        count = fleet.fleet.plan.session_count
        await filtered(pilot, "2", "state:ready clients:0")
        await pilot.press("asterisk", "D")
        await see(pilot, "Delete ", "owners")
        await pilot.pause(TYPED_AHEAD_S)
        await pilot.press("y")
        await see_gone(pilot, "cancel")
        await see(pilot, "done")
        assert len([one for one in await fleet.sessions() if one["State"] == "READY"]) < count
