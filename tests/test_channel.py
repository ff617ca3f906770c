"""Words and rules of the agent channel: what is read, what is refused, in which order things go."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_stub.channel import (
    FULL_UPDATE_EVERY,
    RETRY_ELSEWHERE,
    UPDATES_PER_S,
    Code,
    NotUnderstood,
    UnknownMessage,
    UpdateOrder,
    UpdateTurn,
    common_version,
    least_update_interval,
    reconnect_wait,
)
from broker_stub.channel_messages import (
    FROM_AGENT,
    FROM_BROKER,
    Name,
    build,
    difference,
    failure,
    merged,
    read,
    read_payload,
    success,
    without_nulls,
)

NOW = datetime(2026, 3, 30, 15, 47, 6, 822_000, tzinfo=UTC)
ID = "0123456789abcdef" * 2
SESSION = {"id": "s-1", "owner": "ana", "type": "VIRTUAL", "creationTime": "2026-03-30T15:47:06.822Z"}
SERVER: dict[str, Any] = {
    "ip": "198.18.0.1",
    "hostname": "host",
    "endpoints": [{"ipAddress": "198.18.0.1", "port": 8443, "protocol": "HTTP", "webUrlPath": "/"}],
    "host": {"memory": {"totalBytes": 8, "usedBytes": 4}, "gpus": [], "os": {"family": "linux"}},
    "tags": [{"key": "color", "value": "blue"}],
}
HELLO: dict[str, Any] = {
    "protocolVersions": [1],
    "capabilities": ["screenshot"],
    "epoch": 1,
    "serverId": "server-1",
    "machineFingerprint": "machine-1",
    "server": SERVER,
    "sessions": [SESSION],
    "openCommands": [{"commandId": "c-1", "state": "accepted"}],
    "updateIntervalSeconds": 30,
}
RESULT = {"commandId": "c-1", "success": True, "code": "OK", "data": {"session": SESSION}}


def message(name: str, **fields: Any) -> str:
    return build(name, ID, NOW, fields)


def hello(**changes: Any) -> str:
    return message(Name.AGENT_HELLO_REQUEST, **(HELLO | changes))


# ------------------------------------------------------------------ form


@pytest.mark.covers("G27")
def test_a_message_has_one_key_with_a_request_id_and_the_time() -> None:
    """A message is a JSON object with one key, its name, that holds a request id of 32 hexadecimal digits
    and the time."""
    text = message(Name.COMMAND_RESULT_ACK, commandId="c-1")
    assert json.loads(text) == {
        "commandResultAck": {"requestId": ID, "sentAt": "2026-03-30T15:47:06.822Z", "commandId": "c-1"}
    }


@pytest.mark.covers("G27")
@pytest.mark.parametrize(
    ("name", "fields", "forms"),
    [
        (Name.AGENT_HELLO_REQUEST, HELLO, FROM_AGENT),
        (Name.SERVER_UPDATE_REQUEST, {"seq": 1, "mode": "delta", "server": {"healthy": None}}, FROM_AGENT),
        (
            Name.SESSIONS_UPDATE_REQUEST,
            {"seq": 1, "mode": "full", "healthy": True, "changed": [SESSION], "removed": []},
            FROM_AGENT,
        ),
        (Name.COMMAND_ACK, {"commandId": "c-1", "accepted": True, "duplicate": False}, FROM_AGENT),
        (Name.COMMAND_PROGRESS, {"commandId": "c-1", "stage": "starting"}, FROM_AGENT),
        (Name.COMMAND_RESULT, RESULT, FROM_AGENT),
        (Name.COMMAND_RESULT_CHUNK, {"commandId": "c-1", "index": 0, "data": "e30="}, FROM_AGENT),
        (Name.AGENT_GOODBYE, {"reason": "shutdown"}, FROM_AGENT),
        (Name.PROTOCOL_ERROR, {"code": "MALFORMED", "message": "no", "about": ID}, FROM_AGENT),
        (Name.AGENT_HELLO_RESPONSE, {"result": success(), "newServerId": False}, FROM_BROKER),
        (Name.AGENT_HELLO_RESPONSE, {"result": failure(Code.OVERLOADED, "no", 500)}, FROM_BROKER),
        (Name.SERVER_UPDATE_RESPONSE, {"seq": 1, "result": success(), "needFull": True}, FROM_BROKER),
        (Name.SESSIONS_UPDATE_RESPONSE, {"seq": 1, "result": success()}, FROM_BROKER),
        (
            Name.COMMAND_REQUEST,
            {"commandId": "c-1", "kind": "deleteSession", "attempt": 1, "deadlineMs": 60000, "payload": {}},
            FROM_BROKER,
        ),
        (Name.COMMAND_CANCEL_REQUEST, {"commandId": "c-1"}, FROM_BROKER),
        (Name.COMMAND_RESULT_ACK, {"commandId": "c-1"}, FROM_BROKER),
        (Name.FLOW_CONTROL, {"maxInflightCommands": 2}, FROM_BROKER),
        (Name.REFRESH_REQUEST, {"what": "all"}, FROM_BROKER),
        (Name.BROKER_GOODBYE, {"reason": "shutdown", "reconnectAfterMs": 1000}, FROM_BROKER),
    ],
)
def test_every_message_is_read_as_it_was_built(name: str, fields: dict[str, Any], forms: Any) -> None:
    """Every kind of message passes its reader unchanged."""
    read_back = read(message(name, **fields), forms)
    assert (read_back.name, read_back.request_id, read_back.body) == (name, ID, fields)


@pytest.mark.covers("G27")
def test_unknown_fields_are_dropped_at_every_depth() -> None:
    """Fields that this version does not know are passed over, at any depth."""
    changed = SERVER | {"colour": "blue", "host": SERVER["host"] | {"moon": 1}}
    body = read(hello(server=changed, later="?"), FROM_AGENT).body
    assert body["server"] == SERVER
    assert "later" not in body


def test_an_unknown_name_is_told_apart_from_a_malformed_message() -> None:
    with pytest.raises(UnknownMessage) as caught:
        read(message("agentSings"), FROM_AGENT)
    assert caught.value.about == ID
    with pytest.raises(UnknownMessage):
        read(message(Name.AGENT_GOODBYE, reason="shutdown"), FROM_BROKER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[" * 100_000,
        "[]",
        "{}",
        '{"a": {}, "b": {}}',
        '{"agentGoodbye": []}',
        '{"agentGoodbye": {"reason": "shutdown"}}',
        '{"agentGoodbye": {"requestId": "ABCDEF0123456789ABCDEF0123456789", "reason": "x"}}',
        '{"agentGoodbye": {"requestId": 5, "reason": "x"}}',
    ],
)
def test_what_is_no_message_is_not_understood(text: str) -> None:
    with pytest.raises(NotUnderstood) as caught:
        read(text, FROM_AGENT)
    assert not isinstance(caught.value, UnknownMessage)


# ------------------------------------------------------------------ caps


@pytest.mark.covers("G40")
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"serverId": None}, "serverId is missing"),
        ({"serverId": ""}, "serverId has 0 characters"),
        ({"epoch": -1}, "epoch is not between"),
        ({"epoch": True}, "epoch is not an integer"),
        ({"epoch": 1.0}, "epoch is not an integer"),
        ({"sessions": {}}, "sessions is not a list"),
        ({"sessions": [SESSION] * 1025}, "sessions has 1025 items"),
        ({"sessions": [SESSION | {"id": ""}]}, "id has 0 characters"),
        ({"sessions": [SESSION | {"name": "x" * 257}]}, "name has 257 characters"),
        ({"sessions": [SESSION | {"owner": "a\0b"}]}, "NUL"),
        ({"sessions": [SESSION | {"owner": "\ud800"}]}, "not valid Unicode"),
        ({"sessions": [SESSION | {"type": "TABLET"}]}, "type is not one of"),
        ({"sessions": [SESSION | {"creationTime": "yesterday"}]}, "creationTime"),
        ({"sessions": [SESSION | {"creationTime": "2026-13-01T00:00:00Z"}]}, "creationTime"),
        ({"sessions": [SESSION | {"creationTime": "2026-03-30T15:47:06"}]}, "without a zone"),
        ({"sessions": [SESSION | {"numOfConnections": -1}]}, "numOfConnections"),
        ({"server": SERVER | {"tags": [{"key": "k" * 129, "value": ""}]}}, "key has 129"),
        ({"server": SERVER | {"tags": [{"key": "k", "value": "v" * 257}]}}, "value has 257"),
        ({"server": SERVER | {"tags": [{"key": "k", "value": "v"}] * 65}}, "tags has 65 items"),
        ({"server": SERVER | {"host": {"memory": {"totalBytes": 2**63}}}}, "totalBytes"),
        ({"server": SERVER | {"host": {"cpuLoadAverage": {"oneMinute": float("nan")}}}}, "out of range"),
        ({"server": SERVER | {"host": {"cpuLoadAverage": {"oneMinute": "1"}}}}, "not a number"),
        ({"server": SERVER | {"endpoints": [{"port": 0}]}}, "port is not between"),
        ({"server": SERVER | {"endpoints": [{"protocol": "SMTP"}]}}, "protocol is not one of"),
    ],
)
def test_what_is_out_of_range_never_gets_through(changes: dict[str, Any], complaint: str) -> None:
    """Texts, lists and numbers beyond their limits do not pass the reader, so an agent cannot fill the
    broker with them."""
    text = json.dumps({"agentHelloRequest": {"requestId": ID, **HELLO, **changes}})
    with pytest.raises(NotUnderstood, match=complaint) as caught:
        read(text, FROM_AGENT)
    assert caught.value.about == ID


def test_the_widest_values_that_are_allowed_get_through() -> None:
    session = SESSION | {"id": "x" * 256, "owner": "ö" * 256, "name": "\u202e" * 256}
    server = SERVER | {"tags": [{"key": "k" * 128, "value": "v" * 256}] * 64}
    body = read(hello(sessions=[session] * 1024, server=server), FROM_AGENT).body
    assert len(body["sessions"]) == 1024


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


@given(name=st.sampled_from(sorted(FROM_AGENT)), field=st.sampled_from(sorted(HELLO)), value=json_values)
def test_no_content_breaks_the_reader(name: str, field: str, value: Any) -> None:
    text = json.dumps({name: {"requestId": ID, **HELLO, field: value}})
    try:
        body = read(text, FROM_AGENT).body
    except NotUnderstood:
        return
    json.dumps(body, allow_nan=False, ensure_ascii=False).encode()


# ------------------------------------------------------------------ payloads of commands


def test_a_payload_is_read_without_its_nulls() -> None:
    payload = {"sessionId": "s", "owner": "ana", "type": "CONSOLE", "initFile": None, "colour": 1}
    assert read_payload("createSession", payload) == {"sessionId": "s", "owner": "ana", "type": "CONSOLE"}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("singSong", {}),
        ("createSession", {"sessionId": "s", "owner": "ana"}),
        ("createSession", {"sessionId": "s", "owner": "ana", "type": "VIRTUAL", "maxConcurrentClients": 0}),
        ("deleteSession", []),
        ("getSessionScreenshot", {"sessionId": "s", "format": "gif"}),
    ],
)
def test_a_payload_that_does_not_fit_its_kind_is_refused(kind: str, payload: Any) -> None:
    with pytest.raises(NotUnderstood):
        read_payload(kind, payload)


# ------------------------------------------------------------------ deltas


members = st.dictionaries(
    st.sampled_from("abcd"), st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2)
)
blocks = st.builds(
    lambda plain, host: plain | ({"host": host} if host is not None else {}), members, st.none() | members
)


@given(old=blocks, new=blocks)
def test_the_difference_applied_to_the_old_block_gives_the_new_one(old: Any, new: Any) -> None:
    delta = difference(old, new)
    assert merged(old, delta) == new
    assert merged(new, delta) == new  # applied twice it does no harm
    if old == new:
        assert delta == {}


def test_a_moving_load_does_not_send_the_whole_host() -> None:
    old = {"ip": "x", "host": {"os": {"family": "linux"}, "cpuLoadAverage": {"oneMinute": 1.0}}}
    new = {"ip": "x", "host": {"os": {"family": "linux"}, "cpuLoadAverage": {"oneMinute": 2.0}}}
    assert difference(old, new) == {"host": {"cpuLoadAverage": {"oneMinute": 2.0}}}


def test_nulls_of_a_full_block_are_not_kept() -> None:
    assert without_nulls({"a": None, "b": {"c": None, "d": [1, {"e": None}]}}) == {"b": {"d": [1, {}]}}


# ------------------------------------------------------------------ versions, codes, waiting


@pytest.mark.parametrize(("offered", "version"), [([1], 1), ([3, 2, 1], 1), ([2], None), ([], None)])
def test_the_highest_common_version_is_spoken(offered: list[int], version: int | None) -> None:
    assert common_version(offered) == version


def test_another_host_is_tried_only_where_it_could_do_better() -> None:
    never = {
        Code.OK,
        Code.SESSION_ID_CONFLICT,
        Code.INIT_FILE_INVALID,
        Code.PERMISSIONS_INVALID,
        Code.CANCELLED,
    }
    assert not never & RETRY_ELSEWHERE
    assert {Code.SERVER_FULL, Code.TIMEOUT, Code.OWNER_NOT_FOUND, Code.INTERNAL} <= RETRY_ELSEWHERE


@pytest.mark.covers("G37")
@given(attempt=st.integers(0, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_waits_have_full_jitter_and_a_ceiling(attempt: int, chance: float) -> None:
    """An agent waits a random time before each attempt to connect, from nothing to a bound that doubles up
    to half a minute."""
    assert 0 <= reconnect_wait(attempt, chance) <= min(30, 2.0 ** min(attempt, 10))


def test_waits_grow_until_half_a_minute() -> None:
    assert [reconnect_wait(attempt, 1.0) for attempt in range(7)] == [1, 2, 4, 8, 16, 30, 30]


# ------------------------------------------------------------------ order of updates


def test_every_tenth_update_is_a_full_one() -> None:
    turn = UpdateTurn()
    fulls = []
    for _ in range(2 * FULL_UPDATE_EVERY):
        seq, is_full = turn.begin()
        turn.answer(seq, needs_full=False)
        fulls += [seq] if is_full else []
    assert fulls == [10, 20]


def test_one_update_may_be_unanswered_and_only_its_own_answer_counts() -> None:
    turn = UpdateTurn()
    first, _ = turn.begin()
    turn.answer(first, needs_full=False)
    second, _ = turn.begin()
    turn.answer(first, needs_full=False)
    assert turn.is_unanswered
    turn.answer(second, needs_full=True)
    assert not turn.is_unanswered
    assert turn.begin() == (3, True)
    assert not turn.is_full_wanted


@pytest.mark.covers("G39")
@pytest.mark.parametrize(
    ("updates", "accepted"),
    [
        ([(1, False), (2, False), (3, False)], [True, True, True]),
        ([(1, False), (3, False), (4, False), (5, True), (6, False)], [True, False, False, True, True]),
        ([(2, False), (3, True)], [False, True]),
        ([(1, False), (1, False)], [True, False]),
        ([(3, True), (2, True), (4, False)], [True, False, False]),
    ],
)
def test_a_gap_is_healed_by_one_full_update(updates: list[tuple[int, bool]], accepted: list[bool]) -> None:
    """Whatever updates are lost, nothing is applied on a wrong base, and one full update makes it good."""
    order = UpdateOrder()
    assert [order.accept(seq, is_full=is_full) for seq, is_full in updates] == accepted


# ------------------------------------------------------------------ pace of reports


def test_many_agents_are_asked_to_speak_less_often_and_few_are_not() -> None:
    least_s, told = 1, []
    for channels in [*range(0, 10_001, 10), *range(10_000, -1, -10)]:
        changed = least_update_interval(channels, least_s)
        if changed != least_s:
            told.append((channels, changed))
        least_s = changed
        assert channels <= UPDATES_PER_S * least_s, "all reports must fit"
    up = [(510, 2), (1010, 4), (2010, 8), (4010, 16), (8010, 32)]
    down = [(3990, 16), (1990, 8), (990, 4), (490, 2), (240, 1)]
    assert told == up + down, "each change is a message to all of them: it must not come and go"
