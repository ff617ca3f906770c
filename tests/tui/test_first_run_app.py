"""The first screen on a real broker: what is asked, what is kept, and that it fits."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widgets import Input

from dcvtui.broker_check import BrokerCheck, BrokerEntry
from dcvtui.profiles import read_profiles
from dcvtui.tui.first_run import DemoChosen, FirstRunForm
from dcvtui.tui.first_run_app import FirstRunApp, Outcome
from dcvtui.tui.panel import Words
from dcvtui.tui.size_screen import SizeScreen
from tests.running import RunningBroker, running_broker
from tests.tui.screens import screen_text


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path) as broker:
        yield broker


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    return tmp_path / "dcvtui" / "profiles.toml"


def app_on(profiles: Path, entry: BrokerEntry | None = None, *, ascii_only: bool = False) -> FirstRunApp:
    return FirstRunApp(BrokerCheck(profiles), entry or BrokerEntry(), ascii_only=ascii_only)


def entry_for(broker: RunningBroker, **fields: str) -> BrokerEntry:
    values = {"client_id": broker.client_id, "secret": broker.client_secret}
    return BrokerEntry(broker.url, **{**values, **fields})


async def settled(pilot: Pilot[Outcome]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def steps(app: FirstRunApp) -> list[str]:
    return app.screen.query_one("#steps", Words).text.splitlines()


async def test_a_broker_that_passes_is_saved_and_ends_the_screen(
    running: RunningBroker, profiles: Path
) -> None:
    entry = entry_for(running, ca_file=str(running.ca_file))
    app = app_on(profiles, entry)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert not isinstance(app.return_value, DemoChosen)
    assert app.return_value is not None
    assert app.return_value.entry == entry
    assert app.return_value.saved.endswith("/dcvtui/ (0600).")
    assert read_profiles(profiles).profiles["127.0.0.1"].url == running.url


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
async def test_the_fingerprint_and_the_question_are_in_sight(
    running: RunningBroker, profiles: Path, size: tuple[int, int]
) -> None:
    app = app_on(profiles, entry_for(running))
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        lines = screen_text(app).splitlines()
        shown = [line.strip() for line in lines if line.count(":") >= 15]
        assert len(shown) == 2
        assert any("y trust this certificate" in line for line in lines)
        assert any("dcvsmbroker_ca.pem" in line for line in lines)


async def test_a_wrong_secret_leaves_all_fields_as_typed(running: RunningBroker, profiles: Path) -> None:
    entry = entry_for(running, ca_file=str(running.ca_file), secret="wrong")
    app = app_on(profiles, entry, ascii_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert steps(app)[:3] == ["v name", "v reach", "v TLS"]
        assert steps(app)[3].startswith("x token: wrong client id or secret.")
        assert isinstance(app.screen, FirstRunForm)
        assert app.screen.entry == entry
        app.screen.query_one("#secret Input", Input).value = running.client_secret
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert app.return_value is not None


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_leaving_saves_nothing_also_while_a_test_runs(profiles: Path, key: str) -> None:
    reached = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        app = app_on(profiles, BrokerEntry(f"127.0.0.1:{port}", "id", "secret"))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await pilot.press("ctrl+o")
            await reached.wait()
            await pilot.press(key)
            await pilot.pause()
        assert app.return_value is None
    assert read_profiles(profiles).profiles == {}


async def test_a_window_made_smaller_and_larger_again_keeps_what_was_typed(profiles: Path) -> None:
    app = app_on(profiles)
    async with app.run_test(size=(40, 10)) as pilot:
        await settled(pilot)
        assert isinstance(app.screen, SizeScreen)
        await pilot.resize_terminal(60, 15)
        await pilot.pause()
        await pilot.press(*"broker")
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert isinstance(app.screen, SizeScreen)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert isinstance(app.screen, FirstRunForm)
        assert app.screen.entry.address == "broker"
        assert app.size == Size(80, 24)
