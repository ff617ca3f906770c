"""The steps of a session's life as tables: state, event, expected state."""

from collections.abc import Callable

import pytest

from broker_stub.broker.events import Accepted, CommandExpired, Refused
from tests.broker.scene import Scene, report, server_block, tag_list

NO_AGENT = "The agent of the dcv server is not reachable"
NO_SESSION = Refused("The requested dcvSession does not exist")

# ------------------------------------------------------------------ ways into each state
# Each makes a session in the state it is named for, on server s1 with room for it, and returns its id.


def queued(scene: Scene) -> str:
    scene.hello()
    scene.close("s1", force=True)
    return scene.create(EnqueueRequest=True)


def preparing(scene: Scene) -> str:
    scene.hello()
    return scene.create(DisableRetryOnFailure=True)


def ready(scene: Scene) -> str:
    scene.hello()
    return scene.ready()


def deleting(scene: Scene) -> str:
    session_id = ready(scene)
    scene.reports_sessions("s1", report(session_id))
    assert scene.delete(session_id) == Accepted()
    return session_id


def deleted(scene: Scene) -> str:
    session_id = deleting(scene)
    scene.finish(scene.take_order("deleteSession"))
    return session_id


def lost(scene: Scene) -> str:
    session_id = ready(scene)
    scene.drop(goodbye=True)
    return session_id


def lost_while_deleting(scene: Scene) -> str:
    session_id = deleting(scene)
    scene.drop(goodbye=True)
    return session_id


def failed(scene: Scene) -> str:
    session_id = preparing(scene)
    scene.finish(scene.take_order(), "DCV_COMMAND_FAILED", "no display")
    return session_id


def deleted_before_it_was_up(scene: Scene) -> str:
    session_id = preparing(scene)
    scene.delete(session_id)
    scene.finish(scene.take_order("createSession"), "DCV_COMMAND_FAILED", "no display")
    return session_id


STATES: dict[Callable[[Scene], str], str] = {
    queued: "SESSION_PLACING",
    preparing: "PENDING_PREPARATION",
    ready: "READY",
    deleting: "DELETING",
    deleted: "DELETED",
    lost: "UNKNOWN@s1",
    lost_while_deleting: "UNKNOWN@s1",
    failed: "UNKNOWN",
    deleted_before_it_was_up: "DELETED",
}


@pytest.mark.parametrize(("way", "state"), STATES.items())
def test_each_way_leads_to_its_state(way: Callable[[Scene], str], state: str) -> None:
    scene = Scene()
    assert scene.state(way(scene)) == state
    scene.check()


# ------------------------------------------------------------------ events
# Each does one thing to a session of any state.


def host_lists_it(scene: Scene, session_id: str) -> None:
    scene.reports_sessions("s1", report(session_id))


def host_lacks_it(scene: Scene, session_id: str) -> None:
    scene.reports_sessions("s1")


def host_removed_it(scene: Scene, session_id: str) -> None:
    scene.reports_sessions("s1", full=False, removed=[session_id])


def unhealthy_host_lacks_it(scene: Scene, session_id: str) -> None:
    scene.reports_sessions("s1", healthy=False)


def hello_with_it(scene: Scene, session_id: str) -> None:
    scene.hello("s1", sessions=[report(session_id)])


def hello_without_it(scene: Scene, session_id: str) -> None:
    scene.hello("s1")


def goodbye(scene: Scene, session_id: str) -> None:
    scene.drop(goodbye=True)


def channel_breaks(scene: Scene, session_id: str) -> None:
    scene.drop()


def channel_stays_broken(scene: Scene, session_id: str) -> None:
    scene.drop()
    scene.wait(15)


def broker_restarts(scene: Scene, session_id: str) -> None:
    scene.restart()


def is_deleted(scene: Scene, session_id: str) -> None:
    scene.delete(session_id)


def is_forced_away(scene: Scene, session_id: str) -> None:
    assert scene.delete(session_id, force=True) == Accepted()


