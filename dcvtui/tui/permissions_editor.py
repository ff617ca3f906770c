"""The editor for a permissions file: text, findings while one types, and who gains and loses what.

The API cannot read permissions back, so the editor says where its text comes
from. What a text means is decided in `dcvtui.api.permissions`; sending is a
callable of the opener's.
"""

import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import TextArea

from dcvtui.api.permissions import (
    DEFAULT_TEXT,
    Actor,
    Context,
    Diagnostic,
    Difference,
    Level,
    Statement,
    matrix,
    parse,
    preset_result,
    read_actor,
    rights_difference,
    toggle,
)
from dcvtui.errors import ProgramError
from dcvtui.fleet import SessionRecord
from dcvtui.operations import ItemResult, Outcome
from dcvtui.private_files import replace_private
from dcvtui.tui.dialogs import Confirmation, ConfirmDialog
from dcvtui.tui.panel import KeyLine, Words, plural
from dcvtui.tui.path_dialog import PathDialog
from dcvtui.tui.permissions_area import PermissionsText
from dcvtui.tui.preset_dialog import LOAD, SAVE, PersonDialog, PresetDialog
from dcvtui.tui.rights_matrix import RightsMatrix

_TALL: Final = 30
_DIFF_LINES: Final = 40
_DOUBTS_SHOWN: Final = 5
_LARGEST: Final = 64 << 10  # bytes of a permissions file, as the broker takes them

NOT_KNOWN: Final = "What is in force is not known (created elsewhere). Sending replaces it whole."
_FINDINGS_SHOWN: Final = 50

Submit = Callable[[str], Awaitable[Sequence[ItemResult]]]
"""Sends the text to all sessions and returns one result for each."""


@dataclass(frozen=True, slots=True)
class PermissionsOutcome:
    """How the editor was left: with a text that was sent, or with a draft."""

    text: str
    results: tuple[ItemResult, ...] = ()
    is_sent: bool = False


Bases = Sequence[tuple[str | None, int]]
"""What was last sent to the sessions, and to how many of them; `None` where that is not known."""


