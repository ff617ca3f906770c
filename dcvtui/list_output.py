"""Lists of servers and sessions as text, page by page as the pages come.

Columns are those of the console. Nothing is kept of a page that was printed, so
that a fleet of any size takes the memory of one page.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from textwrap import indent
from typing import Any, Protocol, TextIO

from dcvtui.api.text import visible
from dcvtui.columns import Column
from dcvtui.errors import ConfigError
from dcvtui.fields import SERVER_COLUMNS, SESSION_COLUMNS
from dcvtui.fleet import server_record, session_record
from dcvtui.nearest import did_you_mean
from dcvtui.output import ExitCode, Format, column_widths, table_line, terminal_width, yaml_text

Wire = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One server or session: the record that columns and filters read, and the object as it came."""

    record: Any
    wire: Wire

    @property
    def tags(self) -> list[tuple[str, str]]:
        """The tags of the server, or of the server that the session is on."""
        server = self.wire.get("Server", self.wire)
        found = server.get("Tags") if isinstance(server, dict) else None
        return [(str(tag.get("Key")), str(tag.get("Value"))) for tag in found or () if isinstance(tag, dict)]


@dataclass(frozen=True, slots=True)
class ListKind:
    """One of the two lists.

    Attributes:
        name: what the API calls it.
        noun: what people call one of them.
        columns: all that it can show.
        read: makes a record of an object.
        shown: the columns it shows unasked.
        needed: the same in the order in which a narrow window has room for them.
    """

    name: str
    noun: str
    columns: Sequence[Column[Any]]
    read: Callable[[Wire], Any]
    shown: tuple[str, ...]
    needed: tuple[str, ...]

    def rows(self, page: Wire) -> list[Row]:
        """The rows of a page."""
        return [Row(self.read(entity), entity) for entity in page[self.name]]

    def choose(self, ids: Sequence[str] | None) -> list[Column[Any]]:
        """The columns with these ids, in this order.

        Raises:
            ConfigError: the list has no such column.
        """
        by_id = {column.id: column for column in self.columns}
        for name in ids or ():
            if name.lower() not in by_id:
                raise ConfigError(
                    f"There is no column '{visible(name)}'.{did_you_mean(name, list(by_id))} "
                    f"Take some of: {', '.join(by_id)}.",
                    ExitCode.BAD_VALUE,
                )
        return [by_id[name.lower()] for name in ids or self.shown]

    def count(self, number: int) -> str:
        """A number of them, in words."""
        return f"{number:,} {self.noun}{'' if number == 1 else 's'}"


SESSIONS = ListKind(
    "Sessions",
    "session",
    SESSION_COLUMNS,
    session_record,
    ("name", "owner", "type", "state", "server", "clients", "age", "id"),
    ("id", "name", "state", "owner", "clients", "server", "age", "type"),
)
SERVERS = ListKind(
    "Servers",
    "server",
    SERVER_COLUMNS,
    server_record,
    ("name", "state", "sessions", "os", "load", "mem", "tags", "id"),
    ("id", "name", "state", "sessions", "load", "mem", "os", "tags"),
)


class Writer(Protocol):
    """Prints a list page by page, as the pages come."""

    def page(self, rows: Sequence[Row], page: Wire) -> None:
        """Print the rows that are wanted of a page."""

    def finish(self) -> None:
        """Print what stands at the end, also when no further page could be had."""


def writer(
    chosen: Format, kind: ListKind, columns: Sequence[str] | None, out: TextIO, now: datetime
) -> Writer:
    """The writer for a format.

    Args:
        chosen: the format.
        kind: of list.
        columns: to show where the format has columns; None for the usual ones, as many as the window holds.
        out: where to print.
        now: the time that ages count from.
    """
    if chosen is Format.JSON:
        return _JsonWriter(kind.name, out)
    if chosen is Format.YAML:
        return _YamlWriter(kind.name, out)
    if chosen is Format.IDS:
        return _IdsWriter(out)
    if chosen is Format.TABLE:
        return _TableWriter(kind, columns, out, now)
    return _SeparatedWriter(kind.choose(columns), out, now, delimiter=chosen.delimiter)


