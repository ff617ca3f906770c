"""The whole fleet on one page."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dcvtui.columns import Sign
from dcvtui.fleet import ServerRecord, SessionRecord, Snapshot
from dcvtui.history import Course
from dcvtui.overview import capacity, overview

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
_GIB = 1 << 30


def server(number: int, reason: str = "", limit: str = "4", **fields: Any) -> ServerRecord:
    known = {
        "availability": "UNAVAILABLE" if reason else "AVAILABLE",
        "unavailability_reason": reason,
        "os_family": "linux",
        "tags": (("dcv:max-virtual-sessions", limit),) if limit else (),
    }
    return ServerRecord(key=("lab", f"s{number}"), profile="lab", id=f"s{number}", **(known | fields))


def session(number: int, owner: str, state: str = "READY", **fields: Any) -> SessionRecord:
    key = ("lab", str(number))
    return SessionRecord(key=key, profile="lab", id=str(number), owner=owner, state=state, **fields)


def page(
    servers: list[ServerRecord], sessions: list[SessionRecord], counts: dict[str, int]
) -> list[tuple[str, str]]:
    fleet = Snapshot({one.key: one for one in servers}, {one.key: one for one in sessions})
    return [(one.label, one.text) for one in overview("lab", fleet, counts, Course((), (1, 2)), NOW)]


def test_room_is_counted_only_where_sessions_can_be_placed_now() -> None:
    found = capacity([
        server(1, virtual_sessions=1),
        server(2, "SERVER_FULL", virtual_sessions=4),
        server(3, "UNREACHABLE_AGENT", virtual_sessions=2),
        server(4, limit=""),
        server(5, console_sessions=1),
        server(6, os_family="windows", limit=""),
    ])  # fmt: skip
    assert (found.places.used, found.places.total) == (5, 12)
    assert found.free == 3
    assert found.unlimited == 1
    assert found.empty == 2


def test_servers_and_sessions_are_told_by_state_the_most_first() -> None:
    servers = [server(1), server(2), server(3, "SERVER_FULL")]
    lines = page(servers, [session(1, "ana")], {"READY": 1, "UNKNOWN": 2})
    assert lines[:4] == [("lab", ""), ("servers", "3"), ("", "2 AVAILABLE"), ("", "1 SERVER_FULL")]
    assert lines[5:8] == [("sessions", "3"), ("", "2 UNKNOWN"), ("", "1 READY")]
    assert lines[8] == ("", "1 to 2 in 2 min")


def test_load_is_that_of_hosts_that_answer() -> None:
    fields: dict[str, Any] = {"load_1": 2.0, "cpus": 8, "memory_used": _GIB, "memory_total": 4 * _GIB}
    lines = dict(page([server(1, **fields), server(2, "UNREACHABLE_AGENT", **fields)], [], {}))
    assert lines["load"] == "2.0 on 8 CPUs"
    assert lines["memory"] == "1.0 of 4.0 GiB"
    assert "swap" not in lines


def test_the_busiest_owners_and_what_nobody_uses_are_named() -> None:
    sessions = [session(number, "ana") for number in range(3)]
    sessions.append(session(9, "bob\x1b", creation_time=NOW - timedelta(days=2)))
    sessions.append(session(10, "carla", "DELETED"))
    lines = page([server(1)], sessions, {"READY": 4})
    words = [text for _, text in lines]
    assert words.index("3 ana") < next(place for place, text in enumerate(words) if text.startswith("1 bob"))
    assert not any("carla" in text or "\x1b" in text for text in words)
    assert dict(lines)["idle"] == "1 without a client, 1 of them for a day or longer"


def test_an_empty_fleet_has_an_overview_too() -> None:
    assert ("servers", "0") in page([], [], {})


def test_states_that_nobody_knows_are_shown_as_they_are() -> None:
    fleet = Snapshot({("lab", "s1"): server(1, "SERVER_ON_FIRE")})
    (line,) = [one for one in overview("lab", fleet, {}, Course(), NOW) if "ON_FIRE" in one.text]
    assert line.sign is Sign.BAD
    assert line.meter == 1
