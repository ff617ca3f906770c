"""The form for new sessions: all fields of CreateSessions, evaluated against the fleet while one types.

A refused request comes back to the form with everything still in it. Sending
is a callable of the opener's; what is asked for is made in `session_draft`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input

from dcvtui.api.requirements import RequirementsError
from dcvtui.api.server_facts import Facts, facts_of
from dcvtui.api.states import SessionType
from dcvtui.errors import ProgramError
from dcvtui.fleet import ServerRecord, server_wire
from dcvtui.operations import ItemResult, Outcome
from dcvtui.saved import Saved
from dcvtui.tui import session_draft
from dcvtui.tui.filters_dialog import NamedChoice, SavedDialog
from dcvtui.tui.form_fields import FormField, OneOf, text_input
from dcvtui.tui.panel import KeyLine, Panel, Words, plural
from dcvtui.tui.permissions_editor import PermissionsEditor, PermissionsOutcome
from dcvtui.tui.session_draft import SessionDraft

_SERVERS_A_SLICE = 200  # turned into facts between two looks at the keyboard: some 5 ms

Submit = Callable[[list[dict[str, Any]]], Awaitable[Sequence[ItemResult]]]
"""Sends CreateSessions items and returns one result for each, in their order."""


@dataclass(frozen=True, slots=True)
class CreateOutcome:
    """How the form was left: the draft to open it with next time, and what was sent from it."""

    draft: SessionDraft
    results: tuple[ItemResult, ...] = ()
    is_finished: bool = False
    """Everything asked for was accepted; otherwise the operator left with `esc`."""


class PermissionsChoice(Widget, can_focus=True):
    """The permissions of new sessions: the server's default or a text of one's own."""

    DEFAULT_CSS = """
    PermissionsChoice { height: 1; width: 1fr; }
    PermissionsChoice:focus { text-style: bold; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "edit", "edit", show=False, id="form.edit-permissions"),
        Binding("delete", "take_away", "take away", show=False, id="form.drop-permissions"),
    ]

    text: reactive[str | None] = reactive(None)
    """The permissions file, `None` for the server's default."""

    class EditRequested(Message):
        """The operator wants to write a text."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.set_reactive(PermissionsChoice.text, text)

    def render(self) -> Content:
        """What is chosen, and the keys while the focus is here."""
        said = (
            "the server's default"
            if self.text is None
            else f"own text, {plural(len(self.text.splitlines()), 'line')}"
        )
        keys = "enter writes one" if self.text is None else "enter edits, delete takes it away"
        return Content(f"{said}   ({keys})" if self.has_focus else said)

    def on_focus(self) -> None:
        """Show the keys."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the keys."""
        self.refresh()

    def on_click(self) -> None:
        """The mouse opens the editor too."""
        self.action_edit()

    def action_edit(self) -> None:
        """Ask the form for the editor."""
        self.post_message(self.EditRequested())

    def action_take_away(self) -> None:
        """Back to the server's default."""
        self.text = None


