"""Permissions files at the command line: check, explain, diff, presets; and the look before one is sent.

What a file means is in `dcvtui.api.permissions`. The text and the names in it
are data for standard output and never go into a log.
"""

import base64
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from dcvtui.api.permissions import (
    FEATURES,
    PRESETS,
    Applied,
    Context,
    Decision,
    Diagnostic,
    Difference,
    Level,
    PermissionsFile,
    Preset,
    State,
    explain,
    parse,
    preset_result,
    rights_difference,
)
from dcvtui.api.permissions_resolve import MAX_FILE_BYTES
from dcvtui.api.text import visible
from dcvtui.errors import ConfigError
from dcvtui.headless.words import say
from dcvtui.nearest import did_you_mean
from dcvtui.output import ExitCode, Format, write_object, write_rows


def read_bytes(path: str) -> bytes:
    """A file's contents; `-` is standard input.

    Raises:
        ConfigError: it cannot be read.
    """
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(
            f"'{path}' cannot be read: {error.strerror or error}.", ExitCode.BAD_VALUE
        ) from None


def read_file(path: str, context: Context | None = None) -> PermissionsFile:
    """A permissions file with what it imports: it is the person's own, so imports are followed anywhere.

    Raises:
        ConfigError: it cannot be read.
    """
    name = "" if path == "-" else str(Path(path).expanduser())
    return parse(
        read_bytes(path),
        name=name,
        importer=_imported,
        context=context or Context(),
    )


def _imported(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)  # one more than is taken, so that it is seen to be too large


def _place(finding: Diagnostic, path: str) -> str:
    return f"{finding.file or path}:{finding.line}:{finding.column}"


# ------------------------------------------------------------------ check


def check(path: str, *, context: Context, is_strict: bool, chosen: Format) -> int:
    """Print what there is to say about a file, `file:line:col: code text` a line.

    Returns:
        5 if there are errors; if that is asked for, with warnings too.
    """
    file = read_file(path, context)
    shown = "<stdin>" if path == "-" else path
    if chosen.is_structured:
        write_object({"findings": [_finding(one, shown) for one in file.diagnostics]}, chosen, sys.stdout)
    elif chosen in (Format.CSV, Format.TSV):
        heads = ("FILE", "LINE", "COLUMN", "LEVEL", "CODE", "TEXT")
        rows = [[str(_finding(one, shown)[head.lower()]) for head in heads] for one in file.diagnostics]
        write_rows(heads, rows, chosen, sys.stdout)
    else:
        for one in file.diagnostics:
            sys.stdout.write(visible(f"{_place(one, shown)}: {one.code} {one.text}") + "\n")
    bad = (Level.ERROR, Level.WARNING) if is_strict else (Level.ERROR,)
    is_bad = any(one.level in bad for one in file.diagnostics)
    return ExitCode.ANSWER_IS_NO if is_bad else ExitCode.OK


def _finding(one: Diagnostic, path: str) -> dict[str, Any]:
    found = {
        "file": one.file or path,
        "line": one.line,
        "column": one.column,
        "level": str(one.level),
        "code": one.code,
        "text": one.text,
    }
    return found | ({"repair": one.repair} if one.repair else {})


# ------------------------------------------------------------------ explain


@dataclass(frozen=True, slots=True)
class Person:
    """Whose rights are explained, in whose session."""

    user: str
    owner: str
    os_groups: Sequence[str] = ()
    is_windows: bool = False


def explain_rights(path: str, person: Person, chosen: Format) -> int:
    """Print one person's features with the line that decides on each."""
    file = read_file(path, Context(owner=person.owner, windows=person.is_windows))
    decisions = explain(file, person.owner, person.user, person.os_groups, windows=person.is_windows)
    if chosen.is_structured:
        found = [_decision(feature, decisions[feature], path) for feature in FEATURES]
        write_object({"user": person.user, "owner": person.owner, "features": found}, chosen, sys.stdout)
    elif chosen is Format.IDS:
        granted = (feature for feature in FEATURES if decisions[feature].state is State.GRANTED)
        sys.stdout.writelines(feature + "\n" for feature in granted)
    else:
        rows = [_decision_row(feature, decisions[feature], path) for feature in FEATURES]
        write_rows(("FEATURE", "STATE", "LINE", "STATEMENT"), rows, chosen, sys.stdout)
    return ExitCode.OK


def _decision(feature: str, decision: Decision, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"feature": feature, "state": str(decision.state)}
    if said := decision.statement:
        found |= {"file": said.file or path, "line": said.line, "statement": str(said)}
    return found


def _decision_row(feature: str, decision: Decision, path: str) -> tuple[str, ...]:
    said = decision.statement
    if said is None:
        return feature, str(decision.state), "", "nothing speaks of it"
    is_own = not said.file or said.file == str(Path(path).expanduser())
    return feature, str(decision.state), str(said.line) if is_own else f"{said.file}:{said.line}", str(said)


# ------------------------------------------------------------------ diff