class _TableWriter:
    def __init__(self, kind: ListKind, columns: Sequence[str] | None, out: TextIO, now: datetime) -> None:
        self._columns, self._out, self._now = kind.choose(columns), out, now
        self._droppable = () if columns else kind.needed
        self._widths: list[int] | None = None

    def page(self, rows: Sequence[Row], page: Wire) -> None:  # noqa: ARG002  the contract of a writer
        if self._widths is None:
            self._settle(rows)
        widths = self._widths or []
        rights = [column.is_right for column in self._columns]
        for row in rows:
            self._out.write(table_line(self._cells(row), widths, rights))

    def _cells(self, row: Row) -> list[str]:
        return [column.text(row.record, self._now) for column in self._columns]

    def _settle(self, rows: Sequence[Row]) -> None:
        """Take the widths, and the columns that the window has room for, from the first page."""
        widths = column_widths([[column.head for column in self._columns], *map(self._cells, rows)])
        if self._droppable:
            by_id = dict(zip((column.id for column in self._columns), widths, strict=True))
            fitting = _fitting(by_id, self._droppable, terminal_width(self._out))
            self._columns = [column for column in self._columns if column.id in fitting]
            widths = [by_id[column.id] for column in self._columns]
        self._widths = widths
        heads = [column.head for column in self._columns]
        self._out.write(table_line(heads, widths, [column.is_right for column in self._columns]))

    def finish(self) -> None:
        pass


def _fitting(widths: Mapping[str, int], needed: Sequence[str], window: int) -> set[str]:
    fitting: set[str] = set()
    used = -2
    for name in needed:
        used += widths[name] + 2
        if used > window and fitting:
            break
        fitting.add(name)
    return fitting


class _SeparatedWriter:
    def __init__(self, columns: Sequence[Column[Any]], out: TextIO, now: datetime, delimiter: str) -> None:
        self._columns, self._now = columns, now
        self._writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow([column.id for column in columns])

    def page(self, rows: Sequence[Row], page: Wire) -> None:  # noqa: ARG002  as above
        for row in rows:
            self._writer.writerow([column.text(row.record, self._now) for column in self._columns])

    def finish(self) -> None:
        pass


class _IdsWriter:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def page(self, rows: Sequence[Row], page: Wire) -> None:  # noqa: ARG002  as above
        for row in rows:
            self._out.write(visible(row.record.id) + "\n")

    def finish(self) -> None:
        pass


class _JsonWriter:
    """One object with the lists of all pages joined; its other members are those of the last page.

    When a page could not be had, the `NextToken` that leads to it is among them: the list goes on there.
    """

    def __init__(self, name: str, out: TextIO) -> None:
        self._name, self._out = name, out
        self._rest: dict[str, Any] = {}
        self._is_empty = True
        out.write(f'{{\n  "{name}": [')

    def page(self, rows: Sequence[Row], page: Wire) -> None:
        self._rest = {name: value for name, value in page.items() if name != self._name}
        for row in rows:
            self._out.write("\n" if self._is_empty else ",\n")
            self._out.write(indent(json.dumps(row.wire, indent=2), "    "))
            self._is_empty = False

    def finish(self) -> None:
        self._out.write("]" if self._is_empty else "\n  ]")
        for name, value in self._rest.items():
            self._out.write(f",\n  {json.dumps(name)}: {indent(json.dumps(value, indent=2), '  ').lstrip()}")
        self._out.write("\n}\n")


class _YamlWriter:
    """The same as YAML."""

    def __init__(self, name: str, out: TextIO) -> None:
        self._name, self._out = name, out
        self._rest: dict[str, Any] = {}
        self._is_empty = True

    def page(self, rows: Sequence[Row], page: Wire) -> None:
        self._rest = {name: value for name, value in page.items() if name != self._name}
        if rows:
            self._out.write(f"{self._name}:\n" if self._is_empty else "")
            self._out.write(yaml_text([row.wire for row in rows]))
            self._is_empty = False

    def finish(self) -> None:
        if self._is_empty:
            self._out.write(f"{self._name}: []\n")
        if self._rest:
            self._out.write(yaml_text(self._rest))
