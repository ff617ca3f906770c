"""When what was waited for is reached, and when it never will be."""

from typing import Any

import pytest

from dcvtui.goals import SERVER_GOALS, SESSION_GOALS, Progress, judge_server, judge_session, state_in_words

WAY, REACHED, HOPELESS = Progress.ON_THE_WAY, Progress.REACHED, Progress.HOPELESS


@pytest.mark.parametrize(
    ("goal", "state", "before", "progress"),
    [
        ("ready", "CREATING", "", WAY),
        ("ready", "READY", "CREATING", REACHED),
        ("ready", "UNKNOWN", "CREATING", HOPELESS),
        ("ready", "DELETING", "CREATING", HOPELESS),
        ("ready", "DELETED", "", HOPELESS),
        ("ready", None, "CREATING", HOPELESS),
        ("deleted", "READY", "", WAY),
        ("deleted", "DELETING", "READY", WAY),
        ("deleted", "UNKNOWN", "DELETING", WAY),
        ("deleted", "DELETED", "DELETING", REACHED),
        ("deleted", None, "DELETING", REACHED),
        ("deleted", "READY", "DELETING", HOPELESS),
        ("unknown", "UNKNOWN", "", REACHED),
        ("unknown", "READY", "", WAY),
        ("unknown", "DELETED", "", HOPELESS),
        ("deleting", None, "", HOPELESS),
        ("creating", "CREATING", "", REACHED),
    ],
)
def test_sessions(goal: str, state: str | None, before: str, progress: Progress) -> None:
    assert goal in SESSION_GOALS
    session = {"State": state} if state else None
    found = judge_session(goal, session, before)
    assert found.progress is progress
    assert bool(found.reason) == (progress is HOPELESS)


def test_the_brokers_own_reason_is_told() -> None:
    session = {"State": "UNKNOWN", "StateReason": "no X server"}
    assert judge_session("ready", session) == (HOPELESS, "no X server")


@pytest.mark.parametrize(
    ("goal", "fields", "progress"),
    [
        ("available", {"Availability": "AVAILABLE"}, REACHED),
        ("available", {"Availability": "UNAVAILABLE", "UnavailabilityReason": "SERVER_FULL"}, WAY),
        ("closed", {"Availability": "UNAVAILABLE", "UnavailabilityReason": "SERVER_CLOSED"}, REACHED),
        ("closed", {"Availability": "UNAVAILABLE", "UnavailabilityReason": "UNREACHABLE_AGENT"}, WAY),
        ("empty", {"ConsoleSessionCount": 0, "VirtualSessionCount": 1}, WAY),
        ("empty", {"ConsoleSessionCount": 0, "VirtualSessionCount": 0}, REACHED),
        ("closed", None, HOPELESS),
    ],
)
def test_servers(goal: str, fields: dict[str, Any] | None, progress: Progress) -> None:
    assert goal in SERVER_GOALS
    assert judge_server(goal, fields).progress is progress


def test_states_are_told_in_the_brokers_words() -> None:
    assert state_in_words("Sessions", {"State": "CREATING", "Substate": "SESSION_PLACING"}) == (
        "CREATING (SESSION_PLACING)"
    )
    assert state_in_words("Servers", {"Availability": "AVAILABLE", "VirtualSessionCount": 1}) == (
        "AVAILABLE, 1 session"
    )
    assert state_in_words("Sessions", None) == "no longer listed"
