"""The keys that work now, made from the bindings in force: nothing here is written by hand twice."""

from collections.abc import Mapping
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.screen import ModalScreen

from dcvtui.tui.keys import is_bound
from dcvtui.tui.panel import Choice, Choices, Panel, Words

_HEADS: Final = {"any": "Everywhere", "list": "In lists"}
_KEY_COLUMN: Final = 14
_NO_KEY: Final = "(no key)"


def _place(binding_id: str) -> int:
    """What is special to a view comes first, what works everywhere last."""
    view = binding_id.partition(".")[0]
    return list(_HEADS)[::-1].index(view) + 1 if view in _HEADS else 0


class HelpScreen(ModalScreen[None]):
    """Lists the keys of the view it was opened from, what is special to the view first."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; background: $background 70%; }
    HelpScreen .help-head { text-style: bold; color: $text-accent; }
    HelpScreen .help-rows { margin-bottom: 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "close", id="any.close-top", key_display="esc"),
    ]

    def __init__(self, bindings: Mapping[str, ActiveBinding], title: str = "Keys") -> None:
        """A page for some bindings.

        Args:
            bindings: `active_bindings` of the screen that is explained, taken before this one opens.
            title: Which view it is.
        """
        super().__init__()
        self._explained = bindings
        self._title = title

    def compose(self) -> ComposeResult:
        """A block of rows for each view the bindings belong to."""
        body: list[Words] = []
        for view, rows in self._views().items():
            body.append(Words(_HEADS.get(view, f"{view.capitalize()}"), classes="help-head"))
            lines = [f"  {', '.join(keys):<{_KEY_COLUMN}} {words}" for keys, words in rows]
            body.append(Words("\n".join(lines), classes="help-rows"))
        yield Panel(self._title, *body, foot=Choices([Choice("any.close-top")]))

    def _views(self) -> dict[str, list[tuple[list[str], str]]]:
        """Keys and words by view; keys of one action stand together."""
        rows: dict[str, tuple[list[str], str]] = {}
        for active in self._explained.values():
            binding = active.binding
            # What has no id is Textual's own: editing keys inside text fields.
            if not binding.id or not active.enabled or binding.system:
                continue
            keys, _ = rows.setdefault(binding.id, ([], binding.tooltip or binding.description))
            shown = self.app.get_key_display(binding) if is_bound(binding.key) else _NO_KEY
            if shown not in keys:
                keys.append(shown)
        views: dict[str, list[tuple[list[str], str]]] = {}
        for binding_id in sorted(rows, key=_place):
            views.setdefault(binding_id.partition(".")[0], []).append(rows[binding_id])
        return views

    def on_mount(self) -> None:
        """Give the focus to closing, so that arrows scroll the page."""
        self.set_focus(self.query_one(Choice))

    def action_close(self) -> None:
        """Back to the view."""
        self.dismiss(None)
