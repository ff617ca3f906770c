"""One text of a permissions file as lines: what each says, and what in it cannot be read.

Nothing is resolved here: names may mean nothing and imports are not followed,
see `permissions_resolve`. Every line keeps its text, so that presets and the
editor change a file without touching what they do not understand.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import NamedTuple

BLANKS = " \t"
SECTIONS = ("groups", "aliases", "permissions")
RULES = ("allow", "disallow", "deny")

_WORD = re.compile(r"[^ \t]+")
_NAME = re.compile(r"[^ \t=,\[\]%:;#]+")
_PLACEHOLDER = re.compile(r"%.*%")
# A lone surrogate is how a text that came as something else than UTF-8 looks after a tolerant decoder.
_NOT_UTF8 = re.compile("[\ud800-\udfff]")
# Looking for the nearest name costs far more than reading the line. No person reads this many suggestions.
_MOST_SUGGESTIONS = 100


class Level(StrEnum):
    """How bad a finding is. A line with an error has no effect."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A finding. Line and column count from 1, the column in characters.

    Attributes:
        text: begins with the word it is about, if it is about one.
        repair: what could stand there instead, if something is near.
        file: name of the imported file it is in; empty for the text itself.
    """

    line: int
    column: int
    level: Level
    code: str
    text: str
    repair: str | None = None
    file: str = ""


def level_of(code: str) -> Level:
    """The level that goes with a code."""
    if code.startswith("E-") or code == "W-COMMA-IN-STATEMENT":
        return Level.ERROR
    return Level.INFO if code in ("W-UNSUPERVISED", "W-VERSION") else Level.WARNING


class Word(NamedTuple):
    """A piece of a line and the column it begins at."""

    text: str
    column: int


class Actor(NamedTuple):
    """Whom a statement is about: `kind` is any, owner, user, group or osgroup; the first two have no name."""

    kind: str
    name: str = ""

    def __str__(self) -> str:
        if self.kind in ("any", "owner"):
            return f"%{self.kind}%"
        return self.name if self.kind == "user" else f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Statement:
    """A line such as `bob allow display pointer`."""

    file: str
    line: int
    column: int
    actor: Actor
    rule: str
    items: tuple[Word, ...]

    def __str__(self) -> str:
        return f"{self.actor} {self.rule} {' '.join(item.text for item in self.items)}"


@dataclass(frozen=True, slots=True)
class Definition:
    """A group or an alias with its members, as written; what cannot be a member is left out."""

    file: str
    line: int
    column: int
    name: str
    members: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Import:
    """A line that stands for the lines of another file."""

    file: str
    line: int
    column: int
    path: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the text.

    Attributes:
        kind: blank, comment, import, header, group, alias, statement, or unread if it is not understood.
        section: the section the line is in, `None` outside and in unknown ones.
        content: what the line says, if it says something.
    """

    number: int
    text: str
    kind: str
    section: str | None
    content: Statement | Definition | Import | None = None

    def __str__(self) -> str:
        plain = self._plain()
        # A carriage return that is data must not become part of the line's end.
        return f"{plain} " if plain.endswith("\r") else plain

    def _plain(self) -> str:
        match self.content:
            case Statement() as statement:
                actor = _WORD.findall(self.text)[0]  # keeps the prefix `user:` where it is written
                return " ".join([actor, statement.rule, *(item.text for item in statement.items)])
            case Definition(name=name):
                members = self.text.partition("=")[2].split(",")
                return f"{name}={', '.join(member.strip(BLANKS) for member in members)}"
            case Import(path=path):
                return f"#import {path}"
        return self.text.strip(BLANKS)


@dataclass(slots=True)
class Text:
    """A text that was read: its lines and the findings in them."""

    name: str
    lines: list[Line] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def report(self, line: int, column: int, code: str, text: str, repair: str | None = None) -> None:
        """Add a finding; its code tells how bad it is."""
        self.diagnostics.append(Diagnostic(line, column, level_of(code), code, text, repair, self.name))


class Suggestions:
    """Finds the nearest known name, for as many unknown ones as somebody may want to read about."""

    def __init__(self) -> None:
        self._left = _MOST_SUGGESTIONS

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """The known name most like the word, if one is like it."""
        if self._left <= 0 or len(word) > 60:
            return None
        self._left -= 1
        by_folded = {name.lower(): name for name in known}
        near = get_close_matches(word.lower(), by_folded, n=1)
        return by_folded[near[0]] if near else None


