"""The filter language of every list: `owner:ana state:ready idle>2h !type:console`.

Terms side by side must all hold and bind tighter than `or`; brackets group and
`!` inverts. Terms are bare words (part of any column), `field:a,b` with `*`,
comparisons, `tag:key=value`, `~fuzzy` and `/regular expressions/`; quotes keep
blanks and take every meaning away. Letter case never matters. Field names are
the heads of the columns. Pure: records, times and tags come in as arguments.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from dcvtui.columns import Column, Unit
from dcvtui.patterns import Pattern, PatternError

Tags = Callable[[Any], Iterable[tuple[str, str]]]
Predicate = Callable[[Any, datetime, str], bool]
"""Record, the broker's time and the record's haystack in; does it match?"""

_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)(<=|>=|:|<|>)")
_OR = re.compile(r"or(?![^\s()])", re.IGNORECASE)
_TIME_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_POWERS = "kmgtp"
_DEEPEST = 50


class QueryError(ValueError):
    """A filter that cannot be understood; `column` counts characters from 1."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(message)
        self.column = column


@dataclass(slots=True, frozen=True)
class Filter:
    """A filter that was understood."""

    text: str
    matches: Predicate
    wanted: tuple[tuple[str, Callable[[str], bool]], ...] = ()
    """Every `field:value` that is not inverted: the field, and whether it names a value."""

    def asks_for(self, field: str, value: str) -> bool:
        """Whether the filter names this value of a field, as `state:deleted` does."""
        return any(name == field and names(value.casefold()) for name, names in self.wanted)


EVERYTHING = Filter("", lambda _record, _now, _haystack: True)


def haystack(record: Any, columns: Sequence[Column[Any]], now: datetime) -> str:
    """What bare words are looked for in: every column but relative times, which would come and go."""
    texts = [column.text(record, now) for column in columns if column.unit is not Unit.TIME]
    return "\n".join(texts).casefold()


def compile_filter(text: str, columns: Sequence[Column[Any]], tags: Tags) -> Filter:
    """Understand a filter.

    Args:
        text: what the operator typed.
        columns: the columns of the list, shown or not.
        tags: the tags of a record; those of its server for a session.

    Raises:
        QueryError: with the column at which it stops making sense.
    """
    if not text.strip():
        return EVERYTHING
    parser = _Parser(text, {column.id: column for column in columns}, tags)
    predicate = parser.expression(0)
    parser.skip_blanks()
    if parser.position < len(text):
        raise QueryError("this bracket closes nothing", parser.position + 1)
    return Filter(text.strip(), predicate, tuple(parser.wanted))


