"""New permissions and connection data: who gets in to a session, how, and for how long."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from broker_stub.broker import operations
from tests.broker.api_calls import error_of
from tests.broker.client_view import Fleet
from tests.hosts import B, NotingServer, running_hosts
from tests.running import MovedClock, running_broker

PERMISSIONS = "[permissions]\n%owner% allow builtin\n"
NOT_CONNECTABLE = "The requested dcvSession is neither in READY nor in UNKNOWN state"


@pytest.fixture
async def fleet(tmp_path: Path, clock: MovedClock) -> AsyncIterator[Fleet]:
    """A broker with the host B (Linux)."""
    # The client's own token outlives the tokens that it asks for.
    day: dict[str, Any] = {"ext_access_token_duration_seconds": 86400}
    async with running_broker(tmp_path, now=clock, **day) as broker, running_hosts(broker, B) as hosts:
        yield Fleet(broker, *hosts)


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# ------------------------------------------------------------------ permissions


@pytest.mark.covers("C76", "C127")
async def test_new_permissions_reach_the_host(fleet: Fleet) -> None:
    """A new permissions file replaces the former one on the host, decoded; clients stay connected."""
    session = await fleet.ready(Owner="alice", PermissionsFile=packed(PERMISSIONS))
    host = fleet.hosts[0].server
    host.connect_client(session["Id"])
    assert host.permissions(session["Id"]) == PERMISSIONS
    new = "[permissions]\nbob allow display\n"
    item = {"SessionId": session["Id"], "Owner": "alice", "PermissionsFile": packed(new)}
    answer = await fleet.call("sessionPermissions", [item])
    assert (answer["SuccessfulList"], answer["UnsuccessfulList"]) == ([{"SessionId": session["Id"]}], [])
    assert host.permissions(session["Id"]) == new
    await fleet.until(session["Id"], lambda found: found["NumOfConnections"] == 1)


@pytest.mark.covers("C128")
async def test_permissions_that_cannot_be_set_fail_their_item(fleet: Fleet) -> None:
    """An unknown session, a wrong owner, no file, no Base64, and a session not ready fail one by one."""
    waiting = await fleet.create(Owner="alice", EnqueueRequest=True, Requirements="tag:color = 'green'")
    ready = await fleet.ready(Owner="alice", PermissionsFile=packed(PERMISSIONS))
    good = {"SessionId": ready["Id"], "Owner": "alice", "PermissionsFile": packed("[permissions]\n")}
    cases: list[tuple[dict[str, Any], str]] = [
        ({**good, "SessionId": "nothing"}, "The requested dcvSession does not exist"),
        ({**good, "Owner": "bob"}, "The requested dcvSession is not owned by the specified owner"),
        ({**good, "PermissionsFile": "no.base64"}, "PermissionsFile is not valid Base64"),
        ({**good, "PermissionsFile": " "}, "PermissionsFile is required"),
        ({"SessionId": ready["Id"], "Owner": "alice"}, "PermissionsFile is required"),
        ({**good, "SessionId": None}, "SessionId is required"),
        ({**good, "Owner": ""}, "Owner is required"),
        ({**good, "SessionId": waiting["Id"]}, "The requested dcvSession is not in READY state"),
    ]
    answer = await fleet.call("sessionPermissions", [item for item, _ in cases])
    assert answer["SuccessfulList"] == []
    assert answer["UnsuccessfulList"] == [
        {name: item[name] for name in ("SessionId",) if item[name] is not None} | {"FailureReason": reason}
        for item, reason in cases
    ]
    assert fleet.hosts[0].server.permissions(ready["Id"]) == PERMISSIONS, "nothing of it happened"


@pytest.mark.covers("P21")
async def test_broken_base64_fails_its_own_item_only(fleet: Fleet) -> None:
    """A permissions text that was damaged on its way is refused; the others of the request are set."""
    broken, whole = [await fleet.ready(Owner="alice", PermissionsFile=packed(PERMISSIONS)) for _ in range(2)]
    new = "[permissions]\nbob allow display\n"
    items = [
        {"SessionId": broken["Id"], "Owner": "alice", "PermissionsFile": packed(new)[:-1]},
        {"SessionId": whole["Id"], "Owner": "alice", "PermissionsFile": packed(new)},
    ]
    answer = await fleet.call("sessionPermissions", items)
    assert answer["SuccessfulList"] == [{"SessionId": whole["Id"]}]
    assert [failed["SessionId"] for failed in answer["UnsuccessfulList"]] == [broken["Id"]]
    texts = [fleet.hosts[0].server.permissions(session["Id"]) for session in (broken, whole)]
    assert texts == [PERMISSIONS, new]


async def test_a_host_may_refuse_permissions(fleet: Fleet) -> None:
    """What a host says against a permissions file is the reason of that item alone."""
    first, second = await fleet.ready(Owner="alice"), await fleet.ready(Owner="bob")
    fleet.hosts[0].server.failing_permissions = "line 3: no such right"
    items = [
        {"SessionId": one["Id"], "Owner": one["Owner"], "PermissionsFile": packed("[permissions]\n")}
        for one in (first, second)
    ]
    answer = await fleet.call("sessionPermissions", items)
    assert answer["SuccessfulList"] == []
    assert answer["UnsuccessfulList"] == [
        {"SessionId": one["Id"], "FailureReason": "line 3: no such right"} for one in (first, second)
    ]


async def test_a_host_that_does_not_answer_has_the_permissions_all_the_same(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New permissions are sent, not waited for without end: a host without an answer counts as a success."""
    monkeypatch.setattr(operations, "PERMISSIONS_ANSWER_S", 0.3)
    session = await fleet.ready(Owner="alice")
    fleet.hosts[0].server.faults.stuck = True
    item = {"SessionId": session["Id"], "Owner": "alice", "PermissionsFile": packed("[permissions]\n")}
    answer = await fleet.call("sessionPermissions", [item])
    assert (answer["SuccessfulList"], answer["UnsuccessfulList"]) == ([{"SessionId": session["Id"]}], [])