def decoded(content: bytes) -> tuple[str, Diagnostic | None]:
    """The text of a file, and a finding at the first place that is not UTF-8."""
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8").removeprefix("\ufeff")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        finding = Diagnostic(line, column, Level.ERROR, "E-ENCODING", "bytes that are not UTF-8")
        return content.decode("utf-8", errors="replace"), finding


def split_lines(text: str) -> Iterator[str]:
    """The lines without their ends. Only LF and CRLF end a line, whatever else Unicode has for it."""
    for line in text.removeprefix("\ufeff").split("\n"):
        yield line.removesuffix("\r")


def read_text(text: str, name: str = "", suggestions: Suggestions | None = None) -> Text:
    """Read a text line by line. Nothing makes it raise: what is not understood becomes a finding."""
    result = Text(name)
    reader = _LineReader(result, suggestions or Suggestions())
    has_surrogate = False
    for number, line in enumerate(split_lines(text), 1):
        if not has_surrogate and (surrogate := _NOT_UTF8.search(line)):
            has_surrogate = True
            result.report(number, surrogate.start() + 1, "E-ENCODING", "a character that UTF-8 does not have")
        result.lines.append(reader.read(number, line))
    return result


class _LineReader:
    """Reads lines in order; remembers the section."""

    def __init__(self, result: Text, suggestions: Suggestions) -> None:
        self._result = result
        self._suggestions = suggestions
        self._section: str | None = None
        self._skips = False
        self._read_entry: dict[str, Callable[[int, str], Line]] = {
            "groups": self._group,
            "aliases": self._alias,
            "permissions": self._statement,
        }

    def read(self, number: int, text: str) -> Line:
        stripped = text.strip(BLANKS)
        if not stripped or stripped.startswith(";"):
            return Line(number, text, "comment" if stripped else "blank", self._section)
        if stripped.startswith("#"):
            return self._hash(number, text, stripped)
        if stripped.startswith("["):
            return self._header(number, text, stripped)
        if self._section:
            return self._read_entry[self._section](number, text)
        if not self._skips:
            self._report(number, text, "E-OUTSIDE-SECTION", "entry before any section", "[permissions]")
        return Line(number, text, "unread", None)

    def _report(self, number: int, text: str, code: str, problem: str, repair: str | None = None) -> None:
        self._result.report(number, _indent(text) + 1, code, problem, repair)

    def _hash(self, number: int, text: str, stripped: str) -> Line:
        if stripped != "#import" and stripped[:8] not in ("#import ", "#import\t"):
            problem, repair = "# comments are not portable, ; begins one everywhere", f";{stripped[1:]}"
            self._result.report(number, _indent(text) + 1, "W-HASH-COMMENT", problem, repair)
            return Line(number, text, "comment", self._section)
        path = stripped[len("#import") :].strip(BLANKS)
        if not path:
            self._report(number, text, "E-IMPORT-SYNTAX", "#import: a path belongs behind it")
            return Line(number, text, "unread", self._section)
        content = Import(self._result.name, number, _indent(text) + 1, path)
        return Line(number, text, "import", self._section, content)

    def _header(self, number: int, text: str, stripped: str) -> Line:
        name = stripped[1:-1] if stripped.endswith("]") else ""
        self._section = name if name in SECTIONS else None
        self._skips = self._section is None
        if self._section is None:
            near = self._suggestions.nearest(stripped.strip("[] \t"), SECTIONS)
            repair = f"[{near}]" if near else None
            self._report(number, text, "E-SECTION", f"{stripped}: no such section", repair)
        return Line(number, text, "unread" if self._skips else "header", self._section)

    # -------------------------------------------------------------- groups and aliases

    def _group(self, number: int, text: str) -> Line:
        return self._definition(number, text, "group", self._is_group_member)

    def _alias(self, number: int, text: str) -> Line:
        return self._definition(number, text, "alias", self._is_alias_member)

    def _definition(self, number: int, text: str, kind: str, is_member: Callable[[int, Word], bool]) -> Line:
        before, equals, after = text.partition("=")
        name = before.strip(BLANKS)
        if not equals:
            self._report(number, text, "E-DEFINITION", f"{name}: no = in the line of {_a(kind)}", f"{name}=")
            return Line(number, text, "unread", self._section)
        if not _NAME.fullmatch(name):
            self._report(number, text, "E-NAME", f"{name}: not possible as the name of {_a(kind)}")
            return Line(number, text, "unread", self._section)
        members = tuple(word for word in _members(after, len(before) + 2) if is_member(number, word))
        content = Definition(self._result.name, number, _indent(text) + 1, name, members)
        return Line(number, text, kind, self._section, content)

    def _is_group_member(self, number: int, word: Word) -> bool:
        text, column = word
        prefix, colon, name = text.partition(":")
        if not text or (colon and prefix in ("user", "osgroup") and not name.strip(BLANKS)):
            self._result.report(number, column, "E-EMPTY-MEMBER", "a member is missing here")
        elif _PLACEHOLDER.fullmatch(text) or "=" in text:
            self._result.report(number, column, "E-MEMBER", f"{text}: not possible as member of a group")
        elif colon and prefix == "group" and not _NAME.fullmatch(name):
            self._result.report(number, column, "E-NAME", f"{name}: not possible as the name of a group")
        else:
            return True
        return False

    def _is_alias_member(self, number: int, word: Word) -> bool:
        text, column = word
        if not text:
            self._result.report(number, column, "E-EMPTY-MEMBER", "a member is missing here")
        elif not _NAME.fullmatch(text):
            words = text.split()
            repair = ", ".join(words) if len(words) > 1 else None
            problem = f"{text}: commas separate the members of an alias" if repair else f"{text}: no feature"
            self._result.report(number, column, "E-NAME", problem, repair)
        else:
            return True
        return False

    # -------------------------------------------------------------- statements

    def _statement(self, number: int, text: str) -> Line:
        words = [Word(found[0], found.start() + 1) for found in _WORD.finditer(text)]
        before = len(self._result.diagnostics)
        if len(words) < 3:
            self._report(
                number, text, "E-STATEMENT", "actor, rule and at least one feature belong in a statement"
            )
            return Line(number, text, "unread", self._section)
        actor = self._actor(number, words[0])
        rule = words[1]
        if rule.text not in RULES:
            near = self._suggestions.nearest(rule.text, RULES)
            self._result.report(
                number, rule.column, "E-RULE", f"{rule.text}: not allow, disallow or deny", near
            )
        for item in words[2:]:
            if "," in item.text:
                column = item.column + item.text.index(",")
                repair = item.text.replace(",", " ").strip()
                problem = f"{item.text}: blanks separate the features of a statement"
                self._result.report(number, column, "W-COMMA-IN-STATEMENT", problem, repair)
        if actor is None or len(self._result.diagnostics) > before:
            return Line(number, text, "unread", self._section)
        content = Statement(self._result.name, number, words[0].column, actor, rule.text, tuple(words[2:]))
        return Line(number, text, "statement", self._section, content)

    def _actor(self, number: int, word: Word) -> Actor | None:
        actor = read_actor(word.text)
        if actor is None:
            near = self._suggestions.nearest(word.text, ("%owner%", "%any%")) if "%" in word.text else None
            problem = f"{word.text}: not possible as the actor of a statement"
            self._result.report(number, word.column, "E-ACTOR", problem, near)
        return actor


def read_actor(text: str) -> Actor | None:
    """The actor that a word names, if it names one."""
    if text in ("%owner%", "%any%"):
        return Actor(text.strip("%"))
    prefix, colon, name = text.partition(":")
    kind = prefix if colon and prefix in ("user", "group", "osgroup") else "user"
    name = name if colon and kind == prefix else text
    if not name or _PLACEHOLDER.fullmatch(name) or re.search("[,= \t\r\n]", name):
        return None
    return Actor(kind, name)


def read_member(text: str) -> Actor:
    """What a member of a group names."""
    prefix, colon, name = text.partition(":")
    if colon and prefix in ("user", "group", "osgroup"):
        return Actor(prefix, name.strip(BLANKS))
    return Actor("user", text)


def _members(text: str, column: int) -> Iterator[Word]:
    for part in text.split(","):
        name = part.strip(BLANKS)
        yield Word(name, column + (_indent(part) if name else 0))
        column += len(part) + 1


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(BLANKS))


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "alias" else f"a {kind}"
