"""The first screen tests a broker step by step and loses nothing that was typed."""

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from dcvtui.errors import ConfigError
from dcvtui.tui.forms import BrokerEntry, DemoChosen, FirstRunForm, FirstRunOutcome, Step
from dcvtui.tui.panel import Words
from tests.tui.screens import assert_screen, screen_text

ENTRY = BrokerEntry("broker.example:8443", "id", "s3cret")
FINGERPRINT = "SHA256:AB:CD"


class Broker:
    """One with its own CA and one right secret."""

    def __init__(self) -> None:
        self.saved: list[BrokerEntry] = []
        self.tested: list[BrokerEntry] = []
        self.disk_is_full = False

    async def test(self, entry: BrokerEntry) -> AsyncIterator[Step]:
        self.tested.append(entry)
        yield Step("name", True)
        yield Step("reach", True)
        if entry.fingerprint != FINGERPRINT:
            yield Step("TLS", False, f"signed by an unknown CA. {FINGERPRINT}", FINGERPRINT)
            return
        yield Step("TLS", True)
        if entry.secret != "s3cret":
            yield Step("token", False, "wrong client id or secret")
            return
        yield Step("token", True)
        yield Step("API", True, "240 servers")

    async def save(self, entry: BrokerEntry) -> str:
        if self.disk_is_full:
            raise ConfigError("The profile cannot be saved: no space left.")
        self.saved.append(entry)
        return "Saved in ~/.config/dcvtui/ (0600)"


class Opener(App[None]):
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, broker: Broker, entry: BrokerEntry | None = None) -> None:
        super().__init__()
        self.seconds = 0.0
        self.form = FirstRunForm(broker.test, broker.save, entry, clock=lambda: self.seconds)
        self.outcome: FirstRunOutcome | DemoChosen | str | None = "open"

    def on_mount(self) -> None:
        self.push_screen(self.form, self.take)

    def take(self, outcome: FirstRunOutcome | DemoChosen | None) -> None:
        self.outcome = outcome

    @property
    def steps(self) -> list[str]:
        return self.form.query_one("#steps", Words).text.splitlines()


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
async def test_the_question_about_a_certificate_fits(size: tuple[int, int]) -> None:
    app = Opener(Broker(), ENTRY)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert_screen(app, f"first-run-{size[0]}x{size[1]}")


async def test_a_broker_with_its_own_ca_is_saved_after_a_yes() -> None:
    broker = Broker()
    app = Opener(broker)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(*"broker.example:8443", "enter", *"id", "tab", *"s3cret", "ctrl+o")
        await settled(pilot)
        assert app.steps == ["✓ name", "✓ reach", f"✗ TLS: signed by an unknown CA. {FINGERPRINT}"]
        assert "y trust this certificate" in screen_text(app)
        assert broker.saved == []
        app.seconds += 1
        await pilot.press("y")
        await settled(pilot)
    accepted = BrokerEntry("broker.example:8443", "id", "s3cret", fingerprint=FINGERPRINT)
    assert broker.saved == [accepted]
    assert app.outcome == FirstRunOutcome(accepted, "Saved in ~/.config/dcvtui/ (0600)")


async def test_a_letter_typed_ahead_trusts_nothing() -> None:
    broker = Broker()
    app = Opener(broker, ENTRY)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        app.seconds += 0.29
        await pilot.press("y")
        await settled(pilot)
        assert len(broker.tested) == 1
        assert "y trust this certificate" in screen_text(app)


async def test_the_demo_is_a_second_choice_but_no_answer_to_the_question() -> None:
    app = Opener(Broker(), ENTRY)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert_screen(app, "first-run-typed-80x24")
        await pilot.press("ctrl+o")
        await settled(pilot)
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert app.form.is_current
        await pilot.press("n", "ctrl+r")
        await pilot.pause()
    assert app.outcome == DemoChosen()


@pytest.mark.parametrize("key", ["n", "escape"])
async def test_a_no_goes_back_to_the_fields(key: str) -> None:
    broker = Broker()
    app = Opener(broker, ENTRY)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        await pilot.press(key)
        await pilot.pause()
        assert app.outcome == "open"
        assert isinstance(app.focused, Input)
        assert "trust this certificate" not in screen_text(app)
        await pilot.press("y")
        assert app.form.entry.ca_file == "y"
    assert len(broker.tested) == 1


async def test_a_wrong_secret_leaves_all_fields_as_typed() -> None:
    broker = Broker()
    entry = BrokerEntry("broker.example:8443", "id", "wrong", fingerprint=FINGERPRINT)
    app = Opener(broker, entry)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.steps[-1] == "✗ token: wrong client id or secret"
        assert app.form.entry == entry
        assert app.outcome == "open"


async def test_another_address_is_not_trusted_because_the_first_was() -> None:
    broker = Broker()
    app = Opener(broker, BrokerEntry("a.example", "id", "s3cret", fingerprint=FINGERPRINT))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.form.query_one("#address Input", Input).value = "b.example"
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert broker.tested[0].fingerprint == ""


async def test_what_is_missing_is_said_at_its_field() -> None:
    broker = Broker()
    app = Opener(broker)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert "The broker's address is required." in screen_text(app)
    assert broker.tested == []


async def test_a_profile_that_cannot_be_saved_is_said() -> None:
    broker = Broker()
    broker.disk_is_full = True
    app = Opener(broker, BrokerEntry("broker.example", "id", "s3cret", fingerprint=FINGERPRINT))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.steps[-1] == "The profile cannot be saved: no space left."
        assert app.outcome == "open"


async def test_the_secret_is_never_on_the_screen() -> None:
    app = Opener(Broker(), ENTRY)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "s3cret" not in screen_text(app)
    assert "s3cret" not in repr(ENTRY)


async def test_escape_leaves() -> None:
    app = Opener(Broker(), ENTRY)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
    assert app.outcome is None
