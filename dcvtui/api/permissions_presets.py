"""Changes to the text of a permissions file: presets, and one cell of the matrix.

They add and take out whole lines and leave every other character alone, so that
comments and what this program does not understand stay as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dcvtui.api.permissions_features import FEATURES
from dcvtui.api.permissions_matrix import Row, matrix
from dcvtui.api.permissions_rights import State
from dcvtui.api.permissions_text import Actor, Definition, Line, Statement, read_actor, read_member, read_text

DEFAULT_TEXT = "[permissions]\n%owner% allow builtin\n"


@dataclass(frozen=True, slots=True)
class Preset:
    """A change that people want often.

    Attributes:
        title: what it does; X is whom it is for.
        statement: added at the end, without its actor where it is for X; empty if nothing is added.
        for_actor: it is for a user, a group or an OS group that somebody names.
        takes_out: the rules whose statements about X are taken out first.
        replaces: the whole text is replaced.
    """

    title: str
    statement: str = ""
    for_actor: bool = False
    takes_out: tuple[str, ...] = ()
    replaces: bool = False


_LEVEL = ("allow", "disallow")
_SEE = "display pointer"
_STEER = f"{_SEE} mouse keyboard audio-out"

PRESETS: dict[str, Preset] = {
    "owner-only": Preset("Owner only", "%owner% allow builtin", replaces=True),
    "nothing-more": Preset("Nothing more for X", for_actor=True, takes_out=("allow", "disallow", "deny")),
    "full-control": Preset("Full control for X", "allow builtin", for_actor=True, takes_out=_LEVEL),
    "collaborate": Preset(
        "Collaborate with X",
        f"allow {_STEER} clipboard-copy clipboard-paste",
        for_actor=True,
        takes_out=_LEVEL,
    ),
    "control-without-data": Preset(
        "Control without data for X", f"allow {_STEER}", for_actor=True, takes_out=_LEVEL
    ),
    "view-only": Preset("View only for X", f"allow {_SEE}", for_actor=True, takes_out=_LEVEL),
    "view-only-everybody": Preset("View only for everybody", f"%any% allow {_SEE}"),
    "no-data-leaves": Preset(
        "No data leaves", "%any% deny file-download printer clipboard-copy screenshot usb extensions-client"
    ),
    "no-devices": Preset(
        "No devices", "%any% deny usb smartcard webcam audio-in gamepad printer webauthn-redirection"
    ),
    "supervised-guest": Preset("Supervised guest X", "deny unsupervised-access", for_actor=True),
    "guest-may-stay": Preset("Guest X may stay alone", "allow unsupervised-access", for_actor=True),
    "revoke-all": Preset("Revoke all, the owner is shut out too", replaces=True),
}


@dataclass(frozen=True, slots=True)
class Applied:
    """A changed text and what came of it.

    Attributes:
        text: the new text.
        prevented: features that it should grant and does not, each with the statement that is in the way.
        besides: features that the person has besides, through groups or `%any%`.
    """

    text: str
    prevented: dict[str, Statement | None]
    besides: frozenset[str] = frozenset()


def apply_preset(text: str, name: str, actor: str | None = None) -> str:
    """The text with a preset applied; `preset_result` tells what came of it too.

    Raises:
        ValueError: there is no such preset, or the actor is missing or impossible.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise ValueError(f"no preset is called {name}; there are {', '.join(PRESETS)}")
    if preset.replaces:
        return f"[permissions]\n{preset.statement}\n" if preset.statement else ""
    if not preset.for_actor:
        return _added(text, preset.statement)
    text, found = _nameable(text, actor or "")
    text = _taken_out(text, found, preset.takes_out)
    return _added(text, f"{found} {preset.statement}") if preset.statement else text


def preset_result(text: str, name: str, actor: str | None = None, owner: str | None = None) -> Applied:
    """Apply a preset and look at what X may do then.

    Raises:
        ValueError: as `apply_preset`.
    """
    changed = apply_preset(text, name, actor)
    preset = PRESETS[name]
    if not preset.for_actor:
        return Applied(changed, {})
    row = _row(changed, _nameable(changed, actor or "")[1], owner)
    alone = _row(f"[permissions]\n%any% {preset.statement}", Actor("any"), None) if preset.statement else None
    wanted = alone.features if alone else frozenset()
    prevented = {feature: row.decisions[feature].statement for feature in sorted(wanted - row.features)}
    return Applied(changed, prevented, row.features - wanted if preset.takes_out else frozenset())


