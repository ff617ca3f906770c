"""From the lines of a permissions file to statements that can be evaluated.

Follows imports where somebody allows it, finds what names mean, and reports
what means nothing. What is wrong has no effect; the rest goes on, so that a
person sees as much as possible at once.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dcvtui.api.permissions_features import FEATURES, PREDEFINED, UNLISTED_ALIAS
from dcvtui.api.permissions_text import (
    Actor,
    Definition,
    Diagnostic,
    Import,
    Line,
    Statement,
    Suggestions,
    Text,
    Word,
    decoded,
    level_of,
    read_member,
    read_text,
)

MAX_IMPORT_DEPTH = 8
MAX_FILE_BYTES = 64 * 1024
# Eight levels of files that import each other ten times over would be a hundred million lines.
_MOST_IMPORTS = 256

Place = Definition | Statement | Import
Meaning = tuple[int, bool]  # a set of features, and whether something in it is unknown
Importer = Callable[[str], str | bytes]
"""Reads the file an import line names, its path made relative to the importing file's already.

Raises FileNotFoundError where there is none and PermissionError outside the folder that it may read.
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """A statement and what its words mean.

    Attributes:
        mask: the features, see `permissions_features`.
        has_unknown: it names something this program does not know; a newer server may.
    """

    statement: Statement
    mask: int
    has_unknown: bool = False


@dataclass(slots=True)
class PermissionsFile:
    """A permissions file that was read, however wrong it is.

    Attributes:
        text: the text as given, lone carriage returns and all.
        lines: its own lines, without those of imported files.
        effects: the statements that count, in order, those of imported files where they are imported.
        groups: the members of each group. No group contains itself, and each is defined before its first use.
        definitions: effective groups and aliases by kind and name.
        diagnostics: what there is to say about it, by place.
    """

    text: str
    name: str = ""
    lines: list[Line] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    groups: dict[str, tuple[Actor, ...]] = field(default_factory=dict)
    definitions: dict[tuple[str, str], Definition] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def __str__(self) -> str:
        """The file with plain blanks and line ends, its comments and order kept."""
        text = "\n".join(map(str, self.lines))
        # What looks like a byte-order mark at the beginning would be taken for one.
        return f"\ufeff{text}" if text.startswith("\ufeff") else text

    def report(self, place: Place, column: int, code: str, text: str, repair: str | None = None) -> None:
        """Add a finding in the line of the given thing."""
        finding = Diagnostic(place.line, column, level_of(code), code, text, repair, place.file)
        self.diagnostics.append(finding)


def resolve(text: str | bytes, name: str = "", importer: Importer | None = None) -> PermissionsFile:
    """Read a permissions file with all that it imports.

    Args:
        text: the file; bytes are taken as UTF-8.
        name: what findings call it; relative imports start from its folder.
        importer: reads imported files; without one import lines have no effect.
    """
    finding = None
    if isinstance(text, bytes):
        text, finding = decoded(text)
    return _Resolver(text, name, importer).resolved(finding)