async def test_permissions_of_a_lost_session_are_refused(fleet: Fleet) -> None:
    """Without its agent a session is not READY, so its permissions cannot be changed."""
    session = await fleet.ready(Owner="alice")
    fleet.hosts[0].agent.leave()
    await fleet.until_state(session["Id"], "UNKNOWN")
    item = {"SessionId": session["Id"], "Owner": "alice", "PermissionsFile": packed("[permissions]\n")}
    (failed,) = (await fleet.call("sessionPermissions", [item]))["UnsuccessfulList"]
    assert failed["FailureReason"] == "The requested dcvSession is not in READY state"


# ------------------------------------------------------------------ connection data


async def user_of(fleet: Fleet, token: str, session_id: str) -> str | None:
    """Whom a DCV server lets in to a session with a token; `None` if nobody."""
    answer = await fleet.broker.client.post(
        f"{fleet.broker.agent_url}/agent/validate-authentication-token",
        data={"sessionId": session_id, "authenticationToken": token, "clientAddress": "192.0.2.1"},
    )
    assert answer.status_code == 200
    found = re.search(r"<username>(.*)</username>", answer.text)
    assert (found is None) == ('result="no"' in answer.text)
    return found and found[1]


@pytest.mark.covers("C129", "C131")
async def test_connection_data_says_where_and_with_what(fleet: Fleet) -> None:
    """Connection data is the session with its server, and a token for the user, who need not be the owner."""
    session = await fleet.ready(Owner="alice")
    for user in ("alice", "bob"):
        answer = await fleet.connection_data(session["Id"], user)
        assert answer.status_code == 200
        found = answer.json()
        assert sorted(found) == ["ConnectionToken", "Session"]
        assert found["Session"] == await fleet.session(session["Id"])
        assert {"Ip", "Port", "WebUrlPath"} <= set(found["Session"]["Server"])
        assert re.fullmatch(r"[A-Za-z0-9._-]+", found["ConnectionToken"])
        assert await user_of(fleet, found["ConnectionToken"], session["Id"]) == user


@pytest.mark.covers("C130")
async def test_a_connection_token_is_for_one_session_and_user_and_a_while(
    fleet: Fleet, clock: MovedClock
) -> None:
    """Each call makes another token, good for that session and user alone, until its minutes are over."""
    session, other = await fleet.ready(), await fleet.ready()
    first, second = [
        (await fleet.connection_data(session["Id"], "alice")).json()["ConnectionToken"] for _ in range(2)
    ]
    assert first != second
    for token in (first, second):
        assert await user_of(fleet, token, session["Id"]) == "alice"
        assert await user_of(fleet, token, other["Id"]) is None
        assert await user_of(fleet, token[:-2], session["Id"]) is None
    clock.advance(59 * 60)
    await fleet.until_state(session["Id"], "READY")
    assert await user_of(fleet, first, session["Id"]) == "alice"
    clock.advance(61)
    await fleet.until_state(session["Id"], "READY")
    assert await user_of(fleet, first, session["Id"]) is None