def toggle(text: str, actor: Actor, feature: str, owner: str | None = None) -> Applied:
    """Turn one cell of the matrix round.

    The text stays as it is if a `deny` decides: `prevented` has it then.

    Raises:
        ValueError: no such feature, or an actor that no statement can name.
    """
    if feature not in FEATURES:
        raise ValueError(f"{feature} is no feature")
    text, actor = _nameable(text, str(actor))
    decision = _row(text, actor, owner).decisions[feature]
    if decision.state is State.LOCKED:
        return Applied(text, {feature: decision.statement})
    rule = "disallow" if decision.state is State.GRANTED else "allow"
    changed = _added(text, f"{actor} {rule} {feature}", joins=True)
    after = _row(changed, actor, owner).decisions[feature]
    is_reached = (after.state is State.GRANTED) == (rule == "allow")
    return Applied(changed, {} if is_reached else {feature: after.statement})


def _row(text: str, actor: Actor, owner: str | None) -> Row:
    rows = {row.actor: row for row in matrix(text, owner, [actor])}
    return rows.get(actor) or rows[Actor("owner")]  # the owner has no row under his name


# ------------------------------------------------------------------ the text as lines


def _with_ends(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _end_of(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _taken_out(text: str, actor: Actor, rules: Sequence[str]) -> str:
    kept = _with_ends(text)
    for line in reversed(read_text(text).lines):
        if isinstance(line.content, Statement) and line.content.actor == actor and line.content.rule in rules:
            del kept[line.number - 1]
    return "".join(kept)


def _added(text: str, statement: str, *, joins: bool = False) -> str:
    """The text with a statement at the end of its permissions; a `deny` that is there already counts."""
    lines = read_text(text).lines
    statements = [line.content for line in lines if isinstance(line.content, Statement)]
    if " deny " in statement and any(str(known) == statement for known in statements):
        return text
    last = _last_line(lines, "permissions")
    if joins and last and isinstance(last.content, Statement):
        words = statement.split(" ")
        if [str(last.content.actor), last.content.rule] == words[:2]:
            return _joined(text, last, words[2])
    return _inserted(text, lines, "permissions", statement)


def _joined(text: str, line: Line, feature: str) -> str:
    parts = _with_ends(text)
    body = parts[line.number - 1].rstrip("\r\n")
    end = parts[line.number - 1][len(body) :]
    parts[line.number - 1] = f"{body.rstrip()} {feature}{end}"
    return "".join(parts)


def _inserted(text: str, lines: Sequence[Line], section: str, new: str) -> str:
    parts, end = _with_ends(text), _end_of(text)
    last = _last_line(lines, section)
    place = last.number if last else len(parts)
    added = [f"{new}{end}"] if last else [f"[{section}]{end}", f"{new}{end}"]
    if place and not parts[place - 1].endswith("\n"):
        parts[place - 1] += end
    return "".join([*parts[:place], *added, *parts[place:]])


def _last_line(lines: Sequence[Line], section: str) -> Line | None:
    """The last line in a section that is not blank; blank lines before the next section stay there."""
    return next((line for line in reversed(lines) if line.section == section and line.kind != "blank"), None)


def _nameable(text: str, actor: str) -> tuple[str, Actor]:
    """An actor that a statement can name; for somebody with blanks in his name a group of one is defined."""
    found = read_actor(actor)
    if found:
        return text, found
    member = read_member(actor)
    if not member.name.strip() or re.search("[,=\r\n%]", actor):
        raise ValueError(f"{actor!r} cannot be named in a permissions file")
    lines = read_text(text).lines
    groups = [line.content for line in lines if line.kind == "group" and isinstance(line.content, Definition)]
    for group in groups:
        if [read_member(word.text) for word in group.members] == [member]:
            return text, Actor("group", group.name)
    name = re.sub(r"[ \t=,\[\]%:;#\\]+", "-", member.name).strip("-") or "guest"
    while name in {group.name for group in groups}:
        name += "-2"
    return _inserted(text, lines, "groups", f"{name}={actor.strip()}"), Actor("group", name)
