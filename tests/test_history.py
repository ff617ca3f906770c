"""What a console remembers of the last hour, and how little of it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcvtui.fleet import Changes, ServerRecord
from dcvtui.history import MINUTES, Course, History, range_text

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
KEY = ("lab", "s")


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def server(load: float | None = None, sessions: int = 0) -> ServerRecord:
    return ServerRecord(key=KEY, profile="lab", id="s", load_1=load, virtual_sessions=sessions)


def test_nothing_was_seen_of_what_is_not_known() -> None:
    assert History().course(KEY, NOW) == Course()


def test_a_value_stands_until_the_next_one() -> None:
    history = History()
    history.note(KEY, 0.5, 2, NOW)
    history.note(KEY, 2.0, 3, later(3))
    assert history.course(KEY, later(4)) == Course((0.5, 0.5, 0.5, 2.0, 2.0), (2, 2, 2, 3, 3))


def test_the_newest_value_of_a_minute_stands_for_it() -> None:
    history = History()
    for sessions in range(50):
        history.note(KEY, None, sessions, NOW + timedelta(seconds=sessions))
    assert history.course(KEY, NOW) == Course((None,), (49,))


def test_a_clock_that_was_put_back_breaks_nothing() -> None:
    history = History()
    history.note(KEY, 1, 1, later(5))
    history.note(KEY, 1, 2, NOW)
    assert history.course(KEY, later(1)).sessions == (2, 2)


def test_an_hour_is_kept_and_what_was_before_counts_until_the_first_value_in_it() -> None:
    history = History()
    history.note(KEY, 1, 7, NOW)
    history.note(KEY, 1, 8, later(2 * MINUTES))
    course = history.course(KEY, later(2 * MINUTES))
    assert len(course.sessions) == MINUTES
    assert course.sessions[0] == 7
    assert course.sessions[-1] == 8


def test_of_minutes_without_an_answer_nothing_is_known() -> None:
    history = History()
    history.note(KEY, 1, 4, NOW)
    history.note_blind("lab", later(1), later(3))
    history.note_blind("other", NOW, later(9))
    history.note(KEY, 1, 5, later(4))
    assert history.course(KEY, later(5)).sessions == (4, 4, None, None, 5, 5)


def test_servers_that_are_gone_and_brokers_no_longer_looked_at_are_forgotten() -> None:
    history = History()
    history.note_servers(Changes(added=(server(0.5, 1),)), NOW)
    history.note_servers(Changes(changed=((server(0.5, 1), server(1.5, 2)),)), later(1))
    assert history.course(KEY, later(1)).loads == (0.5, 1.5)
    history.note_servers(Changes(removed=(server(),)), later(1))
    assert history.course(KEY, later(1)) == Course()
    history.note(KEY, 1, 1, NOW)
    history.note(("west", "s"), 1, 1, NOW)
    history.forget("lab")
    assert history.course(KEY, NOW) == Course()
    assert history.course(("west", "s"), NOW).sessions == (1,)


def test_what_is_kept_of_ten_thousand_restless_servers_is_bounded() -> None:
    history = History()
    for minute in range(MINUTES + 5):
        for number in range(100):
            history.note(("lab", str(number)), minute / 7, minute, later(minute))
    assert history.size == 100 * 10 * MINUTES


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(allow_nan=False), st.integers()), max_size=30))
def test_any_values_give_a_course_of_at_most_an_hour(given_values: list[tuple[int, float, int]]) -> None:
    history = History()
    for minute, load, sessions in sorted(given_values):
        history.note(KEY, load, sessions, later(minute))
    course = history.course(KEY, later(200))
    assert len(course.loads) == len(course.sessions) <= MINUTES
    assert all(value is None or value >= 0 for value in course.loads)


@pytest.mark.parametrize(
    ("values", "digits", "text"),
    [
        ([1, 3, 2], 0, "1 to 3"),
        ([0.5, None], 2, "0.50"),
        ([None], 0, ""),
        ([1000, 2000], 0, "1,000 to 2,000"),
    ],
)
def test_a_range_in_words(values: list[float | None], digits: int, text: str) -> None:
    assert range_text(values, digits) == text
