"""The first screen of a console that knows no broker: asks for one, tests it step by step, saves it.

Testing and saving are callables of the opener's; nothing typed here is lost
when a step fails, and the secret is shown by nobody.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input

from dcvtui.broker_check import BrokerEntry, Step
from dcvtui.errors import ProgramError
from dcvtui.tui.dialogs import TYPED_AHEAD_S
from dcvtui.tui.form_fields import FormField, text_input
from dcvtui.tui.panel import KeyLine, Panel, Words

Test = Callable[[BrokerEntry], AsyncIterator[Step]]
"""Tests an entry, a step at a time, and ends with the first that fails."""

Save = Callable[[BrokerEntry], Awaitable[str]]
"""Saves an entry and says where; raises `ProgramError`."""


@dataclass(frozen=True, slots=True)
class FirstRunOutcome:
    """An entry that passed every step, and what was said about saving it."""

    entry: BrokerEntry
    saved: str


@dataclass(frozen=True, slots=True)
class DemoChosen:
    """The operator wants to look at the demo instead."""


class FirstRunForm(ModalScreen[FirstRunOutcome | DemoChosen | None]):
    """Asks for a broker; dismisses `None` when the operator leaves."""

    DEFAULT_CSS = """
    FirstRunForm { align: center middle; background: $background 70%; }
    FirstRunForm #steps { margin-top: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "send", "test and save", id="form.send-form", key_display="ctrl-o"),
        Binding("y", "accept", "trust this certificate", id="confirm.accept-action"),
        Binding("n", "reject", "don't", id="confirm.cancel-action"),
        Binding("escape", "leave", "leave", id="form.leave-form", key_display="esc"),
        Binding("ctrl+r", "start_demo", "demo fleet", id="form.start-demo", key_display="ctrl-r"),
        Binding("tab", "app.focus_next", "next field", id="form.next-field"),
    ]

    def __init__(
        self,
        test: Test,
        save: Save,
        entry: BrokerEntry | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A form.

        Args:
            test: Tests what is typed.
            save: Saves what passed the test.
            entry: What the fields hold at first.
            clock: Seconds from any start; another one in tests.
        """
        super().__init__()
        self._test = test
        self._save = save
        self._first = entry or BrokerEntry()
        self._offered = ""
        """The fingerprint that the operator is asked about."""
        self._accepted = self._first.fingerprint
        self._clock = clock
        self._offered_at = 0.0
        self._is_testing = False

    def compose(self) -> ComposeResult:
        """Four fields, and the steps below."""
        first = self._first
        yield Panel(
            "Which broker?",
            FormField("Address", text_input(first.address, "such as broker.example:8443"), id="address"),
            FormField("Client id", text_input(first.client_id), id="client_id"),
            FormField("Secret", text_input(first.secret, password=True), id="secret"),
            FormField("CA file", text_input(first.ca_file, "if the broker has its own CA"), id="ca_file"),
            Words(id="steps", optional=True),
            foot=KeyLine(
                "form.send-form", "confirm.accept-action", "confirm.cancel-action", "form.leave-form",
                "form.start-demo", "form.next-field",
            ),
        )  # fmt: skip

    def on_mount(self) -> None:
        """Begin in the first field that is empty."""
        inputs = list(self.query(Input))
        self.set_focus(next((one for one in inputs if not one.value), inputs[0]))

    def _value(self, name: str) -> str:
        return self.query_one(f"#{name}", FormField).query_one(Input).value

    @property
    def entry(self) -> BrokerEntry:
        """What the fields hold now."""
        return BrokerEntry(
            address=self._value("address").strip(),
            client_id=self._value("client_id").strip(),
            secret=self._value("secret"),
            ca_file=self._value("ca_file").strip(),
            fingerprint=self._accepted,
        )

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Ask about a certificate only while one is offered, and about nothing else then."""
        if action in ("accept", "reject"):
            return bool(self._offered)
        return not (action == "start_demo" and self._offered)

    @on(Input.Changed)
    def note_change(self, event: Input.Changed) -> None:
        """A changed field has no fault yet; an accepted certificate was that of another address."""
        field = event.input.query_ancestor(FormField)
        field.complain("")
        if field.id == "address" and event.value.strip() != self._first.address:
            self._accepted = ""

    @on(Input.Submitted)
    def go_on(self) -> None:
        """Enter goes to the next field."""
        self.focus_next()

    def action_send(self) -> None:
        """Test what is typed, unless something is missing."""
        if self._is_testing:
            return
        for name, what in (("address", "The broker's address"), ("client_id", "A client id")):
            if not self._value(name).strip():
                field = self.query_one(f"#{name}", FormField)
                field.complain(f"{what} is required.")
                self.set_focus(field.editor)
                return
        self._offer("")
        self._is_testing = True
        self._test_and_save(self.entry)

    @work(group="first-run")
    async def _test_and_save(self, entry: BrokerEntry) -> None:
        lines: list[str] = []
        steps = self.query_one("#steps", Words)
        steps.show("testing…")
        try:
            async for step in self._test(entry):
                lines.append(self._line(step))
                steps.show("\n".join(lines))
                if not step.is_done:
                    self._offer(step.fingerprint)
                    return
            self.dismiss(FirstRunOutcome(entry, await self._save(entry)))
        except ProgramError as error:
            steps.show("\n".join([*lines, error.sentence]))
        finally:
            self._is_testing = False

    def _line(self, step: Step) -> str:
        signs = ("v", "x") if self.app.has_class("-ascii") else ("✓", "✗")
        sign = signs[0] if step.is_done else signs[1]
        return f"{sign} {step.name}: {step.text}" if step.text else f"{sign} {step.name}"

    def _offer(self, fingerprint: str) -> None:
        """Ask about a certificate: letters are keys then, so no field keeps the focus."""
        self._offered = fingerprint
        self._offered_at = self._clock()
        if fingerprint:
            self.set_focus(None)
            # Where the terminal is low, what is to be compared matters more than the fields.
            self.call_after_refresh(self.query_one(Panel).scroll_end, animate=False)
        self.refresh_bindings()

    def action_accept(self) -> None:
        """Trust the certificate that was offered, and go on; not for a `y` meant for a field."""
        if self._clock() - self._offered_at < TYPED_AHEAD_S:
            return
        self._accepted = self._offered
        self._first = replace(self._first, address=self._value("address").strip())
        self.action_send()

    def action_reject(self) -> None:
        """Back to the fields."""
        self._offer("")
        self.set_focus(self.query_one("#ca_file", FormField).editor)

    def action_start_demo(self) -> None:
        """Look at the demo instead."""
        self.dismiss(DemoChosen())

    def action_leave(self) -> None:
        """Answer the question with no, or leave."""
        if self._offered:
            self.action_reject()
            return
        self.dismiss(None)
