"""Who may do what, for everybody a permissions file names at once.

One pass over the statements and one over the groups make all rows: what a file
says to each actor is summed up once and the sums are put together per row. A
row-by-row evaluation would take seconds on a large file, and the editor shows
this while somebody types.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dcvtui.api.permissions_features import FEATURES, names_in
from dcvtui.api.permissions_resolve import Effect, PermissionsFile
from dcvtui.api.permissions_rights import (
    ANY,
    NOTHING_SAID,
    OWNER,
    STATES,
    Decision,
    People,
    granted,
    whole,
    without_idle_keys,
)
from dcvtui.api.permissions_text import Actor, Statement

Files = PermissionsFile | str | Sequence[PermissionsFile | str]


@dataclass(frozen=True, slots=True)
class Row:
    """What one kind of person may do: the owner, a user, a member of a group, or anybody else (`%any%`).

    Attributes:
        actor: who it is.
        decisions: what comes of the file, for each feature.
        idle_keys: a statement that allows `keyboard-sas` to somebody who has no `keyboard`.
    """

    actor: Actor
    decisions: dict[str, Decision]
    idle_keys: Statement | None = None

    @property
    def label(self) -> str:
        """The row's head, for people."""
        return who(self.actor)

    @property
    def features(self) -> frozenset[str]:
        """The features of such a person."""
        return frozenset(granted(self.decisions))


class Difference(NamedTuple):
    """What a new text gives to somebody and takes away."""

    who: str
    gained: frozenset[str]
    lost: frozenset[str]


def who(actor: Actor) -> str:
    """An actor as the head of a row."""
    return {"any": "anybody else", "owner": "owner"}.get(actor.kind, str(actor))


def matrix(
    files: Files, owner: str | None = None, also: Iterable[Actor] = (), *, windows: bool = False
) -> list[Row]:
    """A row for the owner, each user, group and OS group that the file names, and anybody else.

    A row for a group is that of somebody who is in it and is not named himself. The owner has no second row
    under his name.

    Args:
        files: a permissions file, its text, or several that follow each other.
        owner: owner of the session, if known: what is said about his name holds for him too.
        also: whom to show besides.
        windows: compare names as Windows does.
    """
    table = _Table(whole(files), owner, windows)
    return [table.row(actor, sums) for actor, sums in table.rows(also)]


def rights_difference(
    old: Files, new: Files, owner: str | None = None, *, windows: bool = False
) -> list[Difference]:
    """What changes for whom if a text takes the place of another; who keeps his rights is left out."""

    def key(actor: Actor) -> Actor:
        return Actor(actor.kind, actor.name.casefold()) if windows and actor.kind == "user" else actor

    before, after = whole(old), whole(new)
    named = [row.actor for file in (after, before) for row in matrix(file, owner, windows=windows)]
    rows_before = {key(row.actor): row.features for row in matrix(before, owner, named, windows=windows)}
    differences = []
    for row in matrix(after, owner, named, windows=windows):
        had, has = rows_before[key(row.actor)], row.features
        if had != has:
            differences.append(Difference(row.label, has - had, had - has))
    return differences


def dead_effects(file: PermissionsFile, owner: str | None = None, *, windows: bool = False) -> list[Effect]:
    """The statements without which every row would be the same.

    A statement about somebody who may be in an OS group as well is left out if one about OS groups says the
    opposite of it: their members are not known here, and for those it may decide.
    """
    table = _Table(file, owner, windows)
    alive: set[int] = set()
    for _, sums in table.rows(()):
        table.note_deciding(sums, alive)
    hosts = _said_to_os_groups(file)
    dead = []
    for number, effect in enumerate(file.effects):
        rule, actor = effect.statement.rule, effect.statement.actor
        # For %any% the rows of single actors show already whether it decides.
        opposed = actor != ANY and any(mask & effect.mask for other, mask in hosts.items() if other != rule)
        if number not in alive and not effect.has_unknown and not opposed:
            dead.append(effect)
    return dead


def _said_to_os_groups(file: PermissionsFile) -> dict[str, int]:
    """The features in statements about people in OS groups, also through groups of the file, by rule."""
    members = {actor for found in file.groups.values() for actor in found if actor.kind == "osgroup"}
    reached = People(file, windows=False).with_groups(members)
    masks: dict[str, int] = {}
    for effect in file.effects:
        rule, actor = effect.statement.rule, effect.statement.actor
        if actor.kind == "osgroup" or actor in reached:
            masks[rule] = masks.get(rule, 0) | effect.mask
    return masks