def diff(old: str, new: str, owner: str | None, chosen: Format) -> int:
    """Print what changes in the text and in the rights.

    Returns:
        5 if rights differ.
    """
    before, after = read_file(old), read_file(new)
    differences = rights_difference(before, after, owner)
    lines = list(unified_diff(before.text.splitlines(), after.text.splitlines(), old, new, lineterm="", n=1))
    if chosen.is_structured:
        rights = [_difference(one) for one in differences]
        write_object({"text": lines, "rights": rights}, chosen, sys.stdout)
    else:
        sys.stdout.writelines(visible(line) + "\n" for line in lines)
        if lines:
            sys.stdout.write("\n")
        sys.stdout.writelines(visible(line) + "\n" for line in _sentences(differences))
    return ExitCode.ANSWER_IS_NO if differences else ExitCode.OK


def _difference(one: Difference) -> dict[str, Any]:
    return {"who": one.who, "gained": sorted(one.gained), "lost": sorted(one.lost)}


def _sentences(differences: Sequence[Difference]) -> list[str]:
    if not differences:
        return ["Nobody gains or loses anything."]
    found = []
    for one in differences:
        for verb, features in (("loses", one.lost), ("gains", one.gained)):
            if features:
                everything = len(features) == len(FEATURES)
                found.append(f"{one.who} {verb} {'everything' if everything else ' '.join(sorted(features))}")
    return found


# ------------------------------------------------------------------ presets


def preset(name: str | None, actor: str | None, path: str | None, chosen: Format) -> int:
    """Print the statements of a preset, the presets that there are, or a file with the preset applied.

    Raises:
        ConfigError: there is no such preset, or X is missing or cannot be named.
    """
    if name is None:
        _print_presets(chosen)
        return ExitCode.OK
    applied = _applied(name, actor, path)
    if chosen.is_structured:
        found = {"preset": name, "text": applied.text, "prevented": sorted(applied.prevented)}
        write_object(found | {"besides": sorted(applied.besides)}, chosen, sys.stdout)
    else:
        sys.stdout.writelines(visible(line) + "\n" for line in applied.text.splitlines())
    for sentence in _reservations(applied, actor):
        say(sentence)
    return ExitCode.OK


def _print_presets(chosen: Format) -> None:
    if chosen.is_structured:
        found = [
            {"name": name, "title": one.title, "for": one.for_actor, "statement": one.statement}
            for name, one in PRESETS.items()
        ]
        write_object({"presets": found}, chosen, sys.stdout)
        return
    if chosen is Format.IDS:
        sys.stdout.writelines(name + "\n" for name in PRESETS)
        return
    rows = [(name, _does(one)) for name, one in PRESETS.items()]
    write_rows(("PRESET", "STATEMENTS"), rows, chosen, sys.stdout)


def _does(preset: Preset) -> str:
    """What a preset does to a text, in a line; X is whom it is for."""
    if preset.replaces:
        return (
            f"{preset.statement}, and nothing else" if preset.statement else "none: the owner is shut out too"
        )
    if not preset.statement:
        return "takes out the statements about X"
    return f"X {preset.statement}" if preset.for_actor else preset.statement


def _applied(name: str, actor: str | None, path: str | None) -> Applied:
    found = PRESETS.get(name)
    if found is None:
        raise ConfigError(
            f"There is no preset '{visible(name)}'.{did_you_mean(name, PRESETS)} "
            f"Take one of: {', '.join(PRESETS)}.",
            ExitCode.BAD_VALUE,
        )
    if found.for_actor and not actor:
        raise ConfigError(
            f"The preset '{name}' is for somebody: name a user, group:NAME or osgroup:NAME with --for.",
            ExitCode.BAD_VALUE,
        )
    text = read_file(path).text if path else "[permissions]\n"
    try:
        return preset_result(text, name, actor)
    except ValueError as error:
        raise ConfigError(f"{error}.", ExitCode.BAD_VALUE) from None


def _reservations(applied: Applied, actor: str | None) -> Iterable[str]:
    for feature, statement in applied.prevented.items():
        why = f": line {statement.line}, {statement}" if statement else ""
        yield f"{actor} does not get {feature} all the same{why}"
    if applied.besides:
        yield f"{actor} has besides, through groups or %any%: {' '.join(sorted(applied.besides))}"
    if not applied.text.strip():
        yield "The empty text shuts the owner out too."


# ------------------------------------------------------------------ before one is sent


def checked_for_sending(encoded: str, *, allow_invalid: bool) -> str:
    """Look at a permissions text that is about to be sent, in Base64; gives it back as it is.

    Raises:
        ConfigError: it has errors and nobody said that it is to be sent all the same.
    """
    file = parse(base64.b64decode(encoded))
    # Imports are the host's to follow: a text that has them is not wrong for that.
    errors = [
        one for one in file.diagnostics if one.level is Level.ERROR and not one.code.startswith("E-IMPORT")
    ]
    for one in file.diagnostics:
        if one.level is not Level.INFO and not one.code.startswith("E-IMPORT"):
            say(f"permissions {one.line}:{one.column}: {one.code} {one.text}")
    if errors and not allow_invalid:
        raise ConfigError(
            f"The permissions have {'an error' if len(errors) == 1 else f'{len(errors)} errors'}, "
            "so nothing was sent. Correct what is named above, or give --allow-invalid.",
            ExitCode.BAD_VALUE,
        )
    return encoded