def create_succeeds(scene: Scene, session_id: str) -> None:
    scene.finish(scene.take_order("createSession"), session=report(session_id, numOfConnections=2))


def create_fails(scene: Scene, session_id: str) -> None:
    scene.finish(scene.take_order("createSession"), "DCV_COMMAND_FAILED", "no display")


def close_succeeds(scene: Scene, session_id: str) -> None:
    scene.finish(scene.take_order("deleteSession"))


def close_fails(scene: Scene, session_id: str) -> None:
    scene.finish(scene.take_order("deleteSession"), "INTERNAL", "it holds on")


def close_finds_nothing(scene: Scene, session_id: str) -> None:
    scene.finish(scene.take_order("deleteSession"), "SESSION_NOT_FOUND")


def minute_passes(scene: Scene, session_id: str) -> None:
    scene.reports_server("s1", {})  # the agent lives
    scene.wait(60)


def minute_passes_and_it_is_there(scene: Scene, session_id: str) -> None:
    minute_passes(scene, session_id)
    scene.reports_sessions("s1", full=False)


def hour_passes(scene: Scene, session_id: str) -> None:
    scene.wait(3600)


def half_hour_passes(scene: Scene, session_id: str) -> None:
    for _ in range(30):
        minute_passes(scene, session_id)


TRANSITIONS = [
    # SESSION_PLACING
    (queued, is_deleted, "DELETED"),
    (queued, half_hour_passes, "UNKNOWN"),
    (queued, is_forced_away, None),
    (queued, broker_restarts, "SESSION_PLACING"),
    (queued, host_lacks_it, "SESSION_PLACING"),
    # PENDING_PREPARATION
    (preparing, create_succeeds, "READY"),
    (preparing, host_lists_it, "READY"),
    (preparing, hello_with_it, "READY"),
    (preparing, create_fails, "UNKNOWN"),
    (preparing, minute_passes, "UNKNOWN"),
    (preparing, host_lacks_it, "PENDING_PREPARATION"),
    (preparing, host_removed_it, "PENDING_PREPARATION"),
    (preparing, unhealthy_host_lacks_it, "PENDING_PREPARATION"),
    (preparing, channel_stays_broken, "PENDING_PREPARATION"),  # a lost channel alone is no failure
    (preparing, hello_without_it, "PENDING_PREPARATION"),
    (preparing, broker_restarts, "PENDING_PREPARATION"),
    (preparing, is_deleted, "DELETING"),
    (preparing, is_forced_away, None),
    # READY
    (ready, is_deleted, "DELETING"),
    (ready, host_lists_it, "READY"),
    (ready, host_lacks_it, "DELETED"),
    (ready, host_removed_it, "DELETED"),
    (ready, unhealthy_host_lacks_it, "UNKNOWN@s1"),
    (ready, goodbye, "UNKNOWN@s1"),
    (ready, channel_breaks, "READY"),
    (ready, channel_stays_broken, "UNKNOWN@s1"),
    (ready, broker_restarts, "UNKNOWN@s1"),
    (ready, hello_with_it, "READY"),
    (ready, hello_without_it, "DELETED"),
    (ready, is_forced_away, None),
    # DELETING
    (deleting, close_succeeds, "DELETED"),
    (deleting, close_finds_nothing, "DELETED"),
    (deleting, host_lacks_it, "DELETED"),
    (deleting, host_removed_it, "DELETED"),
    (deleting, host_lists_it, "DELETING"),
    (deleting, close_fails, "READY"),
    (deleting, minute_passes, "DELETING"),
    (deleting, minute_passes_and_it_is_there, "READY"),
    (deleting, is_deleted, "DELETING"),
    (deleting, goodbye, "UNKNOWN@s1"),
    (deleting, unhealthy_host_lacks_it, "UNKNOWN@s1"),
    (deleting, broker_restarts, "UNKNOWN@s1"),
    (deleting, is_forced_away, None),
    # UNKNOWN with a server
    (lost, hello_with_it, "READY"),
    (lost, hello_without_it, "DELETED"),
    (lost, half_hour_passes, None),  # with its server
    (lost, is_deleted, "UNKNOWN@s1"),
    (lost, broker_restarts, "UNKNOWN@s1"),
    (lost, is_forced_away, None),
    (lost_while_deleting, hello_with_it, "DELETING"),
    (lost_while_deleting, hello_without_it, "DELETED"),
    (lost_while_deleting, minute_passes, "UNKNOWN@s1"),
    # UNKNOWN without a server
    (failed, is_deleted, "DELETED"),
    (failed, hour_passes, None),
    (failed, host_lists_it, "UNKNOWN"),
    (failed, broker_restarts, "UNKNOWN"),
    (failed, is_forced_away, None),
    # DELETED
    (deleted, host_lists_it, "READY"),
    (deleted, host_lacks_it, "DELETED"),
    (deleted, hour_passes, None),
    (deleted, broker_restarts, "DELETED"),
    (deleted, is_deleted, "DELETED"),
    (deleted, is_forced_away, None),
    (deleted_before_it_was_up, host_lists_it, "DELETED"),
]


