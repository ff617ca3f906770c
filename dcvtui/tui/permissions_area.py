"""The text area of a permissions file: weight and colour for what words mean, and words completed.

Knows the language's words, not what a text means; findings are given to it.
"""

import re
from collections.abc import Iterable
from typing import Final

from rich.style import Style
from rich.text import Text
from textual.strip import Strip
from textual.widgets import TextArea

from dcvtui.api.permissions import FEATURES, Diagnostic, Level
from dcvtui.tui.safe_lines import safe

_RULES: Final = ("allow", "disallow", "deny")
_SECTIONS: Final = ("[groups]", "[aliases]", "[permissions]")
_DEFINITION: Final = re.compile(r"^\s*([^\s=,\[\]%:;#]+)\s*=", re.MULTILINE)
_SECTION: Final = re.compile(r"^\s*\[(\w+)\]\s*$", re.MULTILINE)


class PermissionsText(TextArea):
    """The text area, with sections, comments and faults told apart by weight, rules by colour as well."""

    DEFAULT_CSS = """
    PermissionsText { height: 1fr; border: none; padding: 0; background: $surface; }
    PermissionsText .text-area--gutter { color: $text-muted; }
    PermissionsText .text-area--cursor-gutter { color: $text-accent; text-style: bold; }
    """

    def __init__(self, text: str) -> None:
        # The line of the cursor is told by its number: its ground would take the colours of the words.
        super().__init__(
            text,
            show_line_numbers=True,
            soft_wrap=False,
            tab_behavior="focus",
            compact=True,
            highlight_cursor_line=False,
        )
        self.cursor_blink = False
        self._faulty: dict[int, int] = {}
        self._rule_style: Style | None = None

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

    def notify_style_update(self) -> None:
        """Another theme, other colours."""
        super().notify_style_update()
        self._rule_style = None

    def get_line(self, line_index: int) -> Text:
        """A line with its weight."""
        line = super().get_line(line_index)
        stripped = line.plain.strip()
        if stripped.startswith("["):
            line.stylize("bold")
        elif stripped.startswith((";", "//", "#")):
            line.stylize("dim")
        elif rule := re.match(r"\s*\S+\s+(allow|disallow|deny)(?=\s)", line.plain):
            line.stylize(self._accent(), rule.start(1), rule.end(1))
        if (column := self._faulty.get(line_index)) is not None:
            line.stylize("underline", min(column, max(0, len(line.plain) - 1)))
        return line

    def _accent(self) -> Style:
        if self._rule_style is None:
            self._rule_style = Style.parse(self.app.theme_variables.get("text-accent", "bold"))
        return self._rule_style

    # ------------------------------------------------------------------ completion

    def update_suggestion(self) -> None:
        """Offer the rest of the word at the cursor; the right arrow takes it."""
        row, column = self.cursor_location
        line = self.document.get_line(row)
        before = line[:column]
        self.suggestion = completion(self.text, row, before) if column == len(line) else ""


def completion(text: str, row: int, before: str) -> str:
    """The rest of the word that is being typed; "" if nothing or more than its beginning is known.

    Args:
        text: the whole file.
        row: the line of the cursor, from 0.
        before: what stands in that line before the cursor.
    """
    word = re.split(r"[\s,=]", before)[-1]
    if not word:
        return ""
    candidates = _candidates(text, row, before)
    found = sorted(one for one in candidates if one.startswith(word) and one != word)
    # `file-` is offered nothing rather than the wrong one of two.
    shortest = found[0] if found else word
    is_clear = all(one.startswith(shortest) for one in found)
    return shortest[len(word) :] if is_clear else ""


def _candidates(text: str, row: int, before: str) -> Iterable[str]:
    above = "\n".join(text.split("\n")[:row])
    sections = _SECTION.findall(above)
    words = before.split()
    if before.lstrip().startswith("["):
        return _SECTIONS
    aliases, groups = _defined(text, "aliases"), _defined(text, "groups")
    section = sections[-1] if sections else ""
    if section == "aliases":
        return (*FEATURES, *aliases, "builtin") if "=" in before else ()
    if section == "groups":
        return [f"group:{name}" for name in groups] if "=" in before else ()
    if len(words) == 1 and not before[-1].isspace():
        return ("%owner%", "%any%", *(f"group:{name}" for name in groups))
    if len(words) == 2:
        return _RULES
    return (*FEATURES, *aliases, "builtin")


def _defined(text: str, section: str) -> list[str]:
    """The names that a section defines."""
    names: list[str] = []
    parts = _SECTION.split(text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name == section:
            names += _DEFINITION.findall(body)
    return names