class _Said(NamedTuple):
    """What matters of all that is said to somebody about a feature: numbers of statements.

    Two of each, because taking out the deciding one leaves the other.
    """

    last: tuple[int, ...] = ()  # the last allow or disallow, and the one before it
    denies: tuple[int, ...] = ()  # the first deny, and the next


_Sums = dict[str, _Said]


class _Table:
    """The sums of a file: by actor, then by feature."""

    def __init__(self, file: PermissionsFile, owner: str | None, windows: bool) -> None:
        self._file = file
        self._owner = owner
        self._people = People(file, windows)
        self._own: dict[Actor, _Sums] = {}
        for number, effect in enumerate(file.effects):
            sums = self._own.setdefault(self._people.key(effect.statement.actor), {})
            is_deny = effect.statement.rule == "deny"
            said = _Said((), (number,)) if is_deny else _Said((number,))
            _add(sums, dict.fromkeys(names_in(effect.mask), said))
        self._inherited: dict[Actor, _Sums] = {}
        # Groups come after what they consist of; what a group is told its members are told too.
        for name in reversed(file.groups):
            group = Actor("group", name)
            self._inherited[group] = self._with_groups([group])

    def _with_groups(self, keys: Iterable[Actor]) -> _Sums:
        sums: _Sums = {}
        for key in keys:
            _add(sums, self._own.get(key, {}))
            for group in self._people.containing.get(key, ()):
                _add(sums, self._inherited[group])
        return sums

    def rows(self, also: Iterable[Actor]) -> Iterable[tuple[Actor, _Sums]]:
        """The rows in their order with what is said to each."""
        anybody = self._own.get(ANY, {})
        owner_keys = self._people.keys_of_user(self._owner) if self._owner is not None else []
        yield OWNER, self._said_to([OWNER, *owner_keys], anybody)
        for actor in self._named(also):
            keys = self._people.keys_of_user(actor.name) if actor.kind == "user" else [actor]
            yield actor, self._said_to(keys, anybody)
        yield ANY, anybody

    def _said_to(self, keys: Iterable[Actor], anybody: _Sums) -> _Sums:
        sums = self._with_groups(keys)
        _add(sums, anybody)
        return sums

    def _named(self, also: Iterable[Actor]) -> list[Actor]:
        found: dict[Actor, Actor] = {}
        for members in self._file.groups.values():
            for actor in members:
                found.setdefault(self._people.key(actor), actor)
        for name in self._file.groups:
            found.setdefault(Actor("group", name), Actor("group", name))
        for actor in (*(effect.statement.actor for effect in self._file.effects), *also):
            found.setdefault(self._people.key(actor), actor)
        kinds = ("user", "group", "osgroup")
        shown = [actor for actor in found.values() if actor.kind in kinds and not self._is_owner(actor)]
        return sorted(shown, key=lambda actor: kinds.index(actor.kind))

    def _is_owner(self, actor: Actor) -> bool:
        return actor.kind == "user" and self._people.is_same(self._owner, actor.name)

    def row(self, actor: Actor, sums: _Sums) -> Row:
        """What comes of all that is said to somebody."""
        decisions = dict.fromkeys(FEATURES, NOTHING_SAID)
        for feature, (last, denies) in sums.items():
            statement = self._file.effects[(denies or last)[0]].statement
            decisions[feature] = Decision(STATES[statement.rule], statement)
        return Row(actor, decisions, without_idle_keys(decisions))

    def note_deciding(self, sums: _Sums, alive: set[int]) -> None:
        """Note the statements without which this row would be another."""
        for feature, (last, denies) in sums.items():
            if denies:
                alive.update(denies if len(denies) == 1 else ())
            elif self._is_allow(last[0]) != (len(last) > 1 and self._is_allow(last[1])) and (
                feature != "keyboard-sas" or self._is_granted(sums.get("keyboard"))
            ):
                alive.add(last[0])

    def _is_allow(self, number: int) -> bool:
        return self._file.effects[number].statement.rule == "allow"

    def _is_granted(self, said: _Said | None) -> bool:
        return said is not None and not said.denies and self._is_allow(said.last[0])


def _add(sums: _Sums, more: _Sums) -> None:
    for feature, said in more.items():
        known = sums.get(feature)
        if known is None:
            sums[feature] = said
        elif known != said:
            last = sorted({*known.last, *said.last}, reverse=True)[:2]
            denies = sorted({*known.denies, *said.denies})[:2]
            sums[feature] = _Said(tuple(last), tuple(denies))
