"""Asking before something is done, and saying what came of it; the other dialogs are found here too.

Dialogs know nothing of the application: values come in, a value is dismissed.
They are read by the list screens and by the forms.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from dcvtui.api.text import visible
from dcvtui.operations import ItemResult, Outcome
from dcvtui.terminal import CopyError
from dcvtui.tui.connect_dialog import ConnectDialog, Copy, LinkScreen
from dcvtui.tui.help_screen import HelpScreen
from dcvtui.tui.panel import Choice, Choices, Panel, Words, plural
from dcvtui.tui.size_screen import SizeScreen

__all__ = [
    "FORCE_CLOSE",
    "FORCE_DELETE",
    "ConfirmDialog",
    "Confirmation",
    "ConnectDialog",
    "Copy",
    "HelpScreen",
    "LinkScreen",
    "ResultDialog",
    "SizeScreen",
]

FORCE_DELETE: Final = (
    "the broker forgets the session at once and tells the host to close it if it can; "
    "the only way while the agent is not reachable"
)
FORCE_CLOSE: Final = "needed while sessions run; they keep running, only new ones are kept out"

TYPED_AHEAD_S: Final = 0.3
"""Keys so soon after a dialog opened were meant for what was there before."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What was agreed to in a `ConfirmDialog`."""

    force: bool = False
    include_connected: bool = False