@pytest.mark.parametrize(("way", "event", "expected"), TRANSITIONS)
def test_transition(
    way: Callable[[Scene], str], event: Callable[[Scene, str], None], expected: str | None
) -> None:
    scene = Scene()
    session_id = way(scene)
    event(scene, session_id)
    assert scene.state(session_id) == expected
    scene.check()


# ------------------------------------------------------------------ what goes with a transition


def test_an_accepted_session_is_answered_as_being_placed() -> None:
    scene = Scene()
    scene.hello()
    result = scene.request(MaxConcurrentClients=3, StorageRoot="%home%")
    assert isinstance(result, Accepted)
    assert result.session == {
        "Id": "00000000-0000-4000-8000-000000000001",
        "Name": "desk",
        "Owner": "alice",
        "Type": "VIRTUAL",
        "State": "CREATING",
        "Substate": "SESSION_PLACING",
        "CreationTime": "2026-03-30T12:00:00.000Z",
        "MaxConcurrentClients": 3,
        "StorageRoot": "%home%",
    }
    assert scene.state(result.session["Id"]) == "PENDING_PREPARATION"


def test_the_host_gets_all_that_was_asked_for() -> None:
    scene = Scene()
    scene.hello()
    session_id = scene.create(
        Name="n", MaxConcurrentClients=2, DcvGlEnabled=True, InitFile="i", AutorunFile="a",
        AutorunFileArguments=["1", "2"], PermissionsFile="W3Blcm1p\nc3Npb25zXQ==", StorageRoot="%home%",
    )  # fmt: skip
    order = scene.take_order()
    assert (order.server_id, order.kind, order.attempt) == ("s1", "createSession", 1)
    assert order.payload == {
        "sessionId": session_id,
        "name": "n",
        "owner": "alice",
        "type": "VIRTUAL",
        "maxConcurrentClients": 2,
        "dcvGlEnabled": True,
        "initFile": "i",
        "autorunFile": "a",
        "autorunFileArguments": ["1", "2"],
        "permissionsFile": "W3Blcm1pc3Npb25zXQ==",
        "storageRoot": "%home%",
    }


def test_a_ready_session_shows_its_connections() -> None:
    scene = Scene()
    session_id = preparing(scene)
    create_succeeds(scene, session_id)
    session = scene.session(session_id)
    assert session is not None
    assert session["NumOfConnections"] == 2
    assert session["Server"]["Id"] == "s1"
    assert "StateReason" not in session


def test_a_failed_creation_says_why_and_where_it_was_is_forgotten() -> None:
    scene = Scene()
    session_id = failed(scene)
    assert scene.reason(session_id) == "no display"
    assert "Server" not in (scene.session(session_id) or {})


def test_a_host_that_does_not_answer_is_named_as_the_reason() -> None:
    scene = Scene()
    session_id = preparing(scene)
    order = scene.take_order()
    minute_passes(scene, session_id)
    assert scene.reason(session_id) == "The host did not answer in time"
    assert scene.cancelled == [order.command_id]


