"""Rows stay filtered and in order whatever happens to the records."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dcvtui.fields import SESSION_COLUMNS
from dcvtui.fleet import Key, SessionRecord, Snapshot, difference
from dcvtui.listing import Listing
from dcvtui.query import compile_filter

NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)


def session(number: int, **fields: Any) -> SessionRecord:
    standard = {"name": f"s{number}", "state": "READY"}
    return SessionRecord(key=("lab", str(number)), profile="lab", id=str(number), **(standard | fields))


class Shown:
    """A listing of sessions that is fed with whole fleets."""

    def __init__(self, *sessions: SessionRecord, sort: str = "name") -> None:
        self.listing: Listing[SessionRecord] = Listing(
            SESSION_COLUMNS,
            sort=sort,
            is_hidden=lambda session: session.state == "DELETED",
            hidden_value="DELETED",
        )
        self.become({one.key: one for one in sessions})

    def become(self, sessions: dict[Key, SessionRecord]) -> None:
        changes = difference(Snapshot(sessions=self.listing.records), Snapshot(sessions=sessions)).sessions
        self.listing.apply(changes, sessions, NOW)

    def filter(self, text: str) -> None:
        self.listing.set_filter(compile_filter(text, SESSION_COLUMNS, lambda _: ()), NOW)

    @property
    def names(self) -> list[str]:
        return [self.listing.record_at(line).name for line in range(len(self.listing))]


def _fleet(described: dict[int, dict[str, Any]]) -> dict[Key, SessionRecord]:
    return {("lab", str(number)): session(number, **fields) for number, fields in described.items()}


fleets = st.dictionaries(
    st.integers(0, 150),
    st.fixed_dictionaries(
        {
            "owner": st.sampled_from(["ana", "bob", "eve"]),
            "state": st.sampled_from(["READY", "UNKNOWN", "DELETED"]),
            "connections": st.integers(0, 3),
        }
    ),
    max_size=130,
).map(_fleet)


@given(
    st.lists(fleets, min_size=1, max_size=4),
    st.sampled_from(["", "ana", "!owner:ana", "state:unknown,deleted", "clients>1"]),
    st.sampled_from(["name", "owner", "clients", "age"]),
    st.booleans(),
)
def test_changes_one_by_one_end_where_a_fresh_list_begins(
    steps: list[dict[Key, SessionRecord]], text: str, sort: str, is_reversed: bool
) -> None:
    walked, fresh = Shown(), Shown(*steps[-1].values())
    for shown in (walked, fresh):
        shown.filter(text)
        shown.listing.sort_by(sort, NOW, is_reversed=is_reversed)
    for step in steps:
        walked.become(step)
    assert walked.names == fresh.names
    assert walked.listing.total == fresh.listing.total
    for line, key in enumerate(walked.listing.shown_keys()):
        assert walked.listing.position(key) == line


def test_deleted_sessions_are_hidden_and_not_counted_unless_asked_for() -> None:
    shown = Shown(session(1), session(2, state="DELETED"))
    assert (shown.names, shown.listing.total) == (["s1"], 1)
    shown.filter("state:deleted")
    assert (shown.names, shown.listing.total) == (["s2"], 2)
    shown.become({("lab", "2"): session(2, state="DELETED")})
    shown.filter("")
    assert (shown.names, shown.listing.total) == ([], 0)


def test_a_changed_record_moves_to_its_new_place() -> None:
    shown = Shown(
        session(1, connections=1), session(2, connections=2), session(3, connections=3), sort="clients"
    )
    shown.become({**shown.listing.records, ("lab", "1"): session(1, connections=9)})
    assert shown.names == ["s2", "s3", "s1"]


def test_ages_do_not_move_rows_as_time_passes() -> None:
    shown = Shown(
        session(1, creation_time=NOW - timedelta(days=3)),
        session(2, creation_time=NOW),
        session(3),
        sort="age",
    )
    assert shown.names == ["s2", "s1", "s3"]


def test_only_trouble_narrows_the_filter_further() -> None:
    shown = Shown(
        session(1, owner="ana"), session(2, owner="ana", state="UNKNOWN"), session(3, state="UNKNOWN")
    )
    shown.filter("owner:ana")
    shown.listing.set_only(lambda session: session.state != "READY", NOW)
    assert shown.names == ["s2"]
    shown.listing.set_only(None, NOW)
    assert shown.names == ["s1", "s2"]


def test_a_filter_on_ages_is_asked_again_as_time_passes() -> None:
    shown = Shown(session(1, creation_time=NOW))
    shown.filter("age>1h")
    assert shown.names == []
    shown.listing.refilter(NOW + timedelta(hours=2))
    assert shown.names == ["s1"]


def test_what_is_not_shown_has_no_position() -> None:
    shown = Shown(session(1), session(2))
    shown.filter("name:s1")
    assert shown.listing.position(("lab", "2")) is None
    assert shown.listing.position(None) is None
    assert not shown.listing.is_shown(("lab", "2"))