class _Parser:
    """Recursive descent over the characters of one filter."""

    def __init__(self, text: str, columns: dict[str, Column[Any]], tags: Tags) -> None:
        self.text, self.position = text, 0
        self.columns, self.tags = columns, tags
        self.wanted: list[tuple[str, Callable[[str], bool]]] = []
        self.is_inverted = False

    def skip_blanks(self) -> None:
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def expression(self, depth: int) -> Predicate:
        alternatives = [self.conjunction(depth)]
        while self.at_or():
            self.position += 2
            alternatives.append(self.conjunction(depth))
        if len(alternatives) == 1:
            return alternatives[0]
        return lambda record, now, hay: any(one(record, now, hay) for one in alternatives)

    def at_or(self) -> bool:
        self.skip_blanks()
        return _OR.match(self.text, self.position) is not None

    def conjunction(self, depth: int) -> Predicate:
        terms: list[Predicate] = []
        while not self.at_or() and self.peek() not in ("", ")"):
            terms.append(self.term(depth))
        if not terms:
            what = (
                "`or` needs a term on both sides" if self.at_or() or depth == 0 else "there is a term missing"
            )
            raise QueryError(what, self.position + 1)
        if len(terms) == 1:
            return terms[0]
        if len(terms) == 2:
            first, second = terms
            return lambda record, now, hay: first(record, now, hay) and second(record, now, hay)
        return lambda record, now, hay: all(one(record, now, hay) for one in terms)

    def term(self, depth: int) -> Predicate:
        start = self.position
        match self.peek():
            case "!":
                return self.inverted(depth)
            case "(":
                self.refuse_depth(depth)
                self.position += 1
                inner = self.expression(depth + 1)
                self.skip_blanks()
                if self.peek() != ")":
                    raise QueryError("this bracket is not closed", start + 1)
                self.position += 1
                return inner
            case "~":
                self.position += 1
                return self.fuzzy(start)
            case "/":
                return self.regular_expression()
        field = _FIELD.match(self.text, start)
        return self.field_term(field) if field else self.bare_word()

    def refuse_depth(self, depth: int) -> None:
        if depth >= _DEEPEST:
            raise QueryError("brackets are nested too deeply", self.position + 1)

    def inverted(self, depth: int) -> Predicate:
        self.refuse_depth(depth)
        self.position += 1
        self.skip_blanks()
        if self.peek() in ("", ")") or self.at_or():
            raise QueryError("`!` needs a term after it", self.position + 1)
        self.is_inverted = not self.is_inverted
        inner = self.term(depth + 1)
        self.is_inverted = not self.is_inverted
        return lambda record, now, hay: not inner(record, now, hay)

    # ------------------------------------------------------------------ terms without a field

    def bare_word(self) -> Predicate:
        word = "".join(piece for piece, _ in self.read_pieces("")).casefold()
        return lambda _record, _now, hay: word in hay

    def fuzzy(self, start: int) -> Predicate:
        word = "".join(piece for piece, _ in self.read_pieces("")).casefold()
        if not word:
            raise QueryError("`~` needs a word after it", start + 1)
        return lambda _record, _now, hay: any(_has_in_order(line, word) for line in hay.split("\n"))

    def regular_expression(self) -> Predicate:
        start = self.position
        end = re.compile(r"(?:[^/\\]|\\.)*/").match(self.text, start + 1)
        if end is None:
            raise QueryError("this regular expression is not closed by a `/`", start + 1)
        self.position = end.end()
        try:
            pattern = Pattern(self.text[start + 1 : self.position - 1])
        except PatternError as error:
            raise QueryError(str(error), start + 2 + error.position) from None
        return lambda _record, _now, hay: pattern.is_in(hay)

    # ------------------------------------------------------------------ terms with a field

    def field_term(self, field: re.Match[str]) -> Predicate:
        name, operator = field[1].lower(), field[2]
        self.position = field.end()
        if name == "tag" and operator == ":":
            return self.tag()
        column = self.columns.get(name)
        if column is None:
            nearest = get_close_matches(name, [*self.columns, "tag"], 1)
            hint = f", the nearest is {nearest[0]}" if nearest else ""
            raise QueryError(f"no column is called {field[1]}{hint}", field.start() + 1)
        if operator != ":":
            return self.comparison(column, operator)
        if column.unit in (Unit.TIME, Unit.SIZE):
            raise QueryError(f"{column.id} is compared with < or >", field.end())
        return self.values(column)

    def values(self, column: Column[Any]) -> Predicate:
        names = self.read_values()
        if not self.is_inverted:
            self.wanted.append((column.id, names))
        text = column.text
        if column.unit is Unit.NUMBER:
            measure = column.measure

            def matches_number(record: Any, now: datetime, _hay: str) -> bool:
                value = measure(record, now)
                return names("" if value is None else f"{value:g}") or names(text(record, now).casefold())

            return matches_number
        return lambda record, now, _hay: names(text(record, now).casefold())

    def tag(self) -> Predicate:
        start = self.position
        key = "".join(piece for piece, _ in self.read_pieces("=")).casefold()
        if not key:
            raise QueryError("the key of a tag is missing", start + 1)
        tags = self.tags
        if self.peek() != "=":
            return lambda record, _now, _hay: any(name.casefold() == key for name, _ in tags(record))
        self.position += 1
        names = self.read_values()
        return lambda record, _now, _hay: any(
            name.casefold() == key and names(value.casefold()) for name, value in tags(record)
        )

    def comparison(self, column: Column[Any], operator: str) -> Predicate:
        start = self.position
        operand = "".join(piece for piece, _ in self.read_pieces(""))
        bound = _operand(operand, column.unit)
        if bound is None:
            raise QueryError(f"{column.id} is compared with {column.unit.value}", start + 1)
        limit, measure = bound, column.measure
        compare = _COMPARISONS[operator]

        def matches(record: Any, now: datetime, _hay: str) -> bool:
            value = measure(record, now)
            return value is not None and compare(value, limit)

        return matches

    # ------------------------------------------------------------------ words and values

    def read_values(self) -> Callable[[str], bool]:
        """Read `a,b*,"c d"`; the result tells whether a text in lower case is one of them."""
        exact: set[str] = set()
        patterns: list[re.Pattern[str]] = []
        while True:
            pieces = self.read_pieces(",")
            if any("*" in piece and not is_quoted for piece, is_quoted in pieces):
                patterns.append(_wildcard(pieces))
            else:
                exact.add("".join(piece for piece, _ in pieces).casefold())
            if self.peek() != ",":
                break
            self.position += 1
        if not patterns:
            return exact.__contains__
        return lambda text: text in exact or any(pattern.fullmatch(text) for pattern in patterns)

    def read_pieces(self, stops: str) -> list[tuple[str, bool]]:
        """Read one word as pieces of text, each with whether it was quoted; stops at blanks and brackets."""
        pieces: list[tuple[str, bool]] = []
        while (character := self.peek()) and not character.isspace() and character not in "()" + stops:
            start = self.position
            if character == '"':
                end = self.text.find('"', start + 1)
                if end < 0:
                    raise QueryError("this quote is not closed", start + 1)
                pieces.append((self.text[start + 1 : end], True))
                self.position = end + 1
            else:
                while (
                    (following := self.peek()) and not following.isspace() and following not in '()"' + stops
                ):
                    self.position += 1
                pieces.append((self.text[start : self.position], False))
        return pieces


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda value, limit: value < limit,
    "<=": lambda value, limit: value <= limit,
    ">": lambda value, limit: value > limit,
    ">=": lambda value, limit: value >= limit,
}