async def test_a_connection_token_ends_with_its_session(fleet: Fleet) -> None:
    """With the session a token ends too, however young it is."""
    session = await fleet.ready()
    token = (await fleet.connection_data(session["Id"])).json()["ConnectionToken"]
    await fleet.delete(session)
    await fleet.until_state(session["Id"], "DELETED")
    assert await user_of(fleet, token, session["Id"]) is None


@pytest.mark.covers("C132")
async def test_only_sessions_that_can_be_reached_have_connection_data(fleet: Fleet) -> None:
    """READY and out of sight are good enough; what is not there yet, ends, or is unknown gets 400 and why."""
    host: NotingServer = fleet.hosts[0].server

    async def refused(session_id: str) -> str:
        answer = await fleet.connection_data(session_id)
        assert answer.status_code == 400
        return error_of(answer)

    unknown = await refused("nothing")
    assert "not found" in unknown
    assert "invalid" not in NOT_CONNECTABLE.lower()
    queued = await fleet.create(EnqueueRequest=True, Requirements="tag:color = 'green'")
    assert await refused(queued["Id"]) == NOT_CONNECTABLE
    host.may_create.clear()
    session = await fleet.create()
    await fleet.until(session["Id"], lambda found: found.get("Substate") == "PENDING_PREPARATION")
    assert await refused(session["Id"]) == NOT_CONNECTABLE
    host.may_create.set()
    await fleet.until_state(session["Id"], "READY")
    assert (await fleet.connection_data(session["Id"])).status_code == 200
    fleet.hosts[0].agent.leave()
    await fleet.until_state(session["Id"], "UNKNOWN")
    assert (await fleet.connection_data(session["Id"])).status_code == 200
    fleet.hosts[0].agent.come_back()
    await fleet.until_state(session["Id"], "READY")
    host.may_close.clear()
    await fleet.delete(session)
    assert await refused(session["Id"]) == NOT_CONNECTABLE
    host.may_close.set()
    await fleet.until_state(session["Id"], "DELETED")
    assert await refused(session["Id"]) == NOT_CONNECTABLE
    host.strangers.add("mallory")
    failed = await fleet.create(Owner="mallory")
    await fleet.until_state(failed["Id"], "UNKNOWN")
    assert await refused(failed["Id"]) == NOT_CONNECTABLE, "a failed creation is on no server"


@pytest.mark.covers("C133")
async def test_users_with_odd_names(fleet: Fleet) -> None:
    """A user in the path may have a domain, a slash or any letters, encoded once; an empty one is no path."""
    session = await fleet.ready()
    for sent, user in (
        ("CORP%5Calice", "CORP\\alice"),
        ("a%2Fb", "a/b"),
        ("Zo%C3%AB", "Zoë"),
        ("a%2520b", "a%20b"),
        ("a+b", "a+b"),
        ("a%20b", "a b"),
        ("u" * 256, "u" * 256),
    ):
        answer = await fleet.connection_data(session["Id"], sent)
        assert answer.status_code == 200, sent
        assert await user_of(fleet, answer.json()["ConnectionToken"], session["Id"]) == user
    for sent in ("a" * 257, "a%0Ab", "%00", "%FF"):
        answer = await fleet.connection_data(session["Id"], sent)
        assert (answer.status_code, error_of(answer)) == (400, "Invalid user")
    assert (await fleet.connection_data(session["Id"], "")).status_code == 404
    assert error_of(await fleet.connection_data("%FF")) == "Dcv session not found."


@pytest.mark.covers("C134")
async def test_the_documented_link_needs_no_escaping(fleet: Fleet) -> None:
    """A link put together from the answer as the guide says is read back into the same parts."""
    session = await fleet.ready()
    found = (await fleet.connection_data(session["Id"])).json()
    server, token = found["Session"]["Server"], found["ConnectionToken"]
    place = f"{server['Ip']}:{server['Port']}{server['WebUrlPath']}"
    parts = urlsplit(f"https://{place}?authToken={token}#{found['Session']['Id']}")
    assert (parts.hostname, str(parts.port), parts.path) == (
        server["Ip"],
        server["Port"],
        server["WebUrlPath"],
    )
    assert (parts.query, parts.fragment) == (f"authToken={token}", session["Id"])


async def test_tokens_for_many_users_at_once(fleet: Fleet) -> None:
    """Many users may ask for connection data at the same time; each gets a token of its own."""
    session = await fleet.ready()
    users = [f"user-{number}" for number in range(20)]
    answers = await asyncio.gather(*(fleet.connection_data(session["Id"], user) for user in users))
    tokens = [answer.json()["ConnectionToken"] for answer in answers]
    assert [await user_of(fleet, token, session["Id"]) for token in tokens] == users