class _Resolver:
    """Puts one file together."""

    def __init__(self, text: str, name: str, importer: Importer | None) -> None:
        self._file = PermissionsFile(text, name)
        self._importer = importer
        self._suggestions = Suggestions()
        self._statements: list[Statement] = []
        self._definitions: dict[str, dict[str, Definition]] = {"group": {}, "alias": {}}
        self._imported: dict[str, Text] = {}
        self._imports = 0

    def resolved(self, encoding: Diagnostic | None) -> PermissionsFile:
        main = self._read(self._file.text, self._file.name, encoding)
        self._file.lines = main.lines
        self._collect(main, (self._file.name,))
        for kind, definitions in self._definitions.items():
            self._file.definitions |= {(kind, name): found for name, found in definitions.items()}
        aliases = self._resolve_aliases(self._definitions["alias"])
        self._file.groups = self._resolve_groups(self._definitions["group"])
        self._resolve_statements(aliases)
        return self._file

    def _read(self, text: str, name: str, encoding: Diagnostic | None) -> Text:
        result = read_text(text, name, self._suggestions)
        self._file.diagnostics += [encoding] if encoding else []
        self._file.diagnostics += result.diagnostics
        return result

    # -------------------------------------------------------------- imports

    def _collect(self, text: Text, chain: tuple[str, ...]) -> None:
        for line in text.lines:
            match line.content:
                case Statement() as statement:
                    self._statements.append(statement)
                case Definition() as definition:
                    self._define(line.kind, definition)
                case Import() as found:
                    self._follow(found, chain)

    def _define(self, kind: str, definition: Definition) -> None:
        name = definition.name
        if kind == "alias" and (name in FEATURES or name == "builtin"):
            problem = f"{name}: the name of a feature, an alias needs another one"
            self._file.report(definition, definition.column, "E-ALIAS-SHADOWS", problem)
            return
        known = self._definitions[kind]
        earlier = known.pop(name, None)
        if earlier and earlier is not definition:
            problem = f"{name}: defined in line {earlier.line} already, this definition counts"
            self._file.report(definition, definition.column, "W-REDEFINED", problem)
        known[name] = definition

    def _follow(self, found: Import, chain: tuple[str, ...]) -> None:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(found.file), found.path))
        self._imports += 1
        if self._importer is None:
            self._refuse(found, "E-IMPORT-FORBIDDEN", "imports are not followed here")
        elif path in chain:
            self._refuse(found, "E-IMPORT-CYCLE", "this file imports itself")
        elif len(chain) > MAX_IMPORT_DEPTH or self._imports > _MOST_IMPORTS:
            self._refuse(
                found, "E-IMPORT-DEPTH", f"more than {MAX_IMPORT_DEPTH} levels or {_MOST_IMPORTS} imports"
            )
        elif imported := self._imported.get(path) or self._read_import(found, path, self._importer):
            self._imported[path] = imported
            self._collect(imported, (*chain, path))

    def _refuse(self, found: Import, code: str, problem: str) -> None:
        self._file.report(found, found.column, code, f"{found.path}: {problem}")

    def _read_import(self, found: Import, path: str, importer: Importer) -> Text | None:
        encoding = None
        try:
            content = importer(path)
        except PermissionError:
            self._refuse(found, "E-IMPORT-FORBIDDEN", "outside the folder that imports may come from")
            return None
        except (OSError, ValueError):  # ValueError: a path with a null byte
            self._refuse(found, "E-IMPORT-MISSING", "no such file, or not readable")
            return None
        if len(content) > MAX_FILE_BYTES:
            self._refuse(found, "E-IMPORT-FORBIDDEN", f"larger than {MAX_FILE_BYTES // 1024} KiB")
            return None
        if isinstance(content, bytes):
            content, encoding = decoded(content)
            encoding = encoding and replace(encoding, file=path)
        return self._read(content, path, encoding)

    # -------------------------------------------------------------- names

    def _resolve_aliases(self, definitions: Mapping[str, Definition]) -> dict[str, Meaning]:
        """The features of each alias, and whether it names something unknown."""
        graph = {name: [member.text for member in found.members] for name, found in definitions.items()}
        order, cycles = walk(graph)
        meaning: dict[str, Meaning] = {}
        for name in order:
            mask, has_unknown = 0, False
            for number, member in enumerate(definitions[name].members):
                if (name, number) in cycles:
                    problem = f"{member.text}: this alias contains itself"
                    self._file.report(definitions[name], member.column, "E-ALIAS-CYCLE", problem)
                    continue
                more, unknown = self._meaning(definitions[name], member, meaning)
                mask, has_unknown = mask | more, has_unknown or unknown
            meaning[name] = mask, has_unknown
        return meaning

    def _meaning(self, place: Place, word: Word, aliases: Mapping[str, Meaning]) -> Meaning:
        if word.text in aliases:
            return aliases[word.text]
        mask = PREDEFINED.get(word.text)
        if word.text == UNLISTED_ALIAS:
            problem = f"{word.text}: not defined, read as clipboard-copy clipboard-paste"
            self._file.report(
                place, word.column, "W-UNKNOWN-FEATURE", problem, "clipboard-copy clipboard-paste"
            )
        elif mask is None:
            near = self._suggestions.nearest(word.text, [*FEATURES, "builtin", *aliases])
            problem = f"{word.text}: no feature and no alias" + (f", did you mean {near}?" if near else "")
            self._file.report(place, word.column, "W-UNKNOWN-FEATURE", problem, near)
            return 0, True
        return mask or 0, False

    def _resolve_groups(self, definitions: Mapping[str, Definition]) -> dict[str, tuple[Actor, ...]]:
        members = {
            name: [read_member(member.text) for member in found.members]
            for name, found in definitions.items()
        }
        graph = {
            name: [actor.name if actor.kind == "group" else None for actor in found]
            for name, found in members.items()
        }
        order, cycles = walk(graph)
        groups: dict[str, tuple[Actor, ...]] = {}
        for name in order:
            kept: list[Actor] = []
            for number, (actor, word) in enumerate(
                zip(members[name], definitions[name].members, strict=True)
            ):
                if (name, number) in cycles:
                    problem = f"{actor.name}: this group contains itself"
                    self._file.report(definitions[name], word.column, "E-GROUP-CYCLE", problem)
                elif actor.kind != "group" or self._is_defined(
                    actor, definitions, definitions[name], word.column
                ):
                    kept.append(actor)
            groups[name] = tuple(kept)
        return groups

    def _is_defined(self, actor: Actor, groups: Mapping[str, object], place: Place, column: int) -> bool:
        if actor.name in groups:
            return True
        near = self._suggestions.nearest(actor.name, groups.keys())
        problem = f"{actor.name}: no such group" + (f", did you mean {near}?" if near else "")
        self._file.report(place, column, "E-UNKNOWN-GROUP", problem, near and f"group:{near}")
        return False

    def _resolve_statements(self, aliases: Mapping[str, Meaning]) -> None:
        for statement in self._statements:
            mask, has_unknown = 0, False
            for item in statement.items:
                more, unknown = self._meaning(statement, item, aliases)
                mask, has_unknown = mask | more, has_unknown or unknown
            actor = statement.actor
            if actor.kind != "group" or self._is_defined(
                actor, self._file.groups, statement, statement.column
            ):
                self._file.effects.append(Effect(statement, mask, has_unknown))


def walk(graph: Mapping[str, Sequence[str | None]]) -> tuple[list[str], set[tuple[str, int]]]:
    """Order names so that what one consists of comes first; a loop, because files may nest deeper than calls.

    Returns:
        The names, and the edges (name, number) that close a cycle and were left out.
    """
    order: list[str] = []
    closing: set[tuple[str, int]] = set()
    is_open: dict[str, bool] = {}
    for root in graph:
        path = [] if root in is_open else [(root, 0)]
        is_open.setdefault(root, True)
        while path:
            name, number = path.pop()
            if number == len(graph[name]):
                is_open[name] = False
                order.append(name)
                continue
            path.append((name, number + 1))
            child = graph[name][number]
            if child is None or child not in graph:
                continue
            if child not in is_open:
                is_open[child] = True
                path.append((child, 0))
            elif is_open[child]:
                closing.add((name, number))
    return order, closing