def test_a_creation_that_comes_up_after_all_is_closed_on_the_host() -> None:
    scene = Scene()
    session_id = failed(scene)
    host_lists_it(scene, session_id)
    order = scene.take_order("deleteSession")
    assert order.payload == {"sessionId": session_id, "force": False, "reason": "orphan"}
    host_lists_it(scene, session_id)
    assert scene.sent == []  # once on each channel
    assert scene.hello("s1", sessions=[report(session_id)]).orphan_sessions == [session_id]


def test_a_session_that_was_deleted_before_it_was_up_is_closed_on_the_host() -> None:
    scene = Scene()
    session_id = deleted_before_it_was_up(scene)
    scene.sent.clear()
    host_lists_it(scene, session_id)
    assert scene.take_order("deleteSession").payload["reason"] == "orphan"


def test_a_creation_that_succeeds_while_it_is_deleted_stays_deleting() -> None:
    scene = Scene()
    session_id = preparing(scene)
    create = scene.take_order()
    scene.delete(session_id)
    close = scene.take_order("deleteSession")
    scene.reports_sessions("s1")  # not made yet: no reason to think that it is gone
    assert scene.state(session_id) == "DELETING"
    scene.finish(create)
    assert scene.state(session_id) == "DELETING"
    scene.finish(close)
    assert scene.state(session_id) == "DELETED"
    scene.check()


def test_a_refused_close_says_why() -> None:
    scene = Scene()
    session_id = deleting(scene)
    close_fails(scene, session_id)
    assert scene.reason(session_id) == "it holds on"
    assert scene.delete(session_id) == Accepted()  # and may be asked again
    close_succeeds(scene, session_id)
    assert scene.state(session_id) == "DELETED"


def test_a_close_that_was_not_answered_says_so_when_the_session_is_seen_again() -> None:
    scene = Scene()
    session_id = deleting(scene)
    minute_passes_and_it_is_there(scene, session_id)
    assert scene.reason(session_id) == "The host did not close the session in time"


def test_lost_sessions_say_why_and_forget_it_when_they_are_back() -> None:
    scene = Scene()
    session_id = lost(scene)
    assert scene.reason(session_id) == NO_AGENT
    hello_with_it(scene, session_id)
    assert scene.reason(session_id) is None

    scene.reports_sessions("s1", healthy=False)
    assert scene.reason(session_id) == "The dcv server is not healthy"


def test_a_pending_close_goes_again_under_the_same_id() -> None:
    scene = Scene()
    session_id = lost_while_deleting(scene)
    first = scene.take_order("deleteSession")
    scene.wait(300)
    hello_with_it(scene, session_id)
    again = scene.take_order("deleteSession")
    assert again.command_id == first.command_id
    assert scene.sent == []
    scene.finish(again)
    assert scene.state(session_id) == "DELETED"


def test_a_pending_close_survives_a_restart_of_the_broker() -> None:
    scene = Scene()
    session_id = deleting(scene)
    first = scene.take_order("deleteSession")
    scene.restart()
    hello_with_it(scene, session_id)
    assert scene.state(session_id) == "DELETING"
    assert scene.take_order("deleteSession").command_id == first.command_id


def test_a_healthy_delta_brings_back_what_the_channel_had_told_and_asks_for_all() -> None:
    scene = Scene()
    session_id = ready(scene)
    host_lists_it(scene, session_id)
    unhealthy_host_lacks_it(scene, session_id)
    answer = scene.reports_sessions("s1", full=False)
    assert scene.state(session_id) == "READY"
    assert answer.need_full


def test_results_that_nobody_waits_for_are_filed() -> None:
    scene = Scene()
    session_id = preparing(scene)
    order = scene.take_order()
    host_lists_it(scene, session_id)
    scene.finish(order, "INTERNAL", "too late")
    assert scene.state(session_id) == "READY"
    scene.finish(order)
    scene.handle(CommandExpired(order.command_id))
    assert scene.state(session_id) == "READY"
    scene.check()


