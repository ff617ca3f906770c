"""The form for new sessions stays until the broker has accepted everything, with all that was typed."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from dcvtui.api.permissions import DEFAULT_TEXT
from dcvtui.errors import Unreachable
from dcvtui.fleet import ServerRecord
from dcvtui.operations import ItemResult, Outcome
from dcvtui.tui.form_fields import FormField, OneOf
from dcvtui.tui.forms import CreateOutcome, CreateSessionForm, PermissionsEditor, SessionDraft
from dcvtui.tui.panel import Words
from tests.tui.screens import assert_screen, screen_text

LIMIT = ("dcv:max-virtual-sessions", "1")
SERVERS = [
    ServerRecord(
        key=("", f"gpu-{number}"),
        profile="",
        id=f"gpu-{number}",
        hostname=f"gpu-{number}",
        availability="AVAILABLE",
        os_family="linux",
        tags=(("gpu", "yes" if number < 12 else "no"), LIMIT),
        virtual_sessions=0 if number < 2 else 1,
    )
    for number in range(240)
]


class Broker:
    """Accepts or refuses by name, and keeps what it was sent."""

    def __init__(self, refusals: dict[str, str] | None = None) -> None:
        self.refusals = refusals or {}
        self.sent: list[list[dict[str, Any]]] = []
        self.error: Unreachable | None = None
        self.outcome = Outcome.FAILED
        self.answers = asyncio.Event()
        self.answers.set()

    async def create(self, items: list[dict[str, Any]]) -> Sequence[ItemResult]:
        self.sent.append(items)
        await self.answers.wait()
        if self.error:
            raise self.error
        return [self._result(item) for item in items]

    def _result(self, item: dict[str, Any]) -> ItemResult:
        name = item["Name"]
        if name in self.refusals:
            return ItemResult("", name, self.outcome, self.refusals[name], item=item)
        return ItemResult(f"id-of-{name}", name, Outcome.DONE, item=item)


class Opener(App[None]):
    ENABLE_COMMAND_PALETTE: ClassVar[bool] = False

    def __init__(self, broker: Broker, draft: SessionDraft, **more: Any) -> None:
        super().__init__()
        self.form = CreateSessionForm(draft, SERVERS, ["ana", "bob", "Anton"], broker.create, **more)
        self.outcome: CreateOutcome | None = None

    def on_mount(self) -> None:
        self.push_screen(self.form, self.take)

    def take(self, outcome: CreateOutcome | None) -> None:
        self.outcome = outcome

    def field(self, name: str) -> FormField:
        return self.form.query_one(f"#{name}", FormField)

    @property
    def said(self) -> str:
        return self.form.query_one("#said", Words).text


async def settled(pilot: Pilot[None]) -> None:
    """Until the preview and the answers are there."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


CLASS = SessionDraft(
    owner="ana",
    name="class-{n}",
    count="3",
    requirements="tag:gpu = 'yes' and server:Host.Os.Famly = 'linux'",
)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 20)])
async def test_the_form_fits_and_looks_as_agreed(size: tuple[int, int]) -> None:
    async with Opener(Broker(), CLASS).run_test(size=size) as pilot:
        await settled(pilot)
        assert_screen(pilot.app, f"create-{size[0]}x{size[1]}")


async def test_a_session_is_made_with_a_few_keys() -> None:
    broker = Broker()
    app = Opener(broker, SessionDraft())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(*"bob", "enter", *"cad-1", "ctrl+o")
        await settled(pilot)
    assert broker.sent == [[{"Name": "cad-1", "Owner": "bob", "Type": "VIRTUAL"}]]
    assert app.outcome is not None
    assert app.outcome.is_finished
    assert [result.id for result in app.outcome.results] == ["id-of-cad-1"]
    assert app.outcome.draft.owner == "bob"


async def test_owners_are_completed_from_the_fleet() -> None:
    app = Opener(Broker(), SessionDraft())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("b", "o")
        await settled(pilot)
        await pilot.press("right")
        assert app.form.draft.owner == "bob"


