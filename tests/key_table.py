"""The table of all keys in the README, made from the bindings: `python -m tests.key_table` writes it.

A test compares; so README and program cannot drift apart.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from textual.binding import Binding
from textual.keys import format_key

import dcvtui.tui
from dcvtui.tui.keys import KEYS, is_bound

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- keys: `make keys` writes this table -->\n", "<!-- end of keys -->\n"

_WHERE = {"any": "everywhere", "list": "lists"}
_WORDS = {"escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}


def bindings() -> Iterator[Binding]:
    """Those of the views in the order of their table, then those that dialogs and forms declare."""
    for row in KEYS:
        yield Binding(row.keys, row.action, row.label, id=row.id, tooltip=row.tip)
    known = {row.id for row in KEYS}
    for found in pkgutil.iter_modules(dcvtui.tui.__path__):
        module = importlib.import_module(f"dcvtui.tui.{found.name}")
        for one in vars(module).values():
            if isinstance(one, type) and one.__module__ == module.__name__:
                yield from (
                    binding
                    for binding in one.__dict__.get("BINDINGS", [])
                    if isinstance(binding, Binding) and binding.id not in known
                )


def shown_key(key: str) -> str:
    """A key as the console writes it."""
    if key.startswith("ctrl+"):
        return key.replace("+", "-")
    return _WORDS.get(key) or (format_key(key) if "_" in key or key in _SIGNS else key)


_SIGNS = {"colon", "slash", "asterisk", "plus", "minus", "comma", "space"} - {"space"}


def table() -> str:
    """A row for each action: where, keys, what it does, and the id to bind it anew."""
    rows: dict[str, tuple[list[str], str]] = {}
    for binding in bindings():
        keys, _ = rows.setdefault(binding.id or "", ([], binding.tooltip or binding.description))
        keys += [key for key in binding.key.split(",") if key and is_bound(key) and key not in keys]
    views: dict[str, list[str]] = {}
    for name, (keys, words) in rows.items():
        view = name.partition(".")[0]
        shown = " ".join(f"`{shown_key(key)}`" for key in keys) or "by `:` only"
        first = _WHERE.get(view, view) if view not in views else ""
        what = words[:1].upper() + words[1:]
        views.setdefault(view, []).append(f"| {first} | {shown} | {what} | `{name}` |\n")
    lines = "".join("".join(lines) for lines in views.values())
    return f"| where | keys | what | id |\n|---|---|---|---|\n{lines}"


def with_table(text: str) -> str:
    """The README with the table as it has to be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
