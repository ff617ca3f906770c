"""For which sessions and servers an action on many is meant."""

from dataclasses import replace

import pytest

from dcvtui.fleet import ServerRecord, SessionRecord
from dcvtui.selection import Selection, to_close, to_delete, to_open, to_permit, to_reap

FREE = SessionRecord(("", "free"), "", "free", state="READY", server_id="s1")
USED = replace(FREE, key=("", "used"), id="used", connections=2)
LOST = replace(FREE, key=("", "lost"), id="lost", state="UNKNOWN")
FAILED = replace(LOST, key=("", "failed"), id="failed", server_id=None)
GOING = replace(FREE, key=("", "going"), id="going", state="DELETING")
GONE = replace(FREE, key=("", "gone"), id="gone", state="DELETED")
ALL = (FREE, USED, LOST, FAILED, GOING, GONE)


def ids(found: Selection[SessionRecord]) -> tuple[list[str], list[str], list[str]]:
    return (
        [session.id for session in found.chosen],
        [session.id for session, _ in found.left_out],
        [session.id for session, _ in found.hopeless],
    )


def test_a_delete_leaves_out_sessions_in_use_and_forgets_those_that_are_going() -> None:
    found = to_delete(ALL, include_connected=False)
    assert ids(found) == (["free", "lost", "failed"], ["used"], [])
    assert found.left_out[0][1] == "2 clients are connected"
    assert ids(to_delete(ALL, include_connected=True)) == (["free", "used", "lost", "failed"], [], [])


@pytest.mark.parametrize(
    ("force", "chosen", "hopeless"),
    [(False, ["free", "failed"], ["lost"]), (True, ["free", "lost", "failed"], [])],
)
def test_a_session_on_a_lost_server_is_reaped_by_force_only(
    force: bool, chosen: list[str], hopeless: list[str]
) -> None:
    found = to_reap(ALL, include_connected=False, force=force)
    assert ids(found) == (chosen, ["used"], hopeless)


def test_permissions_are_for_sessions_that_stay() -> None:
    assert ids(to_permit(ALL)) == (["free", "used", "lost", "failed"], [], [])


def test_servers_are_opened_if_they_are_not_and_closed_without_sessions_or_by_force() -> None:
    open_one = ServerRecord(("", "a"), "", "a", availability="AVAILABLE")
    busy = replace(open_one, key=("", "b"), id="b", virtual_sessions=1)
    closed = replace(
        open_one, key=("", "c"), id="c", availability="UNAVAILABLE", unavailability_reason="SERVER_CLOSED"
    )
    servers = (open_one, busy, closed)
    assert to_open(servers).chosen == (closed,)
    found = to_close(servers, force=False)
    assert (found.chosen, found.left_out) == (
        (open_one,),
        ((busy, "1 session runs on it"),),
    )
    assert to_close(servers, force=True).chosen == (open_one, busy)