def _has_in_order(text: str, characters: str) -> bool:
    # No regular expression: it would try every way to skip, for minutes in a long name of one letter.
    place = 0
    for character in characters:
        place = text.find(character, place) + 1
        if not place:
            return False
    return True


def _wildcard(pieces: list[tuple[str, bool]]) -> re.Pattern[str]:
    between = [""]
    for piece, is_quoted in pieces:
        first, *others = [piece] if is_quoted else piece.split("*")
        between[-1] += re.escape(first.casefold())
        between += [re.escape(other.casefold()) for other in others]
    first, *middle, last = between
    # Each part takes the first place it fits and keeps it, so that many stars cost no more than one.
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last, re.DOTALL)


def _operand(text: str, unit: Unit) -> float | None:
    if unit is Unit.NUMBER:
        return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) else None
    if unit is Unit.TIME:
        parts = list(_TIME_PART.finditer(text))
        if not parts or "".join(part[0] for part in parts) != text:
            return None
        return sum(float(part[1]) * _SECONDS[part[2].lower()] for part in parts)
    if unit is Unit.SIZE and (size := _SIZE.fullmatch(text)):
        power = _POWERS.index(size[2].lower()) + 1 if size[2] else 0
        # A bare `4G` means what the lists show, and they show GiB.
        is_decimal = not size[3] and text[-1] in "bB"
        return float(size[1]) * float(1000 if is_decimal else 1024) ** power
    return None
