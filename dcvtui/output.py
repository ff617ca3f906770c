"""Answers as text: tables for people, JSON, CSV, TSV and ids for programs; and the exit codes.

Columns are those of the console. JSON has the shape and names of the API's
reply, unknown fields included, and is escaped; everything else shows control
characters and direction marks as codes. There is no colour in any of it.
"""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from textwrap import indent
from typing import Any, Protocol, TextIO

from dcvtui.api.text import cell_width, visible
from dcvtui.columns import Column
from dcvtui.errors import BrokerError, ConfigError, NotTrusted, ProgramError, TimedOut, Unreachable
from dcvtui.fields import SERVER_COLUMNS, SESSION_COLUMNS
from dcvtui.fleet import server_record, session_record

Wire = Mapping[str, Any]


class ExitCode(IntEnum):
    """What a command returns (section 4.3 of the command line's specification)."""

    OK = 0
    FILE_DAMAGED = 1
    NOT_UNDERSTOOD = 2
    ITEMS_FAILED = 3
    WAIT_TIMED_OUT = 4
    ANSWER_IS_NO = 5
    NOT_REACHED = 6
    INTERRUPTED = 130
    BAD_VALUE = 252
    BAD_ENVIRONMENT = 253
    BROKER_ERROR = 254
    OTHER = 255


def exit_code_of(error: ProgramError) -> int:
    """The code of a command that ended with this error."""
    if isinstance(error, ConfigError):
        return error.exit_code
    if isinstance(error, Unreachable | NotTrusted | TimedOut):
        return ExitCode.NOT_REACHED
    return ExitCode.BROKER_ERROR if isinstance(error, BrokerError) else ExitCode.OTHER


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    IDS = "ids"


def choose_format(
    output: str | None, output_format: str | None, from_file: str | None, *, is_terminal: bool
) -> Format:
    """Which format counts: our option and the official one, the file, else table on a terminal and JSON.

    Raises:
        ConfigError: the two options differ, or the file names a format that does not exist.
    """
    if output and output_format and output != output_format:
        raise ConfigError(
            f"--output {output} and --output-format {output_format} contradict each other. Give one of them.",
            ExitCode.BAD_VALUE,
        )
    named = output or output_format or from_file
    if named is None:
        return Format.TABLE if is_terminal else Format.JSON
    try:
        return Format(named.lower())
    except ValueError:
        known = ", ".join(Format)
        raise ConfigError(
            f"The output format '{visible(named)}' is not known. Take one of: {known}."
        ) from None


# ------------------------------------------------------------------ rows


@dataclass(frozen=True, slots=True)
class Row:
    """One server or session: the record that columns and filters read, and the object as it came."""

    record: Any
    wire: Wire


@dataclass(frozen=True, slots=True)
class ListKind:
    """One of the two lists: how the API calls it, what it can show, and what it shows unasked."""

    name: str
    columns: Sequence[Column[Any]]
    read: Callable[[Wire], Any]
    shown: tuple[str, ...]

    def rows(self, page: Wire) -> list[Row]:
        """The rows of a page."""
        return [Row(self.read(entity), entity) for entity in page[self.name]]

    def choose(self, ids: Sequence[str] | None) -> list[Column[Any]]:
        """The columns with these ids, in this order.

        Raises:
            ConfigError: the list has no such column.
        """
        by_id = {column.id: column for column in self.columns}
        chosen = []
        for name in ids or self.shown:
            if name.lower() not in by_id:
                raise ConfigError(
                    f"There is no column '{visible(name)}'. Take some of: {', '.join(by_id)}.",
                    ExitCode.BAD_VALUE,
                )
            chosen.append(by_id[name.lower()])
        return chosen


SESSIONS = ListKind(
    "Sessions",
    SESSION_COLUMNS,
    session_record,
    ("name", "owner", "type", "state", "server", "clients", "age", "id"),
)
SERVERS = ListKind(
    "Servers",
    SERVER_COLUMNS,
    server_record,
    ("name", "state", "sessions", "os", "load", "mem", "tags", "id"),
)


class Writer(Protocol):
    """Prints a list page by page, as the pages come."""

    def page(self, rows: Sequence[Row], page: Wire) -> None:
        """Print the rows that are wanted of a page."""

    def finish(self) -> None:
        """Print what stands at the end."""


def writer(
    chosen: Format, kind: ListKind, columns: Sequence[Column[Any]], out: TextIO, now: datetime
) -> Writer:
    """The writer for a format.

    Args:
        chosen: the format.
        kind: of list.
        columns: to show where the format has columns.
        out: where to print.
        now: the time that ages count from.
    """
    if chosen is Format.JSON:
        return _JsonWriter(kind.name, out)
    if chosen is Format.IDS:
        return _IdsWriter(out)
    if chosen is Format.TABLE:
        return _TableWriter(columns, out, now)
    return _SeparatedWriter(columns, out, now, delimiter="," if chosen is Format.CSV else "\t")


class _TableWriter:
    def __init__(self, columns: Sequence[Column[Any]], out: TextIO, now: datetime) -> None:
        self._columns, self._out, self._now = columns, out, now
        self._widths: list[int] | None = None

    def page(self, rows: Sequence[Row], page: Wire) -> None:  # noqa: ARG002  the contract of a writer
        cells = [[column.text(row.record, self._now) for column in self._columns] for row in rows]
        if self._widths is None:
            heads = [column.head for column in self._columns]
            self._widths = _widths([heads, *cells])
            cells.insert(0, heads)
        rights = [column.is_right for column in self._columns]
        for row in cells:
            self._out.write(_line(row, self._widths, rights))

    def finish(self) -> None:
        pass


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
    """One object with the lists of all pages joined; its other members are those of the last page."""

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


# ------------------------------------------------------------------ other answers


def write_json(value: Any, out: TextIO) -> None:
    """Print one object."""
    out.write(json.dumps(value, indent=2) + "\n")


def write_table(heads: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    """Print a small table; cells are made visible here."""
    cells = [list(heads), *([visible(cell) for cell in row] for row in rows)]
    widths = _widths(cells)
    for row in cells:
        out.write(_line(row, widths, [False] * len(heads)))


def write_separated(heads: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO, delimiter: str) -> None:
    """Print a small table for a program."""
    table = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    table.writerow([head.lower() for head in heads])
    table.writerows([visible(cell) for cell in row] for row in rows)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_width(cell) for cell in column) for column in zip(*cells, strict=True)]


def _line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_right in zip(cells, widths, rights, strict=True):
        blanks = " " * (width - cell_width(cell))
        padded.append(blanks + cell if is_right else cell + blanks)
    return "  ".join(padded).rstrip() + "\n"
