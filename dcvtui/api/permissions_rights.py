"""Who may do what: evaluates a permissions file for one person in one session.

Statements are taken one by one in their order, as the specification tells it,
so that this can be read beside it. `permissions_matrix` answers the same
question for everybody at once in another way; a test compares the two.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from dcvtui.api.permissions_features import FEATURES, names_in
from dcvtui.api.permissions_resolve import Effect, PermissionsFile, resolve
from dcvtui.api.permissions_text import Actor, Statement

ANY, OWNER = Actor("any"), Actor("owner")


class State(StrEnum):
    """What one person may do with one feature. What is locked no other statement can grant."""

    GRANTED = "granted"
    REFUSED = "refused"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Decision:
    """A state and the statement that made it so; without one nothing speaks of the feature."""

    state: State
    statement: Statement | None = None


NOTHING_SAID = Decision(State.REFUSED)


class People:
    """Which actors of a file a person is, and which groups contain whom.

    Names are compared exactly for Linux hosts and without regard to case for Windows hosts, where a name
    with a domain and one without it are the same person if the rest is equal.
    """

    def __init__(self, file: PermissionsFile, windows: bool) -> None:
        self._windows = windows
        self._with_domain: dict[str, list[Actor]] = {}
        self.containing: dict[Actor, list[Actor]] = {}
        for name, members in file.groups.items():
            for member in dict.fromkeys(map(self.key, members)):
                self.containing.setdefault(member, []).append(Actor("group", name))
                self._note(member)
        for effect in file.effects:
            self._note(self.key(effect.statement.actor))

    def _note(self, key: Actor) -> None:
        if self._windows and key.kind == "user" and "\\" in key.name:
            known = self._with_domain.setdefault(key.name.rpartition("\\")[2], [])
            if key not in known[-1:]:
                known.append(key)

    def key(self, actor: Actor) -> Actor:
        """The actor as it is compared."""
        if self._windows and actor.kind == "user":
            return Actor("user", actor.name.casefold())
        return actor

    def keys_of_user(self, name: str) -> list[Actor]:
        """All actors of the file that this user is by name."""
        key = self.key(Actor("user", name))
        if not self._windows:
            return [key]
        domain, _, bare = key.name.rpartition("\\")
        return (
            [key, Actor("user", bare)] if domain else [key, *dict.fromkeys(self._with_domain.get(bare, ()))]
        )

    def is_same(self, one: str | None, other: str) -> bool:
        """Whether two names are of one person."""
        if one is None or not self._windows:
            return one == other
        names = [name.casefold().rpartition("\\") for name in (one, other)]
        (domain, _, bare), (other_domain, _, other_bare) = names
        return bare == other_bare and (domain == other_domain or not (domain and other_domain))

    def with_groups(self, actors: Iterable[Actor]) -> set[Actor]:
        """These actors and all groups that contain them, directly or through other groups."""
        found = set(actors)
        waiting = list(found)
        while waiting:
            for group in self.containing.get(waiting.pop(), ()):
                if group not in found:
                    found.add(group)
                    waiting.append(group)
        return found


def whole(files: PermissionsFile | str | Sequence[PermissionsFile | str]) -> PermissionsFile:
    """One file out of several whose statements follow each other, as a server's default and a session's own.

    Each keeps its own aliases and groups.
    """
    if isinstance(files, PermissionsFile):
        return files
    if isinstance(files, str):
        return resolve(files)
    together = PermissionsFile("")
    for number, file in enumerate(map(whole, files)):
        # "#" stands in no name, so the groups of two files never mix.
        names = {name: f"{name}#{number}" if name in together.groups else name for name in file.groups}
        for name, members in file.groups.items():
            together.groups[names[name]] = tuple(_renamed(member, names) for member in members)
        for effect in file.effects:
            actor = _renamed(effect.statement.actor, names)
            together.effects.append(_with_actor(effect, actor))
    return together


def _renamed(actor: Actor, names: dict[str, str]) -> Actor:
    return Actor("group", names.get(actor.name, actor.name)) if actor.kind == "group" else actor


def _with_actor(effect: Effect, actor: Actor) -> Effect:
    said = effect.statement
    if said.actor == actor:
        return effect
    statement = Statement(said.file, said.line, said.column, actor, said.rule, said.items)
    return Effect(statement, effect.mask, effect.has_unknown)


def explain(
    files: PermissionsFile | str | Sequence[PermissionsFile | str],
    owner: str | None,
    user: str,
    os_groups: Iterable[str] = (),
    *,
    groups: Iterable[str] = (),
    windows: bool = False,
) -> dict[str, Decision]:
    """What a user may do in a session, feature by feature, with the statement that decides.

    Args:
        files: a permissions file, its text, or several that follow each other.
        owner: owner of the session.
        user: the person in question.
        os_groups: groups of the session's host that he is in; only the host knows them.
        groups: groups of the file that he shall be taken to be in.
        windows: compare names as Windows does.
    """
    file = whole(files)
    people = People(file, windows)
    actors = {ANY, *people.keys_of_user(user)}
    actors |= {Actor("osgroup", name) for name in os_groups} | {Actor("group", name) for name in groups}
    if people.is_same(owner, user):
        actors.add(OWNER)
    matching = people.with_groups(actors)
    decisions = dict.fromkeys(FEATURES, NOTHING_SAID)
    for effect in file.effects:
        if people.key(effect.statement.actor) not in matching:
            continue
        state = STATES[effect.statement.rule]
        for feature in names_in(effect.mask):
            if decisions[feature].state is not State.LOCKED:
                decisions[feature] = Decision(state, effect.statement)
    without_idle_keys(decisions)
    return decisions


STATES = {"allow": State.GRANTED, "disallow": State.REFUSED, "deny": State.LOCKED}


def without_idle_keys(decisions: dict[str, Decision]) -> Statement | None:
    """Take `keyboard-sas` away from somebody who has no `keyboard`; returns what granted it in vain."""
    keyboard, keys = decisions["keyboard"], decisions["keyboard-sas"]
    if keys.state is not State.GRANTED or keyboard.state is State.GRANTED:
        return None
    decisions["keyboard-sas"] = Decision(State.REFUSED, keyboard.statement)
    return keys.statement


def granted(decisions: dict[str, Decision]) -> Iterator[str]:
    """The features somebody has."""
    return (feature for feature, decision in decisions.items() if decision.state is State.GRANTED)


def evaluate(
    files: PermissionsFile | str | Sequence[PermissionsFile | str],
    owner: str | None,
    user: str,
    os_groups: Iterable[str] = (),
    *,
    groups: Iterable[str] = (),
    windows: bool = False,
) -> frozenset[str]:
    """The features a user has in a session; see `explain`. Without any he cannot connect."""
    return frozenset(granted(explain(files, owner, user, os_groups, groups=groups, windows=windows)))