def test_expiry_before_the_deadline_is_ignored() -> None:
    scene = Scene()
    session_id = preparing(scene)
    scene.handle(CommandExpired(scene.take_order().command_id))
    assert scene.state(session_id) == "PENDING_PREPARATION"


def test_deleted_sessions_keep_their_server_and_take_no_place_on_it() -> None:
    scene = Scene()
    session_id = deleted(scene)
    session = scene.session(session_id)
    assert session is not None
    assert session["Server"]["VirtualSessionCount"] == 0
    assert "NumOfConnections" not in session


def test_deleted_sessions_are_listed_for_as_long_as_configured() -> None:
    scene = Scene(deleted_session_kept_s=100)
    session_id = deleted(scene)
    scene.wait(99.9)
    assert scene.state(session_id) == "DELETED"
    scene.wait(0.1)
    assert scene.state(session_id) is None


# ------------------------------------------------------------------ deletion: who may, and by force


@pytest.mark.parametrize(
    ("way", "text"),
    [
        (deleted, "The requested dcvSession does not exist"),
        (lost, NO_AGENT),
        (lost_while_deleting, NO_AGENT),
    ],
)
def test_deletion_is_refused(way: Callable[[Scene], str], text: str) -> None:
    scene = Scene()
    session_id = way(scene)
    assert scene.delete(session_id) == Refused(text)


def test_deletion_is_refused_while_the_channel_is_down() -> None:
    scene = Scene()
    session_id = ready(scene)
    scene.drop()
    assert scene.delete(session_id) == Refused(NO_AGENT)


def test_deletion_is_refused_on_an_unhealthy_server() -> None:
    scene = Scene()
    session_id = ready(scene)
    scene.reports_server("s1", {"healthy": False})
    assert scene.delete(session_id) == Refused("The dcv server is not healthy")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("session_id", "owner", "text"),
    [
        (None, "alice", "SessionId is required"),
        (" ", "alice", "SessionId is required"),
        ("x", None, "Owner is required"),
        ("x", "alice", "The requested dcvSession does not exist"),
        ("", "", "SessionId is required"),
    ],
)
def test_deletion_names_what_is_missing(session_id: str, owner: str, text: str, force: bool) -> None:
    assert Scene().delete(session_id, owner, force=force) == Refused(text)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("way", STATES)
def test_only_the_owner_may_delete(way: Callable[[Scene], str], force: bool) -> None:
    scene = Scene()
    session_id = way(scene)
    state = scene.state(session_id)
    refused = Refused("The requested dcvSession is not owned by the specified owner")
    assert scene.delete(session_id, "Alice", force=force) == refused
    assert scene.state(session_id) == state


@pytest.mark.parametrize("way", [preparing, ready, deleting])
def test_force_tells_the_host_once(way: Callable[[Scene], str]) -> None:
    scene = Scene()
    session_id = way(scene)
    scene.sent.clear()
    scene.delete(session_id, force=True)
    assert scene.take_order("deleteSession").payload == {
        "sessionId": session_id,
        "owner": "alice",
        "force": True,
        "reason": "user",
    }
    assert scene.disk.commands == {}
    scene.hello("s1", sessions=[report(session_id)])
    assert scene.sent == []


def test_force_on_a_lost_server_sends_nothing() -> None:
    scene = Scene()
    session_id = lost(scene)
    scene.sent.clear()
    scene.delete(session_id, force=True)
    hello_with_it(scene, session_id)
    assert scene.sent == []
    assert scene.state(session_id) is None


