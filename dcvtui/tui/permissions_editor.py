"""The editor for a permissions file: text, findings while one types, and who gains and loses what.

The API cannot read permissions back, so the editor says where its text comes
from. What a text means is decided in `dcvtui.api.permissions`; sending is a
callable of the opener's.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widgets import TextArea

from dcvtui.api.permissions import (
    DEFAULT_TEXT,
    Context,
    Diagnostic,
    Difference,
    Level,
    parse,
    preset_result,
    rights_difference,
)
from dcvtui.errors import ProgramError
from dcvtui.fleet import SessionRecord
from dcvtui.operations import ItemResult, Outcome
from dcvtui.tui.dialogs import Confirmation, ConfirmDialog
from dcvtui.tui.panel import KeyLine, Words, plural
from dcvtui.tui.preset_dialog import PresetDialog
from dcvtui.tui.safe_lines import safe

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


class PermissionsText(TextArea):
    """The text area, with sections, comments and faults told apart by weight rather than colour."""

    DEFAULT_CSS = """
    PermissionsText { height: 1fr; border: none; padding: 0; background: $surface; }
    PermissionsText .text-area--gutter { color: $text-muted; }
    PermissionsText .text-area--cursor-gutter { color: $text-accent; text-style: bold; }
    PermissionsText .text-area--cursor-line { background: $boost; }
    """

    def __init__(self, text: str) -> None:
        super().__init__(text, show_line_numbers=True, soft_wrap=False, tab_behavior="focus", compact=True)
        self.cursor_blink = False
        self._faulty: dict[int, int] = {}

    def render_line(self, y: int) -> Strip:
        """A line of text and nothing else."""
        return safe(super().render_line(y))

    def mark(self, findings: Iterable[Diagnostic]) -> None:
        """Underline the lines that have no effect, from the fault on."""
        faulty = {
            one.line - 1: one.column - 1 for one in findings if one.level is Level.ERROR and not one.file
        }
        if faulty != self._faulty:
            self._faulty = faulty
            self._line_cache.clear()
            self.refresh()

    def get_line(self, line_index: int) -> Text:
        """A line with its weight."""
        line = super().get_line(line_index)
        stripped = line.plain.strip()
        if stripped.startswith("["):
            line.stylize("bold")
        elif stripped.startswith((";", "//", "#")):
            line.stylize("dim")
        if (column := self._faulty.get(line_index)) is not None:
            line.stylize("underline", min(column, max(0, len(line.plain) - 1)))
        return line


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
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "send", "send", id="form.send-form", key_display="ctrl-o", tooltip="Send the text"),
        Binding("ctrl+r", "preset", "preset", id="editor.choose-preset", key_display="ctrl-r"),
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
    ) -> None:
        """An editor that begins with a text.

        Args:
            sessions: Whose permissions are sent.
            text: What the editor opens with, the text in force as far as it is known.
            origin: Where that text comes from, such as `sent by you 12:03`; `None` if nothing is known.
            submit: Sends the text; without it the editor only hands the text back.
            context: What is known of the sessions and their servers, for warnings.
        """
        super().__init__()
        self._sessions = sessions
        self._opened_with = text
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
            yield Words(NOT_KNOWN if self._origin is None else self._origin, classes="editor-origin -muted")
            yield Words(id="said", classes="-failed", optional=True)
            yield PermissionsText(self._opened_with)
            with VerticalScroll(classes="editor-below", can_focus=False):
                yield Words(id="findings", optional=True)
                yield Words(id="difference", optional=True)
            yield KeyLine("form.send-form", "editor.choose-preset", "form.next-error", "form.leave-form")

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

    # ---------------------------------------------------------------- what is said of the text

    @on(TextArea.Changed)
    def _judge(self) -> None:
        self._findings = parse(self.text, context=self._known).diagnostics
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
        self.app.push_screen(PresetDialog(), self._apply_preset)

    def _apply_preset(self, chosen: tuple[str, str] | None) -> None:
        if chosen is None:
            return
        name, actor = chosen
        try:
            applied = preset_result(self.text, name, actor or None, self._known.owner)
        except ValueError as error:
            self._say(f"Not applied: {error}")
            return
        editor = self.query_one(PermissionsText)
        editor.replace(applied.text, editor.document.start, editor.document.end)
        editor.move_cursor(editor.document.end)
        self._judge()
        said = [
            f"{feature} is kept from {actor} by line {statement.line}: {statement}"
            for feature, statement in applied.prevented.items()
            if statement
        ]
        if applied.besides:
            said.append(f"{actor} has besides, through groups or %any%: {', '.join(sorted(applied.besides))}")
        self._say("\n".join(said))

    def action_leave(self) -> None:
        """Leave and keep what was typed, unless an answer is still to come."""
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
        lines = self._difference_lines() or ["Nobody's rights change."]
        if self._origin is None:
            lines.append("Compared with what the editor opened with: what is in force is not known.")
        connected = sum(session.connections for session in self._sessions)
        if connected and any(" loses " in line for line in lines):
            lines.append(f"Clients connected now are not cut off by the API: {connected} connected.")
        if others := len(self._findings) - len(self._errors):
            lines.append(f"The editor names {plural(others, 'doubt')} besides.")
        return ["\n".join(lines)]

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
