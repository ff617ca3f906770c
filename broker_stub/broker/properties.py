"""The grammar of Java properties files, without any meaning of keys.

`settings` gives the keys their meaning. Values are text; a broken escape is
kept as it stands, as Java's own reader would rather load a file than refuse it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLANKS = " \t\f"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Property:
    """One key with its value and the line it begins on."""

    key: str
    value: str
    line: int


def parse(text: str) -> list[Property]:
    """Read a properties file.

    Args:
        text: The content of the file.

    Returns:
        Every property in the order of the file, equal keys included.
    """
    return [_property(line, number) for number, line in _logical_lines(text)]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, with continued ones joined, and the number each begins on."""
    gathered, began = "", 0
    # Not str.splitlines(): the grammar knows only CR and LF, and a form feed is a blank.
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), start=1):
        line = raw.lstrip(_BLANKS)
        if not began:
            if not line or line[0] in "#!":
                continue
            began = number
        if _is_continued(line):
            gathered += line[:-1]
            continue
        yield began, gathered + line
        gathered, began = "", 0
    if began and gathered:
        yield began, gathered


def _is_continued(line: str) -> bool:
    backslashes = len(line) - len(line.rstrip("\\"))
    return backslashes % 2 == 1


def _property(line: str, number: int) -> Property:
    end = 0
    while end < len(line) and line[end] not in "=:" + _BLANKS:
        end += 2 if line[end] == "\\" else 1
    value = line[end:].lstrip(_BLANKS)
    if value[:1] in ("=", ":"):
        value = value[1:].lstrip(_BLANKS)
    return Property(_unescape(line[:end]), _unescape(value), number)


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return _ESCAPES.get(match[2], match[2])

    return _ESCAPE.sub(character, text)
