"""What the activity list remembers, and what it must not."""

from datetime import UTC, datetime
from typing import Any

from dcvtui.activity import ActivityLog
from dcvtui.fleet import Changes, Difference, ServerRecord, SessionRecord
from dcvtui.operations import ItemResult, Outcome

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(name: str, **fields: Any) -> SessionRecord:
    return SessionRecord(key=("lab", name), profile="lab", id=name, name=name, **fields)


def server(name: str, availability: str, reason: str = "") -> ServerRecord:
    return ServerRecord(
        key=("lab", name),
        profile="lab",
        id=name,
        hostname=name,
        availability=availability,
        unavailability_reason=reason,
    )


def told(log: ActivityLog) -> list[tuple[str, str, str]]:
    return [(entry.what, entry.name, entry.outcome) for entry in log.entries.values()]


def test_sessions_that_come_change_and_go() -> None:
    log = ActivityLog()
    new, ready = session("s", state="CREATING", substate="SESSION_PLACING"), session("s", state="READY")
    log.note_difference(Difference(sessions=Changes(added=(new,))), NOW)
    log.note_difference(Difference(sessions=Changes(changed=((new, ready),))), NOW)
    log.note_difference(Difference(sessions=Changes(removed=(ready,))), NOW)
    assert told(log) == [
        ("session", "s", "new, CREATING SESSION_PLACING"),
        ("session", "s", "CREATING SESSION_PLACING → READY"),
        ("session", "s", "no longer listed"),
    ]


def test_a_session_that_comes_back_is_told_as_such() -> None:
    log, found = ActivityLog(), session("s", state="READY", server_name="gpu-018")
    log.note_difference(Difference(sessions=Changes(removed=(found,))), NOW)
    log.note_difference(Difference(sessions=Changes(added=(found,))), NOW)
    assert told(log)[-1] == ("session", "s", "is back, found on gpu-018")


def test_clients_and_loads_are_no_news() -> None:
    log, old = ActivityLog(), session("s", state="READY")
    changes = Changes(changed=((old, session("s", state="READY", connections=3)),))
    log.note_difference(Difference(sessions=changes), NOW)
    assert told(log) == []


def test_a_server_tells_its_state_with_the_reason() -> None:
    log = ActivityLog()
    before, after = server("a", "AVAILABLE"), server("a", "UNAVAILABLE", "SERVER_CLOSED")
    log.note_difference(Difference(servers=Changes(changed=((before, after),))), NOW)
    assert told(log) == [("server", "a", "AVAILABLE → SERVER_CLOSED")]


def test_results_keep_reason_and_request_id_item_by_item() -> None:
    log = ActivityLog()
    failed = ItemResult("1", "s", Outcome.FAILED, "not reachable", request_id="r-1")
    log.note_results("delete", [(("lab", "1"), failed)], NOW)
    (entry,) = log.entries.values()
    assert (entry.what, entry.outcome, entry.detail, entry.request_id, entry.about) == (
        "delete", "failed", "not reachable", "r-1", ("lab", "1"),
    )  # fmt: skip


def test_permissions_and_tokens_are_not_in_it() -> None:
    log = ActivityLog()
    item = {"SessionId": "1", "PermissionsFile": "c2VjcmV0"}
    log.note_results("permissions", [(("lab", "1"), ItemResult("1", "s", Outcome.DONE, item=item))], NOW)
    assert "c2VjcmV0" not in repr(log.entries)


def test_the_log_is_bounded() -> None:
    log = ActivityLog()
    for batch in range(12):
        added = tuple(session(f"{batch}-{number}", state="READY") for number in range(500))
        log.note_difference(Difference(sessions=Changes(added=added)), NOW)
    assert len(log.entries) == 5000
    assert next(iter(log.entries.values())).name == "2-0"
