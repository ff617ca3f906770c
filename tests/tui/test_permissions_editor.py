"""The editor judges a text while it is typed, says who gains and loses what, and asks before it sends."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from textual.app import App
from textual.pilot import Pilot

from dcvtui.api.permissions import DEFAULT_TEXT
from dcvtui.errors import Unreachable
from dcvtui.fleet import SessionRecord
from dcvtui.operations import ItemResult, Outcome
from dcvtui.tui.dialogs import ConfirmDialog
from dcvtui.tui.forms import PermissionsEditor, PermissionsOutcome
from dcvtui.tui.panel import Words
from dcvtui.tui.permissions_area import PermissionsText
from dcvtui.tui.permissions_editor import NOT_KNOWN
from dcvtui.tui.preset_dialog import PresetDialog
from tests.tui.screens import assert_screen, screen_text


def session(name: str = "cad-ana-1", owner: str = "ana", connections: int = 0) -> SessionRecord:
    return SessionRecord(
        key=("", name), profile="", id=name, name=name, owner=owner, state="READY", connections=connections
    )


class Host:
    """Takes texts, or answers as it is told."""

    def __init__(self, *results: ItemResult) -> None:
        self.results = results or (ItemResult("cad-ana-1", "cad-ana-1", Outcome.DONE),)
        self.texts: list[str] = []
        self.error: Unreachable | None = None

    async def send(self, text: str) -> Sequence[ItemResult]:
        self.texts.append(text)
        if self.error:
            raise self.error
        return self.results


class Opener(App[None]):
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, editor: PermissionsEditor) -> None:
        super().__init__()
        self.editor = editor
        self.outcome: PermissionsOutcome | None = None

    def on_mount(self) -> None:
        self.push_screen(self.editor, self.take)

    def take(self, outcome: PermissionsOutcome | None) -> None:
        self.outcome = outcome

    def words(self, which: str) -> str:
        return self.editor.query_one(f"#{which}", Words).text


def opener(
    host: Host, origin: str | None = "sent by you 12:03", text: str = DEFAULT_TEXT, **more: Any
) -> Opener:
    sessions = more.pop("sessions", [session()])
    return Opener(PermissionsEditor(sessions, text, origin, host.send, **more))


async def agreed(pilot: Pilot[None]) -> None:
    """Answer the question on top with yes, once it has been there long enough to be read."""
    await pilot.pause()
    assert isinstance(pilot.app.screen, ConfirmDialog)
    pilot.app.screen._clock = lambda: 1e12
    await pilot.press("y")
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
async def test_the_editor_fits_and_looks_as_agreed(size: tuple[int, int]) -> None:
    text = f"{DEFAULT_TEXT}bob alow display\ncarla allow display pointer\n"
    async with opener(Host(), None, text).run_test(size=size) as pilot:
        await pilot.pause()
        await pilot.press(*"eve allow display")
        await pilot.pause()
        assert_screen(pilot.app, f"permissions-{size[0]}x{size[1]}")


@pytest.mark.parametrize(("origin", "said"), [(None, NOT_KNOWN), ("sent by you 12:03", "sent by you 12:03")])
async def test_it_says_where_the_text_comes_from(origin: str | None, said: str) -> None:
    async with opener(Host(), origin).run_test(size=(90, 24)) as pilot:
        await pilot.pause()
        assert said in screen_text(pilot.app)


async def test_findings_and_rights_follow_the_typing() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.words("findings") == ""
        assert app.words("difference") == ""
        await pilot.press(*"bob alow display")
        await pilot.pause()
        assert app.words("findings").startswith("3:5 error E-RULE: ")
        assert "(allow?)" in app.words("findings")
        assert app.words("difference") == ""
        await pilot.press(*["left"] * 11, *"l")
        await pilot.pause()
        assert app.editor.text == f"{DEFAULT_TEXT}bob allow display"
        assert app.words("findings") == ""
        assert app.words("difference") == "bob gains display"


async def test_next_error_goes_round_the_errors() -> None:
    text = "[permissions]\nana alow display\n%owner% allow builtin\nbob dney display\n"
    app = opener(Host(), text=text)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        places = []
        for _ in range(3):
            await pilot.press("ctrl+g")
            places.append(app.editor.query_one(PermissionsText).cursor_location)
        assert places == [(1, 4), (3, 4), (1, 4)]
        assert "ctrl-g next error" in screen_text(app)


async def test_without_errors_no_next_one_is_offered() -> None:
    async with opener(Host()).run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "next error" not in screen_text(pilot.app)


# ------------------------------------------------------------------ sending


async def test_nothing_is_sent_without_a_yes() -> None:
    host = Host()
    app = opener(host)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(*"bob allow display pointer", "ctrl+o")
        await pilot.pause()
        seen = screen_text(app)
        assert "Send these permissions to 1 session?" in seen
        assert "bob gains display, pointer" in seen
        await pilot.press("n")
        await pilot.pause()
        assert host.texts == []
        await pilot.press("ctrl+o")
        await agreed(pilot)
    assert host.texts == [f"{DEFAULT_TEXT}bob allow display pointer"]
    assert app.outcome == PermissionsOutcome(host.texts[0], tuple(host.results), is_sent=True)


async def test_a_text_with_errors_is_asked_about_twice() -> None:
    host = Host()
    app = opener(host)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(*"bob alow display", "ctrl+o")
        await pilot.pause()
        assert "Use a text with 1 error?" in screen_text(app)
        await agreed(pilot)
        assert host.texts == []
        assert "Send these permissions" in screen_text(app)
        await agreed(pilot)
        assert host.texts == [f"{DEFAULT_TEXT}bob alow display"]


async def test_taking_rights_away_tells_how_many_are_connected() -> None:
    text = f"{DEFAULT_TEXT}bob allow display\n"
    app = opener(Host(), text=text, sessions=[session(connections=2)])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("backspace", *["backspace"] * 17, "ctrl+o")
        await pilot.pause()
        seen = " ".join(screen_text(app).split())
        assert "bob loses display" in seen
        assert "Clients connected now are not cut off by the API: 2 connected." in seen


async def test_what_is_in_force_unknown_is_said_again_before_sending() -> None:
    app = opener(Host(), None)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await pilot.pause()
        seen = " ".join(screen_text(app).split())
        assert "Nobody's rights change." in seen
        assert "what is in force is not known." in seen


async def test_several_sessions_are_named() -> None:
    app = opener(Host(), sessions=[session(), session("cad-bob-1", "bob")])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "Permissions of 2 sessions" in screen_text(app)
        await pilot.press("ctrl+o")
        await pilot.pause()
        seen = screen_text(app)
        assert "Send these permissions to 2 sessions?" in seen
        assert "cad-ana-1   ana" in seen
        assert "cad-bob-1   bob" in seen


async def test_a_refusal_leaves_the_text_in_the_editor() -> None:
    reason = "The requested dcvSession is not in READY state"
    host = Host(ItemResult("cad-ana-1", "cad-ana-1", Outcome.FAILED, reason))
    app = opener(host)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await agreed(pilot)
        assert app.outcome is None
        assert app.words("said") == f"failed: {reason}"
        host.error = Unreachable("connection refused")
        await pilot.press("ctrl+o")
        await agreed(pilot)
        assert app.words("said") == "not sent: connection refused"


async def test_some_failures_leave_the_editor_with_all_results() -> None:
    results = (ItemResult("a", "a", Outcome.DONE), ItemResult("b", "b", Outcome.FAILED, "no"))
    app = opener(Host(*results), sessions=[session("a"), session("b")])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+o")
        await agreed(pilot)
    assert app.outcome is not None
    assert app.outcome.results == results


async def test_escape_keeps_the_draft() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(*"; later", "escape")
        await pilot.pause()
    assert app.outcome == PermissionsOutcome(f"{DEFAULT_TEXT}; later")


# ------------------------------------------------------------------ presets


async def test_a_preset_is_two_keys_and_a_name_and_can_be_undone() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert isinstance(app.screen, PresetDialog)
        await pilot.press(*"bob")
        await pilot.pause()
        assert "View only for bob" in screen_text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.editor.text == f"{DEFAULT_TEXT}bob allow display pointer\n"
        assert app.words("difference") == "bob gains display, pointer"
        await pilot.press("ctrl+z")
        await pilot.pause()
        assert app.editor.text == DEFAULT_TEXT


async def test_arrows_choose_the_preset_and_a_missing_name_is_asked_for() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+r")
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert "For whom?" in screen_text(app)
        await pilot.press("down", "enter")
        await pilot.pause()
        assert app.editor.text == f"{DEFAULT_TEXT}%any% allow display pointer\n"


async def test_a_preset_that_a_deny_makes_useless_says_so() -> None:
    app = opener(Host(), text=f"{DEFAULT_TEXT}%any% deny pointer\n")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+r")
        await pilot.pause()
        await pilot.press(*"bob", "enter")
        await pilot.pause()
        assert app.words("said") == "pointer is kept from bob by line 3: %any% deny pointer"


async def test_a_name_that_no_file_can_hold_changes_nothing() -> None:
    app = opener(Host())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+r")
        await pilot.pause()
        await pilot.press(*"a,b", "enter")
        await pilot.pause()
        assert app.words("said").startswith("Not applied: ")
        assert app.editor.text == DEFAULT_TEXT


async def test_the_cursor_does_not_blink() -> None:
    app = opener(Host())
    async with app.run_test() as pilot:
        await pilot.pause()
        assert not app.editor.query_one(PermissionsText).cursor_blink
