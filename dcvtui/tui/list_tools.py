"""What every list can do besides showing rows: its columns, saved filters, saving rows, the command for it.

Dialogs are opened through a callable; nothing here knows the application.
"""

import asyncio
import csv
import json
import shlex
from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path
from typing import Final, Protocol, TypeVar

from textual.screen import Screen

from dcvtui.api.text import visible
from dcvtui.private_files import replace_private
from dcvtui.query import QueryError
from dcvtui.saved import Saved
from dcvtui.tui.columns_dialog import ColumnsDialog
from dcvtui.tui.details_pane import TextScreen
from dcvtui.tui.filters_dialog import SavedDialog
from dcvtui.tui.fleet_list import FleetList
from dcvtui.tui.path_dialog import PathDialog

ResultT = TypeVar("ResultT")

_COMMANDS: Final = {
    "sessions": "describe-sessions",
    "wall": "describe-sessions",
    "servers": "describe-servers",
}
_FORMULA: Final = ("=", "+", "-", "@")


class Ask(Protocol):
    """Opens a screen and waits for what it dismisses."""

    def __call__(self, screen: Screen[ResultT], /) -> Awaitable[ResultT | None]:
        """Wait for the operator."""


class ListTools:
    """The tools of all lists.

    Args:
        saved: what is remembered by name.
        ask: opens a dialog and waits for it.
        say: one line for the operator.
        copy: copies a text and says so.
        profile: the options that name the broker on a command line.
    """

    def __init__(
        self,
        saved: Saved,
        ask: Ask,
        say: Callable[[str], None],
        copy: Callable[[str], Awaitable[None]],
        profile: Callable[[], str],
    ) -> None:
        self._saved, self._ask, self._say, self._copy, self._profile = saved, ask, say, copy, profile

    async def choose_columns(self, one: FleetList) -> None:
        """Choose columns and their order."""
        title = f"Columns of {one.definition.title}"
        chosen = await self._ask(ColumnsDialog(title, one.column_names(), one.columns_shown))
        if chosen is not None:
            self._saved.set_columns(one.definition.view, chosen)
            one.show_columns(chosen)

    async def open_filters(self, one: FleetList) -> None:
        """Use a saved filter, save the present one, or forget one."""
        view = one.definition.view
        filters = self._saved.filters(view)
        choice = await self._ask(SavedDialog(f"Filters of {one.definition.title}", filters, one.filter_text))
        if choice is None:
            return
        if choice.what == "use":
            before = one.filter_text
            try:
                one.set_filter(filters[choice.name])
            except QueryError as error:
                self._say(f"{error} (column {error.column})")
            else:
                one.post_message(FleetList.Undoable("filter", lambda: one.set_filter(before)))
        else:
            self._saved.set_filter(view, choice.name, one.filter_text if choice.what == "save" else None)
            self._say(f"{'saved' if choice.what == 'save' else 'forgotten'}: {visible(choice.name)}")
            one.post_message(FleetList.Changed())

    async def save_rows(self, one: FleetList) -> None:
        """Save the rows shown, all of them, with the columns shown."""
        note = (
            "A name that ends in .json is written as the API has it, any other as CSV with the columns shown."
        )
        suggested = f"~/{one.definition.view}.csv"
        name = await self._ask(PathDialog(f"Save {one.definition.title}", suggested, note))
        if name is None:
            return
        text = rows_as_json(one) if name.lower().endswith(".json") else rows_as_csv(one)
        try:
            await asyncio.to_thread(_write, name, text)
        except OSError as error:
            self._say(f"not saved: {visible(name)}: {error.strerror or error}")
        else:
            self._say(f"saved {len(one.listing):,} rows in {visible(name)} (0600)")

    async def show_command(self, one: FleetList) -> None:
        """Show the command line that prints the same."""
        text = command_line(one, self._profile())
        if text is None:
            self._say(f"There is no command line for {one.definition.title}.")
        elif await self._ask(TextScreen(text)):
            await self._copy(text)


def _write(name: str, text: str) -> None:
    replace_private(Path(name).expanduser(), text.encode())


def rows_as_csv(one: FleetList) -> str:
    """The rows shown, with the columns shown; a cell that a spreadsheet would compute is quoted."""
    out, now = StringIO(), one.now()
    table = csv.writer(out, lineterminator="\n")
    columns = one.columns_chosen()
    table.writerow([column.head.lower() for column in columns])
    for key in one.listing.shown_keys():
        record = one.listing.records[key]
        cells = [column.text(record, now) for column in columns]
        table.writerow(
            [f"'{cell}" if cell.startswith(_FORMULA) and len(cell) > 1 else cell for cell in cells]
        )
    return out.getvalue()


def rows_as_json(one: FleetList) -> str:
    """The rows shown, as the API has them."""
    rows = [one.wire(one.listing.records[key]) for key in one.listing.shown_keys()]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def command_line(one: FleetList, profile: str = "") -> str | None:
    """The command line that prints these rows; None where there is none."""
    command = _COMMANDS.get(one.definition.view)
    if command is None:
        return None
    words = ["dcvtui", *([profile] if profile else []), command]
    if one.filter_text:
        words += ["--filter", shlex.quote(one.filter_text)]
    if one.columns_shown:
        words += ["--columns", shlex.quote(",".join(name for name in one.columns_shown if ":" not in name))]
    if one.listing.sorted_by:
        sign = "-" if one.listing.is_reversed else ""
        words += [f"--sort={sign}{one.listing.sorted_by}"]
    lines = [" ".join(words)]
    if one.definition.view != "servers" and one.filter_text:
        lines += ["", "To clear them away without anybody watching:"]
        lines += [" ".join(["dcvtui", *([profile] if profile else []), "reap", "--filter",
                            shlex.quote(one.filter_text), "--force", "--dry-run"])]  # fmt: skip
    return "\n".join(lines)