class CreateSessionForm(ModalScreen[CreateOutcome]):
    """Asks for everything a new session can have, and stays until the broker has accepted it."""

    DEFAULT_CSS = """
    CreateSessionForm { align: center middle; background: $background 70%; }
    CreateSessionForm #said { margin-bottom: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+o", "send", "create", id="form.send-form", key_display="ctrl-o", tooltip="Send the form"
        ),
        Binding("escape", "leave", "leave, keep a draft", id="form.leave-form", key_display="esc"),
        Binding("tab", "app.focus_next", "next field", id="form.next-field"),
        Binding(
            "ctrl+r",
            "choose_template",
            "template",
            id="form.choose-template",
            key_display="ctrl-r",
            tooltip="Forms saved by name",
        ),
        Binding("ctrl+g", "next_error", "next error", id="form.next-error", key_display="ctrl-g"),
    ]

    def __init__(
        self,
        draft: SessionDraft,
        servers: Sequence[ServerRecord],
        owners: Sequence[str],
        submit: Submit,
        *,
        as_of: str = "",
        where: str = "",
        saved: Saved | None = None,
    ) -> None:
        """A form that begins with a draft.

        Args:
            draft: What the fields hold at first.
            servers: The servers the console knows.
            owners: Names to complete from.
            submit: Sends the requests.
            as_of: The time of day of the servers' data when they are stale.
            saved: Forms saved by name.
            where: Which broker is asked, such as " on west", where there are several.
        """
        super().__init__()
        self._saved = saved or Saved()
        self.profile = ""
        """Whose servers it evaluates against."""
        self._first = draft
        self._owners = sorted(set(owners), key=str.lower)
        self._submit = submit
        self._only = draft.only
        self._results: list[ItemResult] = []
        self._is_sending = False
        self._servers: Sequence[ServerRecord] = servers
        self._as_of = as_of
        self._where = where
        self._fleet: list[tuple[ServerRecord, Facts]] = []
        """The servers whose facts are made already; made by the first requirement typed."""

    def compose(self) -> ComposeResult:
        """The fields, the most used first."""
        yield Panel(
            f"New session{self._where}",
            Words(id="said", optional=True),
            *self._fields(),
            foot=KeyLine(
                "form.send-form",
                "form.leave-form",
                "form.next-error",
                "form.choose-template",
                "form.next-field",
            ),
        )

    def _fields(self) -> list[FormField]:
        draft = self._first
        types = [(SessionType.VIRTUAL.value, "VIRTUAL"), (SessionType.CONSOLE.value, "CONSOLE")]
        completion = SuggestFromList(self._owners, case_sensitive=False)
        return [
            FormField("Owner", text_input(draft.owner, suggester=completion), id="owner"),
            FormField("Name", text_input(draft.name, "{owner} and {n} are filled in"), id="name"),
            FormField("Count", text_input(draft.count), id="count"),
            FormField("Type", OneOf(types, draft.type), id="type"),
            FormField(
                "Requirement", text_input(draft.requirements, "such as tag:gpu = 'yes'"), id="requirements"
            ),
            FormField("If none fits", _yes_no("wait in the queue", "refuse", draft.enqueue), id="enqueue"),
            FormField("Permissions", PermissionsChoice(draft.permissions), id="permissions"),
            FormField(
                "Init file", text_input(draft.init_file, "in the server's init folder"), id="init_file"
            ),
            FormField("Autorun file", text_input(draft.autorun_file), id="autorun_file"),
            FormField("Arguments", text_input(draft.arguments, "words as in a shell"), id="arguments"),
            FormField("Max clients", text_input(draft.max_clients, "no limit"), id="max_clients"),
            FormField("Storage root", text_input(draft.storage_root, "such as %home%"), id="storage_root"),
            FormField(
                "DCV-GL", OneOf([("", "as the server does"), ("yes", "on"), ("no", "off")], draft.gl), id="gl"
            ),
            FormField("If it fails", _yes_no("try another server", "give up", draft.retry), id="retry"),
        ]

    def on_mount(self) -> None:
        """Begin in the first field that is empty."""
        self._show_only()
        self._evaluate()
        first = "owner" if not self._first.owner else "name"
        self.set_focus(self._field(first).editor)

    # ---------------------------------------------------------------- what is in the fields

    def _field(self, name: str) -> FormField:
        return self.query_one(f"#{name}", FormField)

    def _text(self, name: str) -> str:
        editor = self._field(name).editor
        assert isinstance(editor, Input | OneOf)  # noqa: S101  the fields are made above
        return editor.value

    @property
    def draft(self) -> SessionDraft:
        """What the fields hold now."""
        return SessionDraft(
            owner=self._text("owner"),
            name=self._text("name"),
            count=self._text("count"),
            type=self._text("type"),
            requirements=self._text("requirements"),
            enqueue=self._text("enqueue") == "yes",
            permissions=self.query_one(PermissionsChoice).text,
            init_file=self._text("init_file"),
            autorun_file=self._text("autorun_file"),
            arguments=self._text("arguments"),
            max_clients=self._text("max_clients"),
            storage_root=self._text("storage_root"),
            gl=self._text("gl"),
            retry=self._text("retry") == "yes",
            only=self._only,
        )

    @on(Input.Changed)
    @on(OneOf.Changed)
    def note_change(self, event: Input.Changed | OneOf.Changed) -> None:
        """A changed field is judged anew."""
        field = event.control.query_ancestor(FormField)
        field.complain("")
        if (
            field.id in ("owner", "name", "count")
            and self._only
            and self.draft != replace(self._first, only=self._only)
        ):
            self._only = ()
        self._show_only()
        self._evaluate()
        self.refresh_bindings()

    @on(Input.Submitted)
    def go_on(self) -> None:
        """Enter goes to the next field."""
        self.focus_next()

    def _show_only(self) -> None:
        draft = self.draft
        count = self._field("count")
        if self._only:
            count.say(f"left to create: {', '.join(draft.name_of(number) for number in self._only)}")
        elif len(draft.numbers) > 1 and "{n}" not in draft.name:
            count.say("all get the same name; {n} in the name numbers them")
        elif len(draft.numbers) > 1:
            count.say(f"{draft.name_of(1)} to {draft.name_of(len(draft.numbers))}")
        else:
            count.say("")

    # ---------------------------------------------------------------- the requirement

    def show_servers(self, servers: Sequence[ServerRecord], as_of: str = "") -> None:
        """Evaluate against newer data, such as after the broker has come back."""
        self._servers, self._as_of = servers, as_of
        self._fleet = []
        self._evaluate()

    def _evaluate(self) -> None:
        self._preview()

    @work(group="preview", exclusive=True)
    async def _preview(self) -> None:
        field = self._field("requirements")
        while len(self._fleet) < len(self._servers):
            done = len(self._fleet)
            part = self._servers[done : done + _SERVERS_A_SLICE]
            self._fleet += [(server, facts_of(server_wire(server))) for server in part]
            await asyncio.sleep(0)
        draft = self.draft
        try:
            seen = session_draft.preview(draft, self._fleet)
        except RequirementsError as error:
            field.say("")
            field.complain(self._fault_under_caret(error))
        else:
            field.say(session_draft.preview_sentence(draft, seen, self._as_of))
        self.refresh_bindings()

    def _fault_under_caret(self, error: RequirementsError) -> str:
        fault = session_draft.requirement_fault(error)
        if error.position is None:
            return fault
        editor = self._field("requirements").editor
        column = error.position - 1 - int(editor.scroll_offset.x)
        return f"{' ' * column}^\n{fault}" if 0 <= column < editor.size.width else fault

    # ---------------------------------------------------------------- permissions

    @on(PermissionsChoice.EditRequested)
    def open_editor(self) -> None:
        """Write a permissions file for the new sessions."""
        choice = self.query_one(PermissionsChoice)

        def take(outcome: PermissionsOutcome | None) -> None:
            if outcome and outcome.is_sent:
                choice.text = outcome.text

        draft = self.draft
        self.app.push_screen(PermissionsEditor.for_new_session(draft.owner.strip(), draft.permissions), take)

    # ---------------------------------------------------------------- templates

    def action_choose_template(self) -> None:
        """Use a saved form, save this one, or forget one."""
        lines = {name: session_draft.form_line(form) for name, form in self._saved.templates.items()}
        present = session_draft.form_line(session_draft.to_form(self.draft))
        self.app.push_screen(SavedDialog("Templates", lines, present), self._take_template)

    def _take_template(self, choice: NamedChoice | None) -> None:
        if choice is None:
            return
        if choice.what == "use":
            self._fill_in(session_draft.from_form(self._saved.templates[choice.name]))
            return
        form = session_draft.to_form(self.draft) if choice.what == "save" else None
        self._saved.set_template(choice.name, form)
        self._say(f"{'saved' if choice.what == 'save' else 'forgotten'}: {choice.name}")

    def _fill_in(self, draft: SessionDraft) -> None:
        for name, value in session_draft.to_form(draft, with_permissions=False).items():
            editor = self._field(name).editor
            if isinstance(editor, Input | OneOf):
                editor.value = ("yes" if value else "no") if isinstance(value, bool) else value
        self.query_one(PermissionsChoice).text = draft.permissions

    # ---------------------------------------------------------------- sending

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer the next error only where there is one."""
        return bool(self._faulty()) if action == "next_error" and self.is_mounted else True

    def _faulty(self) -> list[FormField]:
        return [field for field in self.query(FormField) if field.fault]

    def _say(self, text: str, *, is_failure: bool = False) -> None:
        said = self.query_one("#said", Words)
        said.show(text)
        said.set_class(is_failure, "-failed")

    def action_next_error(self) -> None:
        """Go to the next field with a fault, round the form."""
        fields, faulty = list(self.query(FormField)), self._faulty()
        here = next((place for place, field in enumerate(fields) if field.has_focus_within), -1)
        after = [field for field in faulty if fields.index(field) > here]
        if target := next(iter(after or faulty), None):
            self.set_focus(target.editor)

    def action_send(self) -> None:
        """Send the requests, unless something is missing."""
        if self._is_sending:
            return
        draft = self.draft
        found = session_draft.problems(draft)
        for name, text in found.items():
            self._field(name).complain(text)
        self.refresh_bindings()
        if found:
            self.set_focus(self._field(next(iter(found))).editor)
            return
        self._is_sending = True
        self._send(draft)

    @work(group="send")
    async def _send(self, draft: SessionDraft) -> None:
        items = session_draft.requests(draft)
        self._say(f"sending {plural(len(items), 'request')}…")
        try:
            results = await self._submit(items)
        except ProgramError as error:
            self._say(f"not sent: {error.sentence}", is_failure=True)
        else:
            self._take_results(draft, results)
        finally:
            self._is_sending = False

    def _take_results(self, draft: SessionDraft, results: Sequence[ItemResult]) -> None:
        """Leave when all was accepted; else keep what was not, with the reasons at their fields."""
        pairs = list(zip(draft.numbers, results, strict=True))
        self._results += results
        left = [(number, result) for number, result in pairs if result.outcome is not Outcome.DONE]
        if not left:
            self.dismiss(CreateOutcome(replace(draft, only=()), tuple(self._results), is_finished=True))
            return
        self._first = draft
        self._only = tuple(number for number, _ in left) if len(draft.numbers) > 1 or draft.only else ()
        above: dict[str, list[str]] = defaultdict(list)
        for number, result in left:
            field = session_draft.field_of(result.reason) if result.outcome is Outcome.FAILED else None
            if field:
                self._field(field).complain(result.reason)
            else:
                above[_in_words(result)].append(draft.name_of(number))
        done = len(pairs) - len(left)
        lines = [f"{done} of {len(pairs)} accepted."] if done else []
        lines += [f"{', '.join(names)}: {reason}" for reason, names in above.items()]
        self._say("\n".join(lines), is_failure=bool(above))
        self._show_only()
        self.refresh_bindings()
        self.action_next_error()

    def action_leave(self) -> None:
        """Leave and keep what was typed, unless an answer is still to come."""
        if self._is_sending:
            self._say("The broker has not answered yet; what was sent cannot be taken back.")
            return
        self.dismiss(CreateOutcome(self.draft, tuple(self._results)))


def _yes_no(yes: str, no: str, is_yes: bool) -> OneOf:
    return OneOf([("yes", yes), ("no", no)], "yes" if is_yes else "no")


def _in_words(result: ItemResult) -> str:
    if result.outcome is Outcome.NOT_SENT:
        return f"not sent: {result.reason}"
    if result.outcome is Outcome.NOT_KNOWN:
        return f"not known whether it was created: {result.reason}"
    return result.reason
