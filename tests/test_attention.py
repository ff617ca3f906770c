"""Which states call for a person, in which order, and since when."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dcvtui.attention import AttentionItem, FirstSeen, Limits, Trouble, attention
from dcvtui.fleet import Key, ServerRecord, SessionRecord, Snapshot, difference

START = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(name: str, state: str, substate: str = "", **fields: Any) -> SessionRecord:
    key = ("lab", name)
    return SessionRecord(key=key, profile="lab", id=name, name=name, state=state, substate=substate, **fields)


def server(name: str, reason: str = "", **fields: Any) -> ServerRecord:
    return ServerRecord(
        key=("lab", name),
        profile="lab",
        id=name,
        hostname=name,
        availability="UNAVAILABLE" if reason else "AVAILABLE",
        unavailability_reason=reason,
        **fields,
    )


class Watched:
    """A fleet that is looked at from time to time."""

    def __init__(self, limits: Limits | None = None, draining: set[Key] | None = None) -> None:
        self.snapshot, self.first_seen = Snapshot(), FirstSeen()
        self.limits, self.draining = limits or Limits(), draining or set()

    def see(self, seconds: float, *records: ServerRecord | SessionRecord, first: bool = False) -> None:
        new = Snapshot(
            {record.key: record for record in records if isinstance(record, ServerRecord)},
            {record.key: record for record in records if isinstance(record, SessionRecord)},
        )
        now = START + timedelta(seconds=seconds)
        self.first_seen.note(difference(self.snapshot, new), now, first_load=first)
        self.snapshot = new

    def items(self, seconds: float) -> list[AttentionItem]:
        now = START + timedelta(seconds=seconds)
        return attention(self.snapshot, self.first_seen, now, self.limits, self.draining)

    def names(self, seconds: float) -> list[str]:
        return [item.name for item in self.items(seconds)]


def test_a_healthy_fleet_needs_nobody() -> None:
    fleet = Watched()
    fleet.see(0, server("a"), session("s", "READY"), session("gone", "DELETED"), first=True)
    assert fleet.items(10_000) == []


def test_a_lost_agent_counts_after_half_a_minute() -> None:
    fleet = Watched()
    fleet.see(0, server("a"), first=True)
    fleet.see(5, server("a", "UNREACHABLE_AGENT"))
    assert fleet.names(34) == []
    assert fleet.names(35) == ["a"]


def test_what_was_lost_from_the_start_counts_at_once_and_is_at_least_that_old() -> None:
    fleet = Watched()
    fleet.see(0, session("s", "UNKNOWN", state_reason="agent lost"), first=True)
    (item,) = fleet.items(0)
    assert item.since is not None
    assert item.since.at_least
    assert item.reason == "agent lost"


def test_a_changed_state_starts_its_time_anew() -> None:
    fleet = Watched()
    fleet.see(0, session("s", "CREATING", "PENDING_PREPARATION"))
    fleet.see(100, session("s", "DELETING"))
    assert fleet.names(130) == []
    assert fleet.names(220) == ["s"]


def test_a_record_that_changes_otherwise_keeps_its_time() -> None:
    fleet = Watched()
    fleet.see(0, session("s", "DELETING"))
    fleet.see(100, session("s", "DELETING", connections=1))
    assert fleet.names(120) == ["s"]


def test_a_session_that_was_waiting_before_the_console_came_is_judged_by_its_creation() -> None:
    fleet = Watched()
    old, young = START - timedelta(minutes=6), START - timedelta(minutes=1)
    fleet.see(
        0,
        session("old", "CREATING", "SESSION_PLACING", creation_time=old),
        session("young", "CREATING", "SESSION_PLACING", creation_time=young),
        first=True,
    )
    assert fleet.names(1) == ["old"]


def test_full_servers_matter_only_while_sessions_wait() -> None:
    fleet = Watched()
    fleet.see(0, server("a", "SERVER_FULL", virtual_sessions=4))
    assert fleet.names(1) == []
    fleet.see(2, server("a", "SERVER_FULL", virtual_sessions=4), session("s", "CREATING", "SESSION_PLACING"))
    assert fleet.names(3) == ["a"]


def test_closed_servers_with_sessions_come_late_and_draining_ones_last() -> None:
    fleet = Watched(draining={("lab", "drained"), ("lab", "draining")})
    fleet.see(
        0,
        server("draining", "SERVER_CLOSED", virtual_sessions=1),
        server("drained", "SERVER_CLOSED"),
        server("closed", "SERVER_CLOSED", virtual_sessions=2),
        server("empty", "SERVER_CLOSED"),
        server("lost", "UNREACHABLE_AGENT"),
        session("s", "UNKNOWN"),
        first=True,
    )
    assert fleet.names(0) == ["lost", "s", "closed", "drained", "draining"]


def test_idle_sessions_count_only_when_a_limit_is_set() -> None:
    resting = session("s", "READY", creation_time=START - timedelta(days=8))
    for limits, names in ((Limits(), []), (Limits(idle=timedelta(days=7)), ["s"])):
        fleet = Watched(limits)
        fleet.see(0, resting, first=True)
        assert fleet.names(0) == names


def test_what_is_gone_is_forgotten() -> None:
    fleet = Watched()
    fleet.see(0, server("a", "UNREACHABLE_AGENT"), session("s", "UNKNOWN"), first=True)
    fleet.see(1)
    assert fleet.items(100) == []
    assert (fleet.first_seen.servers, fleet.first_seen.sessions) == ({}, {})


def test_every_item_names_the_key_that_helps() -> None:
    fleet = Watched()
    fleet.see(0, session("made", "UNKNOWN", server_id="x"), session("failed", "UNKNOWN"), first=True)
    fixes = {item.name: (item.trouble, item.fix) for item in fleet.items(0)}
    assert fixes == {
        "made": (Trouble.UNKNOWN, "sessions.open-server"),
        "failed": (Trouble.UNKNOWN, "sessions.delete-marked"),
    }
