"""The whole fleet on one page, by a key from every view."""

from pathlib import Path

import pytest

from tests.tui.screens import assert_screen, screen_text
from tests.tui.still_fleet import StillFleet, still_console, utc
from tests.tui.test_app import QUICK, SIZES, loaded, rest, see, see_gone

__all__ = ["utc"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("utc")
async def test_a_key_shows_the_fleet_and_the_same_key_leaves_it(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    async with still_console(tmp_path) as console, console.app.run_test(size=size) as pilot:
        await loaded(pilot)
        await pilot.press("0")
        await see(pilot, "capacity")
        await rest(pilot)
        assert_screen(console.app, f"overview-{size[0]}x{size[1]}")
        await pilot.press("0")
        await see(pilot, "Attention", "gpu-003")


async def test_it_follows_the_fleet_while_it_is_open(tmp_path: Path) -> None:
    fleet = StillFleet()
    async with (
        still_console(tmp_path, QUICK, fleet) as console,
        console.app.run_test(size=(120, 40)) as pilot,
    ):
        await loaded(pilot)
        await pilot.press("colon", *"open-overview", "enter")
        await see(pilot, "9 AVAILABLE", "27 READY")
        fleet.session(1)["State"] = "DELETING"
        await see(pilot, "26 READY", "1 DELETING")
        await pilot.press("escape")
        await see_gone(pilot, "capacity")
        assert "Attention" in screen_text(console.app)
