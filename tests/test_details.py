"""What the details say of a session and of a server."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dcvtui.activity import ActivityEntry
from dcvtui.attention import AttentionItem, Since, Trouble
from dcvtui.columns import Sign
from dcvtui.details import (
    Detail,
    activity_details,
    attention_details,
    server_details,
    session_details,
    since_text,
)
from dcvtui.fleet import Endpoint, ServerRecord, SessionRecord
from dcvtui.history import Course

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(**fields: Any) -> SessionRecord:
    return SessionRecord(key=("lab", "1"), profile="lab", id="1", name="cad-1", **fields)


def server(**fields: Any) -> ServerRecord:
    return ServerRecord(key=("lab", "s"), profile="lab", id="s", hostname="gpu-1", **fields)


def texts(details: list[Detail]) -> dict[str, str]:
    return {detail.label: detail.text for detail in details if not detail.is_heading}


def test_a_session_says_since_when_and_why() -> None:
    since = Since(NOW - timedelta(minutes=12), at_least=True)
    found = session_details(session(state="UNKNOWN", state_reason="agent lost"), None, since, NOW)
    assert texts(found)["state"] == "UNKNOWN, at least 12 min"
    assert texts(found)["reason"] == "agent lost"
    assert next(detail for detail in found if detail.label == "state").sign is Sign.BAD


def test_times_are_told_relative_and_in_full() -> None:
    found = texts(session_details(session(creation_time=NOW - timedelta(hours=3)), None, None, NOW))
    assert found["created"].startswith("3 h ago · 2026-03-30 ")


def test_a_session_brings_its_server() -> None:
    host = server(availability="AVAILABLE", ip="10.0.0.1", port="8443", load_1=0.5, cpus=8)
    found = session_details(session(server_id="s", server_name="gpu-1"), host, None, NOW)
    assert [detail.label for detail in found if detail.is_heading] == ["cad-1", "gpu-1"]
    assert texts(found)["address"] == "10.0.0.1:8443"
    assert texts(found)["load"] == "0.50 on 8 CPUs"


def test_a_server_that_is_not_known_is_named_all_the_same() -> None:
    found = session_details(session(server_id="s", server_name="gpu-1"), None, None, NOW)
    assert [detail.label for detail in found if detail.is_heading] == ["cad-1", "gpu-1"]


def test_a_server_tells_everything_and_nothing_it_does_not_know() -> None:
    host = server(
        availability="UNAVAILABLE",
        unavailability_reason="SERVER_FULL",
        virtual_sessions=4,
        memory_total=64 << 30,
        memory_used=16 << 30,
        os_name="Debian 12",
        os_version="12",
        endpoints=(Endpoint("10.0.0.1", 8443, "HTTP", "/"), Endpoint("10.0.0.1", 8443, "QUIC", "")),
        gpus=(("NVIDIA", "T4"),),
        tags=(("dcv:max-virtual-sessions", "6"), ("rack", "7")),
    )
    found = texts(server_details(host, None, NOW))
    assert found["state"] == "SERVER_FULL"
    assert found["virtual"] == "4 of 6"
    assert found["memory"] == "16.0 of 64.0 GiB"
    assert found["system"] == "Debian 12"
    assert found["rack"] == "7"
    assert "region" not in found


def test_shares_come_as_bars_and_the_last_hour_as_a_course() -> None:
    host = server(load_1=4.0, cpus=8, virtual_sessions=3, memory_used=1 << 30, memory_total=4 << 30)
    found = server_details(host, None, NOW, Course((0.5, None, 4.0), (2, None, 3)))
    meters = {detail.label: detail.meter for detail in found if detail.meter is not None}
    assert meters == {"load": 0.5, "memory": 0.25}
    courses = {detail.text: (detail.course, detail.top) for detail in found if detail.course}
    assert courses == {
        "2 to 3 in 3 min": ((2, None, 3), 3),
        "0.50 to 4.00 in 3 min": ((0.5, None, 4.0), 8),
    }


def test_one_minute_is_no_course() -> None:
    found = server_details(server(load_1=4.0, cpus=8), None, NOW, Course((4.0,), (3,)))
    assert not any(detail.course for detail in found)


def test_nothing_from_elsewhere_steers_the_terminal() -> None:
    found = session_details(session(owner="a\x1b[2J", state_reason="x\ny"), None, None, NOW)
    assert not any("\x1b" in detail.text or "\n" in detail.text for detail in found)


def test_since_is_open_ended_only_where_nobody_knows() -> None:
    hour = NOW - timedelta(hours=1)
    assert since_text(Since(hour), NOW) == "1 h"
    assert since_text(Since(hour, at_least=True), NOW) == "at least 1 h"
    assert since_text(None, NOW) == ""


def test_items_and_entries_are_told_in_full() -> None:
    item = AttentionItem(("", "b"), Trouble.BROKER, "broker", "the broker", "STALE", "why", None, "x", "y")
    assert texts(attention_details(item, NOW))["reason"] == "why"
    entry = ActivityEntry(1, NOW, "delete", "s", "failed", "because", "r-1")
    assert texts(activity_details(entry))["request"] == "r-1"
