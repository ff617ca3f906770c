"""Ages that stand still, sorting by what is meant, and which columns a width has room for."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.columns import Sign, age, fit, size
from dcvtui.fields import SERVER_COLUMNS, SESSION_COLUMNS, max_virtual_sessions, server_state, state_sign
from dcvtui.fleet import ServerRecord, SessionRecord

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
SERVER = ServerRecord(key=("lab", "s"), profile="lab", id="s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<1 min"),
        (0, "<1 min"),
        (59, "<1 min"),
        (60, "1 min"),
        (59 * 60 + 59, "59 min"),
        (3600, "1 h"),
        (47 * 3600 + 3599, "47 h"),
        (48 * 3600, "2 d"),
        (400 * 86400, "400 d"),
    ],
)
def test_ages_step(seconds: int, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


def test_what_was_never_said_is_empty() -> None:
    assert age(None, NOW) == ""
    assert size(None) == ""
    assert all(isinstance(column.text(SERVER, NOW), str) for column in SERVER_COLUMNS)


def test_names_from_elsewhere_cannot_steer_the_terminal() -> None:
    session = SessionRecord(key=("lab", "1"), profile="lab", id="1", name="a\x1b[2J", owner="b\nc")
    texts = {column.head: column.text(session, NOW) for column in SESSION_COLUMNS}
    assert texts["NAME"] == "a␛[2J"
    assert "\n" not in texts["OWNER"]


def test_ages_sort_by_time_and_unknown_ones_last() -> None:
    column = next(column for column in SESSION_COLUMNS if column.head == "AGE")
    sessions = [
        SessionRecord(key=("lab", name), profile="lab", id=name, creation_time=created)
        for name, created in [
            ("old", NOW - timedelta(days=40)),
            ("never", None),
            ("new", NOW),
            ("mid", NOW - timedelta(hours=3)),
        ]
    ]
    sessions.sort(key=lambda session: column.sort_key(session, NOW))
    assert [session.id for session in sessions] == ["new", "mid", "old", "never"]


def test_ninety_columns_hold_the_six_that_matter() -> None:
    heads = [placed.column.head for placed in fit(SESSION_COLUMNS, 86)]
    assert heads == ["NAME", "OWNER", "STATE", "SERVER", "CLIENTS", "AGE"]


@given(st.integers(1, 260), st.integers(0, 30), st.sampled_from([SESSION_COLUMNS, SERVER_COLUMNS]))
def test_columns_never_pass_the_width(width: int, skip: int, columns: tuple) -> None:  # type: ignore[type-arg]  # both kinds of columns
    placed = fit(columns, width, skip=skip)
    assert placed[0].column is columns[0]
    if len(placed) > 2 or not skip:
        assert sum(one.width for one in placed) + 2 * (len(placed) - 1) <= width


def test_every_column_can_be_reached_by_scrolling() -> None:
    reached = {
        placed.column.head
        for skip in range(len(SERVER_COLUMNS))
        for placed in fit(SERVER_COLUMNS, 60, skip=skip)
    }
    assert reached == {column.head for column in SERVER_COLUMNS}


def test_heads_are_unique_and_can_be_typed_as_fields() -> None:
    for columns in (SESSION_COLUMNS, SERVER_COLUMNS):
        heads = [column.head for column in columns]
        assert len(set(heads)) == len(heads)
        assert all(head.replace("-", "").isalnum() for head in heads)


def test_each_state_has_its_sign_and_a_strange_one_none() -> None:
    assert state_sign("READY") is Sign.GOOD
    assert state_sign("UNREACHABLE_AGENT") is Sign.BAD
    assert state_sign("SERVER_CLOSED") is Sign.CLOSED
    assert state_sign("HIBERNATED") is None
    characters = [sign.character(ascii_only=True) for sign in Sign]
    assert len(set(characters)) == len(characters)


def test_the_state_of_a_server_is_its_reason_unless_it_is_available() -> None:
    def state(availability: str, reason: str) -> str:
        return server_state(
            ServerRecord(
                key=("l", "s"),
                profile="l",
                id="s",
                availability=availability,
                unavailability_reason=reason,
            )
        )

    assert state("AVAILABLE", "") == "AVAILABLE"
    assert state("UNAVAILABLE", "SERVER_FULL") == "SERVER_FULL"
    assert state("UNAVAILABLE", "") == "UNAVAILABLE"


def test_the_limit_of_virtual_sessions_comes_from_the_reserved_tag() -> None:
    def limit(value: str) -> int | None:
        tags = (("dcv:max-virtual-sessions", value),)
        return max_virtual_sessions(ServerRecord(key=("l", "s"), profile="l", id="s", tags=tags))

    assert (limit("10"), limit("-1"), limit("many")) == (10, None, None)