class PermissionsEditor(ModalScreen[PermissionsOutcome]):
    """Edits one text for one or several sessions, and sends it after a question."""

    DEFAULT_CSS = """
    PermissionsEditor { background: $surface; }
    PermissionsEditor > Vertical { padding: 1 2; background: $surface; }
    PermissionsEditor .editor-title { text-style: bold; }
    PermissionsEditor .editor-origin { margin-bottom: 1; }
    PermissionsEditor .editor-below {
        height: auto;
        max-height: 30%;
        margin-top: 1;
        scrollbar-size-vertical: 1;
    }
    PermissionsEditor KeyLine { margin-top: 1; }
    PermissionsEditor RightsMatrix { display: none; margin-top: 1; }
    PermissionsEditor.-tall RightsMatrix { display: block; height: 30%; }
    PermissionsEditor.-rights RightsMatrix { display: block; }
    PermissionsEditor.-rights.-low RightsMatrix { height: 1fr; margin-top: 0; }
    PermissionsEditor.-rights.-low PermissionsText { display: none; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "send", "send", id="form.send-form", key_display="ctrl-o", tooltip="Send the text"),
        Binding(
            "ctrl+r",
            "preset",
            "preset or file",
            id="editor.choose-preset",
            key_display="ctrl-r",
            tooltip="Presets, and files to load and to save",
        ),
        Binding(
            "tab",
            "next_field",
            "rights",
            id="form.next-field",
            tooltip="From the text to the table of rights, and back",
        ),
        Binding("ctrl+g", "next_error", "next error", id="form.next-error", key_display="ctrl-g"),
        Binding("escape", "leave", "leave, keep a draft", id="form.leave-form", key_display="esc"),
    ]

    def __init__(
        self,
        sessions: Sequence[SessionRecord],
        text: str,
        origin: str | None,
        submit: Submit | None,
        *,
        context: Context | None = None,
        bases: Bases | None = None,
        draft: str | None = None,
    ) -> None:
        """An editor that begins with a text.

        Args:
            sessions: Whose permissions are sent.
            text: What the editor opens with, the text in force as far as it is known.
            origin: Where that text comes from, such as `sent by you 12:03`; `None` if nothing is known.
            submit: Sends the text; without it the editor only hands the text back.
            context: What is known of the sessions and their servers, for warnings.
            bases: What the text will replace; what the editor opens with, without it.
            draft: What was typed earlier and not sent; the editor opens with it.
        """
        super().__init__()
        self._bases = bases or [(text if origin is not None else None, len(sessions))]
        self._also: list[Actor] = []
        self._sessions = sessions
        self._opened_with = text
        self._draft = draft
        self._origin = origin
        self._submit = submit
        owners = {session.owner for session in sessions}
        self._known = context or Context(owner=owners.pop() if len(owners) == 1 else None)
        self._findings: list[Diagnostic] = []
        self._is_sending = False
        self._said_of = text
        """The text that the words above it are about."""

    @classmethod
    def for_new_session(cls, owner: str, text: str | None) -> "PermissionsEditor":
        """An editor for sessions that do not exist yet: nothing is sent, the text comes back."""
        return cls((), DEFAULT_TEXT if text is None else text, "", None, context=Context(owner=owner or None))

    def compose(self) -> ComposeResult:
        """Where the text comes from, the text, and what there is to say about it."""
        with Vertical():
            yield Words(self._title, classes="editor-title")
            origin = NOT_KNOWN if self._origin is None else self._origin
            draft = " Below is your draft, not sent." if self._draft is not None else ""
            yield Words(origin + draft, classes="editor-origin -muted")
            yield Words(id="said", classes="-failed", optional=True)
            yield PermissionsText(self._opened_with if self._draft is None else self._draft)
            yield RightsMatrix()
            with VerticalScroll(classes="editor-below", can_focus=False):
                yield Words(id="findings", optional=True)
                yield Words(id="difference", optional=True)
            yield KeyLine(
                "form.send-form", "form.next-field", "rights.toggle-right", "rights.open-cell",
                "editor.choose-preset", "form.next-error", "form.leave-form", "rights.add-person",
            )  # fmt: skip

    @property
    def _title(self) -> str:
        if not self._sessions:
            return f"Permissions of new sessions of {self._known.owner or 'their owner'}"
        if len(self._sessions) == 1:
            session = self._sessions[0]
            return f"Permissions of {session.name or session.id} ({session.owner})"
        return f"Permissions of {plural(len(self._sessions), 'session')}"

    @property
    def text(self) -> str:
        """The text as it stands."""
        return self.query_one(PermissionsText).text

    def on_mount(self) -> None:
        """Judge the first text and begin at its end."""
        editor = self.query_one(PermissionsText)
        editor.move_cursor(editor.document.end)
        self.set_focus(editor)
        self._judge()

    def on_resize(self, event: events.Resize) -> None:
        """Show the table of rights below the text where there is room for both."""
        self.set_class(event.size.height >= _TALL, "-tall")
        self.set_class(event.size.height < _TALL, "-low")

    # ---------------------------------------------------------------- what is said of the text

    @on(TextArea.Changed)
    def _judge(self) -> None:
        file = parse(self.text, context=self._known)
        self._findings = file.diagnostics
        rows = matrix(file, self._known.owner, self._also, windows=self._known.windows)
        self.query_one(RightsMatrix).show(rows)
        self.query_one(PermissionsText).mark(self._findings)
        lines = [_finding_line(finding) for finding in self._findings[:_FINDINGS_SHOWN]]
        if (more := len(self._findings) - _FINDINGS_SHOWN) > 0:
            lines.append(f"and {more} more")
        self.query_one("#findings", Words).show("\n".join(lines))
        self.query_one("#difference", Words).show("\n".join(self._difference_lines()))
        if self.text != self._said_of:
            self._say("")
        self.refresh_bindings()

    def _difference_lines(self) -> list[str]:
        differences = rights_difference(
            self._opened_with, self.text, self._known.owner, windows=self._known.windows
        )
        return [difference_sentence(difference) for difference in differences]

    @property
    def _errors(self) -> list[Diagnostic]:
        return [finding for finding in self._findings if finding.level is Level.ERROR]

    def _say(self, text: str) -> None:
        self._said_of = self.text
        self.query_one("#said", Words).show(text)

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer the next error only where there is one."""
        return bool(self._errors) if action == "next_error" else True

    # ---------------------------------------------------------------- actions

    def action_next_error(self) -> None:
        """Go to the next error after the cursor, round the text."""
        editor = self.query_one(PermissionsText)
        places = sorted((error.line - 1, error.column - 1) for error in self._errors if not error.file)
        after = [place for place in places if place > editor.cursor_location]
        if target := next(iter(after or places), None):
            editor.move_cursor(target)
            self.set_focus(editor)

    def action_preset(self) -> None:
        """Choose a preset; the editor's undo takes it back."""
        row = self.query_one(RightsMatrix).row
        named = str(row.actor) if row and row.actor.kind in ("user", "group", "osgroup") else ""
        self.app.push_screen(PresetDialog(named if self._is_in_rights else ""), self._apply_preset)

    def _apply_preset(self, chosen: tuple[str, str] | None) -> None:
        if chosen is None:
            return
        name, actor = chosen
        if name in (LOAD, SAVE):
            self._ask_for_path(name)
            return
        try:
            applied = preset_result(self.text, name, actor or None, self._known.owner)
        except ValueError as error:
            self._say(f"Not applied: {error}")
            return
        self._replace_text(applied.text)
        said = [
            f"{feature} is kept from {actor} by line {statement.line}: {statement}"
            for feature, statement in applied.prevented.items()
            if statement
        ]
        if applied.besides:
            said.append(f"{actor} has besides, through groups or %any%: {', '.join(sorted(applied.besides))}")
        self._say("\n".join(said))

    def _replace_text(self, text: str) -> None:
        editor = self.query_one(PermissionsText)
        editor.replace(text, editor.document.start, editor.document.end)
        editor.move_cursor(editor.document.end)
        self._judge()

    # ---------------------------------------------------------------- files

    def _ask_for_path(self, what: str) -> None:
        if what == LOAD:
            self.app.push_screen(PathDialog("Load a permissions file"), self._load)
        else:
            note = "Only you can read it (mode 0600)."
            self.app.push_screen(PathDialog("Save the text", "~/session.perm", note), self._save)

    def _load(self, name: str | None) -> None:
        if name is None:
            return
        try:
            data = Path(name).expanduser().read_bytes()
            if len(data) > _LARGEST:
                self._say(f"not loaded: {name} is larger than 64 KiB, so it is no permissions file")
                return
            self._replace_text(data.decode("utf-8-sig").replace("\r\n", "\n"))
        except OSError as error:
            self._say(f"not loaded: {name}: {error.strerror or error}")
        except UnicodeDecodeError as error:
            self._say(f"not loaded: {name} is not UTF-8 (byte {error.start + 1})")
        else:
            self._say(f"loaded {name}")

    def _save(self, name: str | None) -> None:
        if name is None:
            return
        try:
            replace_private(Path(name).expanduser(), self.text.encode())
        except OSError as error:
            self._say(f"not saved: {name}: {error.strerror or error}")
        else:
            self._say(f"saved {name}")

    # ---------------------------------------------------------------- the table of rights

    @property
    def _is_in_rights(self) -> bool:
        return self.query_one(RightsMatrix).has_focus

    def action_next_field(self) -> None:
        """From the text to the table, and back."""
        is_in_text = not self._is_in_rights
        self.set_class(is_in_text, "-rights")
        self.set_focus(self.query_one(RightsMatrix) if is_in_text else self.query_one(PermissionsText))
        self.refresh_bindings()

    @on(RightsMatrix.LineRequested)
    def show_line(self, message: RightsMatrix.LineRequested) -> None:
        """Go to the line that decides."""
        self.remove_class("-rights")
        editor = self.query_one(PermissionsText)
        editor.move_cursor((message.line - 1, 0))
        self.set_focus(editor)

    @on(RightsMatrix.PersonRequested)
    def ask_for_person(self) -> None:
        """Show somebody whom the text does not name."""
        self.app.push_screen(PersonDialog(), self._show_person)

    def _show_person(self, name: str | None) -> None:
        actor = read_actor(name) if name else None
        if actor is None:
            if name:
                self._say(f"{name} cannot be an actor: a user, group:name or osgroup:name without blanks.")
            return
        self._also.append(actor)
        self._judge()
        self.query_one(RightsMatrix).select(actor)

    @on(RightsMatrix.ToggleRequested)
    def toggle_rights(self, message: RightsMatrix.ToggleRequested) -> None:
        """Turn rights of somebody round; what changes for others is named first."""
        row, before, owner = message.row, self.text, self._known.owner
        is_giving = any(feature not in row.features for feature in message.features)
        text = before
        prevented: dict[str, Statement | None] = {}
        try:
            for feature in message.features:
                if (feature in row.features) != is_giving:
                    applied = toggle(text, row.actor, feature, owner)
                    text, prevented = applied.text, prevented | applied.prevented
        except ValueError as error:
            self._say(f"Not changed: {error}")
            return
        changes = rights_difference(before, text, owner, windows=self._known.windows)
        others = [difference_sentence(change) for change in changes if change.who != row.label]

        def change(answer: Confirmation | None) -> None:
            if answer is not None:
                self._replace_text(text)
                self._say_prevented(row.label, prevented)

        if others:
            title = f"This changes {plural(len(others), 'further row')}."
            question = ConfirmDialog(title, ["\n".join(others)], accept="change them")
            self.app.push_screen(question, change)
        else:
            change(Confirmation())

    def _say_prevented(self, who: str, prevented: Mapping[str, Statement | None]) -> None:
        lines = [
            f"{feature} stays kept from {who} by line {statement.line}: {statement}"
            for feature, statement in prevented.items()
            if statement
        ]
        self._say("\n".join(lines))

    # ---------------------------------------------------------------- leaving and sending

    def action_leave(self) -> None:
        """Leave and keep what was typed, unless an answer is still to come."""
        if self._is_in_rights and self.query_one(RightsMatrix).is_group_open:
            self.query_one(RightsMatrix).close_group()
            return
        if self._is_sending:
            self._say("The broker has not answered yet; what was sent cannot be taken back.")
            return
        self.dismiss(PermissionsOutcome(self.text))

    def action_send(self) -> None:
        """Ask, and send; a text with errors is asked about twice."""
        if self._is_sending:
            return
        if errors := self._errors:
            question = ConfirmDialog(
                f"Use a text with {plural(len(errors), 'error')}?",
                ["A line with an error has no effect. The server may refuse the whole text."],
                [_finding_line(error) for error in errors],
                accept="use it",
            )
            self.app.push_screen(question, self._after_errors)
        else:
            self._ask()

    def _after_errors(self, answer: Confirmation | None) -> None:
        if answer:
            self._ask()

    def _ask(self) -> None:
        if self._submit is None:
            self.dismiss(PermissionsOutcome(self.text, is_sent=True))
            return
        self.app.push_screen(
            ConfirmDialog(
                f"Send these permissions to {plural(len(self._sessions), 'session')}?",
                self._consequences(),
                [f"{session.name or session.id}   {session.owner}" for session in self._sessions],
                accept="send",
            ),
            self._after_question,
        )

    def _consequences(self) -> list[str]:
        """Both differences, rights and text, for each text that is replaced, and what else is to be known."""
        paragraphs = []
        is_one = len(self._bases) == 1
        for base, count in self._bases:
            who = "" if is_one else f"{plural(count, 'session')}: "
            if base is None and not is_one:
                paragraphs.append(f"{who}what is in force is not known and is replaced.")
                continue
            compared = self._opened_with if base is None else base
            changes = rights_difference(compared, self.text, self._known.owner, windows=self._known.windows)
            rights = [difference_sentence(change) for change in changes] or ["Nobody's rights change."]
            paragraphs.append(who + "\n".join(rights))
            if lines := text_difference(compared, self.text):
                paragraphs.append("\n".join(lines))
        lines = []
        if any(base is None for base, _ in self._bases) and is_one:
            lines.append("Compared with what the editor opened with: what is in force is not known.")
        if not self.text.strip():
            lines.append("The text is empty: nobody can connect any more, the owner is shut out too.")
        connected = sum(session.connections for session in self._sessions)
        if connected and any(" loses " in one for one in paragraphs):
            lines.append(f"Clients connected now are not cut off by the API: {connected} connected.")
        doubts = [finding for finding in self._findings if finding.level is not Level.ERROR]
        lines += [_finding_line(finding) for finding in doubts[:_DOUBTS_SHOWN]]
        if (more := len(doubts) - _DOUBTS_SHOWN) > 0:
            lines.append(f"and {plural(more, 'doubt')} more")
        return [*(["\n".join(lines)] if lines else []), *paragraphs]

    def _after_question(self, answer: Confirmation | None) -> None:
        if answer and self._submit:
            self._is_sending = True
            self._send(self._submit, self.text)

    @work(group="send")
    async def _send(self, submit: Submit, text: str) -> None:
        self._say("sending…")
        try:
            results = tuple(await submit(text))
        except ProgramError as error:
            self._say(f"not sent: {error.sentence}")
        else:
            self._take_results(text, results)
        finally:
            self._is_sending = False

    def _take_results(self, text: str, results: tuple[ItemResult, ...]) -> None:
        """Leave when something was done; the opener shows what was not."""
        if any(result.outcome is Outcome.DONE for result in results):
            self.dismiss(PermissionsOutcome(text, results, is_sent=True))
            return
        reasons = dict.fromkeys(f"{result.outcome}: {result.reason}" for result in results)
        self._say("\n".join(reasons))


def text_difference(old: str, new: str) -> list[str]:
    """The lines that go and come, with `-` and `+` before them."""
    found = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1))
    lines = [line for line in found[2:] if not line.startswith("@@")]
    more = len(lines) - _DIFF_LINES
    return lines[:_DIFF_LINES] + ([f"and {more} more lines"] if more > 0 else [])


def difference_sentence(difference: Difference) -> str:
    """`bob gains display, pointer`; `anybody else loses usb`."""
    parts = []
    if difference.gained:
        parts.append(f"gains {', '.join(sorted(difference.gained))}")
    if difference.lost:
        parts.append(f"loses {', '.join(sorted(difference.lost))}")
    return f"{difference.who} {' and '.join(parts)}"


def _finding_line(finding: Diagnostic) -> str:
    place = f"{finding.file}:{finding.line}" if finding.file else f"{finding.line}:{finding.column}"
    repair = f" ({finding.repair}?)" if finding.repair else ""
    return f"{place} {finding.level} {finding.code}: {finding.text}{repair}"
