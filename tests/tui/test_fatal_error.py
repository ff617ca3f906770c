"""The report of a bug tells where it is, and no secret."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.app import App

from dcvtui.broker_check import BrokerCheck, BrokerEntry
from dcvtui.config import Connection, Credentials
from dcvtui.trust import Trust
from dcvtui.tui.app import ConsoleApp
from dcvtui.tui.first_run_app import FirstRunApp


def console() -> ConsoleApp:
    return ConsoleApp(Connection("lab", "https://127.0.0.1:9", Credentials("id", "s3cret"), Trust()))


def first_run() -> FirstRunApp:
    return FirstRunApp(BrokerCheck(Path("/none")), BrokerEntry(secret="s3cret"))


@pytest.mark.parametrize("make", [console, first_run])
async def test_a_bug_shows_its_place_and_no_variables(
    make: Callable[[], App[object]], capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(link: str) -> None:
        raise RuntimeError(f"no {len(link)}")

    app = make()
    with pytest.raises(RuntimeError):
        async with app.run_test(size=(100, 30)) as pilot:
            app.call_later(broken, "https://host/#s3cret-token")
            await pilot.pause()
    report = capsys.readouterr().err
    assert "RuntimeError: no 26" in report
    assert "in broken" in report
    assert "s3cret" not in report
