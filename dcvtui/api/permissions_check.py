"""Warnings about permissions files that can be read but may not do what somebody wants.

They come from who may do what in the end, not from the form of the text, and
some of them only make sense for a certain session and server.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dcvtui.api.permissions_features import is_newer
from dcvtui.api.permissions_matrix import Row, dead_effects, matrix
from dcvtui.api.permissions_resolve import PermissionsFile
from dcvtui.api.permissions_rights import State
from dcvtui.api.permissions_text import Diagnostic, Statement, Word, level_of


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of the session and the server that a file is meant for; `None` is not known."""

    owner: str | None = None
    windows: bool = False
    has_storage_root: bool | None = None
    server_version: str | None = None


def warnings(file: PermissionsFile, context: Context) -> Iterator[Diagnostic]:
    """What is doubtful about the rights that a file gives; one finding per statement and kind."""
    rows = matrix(file, context.owner, windows=context.windows)
    yield from _owner_locked_out(rows[0])
    seen: set[tuple[str, Statement]] = set()
    for row in rows:
        for code, statement, problem in _doubts(row, context):
            if (code, statement) not in seen:
                seen.add((code, statement))
                yield _at(statement, statement.column, code, f"{row.label}: {problem}")
    for effect in dead_effects(file, context.owner, windows=context.windows):
        problem = "without effect, taking it out changes nobody's rights"
        yield _at(effect.statement, effect.statement.column, "W-DEAD", problem)
    yield from _words(file, context)


def _at(place: Statement, column: int, code: str, text: str) -> Diagnostic:
    return Diagnostic(place.line, column, level_of(code), code, text, None, place.file)


def _owner_locked_out(owner: Row) -> Iterator[Diagnostic]:
    decision = owner.decisions["display"]
    if decision.state is State.GRANTED:
        return
    code, problem = "W-OWNER-LOCKED-OUT", "the owner of the session sees no picture"
    if decision.statement:
        yield _at(decision.statement, decision.statement.column, code, problem)
    else:
        yield Diagnostic(1, 1, level_of(code), code, problem, "%owner% allow builtin")


def _doubts(row: Row, context: Context) -> Iterator[tuple[str, Statement, str]]:
    has = row.features
    decisions = row.decisions
    if "display" not in has:
        for feature in ("mouse", "keyboard"):
            if feature in has and (statement := decisions[feature].statement):
                yield "W-BLIND-CONTROL", statement, "control without a picture"
    if row.idle_keys:
        yield "W-SAS-WITHOUT-KEYBOARD", row.idle_keys, "keyboard-sas has no effect without keyboard"
    taken = decisions["screenshot"].statement
    if taken and "screenshot" not in has and "clipboard-copy" in has:
        yield "W-SCREENSHOT-LEAK", taken, "no screenshot, but clipboard-copy lets pictures out"
    if context.has_storage_root is False:
        for feature in ("file-download", "file-upload"):
            if feature in has and (statement := decisions[feature].statement):
                yield "W-STORAGE", statement, "files, but the session has no storage root"


def _words(file: PermissionsFile, context: Context) -> Iterator[Diagnostic]:
    """Findings about single words, whoever they are about."""
    for effect in file.effects:
        statement = effect.statement
        for item in statement.items:
            yield from _word(item, statement.line, statement.file, context)
        if context.windows and statement.actor.kind == "osgroup":
            yield _osgroup(Word(str(statement.actor), statement.column), statement.line, statement.file)
    for (kind, _), definition in file.definitions.items():
        for member in definition.members:
            if kind == "alias":
                yield from _word(member, definition.line, definition.file, context)
            elif context.windows and member.text.startswith("osgroup:"):
                yield _osgroup(member, definition.line, definition.file)


def _word(word: Word, line: int, file: str, context: Context) -> Iterator[Diagnostic]:
    if word.text == "unsupervised-access":
        code, problem = "W-UNSUPERVISED", "works only where the server enforces supervision"
        yield Diagnostic(line, word.column, level_of(code), code, f"{word.text}: {problem}", file=file)
    if context.server_version and is_newer(word.text, context.server_version):
        code, problem = "W-VERSION", f"newer than the server ({context.server_version})"
        yield Diagnostic(line, word.column, level_of(code), code, f"{word.text}: {problem}", file=file)


def _osgroup(word: Word, line: int, file: str) -> Diagnostic:
    code = "W-OSGROUP-WINDOWS"
    problem = f"{word.text}: OS groups exist on Linux servers only"
    return Diagnostic(line, word.column, level_of(code), code, problem, file=file)
