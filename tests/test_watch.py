"""From updates of the poller to what the views show."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcvtui.attention import Trouble
from dcvtui.fleet import Difference, Key, ServerRecord, SessionRecord, Snapshot, difference
from dcvtui.polling import Link, LinkState, Update
from dcvtui.watch import Watch, vanished

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(number: int, state: str, **fields: Any) -> SessionRecord:
    key = ("lab", str(number))
    return SessionRecord(key=key, profile="lab", id=str(number), name=f"s{number}", state=state, **fields)


def server(number: int, reason: str = "", **fields: Any) -> ServerRecord:
    return ServerRecord(
        key=("lab", f"srv{number}"),
        profile="lab",
        id=f"srv{number}",
        availability="UNAVAILABLE" if reason else "AVAILABLE",
        unavailability_reason=reason,
        **fields,
    )


def show(
    watch: Watch, *records: ServerRecord | SessionRecord, complete: bool = True, seconds: int = 0
) -> None:
    snapshot = Snapshot(
        {one.key: one for one in records if isinstance(one, ServerRecord)},
        {one.key: one for one in records if isinstance(one, SessionRecord)},
    )
    update = Update(snapshot, difference(watch.snapshot, snapshot), Link(LinkState.POLLING), complete)
    watch.take(update, NOW + timedelta(seconds=seconds))


def test_counts_leave_deleted_sessions_out() -> None:
    watch = Watch()
    show(watch, server(1), server(2, "SERVER_FULL"), session(1, "READY"), session(2, "DELETED"))
    assert (watch.counts.servers, watch.counts.available) == (2, 1)
    assert dict(watch.counts.sessions) == {"READY": 1}


states = st.sampled_from(["READY", "UNKNOWN", "DELETED", "CREATING"])
fleets = st.tuples(
    st.dictionaries(st.integers(0, 9), st.sampled_from(["", "SERVER_FULL"])),
    st.dictionaries(st.integers(0, 9), states),
)


@given(st.lists(fleets, max_size=5))
def test_counts_are_right_after_any_changes(steps: list[tuple[dict[int, str], dict[int, str]]]) -> None:
    watch = Watch()
    for servers, sessions in steps:
        show(
            watch,
            *(server(number, reason) for number, reason in servers.items()),
            *(session(number, state) for number, state in sessions.items()),
        )
        expected: dict[str, int] = {}
        for state in sessions.values():
            if state != "DELETED":
                expected[state] = expected.get(state, 0) + 1
        assert dict(watch.counts.sessions) == expected
        assert watch.counts.servers == len(servers)
        assert watch.counts.available == list(servers.values()).count("")


def test_the_first_load_is_no_activity() -> None:
    watch = Watch()
    show(watch, server(1), complete=False)
    show(watch, server(1), session(1, "READY"))
    assert not watch.entries()
    show(watch, server(1), session(1, "READY"), session(2, "READY"))
    assert [entry.outcome for entry in watch.entries().values()] == ["new, READY"]


def test_what_was_so_from_the_start_is_at_least_that_old() -> None:
    watch = Watch()
    show(watch, session(1, "UNKNOWN"))
    show(watch, session(1, "UNKNOWN"), session(2, "UNKNOWN"), seconds=5)
    first, second = watch.since(("lab", "1")), watch.since(("lab", "2"))
    assert first and second
    assert (first.at_least, second.at_least) == (True, False)
    assert watch.since(("lab", "3")) is None


def test_a_broker_that_does_not_answer_needs_a_person_first_of_all() -> None:
    watch = Watch()
    show(watch, session(1, "UNKNOWN"))
    stale = Link(LinkState.STALE, "connection refused", NOW, NOW)
    watch.take(Update(watch.snapshot, Difference(), stale, True), NOW)
    assert [item.trouble for item in watch.items.values()] == [Trouble.BROKER, Trouble.UNKNOWN]


def test_a_server_that_is_opened_drains_no_longer() -> None:
    watch = Watch()
    show(watch, server(1, "SERVER_CLOSED", virtual_sessions=1))
    watch.draining.add(("lab", "srv1"))
    watch.look(NOW)
    assert [item.trouble for item in watch.items.values()] == [Trouble.DRAINING]
    show(watch, server(1, virtual_sessions=1))
    assert (watch.draining, dict(watch.items)) == (set(), {})


def test_names_of_marked_items_that_are_gone() -> None:
    before = Snapshot(sessions={("lab", "1"): session(1, "READY"), ("lab", "2"): session(2, "READY")})
    gone = difference(before, Snapshot())
    marks: set[Key] = {("lab", "1")}
    assert vanished(marks, gone) == ["s1"]
