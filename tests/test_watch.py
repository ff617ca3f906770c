"""What the console knows beside the fleet follows the fleet, difference by difference."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcvtui.fleet import Key, ServerRecord, SessionRecord, Snapshot, difference
from dcvtui.polling import Link, Update
from dcvtui.watch import Counts, Watch

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def _key(number: int) -> Key:
    return ("lab", str(number))


def _sessions(states: dict[int, str]) -> dict[Key, SessionRecord]:
    return {
        _key(number): SessionRecord(key=_key(number), profile="lab", id=str(number), state=state)
        for number, state in states.items()
    }


def _servers(availabilities: dict[int, str]) -> dict[Key, ServerRecord]:
    return {
        _key(number): ServerRecord(key=_key(number), profile="lab", id=str(number), availability=word)
        for number, word in availabilities.items()
    }


def _of(*words: str) -> st.SearchStrategy[dict[int, str]]:
    return st.dictionaries(st.integers(0, 9), st.sampled_from(words), max_size=10)


fleets = st.builds(
    lambda servers, sessions: Snapshot(_servers(servers), _sessions(sessions)),
    _of("AVAILABLE", "UNAVAILABLE"),
    _of("READY", "CREATING", "UNKNOWN", "DELETED"),
)


@given(st.lists(fleets, min_size=1, max_size=5))
def test_counts_followed_step_by_step_are_those_of_the_last_fleet(steps: list[Snapshot]) -> None:
    watch, before = Watch(), Snapshot()
    for fleet in steps:
        watch.take(Update(fleet, difference(before, fleet), Link(), is_complete=True), NOW)
        before = fleet
    states: dict[str, Any] = {}
    for session in before.sessions.values():
        if session.state != "DELETED":
            states[session.state] = states.get(session.state, 0) + 1
    available = sum(server.availability == "AVAILABLE" for server in before.servers.values())
    assert watch.counts == Counts(len(before.servers), available, states)