@pytest.mark.covers("G25")
def test_a_session_that_outlives_force_comes_back_after_a_minute() -> None:
    """A session that was deleted by force on a lost server and lives on there is READY again when the
    server is back, but not before a minute has passed."""
    scene = Scene()
    session_id = ready(scene)
    host_lists_it(scene, session_id)
    scene.delete(session_id, force=True)
    scene.reports_sessions("s1", report(session_id, numOfConnections=1))
    scene.reports_server("s1", {})
    scene.wait(59.9)
    assert scene.state(session_id) is None
    scene.reports_sessions("s1", full=False)
    scene.wait(0.1)
    assert scene.state(session_id) == "READY"
    assert scene.delete(session_id) == Accepted()
    scene.finish(scene.take_order("deleteSession"))
    scene.check()


def test_a_session_that_force_closed_does_not_come_back() -> None:
    scene = Scene()
    session_id = ready(scene)
    host_lists_it(scene, session_id)
    scene.delete(session_id, force=True)
    host_removed_it(scene, session_id)
    scene.wait(61)
    assert scene.state(session_id) is None


# ------------------------------------------------------------------ sessions found on hosts


def test_a_found_session_is_listed_as_the_host_names_it() -> None:
    scene = Scene()
    found = report(
        "console",
        "root",
        "CONSOLE",
        creationTime="2026-01-02T03:04:05+01:00",
        numOfConnections=2,
        maxConcurrentClients=9,
        lastDisconnectionTime="2026-01-03T00:00:00.5Z",
    )
    scene.hello(sessions=[found])
    session = scene.session("console")
    assert session is not None
    del session["Server"]
    assert session == {
        "Id": "console",
        "Name": "",
        "Owner": "root",
        "Type": "CONSOLE",
        "State": "READY",
        "CreationTime": "2026-01-02T02:04:05.000Z",
        "LastDisconnectionTime": "2026-01-03T00:00:00.500Z",
        "NumOfConnections": 2,
        "MaxConcurrentClients": 9,
    }
    scene.reports_sessions("s1", {**found, "name": "new", "numOfConnections": 0})
    session = scene.session("console")
    assert session is not None
    assert (session["Name"], session["NumOfConnections"]) == ("new", 0)
    scene.check()


def test_one_id_on_several_servers_is_listed_for_each() -> None:
    scene = Scene()
    for server_id, owner in (("s1", "alice"), ("s2", "bob"), ("s3", "bob")):
        scene.hello(server_id, sessions=[report("console", owner, "CONSOLE")])
    assert [(s["Id"], s["Server"]["Id"]) for s in scene.sessions()] == [
        ("console", "s1"),
        ("console", "s2"),
        ("console", "s3"),
    ]
    assert scene.delete("console", "alice") == Accepted()
    assert scene.take_order().server_id == "s1"
    assert scene.delete("console", "bob") == Refused("The requested dcvSession is ambiguous")
    assert scene.delete("console", "carl") == Refused(
        "The requested dcvSession is not owned by the specified owner"
    )
    scene.reports_sessions("s3")
    assert scene.delete("console", "bob") == Accepted()
    assert scene.take_order().server_id == "s2"
    scene.check()


def test_a_found_session_that_comes_again_is_a_new_one() -> None:
    scene = Scene()
    scene.hello(sessions=[report("console", creationTime="2026-01-01T00:00:00.000Z")])
    scene.reports_sessions("s1")
    assert scene.state("console") == "DELETED"
    scene.reports_sessions("s1", report("console", "bob", creationTime="2026-01-02T00:00:00.000Z"))
    session = scene.session("console")
    assert session is not None
    assert (session["Owner"], session["CreationTime"]) == ("bob", "2026-01-02T00:00:00.000Z")
    scene.check()


def test_a_deleted_session_may_come_back_on_another_host() -> None:
    scene = Scene()
    session_id = deleted(scene)
    created = (scene.session(session_id) or {})["CreationTime"]
    scene.now = scene.now.replace(hour=13)
    scene.hello("s2", sessions=[report(session_id)])
    session = scene.session(session_id)
    assert session is not None
    assert session["State"] == "READY"
    assert session["Server"]["Id"] == "s2"
    assert session["CreationTime"] == created
    scene.check()