class ConfirmDialog(ModalScreen[Confirmation | None]):
    """Names what will be touched and asks; dismisses `None` when it is not to be done."""

    DEFAULT_CSS = """
    ConfirmDialog { align: center middle; background: $background 70%; }
    ConfirmDialog .confirm-part { margin-bottom: 1; }
    ConfirmDialog .-names { padding-left: 2; }
    ConfirmDialog Panel > .panel-foot { padding-top: 0; height: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "accept", "do it", id="confirm.accept-action", tooltip="Do what the dialog says"),
        Binding("f", "force", "force", id="confirm.toggle-force", tooltip="With force, or without"),
        Binding(
            "c", "connected", "connected too", id="confirm.include-connected",
            tooltip="Take in what somebody is connected to, or leave it out",
        ),
        Binding("n,escape", "cancel", "cancel", id="confirm.cancel-action", tooltip="Do nothing"),
    ]  # fmt: skip

    def __init__(
        self,
        title: str,
        sentences: Sequence[str] = (),
        items: Sequence[str] = (),
        force: str | None = None,
        connected: Sequence[str] = (),
        *,
        need_force: Sequence[str] = (),
        accept: str = "do it",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A question about some items.

        Args:
            title: The question, with the number of items.
            sentences: What will happen, a paragraph each.
            items: What will be touched, a line each: name, owner, clients.
            force: The sentence that explains force where it is offered.
            connected: Lines of items that are left out until a key takes them in: somebody is connected.
            need_force: Lines of items that are left out until force is on.
            accept: The verb of the key that does it.
            clock: Seconds from any start; another one in tests.
        """
        super().__init__()
        self._title = title
        self._sentences = sentences
        self._items = list(items)
        self._force_sentence = force
        self._connected = list(connected)
        self._need_force = list(need_force)
        self._accept = accept
        self._clock = clock
        self._shown_at: float | None = None
        self._force = False
        self._include_connected = False

    def compose(self) -> ComposeResult:
        """The question, what it is about, and the keys that answer it."""
        # The options come before the names: these may be hundreds.
        body = [Words(sentence, classes="confirm-part") for sentence in self._sentences]
        if self._force_sentence is not None:
            body.append(Words(id="force", classes="confirm-part"))
        if self._connected:
            body.append(Words(id="connected", classes="confirm-part"))
        if self._items:
            body.append(Words("\n".join(self._items), classes="confirm-part -names"))
        for more in (self._connected, self._need_force):
            if more:
                body.append(Words("\n".join(more), classes="confirm-part -names"))
        choices = [Choice("confirm.accept-action", self._accept)]
        if self._force_sentence is not None:
            choices.append(Choice("confirm.toggle-force"))
        if self._connected:
            choices.append(Choice("confirm.include-connected"))
        choices.append(Choice("confirm.cancel-action"))
        yield Panel(self._title, *body, foot=Choices(choices))

    def on_mount(self) -> None:
        """Give the focus to the choice that does no harm, and count time from the first paint."""
        self._show_options()
        self.set_focus(self.query(Choice).last())
        self.call_after_refresh(self._note_shown)

    def _note_shown(self) -> None:
        self._shown_at = self._clock()

    def _is_typed_ahead(self) -> bool:
        return self._shown_at is None or self._clock() - self._shown_at < TYPED_AHEAD_S

    def _show_options(self) -> None:
        if self._connected:
            what = plural(len(self._connected), "item") + " somebody is connected to"
            fate = "taken in" if self._include_connected else "left out"
            self.query_one("#connected", Words).show(f"{_box(self._include_connected)} {what}: {fate}")
        if self._force_sentence is not None:
            text = f"{_box(self._force)} force: {self._force_sentence}"
            if count := len(self._need_force):
                fate = "taken in" if self._force else "left out without it"
                what = "item cannot be reached" if count == 1 else "items cannot be reached"
                text = f"{text}\n    {count:,} {what}: {fate}"
            self.query_one("#force", Words).show(text)

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer force and the connected ones only where there is something to decide."""
        if action == "force":
            return self._force_sentence is not None
        if action == "connected":
            return bool(self._connected)
        return True

    def action_accept(self) -> None:
        """Agree, unless the key was typed ahead or nothing would be touched."""
        if self._is_typed_ahead():
            return
        taken = [*self._items, *(self._connected if self._include_connected else [])]
        taken += self._need_force if self._force else []
        if not taken and self._connected:
            self.query_one("#connected", Words).show(
                "Nothing to do yet: somebody is connected to all of these."
            )
            return
        if not taken and self._need_force:
            self.query_one("#force", Words).show("Nothing to do yet: all of these need force (`f`).")
            return
        self.dismiss(Confirmation(self._force, self._include_connected))

    def action_force(self) -> None:
        """Turn force on or off."""
        if not self._is_typed_ahead():
            self._force = not self._force
            self._show_options()

    def action_connected(self) -> None:
        """Take in what somebody is connected to, or leave it out again."""
        if not self._is_typed_ahead():
            self._include_connected = not self._include_connected
            self._show_options()

    def action_cancel(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)


def _box(is_on: bool) -> str:
    return "[x]" if is_on else "[ ]"


# ------------------------------------------------------------------ results


# Worst first: what was done needs no reading.
_OUTCOME_SIGNS: Final = {
    Outcome.FAILED: ("✗", "x"),
    Outcome.NOT_KNOWN: ("?", "?"),
    Outcome.NOT_SENT: ("○", "."),
    Outcome.DONE: ("✓", "v"),
}
_NOT_KNOWN: Final = "never sent again by itself; the next refresh tells"
_NAMES_SHOWN: Final = 200


class ResultDialog(ModalScreen[bool]):
    """What came of each item, grouped by outcome and reason; dismisses whether to retry the failed."""

    DEFAULT_CSS = """
    ResultDialog { align: center middle; background: $background 70%; }
    ResultDialog .result-names { padding-left: 4; color: $text-muted; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "r", "retry", "retry the failed", id="result.retry-failed", tooltip="Only what failed, once more"
        ),
        Binding("y", "copy", "copy", id="result.copy-rows", tooltip="All rows with reasons and request ids"),
        Binding("escape,enter", "close", "close", id="any.close-top", key_display="esc"),
    ]

    def __init__(
        self,
        title: str,
        results: Sequence[ItemResult],
        copy: Copy | None = None,
        left: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """The results of one action.

        Args:
            title: What was done.
            results: One for each item.
            copy: Puts the rows on the clipboard; without it copying is not offered.
            left: Names of what was not tried, by why, such as `need force`.
        """
        super().__init__()
        self._title = title
        self._results = list(results)
        self._copy = copy
        self._left = {why: names for why, names in (left or {}).items() if names}

    @property
    def summary(self) -> str:
        """`271 done, 6 failed, 3 not sent`."""
        counts = Counter(result.outcome for result in self._results)
        done = [f"{counts[outcome]:,} {outcome}" for outcome in reversed(_OUTCOME_SIGNS) if counts[outcome]]
        return ", ".join([*done, *(f"{len(names):,} {why}" for why, names in self._left.items())])

    def compose(self) -> ComposeResult:
        """Counts first, then each group with its reason and its items."""
        body: list[Words] = []
        for (outcome, reason), names in grouped(self._results).items():
            sign = _OUTCOME_SIGNS[outcome][self.app.has_class("-ascii")]
            head = f"{sign} {len(names):,} {outcome}"
            body.append(Words(f"{head}: {reason}" if reason else head))
            body.append(Words(_shortened(names), classes="result-names"))
        for why, left in self._left.items():
            sign = _OUTCOME_SIGNS[Outcome.NOT_SENT][self.app.has_class("-ascii")]
            body.append(Words(f"{sign} {len(left):,} {why}"))
            body.append(Words(_shortened(left), classes="result-names"))
        choices = [Choice("any.close-top")]
        if self._has_failed:
            choices.insert(0, Choice("result.retry-failed"))
        if self._copy:
            choices.insert(-1, Choice("result.copy-rows"))
        body.append(Words(id="said"))
        yield Panel(f"{self._title}: {self.summary}", *body, foot=Choices(choices))

    def on_mount(self) -> None:
        """Give the focus to closing."""
        self.set_focus(self.query(Choice).last())

    @property
    def _has_failed(self) -> bool:
        return any(result.outcome is Outcome.FAILED for result in self._results)

    def check_action(self, action: str, _parameters: tuple[object, ...]) -> bool | None:
        """Offer a retry only of something, copying only to somewhere."""
        if action == "retry":
            return self._has_failed
        return self._copy is not None if action == "copy" else True

    def action_retry(self) -> None:
        """Ask the opener to send the failed ones again."""
        self.dismiss(True)

    def action_close(self) -> None:
        """Close; nothing is sent."""
        self.dismiss(False)

    def action_copy(self) -> None:
        """Copy a line for each item."""
        rows = "\n".join(result_row(result) for result in self._results)
        self._copy_rows(rows)

    @work(group="copy", exclusive=True)
    async def _copy_rows(self, rows: str) -> None:
        if self._copy is not None:
            self.query_one("#said", Words).show(await said_of_copy(self._copy, rows))


def _shortened(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _NAMES_SHOWN:,} more"] if len(names) > _NAMES_SHOWN else []
    return ", ".join([*names[:_NAMES_SHOWN], *more])


def grouped(results: Sequence[ItemResult]) -> dict[tuple[Outcome, str], list[str]]:
    """Names of the items by outcome and reason: the worst outcome first, then the largest group."""
    groups: dict[tuple[Outcome, str], list[str]] = {}
    for result in results:
        reason = "" if result.outcome is Outcome.DONE else result.reason
        if result.outcome is Outcome.NOT_KNOWN:
            reason = f"{reason}; {_NOT_KNOWN}" if reason else _NOT_KNOWN
        groups.setdefault((result.outcome, reason), []).append(result.name or result.id)
    order = list(_OUTCOME_SIGNS)
    return dict(sorted(groups.items(), key=lambda group: (order.index(group[0][0]), -len(group[1]))))


def result_row(result: ItemResult) -> str:
    """One result as a line of tab-separated values for the clipboard."""
    parts = (result.name, result.id, result.outcome.value, result.reason, result.request_id)
    return "\t".join(visible(part) for part in parts)


async def said_of_copy(copy: Copy, text: str) -> str:
    """Copy a text, and what is to be said about it."""
    try:
        return await copy(text)
    except CopyError as error:
        return f"not copied: {error}"