async def test_arrows_choose_among_words() -> None:
    app = Opener(Broker(), SessionDraft(owner="ana", name="x"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.field("type").editor.focus()
        await pilot.press("right")
        assert app.form.draft.type == "CONSOLE"
        await pilot.press("space")
        assert app.form.draft.type == "VIRTUAL"
        app.field("gl").editor.focus()
        await pilot.press("left")
        assert app.form.draft.gl == "no"
        await pilot.click(app.field("enqueue").query_one(OneOf), offset=(3, 0))
        assert app.form.draft.enqueue is True


# ------------------------------------------------------------------ the requirement


async def test_a_requirement_is_judged_while_it_is_typed() -> None:
    app = Opener(Broker(), SessionDraft(owner="ana", name="class-{n}", count="3"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        field = app.field("requirements")
        field.editor.focus()
        await pilot.press(*"tag:gpu = 'yes' and server:Host.Os.Famly = 'linux'")
        await settled(pilot)
        assert field.note == ""
        caret, fault = field.fault.split("\n")
        assert caret == " " * 20 + "^"
        assert fault == "Server property server:Host.Os.Famly not found. Did you mean server:Host.Os.Family?"
        seen = screen_text(app).split("\n")
        line = next(number for number, text in enumerate(seen) if "Famly = 'linux'" in text)
        assert seen[line + 1].index("^") == seen[line].index("server:")
        app.form.query_one("#requirements Input", Input).value = "tag:gpu = 'yes'"
        await settled(pilot)
        assert field.fault == ""
        assert field.note == (
            "matches 12 of 240 servers, 2 of them can take a VIRTUAL session now: one would be refused"
        )


async def test_a_caret_out_of_sight_is_left_out_and_the_place_is_in_the_words() -> None:
    app = Opener(
        Broker(), SessionDraft(owner="ana", name="x", requirements="foo = 1 and " + "tag:a = 1 and " * 20)
    )
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.field("requirements").editor.focus()
        await pilot.press("end", "x")
        await settled(pilot)
        assert app.field("requirements").fault.endswith("at character 1.")
        assert "^" not in app.field("requirements").fault


async def test_newer_data_are_evaluated_again() -> None:
    app = Opener(Broker(), SessionDraft(owner="ana", name="x"), as_of="14:02")
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert app.field("requirements").note.endswith("(as of 14:02)")
        app.form.show_servers(SERVERS[:3])
        await settled(pilot)
        assert app.field("requirements").note.startswith("matches 3 of 3 servers")
        assert "as of" not in app.field("requirements").note


# ------------------------------------------------------------------ refused


async def test_what_is_missing_is_said_at_its_field_and_nothing_is_sent() -> None:
    broker = Broker()
    app = Opener(broker, SessionDraft(owner="ana", name="", max_clients="x"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert broker.sent == []
        assert app.field("name").fault == "A name is required."
        assert app.field("name").editor.has_focus
        assert "ctrl-g next error" in screen_text(app)
        await pilot.press("ctrl+g")
        assert app.field("max_clients").editor.has_focus
        await pilot.press("ctrl+g")
        assert app.field("name").editor.has_focus
        await pilot.press("x")
        assert app.field("name").fault == ""


async def test_a_refusal_stands_at_its_field_with_everything_still_in_the_form() -> None:
    broker = Broker({"cad": "MaxConcurrentClients must be greater than 0"})
    draft = SessionDraft(owner="ana", name="cad", storage_root="%home%")
    app = Opener(broker, draft)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.outcome is None
        assert app.form.draft == draft
        assert app.field("max_clients").fault == "MaxConcurrentClients must be greater than 0"
        assert app.field("max_clients").editor.has_focus
        assert app.said == ""


async def test_of_several_sessions_only_the_refused_ones_stay() -> None:
    broker = Broker({"class-2": "no dcv server found for placement"})
    app = Opener(broker, SessionDraft(owner="ana", name="class-{n}", count="3"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.said == "2 of 3 accepted.\nclass-2: no dcv server found for placement"
        assert app.field("count").note == "left to create: class-2"
        broker.refusals = {}
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert [[item["Name"] for item in items] for items in broker.sent] == [
        ["class-1", "class-2", "class-3"],
        ["class-2"],
    ]
    assert app.outcome is not None
    assert [result.outcome for result in app.outcome.results].count(Outcome.DONE) == 3
    assert app.outcome.draft.only == ()


async def test_another_name_begins_anew() -> None:
    broker = Broker({"class-2": "no dcv server found for placement"})
    app = Opener(broker, SessionDraft(owner="ana", name="class-{n}", count="2"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        app.form.query_one("#name Input", Input).value = "room-{n}"
        await settled(pilot)
        assert app.field("count").note == "room-1 to room-2"
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert [item["Name"] for item in broker.sent[1]] == ["room-1", "room-2"]


async def test_a_broker_that_is_not_there_loses_nothing() -> None:
    broker = Broker()
    broker.error = Unreachable("connection refused")
    app = Opener(broker, SessionDraft(owner="ana", name="cad"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.said == "not sent: connection refused"
        assert app.form.draft.name == "cad"
        broker.error = None
        await pilot.press("ctrl+o")
        await settled(pilot)
    assert app.outcome is not None


async def test_a_lost_answer_is_not_known() -> None:
    broker = Broker({"cad": "no answer in 10 s"})
    broker.outcome = Outcome.NOT_KNOWN
    app = Opener(broker, SessionDraft(owner="ana", name="cad"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o")
        await settled(pilot)
        assert app.said == "cad: not known whether it was created: no answer in 10 s"


async def test_while_an_answer_is_awaited_nothing_is_sent_twice_and_nobody_leaves() -> None:
    broker = Broker()
    broker.answers.clear()
    app = Opener(broker, SessionDraft(owner="ana", name="cad"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+o", "ctrl+o")
        await pilot.pause()
        assert app.said == "sending 1 request…"
        await pilot.press("escape")
        assert app.outcome is None
        assert "has not answered yet" in app.said
        broker.answers.set()
        await settled(pilot)
    assert len(broker.sent) == 1
    assert app.outcome is not None


async def test_escape_leaves_and_keeps_the_draft() -> None:
    app = Opener(Broker(), SessionDraft(owner="ana", name="cad"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("end", *"-7", "escape")
        await pilot.pause()
    assert app.outcome == CreateOutcome(SessionDraft(owner="ana", name="cad-7"))


async def test_permissions_are_written_in_the_editor_and_taken_away_again() -> None:
    broker = Broker()
    app = Opener(broker, SessionDraft(owner="ana", name="cad"))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.field("permissions").editor.focus()
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, PermissionsEditor)
        await pilot.press(*"bob allow display", "ctrl+o")
        await pilot.pause()
        assert app.form.is_current
        assert app.form.draft.permissions == f"{DEFAULT_TEXT}bob allow display"
        assert "own text, 3 lines" in screen_text(app)
        await pilot.press("delete")
        assert app.form.draft.permissions is None
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert app.form.draft.permissions is None


async def test_cursors_do_not_blink() -> None:
    app = Opener(Broker(), SessionDraft())
    async with app.run_test() as pilot:
        await settled(pilot)
        assert not any(field.cursor_blink for field in app.form.query(Input))
