"""Permissions files: what holds for every text, and how long the longest ones take."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.api.permissions import (
    Actor,
    Context,
    evaluate,
    explain,
    has_errors,
    matrix,
    parse,
    rights_difference,
)
from tests.api.permissions_examples import (
    STOCK,
)

# ------------------------------------------------------------------ any text

NAMES = st.sampled_from(["ann", "bob", "cid", "CORP\\bob", "BOB"])
ACTORS = st.one_of(
    st.sampled_from(
        ["%any%", "%owner%", "user:bob", "group:g1", "group:g2", "group:g3", "osgroup:o1", "osgroup:o2"]
    ),
    NAMES,
)
ITEMS = st.sampled_from(
    ["display", "mouse", "keyboard", "keyboard-sas", "usb", "builtin", "a1", "a2", "nonsense"]
)
STATEMENTS = st.builds(
    lambda actor, rule, items: f"{actor} {rule} {' '.join(items)}",
    ACTORS,
    st.sampled_from(["allow", "disallow", "deny"]),
    st.lists(ITEMS, min_size=1, max_size=4),
)
MEMBERS = st.sampled_from(
    ["ann", "bob", "user:cid", "group:g1", "group:g2", "group:g3", "osgroup:o1", "corp\\BOB"]
)
GROUPS = st.builds(
    lambda name, members: f"{name}={','.join(members)}",
    st.sampled_from(["g1", "g2", "g3"]),
    st.lists(MEMBERS, max_size=3),
)
ALIASES = st.builds(
    lambda name, items: f"{name}={','.join(items)}",
    st.sampled_from(["a1", "a2"]),
    st.lists(ITEMS, max_size=3),
)
TEXTS = st.builds(
    lambda groups, aliases, statements: "\n".join(
        ["[groups]", *groups, "[aliases]", *aliases, "[permissions]", *statements]
    ),
    st.lists(GROUPS, max_size=4),
    st.lists(ALIASES, max_size=3),
    st.lists(STATEMENTS, max_size=8),
)
MARKS = tuple("[]=,;#% \t\n\r\ufeff\ud800\u2028\x00x")
PIECES = ("\r\n", "#import", "group:", "allow", "deny", "display", "bob")
HEADS = ("[groups]\n", "[aliases]\n", "[permissions]\n")
ANYTHING = st.lists(st.sampled_from(MARKS + PIECES + HEADS)).map("".join) | st.text()


@pytest.mark.covers("P24")
@given(TEXTS, st.sampled_from(["ann", "bob", None]), st.booleans())
def test_matrix_and_evaluator_never_disagree(text: str, owner: str | None, windows: bool) -> None:
    """The matrix of rights and the answer about one person never disagree, whatever the text."""
    file = parse(text)
    for row in matrix(file, owner, [Actor("user", "new"), Actor("osgroup", "o9")], windows=windows):
        kind, name = row.actor
        if kind == "owner" and owner is None:
            continue
        user = {"owner": owner or "", "user": name}.get(kind, "somebody")
        os_groups, groups = ([name] if kind == "osgroup" else []), ([name] if kind == "group" else [])
        expected = explain(file, owner, user, os_groups, groups=groups, windows=windows)
        assert row.decisions == expected, row.label


@given(TEXTS, st.sampled_from(["ann", None]))
def test_w_dead_statements_can_be_taken_out(text: str, owner: str | None) -> None:
    file = parse(text, context=Context(owner=owner))
    for finding in file.diagnostics:
        if finding.code == "W-DEAD":
            lines = text.split("\n")
            lines[finding.line - 1] = ""
            # Somebody whom nothing else names has the rights of anybody else then.
            actors = [row.actor for row in matrix(file, owner)]
            rows = {
                row.actor: {name: one.state for name, one in row.decisions.items()}
                for row in matrix(file, owner)
            }
            for row in matrix("\n".join(lines), owner, actors):
                assert {name: one.state for name, one in row.decisions.items()} == rows[row.actor]


@pytest.mark.covers("P26")
@given(TEXTS, TEXTS, st.sampled_from(["ann", "bob", None]), st.booleans())
def test_no_difference_of_rights_exactly_where_every_row_is_equal(
    old: str, new: str, owner: str | None, windows: bool
) -> None:
    """The difference of the rights of two texts is empty exactly where every row of both is equal."""
    differences = rights_difference(old, new, owner, windows=windows)
    named = [row.actor for text in (old, new) for row in matrix(text, owner, windows=windows)]

    def key(actor: Actor) -> tuple[str, str]:
        return actor.kind, actor.name.casefold() if windows and actor.kind == "user" else actor.name

    before = {key(row.actor): row.features for row in matrix(old, owner, named, windows=windows)}
    changed = set()
    for row in matrix(new, owner, named, windows=windows):
        had, has = before[key(row.actor)], row.features
        if had != has:
            changed.add((row.label, has - had, had - has))
    assert set(differences) == changed
    assert rights_difference(new, new, owner, windows=windows) == []


@pytest.mark.covers("P26")
def test_a_difference_says_who_gains_and_loses_what() -> None:
    """The difference of two texts says who gains and who loses which rights."""
    new = "[permissions]\n%owner% allow builtin\n%owner% disallow usb\n%any% allow display\n"
    assert rights_difference(STOCK + "bob allow mouse display", new, "ann") == [
        ("owner", frozenset(), {"usb"}),
        ("bob", frozenset(), {"mouse"}),
        ("anybody else", {"display"}, frozenset()),
    ]


@pytest.mark.covers("P27")
@given(ANYTHING | TEXTS)
def test_printing_is_stable_and_keeps_comments_and_order(text: str) -> None:
    """A text that is printed keeps comments and order, and printing it again changes nothing."""
    file = parse(text)
    printed = str(file)
    again = parse(printed)
    assert str(again) == printed
    assert [line.kind for line in again.lines] == [line.kind for line in file.lines]
    assert [str(line) for line in again.lines] == [str(line) for line in file.lines]
    for user in ("ann", "bob"):
        assert evaluate(again, "ann", user, ["o1"]) == evaluate(file, "ann", user, ["o1"])


@pytest.mark.covers("P27")
def test_printing_makes_blanks_plain() -> None:
    """A text that is printed keeps what it says; only blanks become plain."""
    text = "\ufeff ;  kept  as it is\r\n[groups] \r\ng =  bob , user:cid\r\n\r\n"
    text += "[permissions]\r\nuser:bob\tallow  usb \r\n"
    assert (
        str(parse(text))
        == ";  kept  as it is\n[groups]\ng=bob, user:cid\n\n[permissions]\nuser:bob allow usb\n"
    )


@pytest.mark.covers("P28")
@given(ANYTHING)
def test_no_text_makes_it_raise(text: str) -> None:
    """No text whatsoever makes reading fail."""
    file = parse(text, importer=lambda path: text)
    for finding in file.diagnostics:
        assert finding.line >= 1
        assert finding.column >= 1
        assert finding.text
    matrix(file, "bob")
    rights_difference(file, STOCK, "bob", windows=True)
    evaluate([STOCK, file], "bob", "bob")


@pytest.mark.covers("P28")
@given(st.binary())
def test_no_bytes_make_it_raise(content: bytes) -> None:
    """No bytes make reading fail, text in no known encoding included."""
    file = parse(content, importer=lambda path: content)
    assert has_errors(file) or content.decode() == file.text


LARGE: dict[str, Callable[[int], str]] = {
    "users": lambda number: f"user{number} allow display usb mouse\n",
    "everybody": lambda number: f"%any% allow usb{number % 2 * ' display'}\nu{number} deny usb\n",
    "unknown": lambda number: f"bob allow x{number} displya{number}\n",
    "bad rules": lambda number: f"bob alow{number} display\n",
    "groups": lambda number: (
        f"[groups]\ng{number}=group:g{number + 1}, u{number}\n[permissions]\ngroup:g{number} allow usb\n"
    ),
    "aliases": lambda number: (
        f"[aliases]\na{number}=a{number + 1}, a{number + 2}\n[permissions]\nbob allow a{number}\n"
    ),
    "commas": lambda number: "[groups]\na=,,,,,,,,,,,,,,,,,,,,\n",
    "os groups": lambda number: f"osgroup:o{number} disallow usb\nu{number} allow usb\n",
    "blanks": lambda number: " " * 50 + "\n",
    "one line": lambda number: "x ",
}


@pytest.mark.covers("P28")
@pytest.mark.parametrize("kind", LARGE)
def test_time_grows_with_the_length(kind: str) -> None:
    """The time to read grows with the length of the text and not with its square."""

    def text(size: int) -> str:
        parts = ["[permissions]\n"]
        length, number = len(parts[0]), 0
        while length < size:
            parts.append(LARGE[kind](number))
            length += len(parts[-1])
            number += 1
        return "".join(parts)[:size]

    def cost(content: str) -> float:
        start = time.process_time()
        parse(content)
        return time.process_time() - start

    half, full = text(32 * 1024), text(64 * 1024)
    best_half = min(cost(half) for _ in range(5))
    best_full = min(cost(full) for _ in range(5))
    # Below a millisecond the clock's grain would decide.
    assert best_full <= 4 * max(best_half, 0.001)
