"""Answers as text: small tables for people, JSON, YAML, CSV and TSV for programs; and the exit codes.

JSON and YAML have the shape and names of the API's reply, unknown fields
included, and are escaped; everything else shows control characters and
direction marks as codes. There is no colour in any of it. Lists of servers and
sessions are in `dcvtui.list_output`.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from enum import IntEnum, StrEnum
from textwrap import wrap
from typing import Any, TextIO

from dcvtui.api.text import cell_width, visible
from dcvtui.errors import BrokerError, ConfigError, NotTrusted, ProgramError, TimedOut, Unreachable

_LEAST_WRAPPED = 24
_WIDEST_MARGIN = 12


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
    YAML = "yaml"
    CSV = "csv"
    TSV = "tsv"
    IDS = "ids"

    @property
    def is_structured(self) -> bool:
        """It carries the API's objects, not rows made of them."""
        return self in (Format.JSON, Format.YAML)

    @property
    def delimiter(self) -> str:
        """What stands between two cells of CSV and TSV."""
        return "," if self is Format.CSV else "\t"


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


# ------------------------------------------------------------------ objects


def write_object(value: Any, chosen: Format, out: TextIO) -> None:
    """Print one object as JSON, or as YAML where that is wanted."""
    out.write(yaml_text(value) if chosen is Format.YAML else json.dumps(value, indent=2) + "\n")


def yaml_text(value: Any) -> str:
    """An object as YAML 1.1, in ASCII, so that no name in it steers a terminal."""
    import yaml  # noqa: PLC0415  20 ms that only this format needs

    # The one in C is ten times as fast where the library was built with it.
    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # known at run time only
        """Writes texts of several lines as such."""

    def represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    text: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=1000)
    return text


# ------------------------------------------------------------------ rows


def write_rows(heads: Sequence[str], rows: Iterable[Sequence[str]], chosen: Format, out: TextIO) -> None:
    """Print rows as a table, or as CSV or TSV where that is wanted.

    A table has no columns that are empty; a program finds all of them, always.
    """
    if chosen in (Format.CSV, Format.TSV):
        write_separated(heads, rows, out, chosen.delimiter)
        return
    cells = list(rows)
    used = [place for place in range(len(heads)) if any(row[place] for row in cells)]
    write_table([heads[place] for place in used], [[row[place] for place in used] for row in cells], out)


def write_table(heads: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO) -> None:
    """Print a small table; cells are made visible here.

    On a terminal the last column is broken between words where the line would be longer than the window;
    where hardly anything is left for it, it stands in lines of its own below.
    """
    if not heads:
        return
    cells = [list(heads), *([visible(cell) for cell in row] for row in rows)]
    widths = column_widths(cells)
    left = terminal_width(out) - sum(widths[:-1]) - 2 * (len(widths) - 1)
    is_below = left < min(widths[-1], _LEAST_WRAPPED) and len(widths) > 1
    for number, row in enumerate(cells):
        if is_below:
            out.write(table_line(row[:-1], widths[:-1], [False] * len(heads[:-1])))
            margin = min(widths[0] + 2, _WIDEST_MARGIN)
            lines = _broken(row[-1], terminal_width(out) - margin) if number and row[-1] else []
            out.writelines(f"{' ' * margin}{line}\n" for line in lines)
            continue
        for place, last in enumerate(_broken(row[-1], left)):
            before = row[:-1] if place == 0 else [""] * (len(row) - 1)
            out.write(table_line([*before, last], widths, [False] * len(heads)))


def _broken(text: str, width: int) -> list[str]:
    if cell_width(text) <= width:
        return [text]
    return wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def write_separated(heads: Sequence[str], rows: Iterable[Sequence[str]], out: TextIO, delimiter: str) -> None:
    """Print a small table for a program."""
    table = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    table.writerow([head.lower() for head in heads])
    table.writerows([visible(cell) for cell in row] for row in rows)


def terminal_width(out: TextIO) -> int:
    """The columns of the window that is written to; more than any where it is no window."""
    import os  # noqa: PLC0415  with its one use

    if not out.isatty():
        return 1 << 30
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def column_widths(cells: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column's widest cell."""
    return [max(cell_width(cell) for cell in column) for column in zip(*cells, strict=True)]


def table_line(cells: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    """One line of a table; a cell that is wider than its column pushes the rest."""
    padded = []
    for cell, width, is_right in zip(cells, widths, rights, strict=True):
        blanks = " " * (width - cell_width(cell))
        padded.append(blanks + cell if is_right else cell + blanks)
    return "  ".join(padded).rstrip() + "\n"
