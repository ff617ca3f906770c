"""What the console remembers because its operator said so: columns, filters, forms saved by name.

One file of the console's own, replaced as a whole and readable by its owner only;
a damaged one is as good as none and is kept aside. Without a place nothing
outlives the console.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dcvtui.private_files import replace_private

_TABLES: Final = ("columns", "filters", "templates", "defaults")


class Saved:
    """Columns and filters by view, templates by name, defaults of forms by profile.

    Args:
        path: the file; None keeps nothing beyond the end of the program.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._tables: dict[str, dict[str, Any]] = {name: {} for name in _TABLES}
        self._read()

    # ------------------------------------------------------------------ columns

    def columns(self, view: str) -> Sequence[str]:
        """The ids of the columns chosen for a view; empty where the usual ones are shown."""
        found = self._tables["columns"].get(view)
        return [str(one) for one in found] if isinstance(found, list) else []

    def set_columns(self, view: str, columns: Sequence[str]) -> None:
        """Remember these columns; none for the usual ones."""
        self._set("columns", view, list(columns) or None)

    # ------------------------------------------------------------------ filters

    def filters(self, view: str) -> Mapping[str, str]:
        """The filters saved for a view, by name."""
        found = self._tables["filters"].get(view)
        return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}

    def set_filter(self, view: str, name: str, text: str | None) -> None:
        """Save a filter by name, or forget it."""
        filters = {**self.filters(view), name: text}
        self._set("filters", view, {one: kept for one, kept in filters.items() if kept} or None)

    def name_of(self, view: str, text: str) -> str:
        """The name by which a filter is saved; "" if it is not."""
        return next((name for name, saved in self.filters(view).items() if saved == text), "")

    # ------------------------------------------------------------------ templates

    @property
    def templates(self) -> Mapping[str, Mapping[str, Any]]:
        """The forms saved by name."""
        return {name: form for name, form in self._tables["templates"].items() if isinstance(form, dict)}

    def set_template(self, name: str, form: Mapping[str, Any] | None) -> None:
        """Save what a form holds by name, or forget it."""
        self._set("templates", name, None if form is None else dict(form))

    def default(self, profile: str) -> Mapping[str, Any]:
        """What the form of a profile held when it was sent last; empty at first."""
        found = self._tables["defaults"].get(profile)
        return found if isinstance(found, dict) else {}

    def set_default(self, profile: str, form: Mapping[str, Any]) -> None:
        """Remember what the form of a profile held."""
        self._set("defaults", profile, dict(form))

    # ------------------------------------------------------------------ the file

    def _set(self, table: str, name: str, value: Any) -> None:
        if value is None:
            self._tables[table].pop(name, None)
        else:
            self._tables[table][name] = value
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(self._path, json.dumps(self._tables, indent=1).encode())
        except OSError:
            self._path = None  # it holds as long as the console runs

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            document = json.loads(self._path.read_bytes())
            found = {name: document.get(name, {}) for name in _TABLES}
        except FileNotFoundError:
            return
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".damaged"))
            return
        self._tables = {name: dict(table) if isinstance(table, dict) else {} for name, table in found.items()}