def test_a_session_that_is_elsewhere_is_not_taken_from_there() -> None:
    scene = Scene()
    session_id = ready(scene)
    answer = scene.hello("s2", sessions=[report(session_id), report("other")])
    assert answer.orphan_sessions == [session_id]
    assert (scene.session(session_id) or {})["Server"]["Id"] == "s1"
    assert scene.state("other") == "READY"


# ------------------------------------------------------------------ permissions


def test_new_permissions_are_sent_to_the_host() -> None:
    scene = Scene()
    session_id = ready(scene)
    result = scene.update_permissions(session_id, "alice", "W10=")
    order = scene.take_order("updateSessionPermissions")
    assert result == Accepted(command_id=order.command_id)
    assert order.payload == {"sessionId": session_id, "owner": "alice", "permissionsFile": "W10="}
    scene.finish(order)
    scene.check()


def test_permissions_without_an_answer_are_given_up() -> None:
    scene = Scene()
    session_id = ready(scene)
    scene.update_permissions(session_id, "alice", "W10=")
    order = scene.take_order("updateSessionPermissions")
    scene.wait(15)
    assert scene.cancelled == [order.command_id]
    assert scene.disk.commands == {}
    assert scene.state(session_id) == "READY"


@pytest.mark.parametrize(
    ("way", "owner", "file", "text"),
    [
        (ready, None, "W10=", "Owner is required"),
        (ready, "alice", None, "PermissionsFile is required"),
        (ready, "alice", " ", "PermissionsFile is required"),
        (ready, "bob", "W10=", "The requested dcvSession is not owned by the specified owner"),
        (ready, "alice", "/etc/x.perm", "PermissionsFile is not valid Base64"),
        (ready, "alice", "A" * 90_000, "PermissionsFile is too large"),
        (preparing, "alice", "W10=", "The requested dcvSession is not in READY state"),
        (lost, "alice", "W10=", "The requested dcvSession is not in READY state"),
        (deleted, "alice", "W10=", "The requested dcvSession is not in READY state"),
    ],
)
def test_permissions_are_refused(
    way: Callable[[Scene], str], owner: str | None, file: str | None, text: str
) -> None:
    scene = Scene()
    session_id = way(scene)
    assert scene.update_permissions(session_id, owner, file) == Refused(text)


def test_permissions_are_refused_without_session_or_channel() -> None:
    scene = Scene()
    assert scene.update_permissions(None, "alice", "W10=") == Refused("SessionId is required")
    assert scene.update_permissions("x", "alice", "W10=") == NO_SESSION
    session_id = ready(scene)
    scene.drop()
    assert scene.update_permissions(session_id, "alice", "W10=") == Refused(NO_AGENT)


# ------------------------------------------------------------------ connection


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (queued, False),
        (preparing, False),
        (ready, True),
        (deleting, False),
        (deleted, False),
        (lost, True),
        (failed, False),
    ],
)
def test_which_sessions_can_be_connected_to(way: Callable[[Scene], str], expected: bool) -> None:
    scene = Scene()
    record = scene.record(way(scene))
    assert scene.registry.is_connectable(record) is expected


def test_full_and_limited_servers_survive_a_life_cycle() -> None:
    scene = Scene()
    scene.hello(block=server_block(tags=tag_list(dcv_max_virtual_sessions="1")))
    session_id = scene.ready()
    assert scene.availability() == "SERVER_FULL"
    scene.delete(session_id)
    close_succeeds(scene, session_id)
    assert scene.availability() == "AVAILABLE"


def test_a_session_that_outlives_force_on_a_silent_host_comes_back_with_its_next_word() -> None:
    scene = Scene(readopt_after_force_s=95)
    scene.hello()
    session_id = scene.ready()
    scene.reports_sessions("s1", report(session_id))
    scene.delete(session_id, force=True)
    scene.wait(100)  # in silence: the agent is lost before the time is over
    assert scene.availability() == "UNREACHABLE_AGENT"
    assert scene.state(session_id) is None
    scene.reports_sessions("s1", full=False)
    assert scene.state(session_id) == "READY"
    scene.check()
