"""Agents that say what no agent says: the channel complains or ends, nothing else is touched.

Malformed and unknown messages, wrong first messages and too large ones are in `test_agents`.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from broker_stub.channel_messages import Name
from tests.broker.raw_agent import (
    REQUEST_ID,
    RawAgent,
    agent_token,
    hello,
    raw_agent,
    servers,
    session,
    sessions,
    text_of,
)
from tests.running import RunningBroker, running_broker

# One broker for all tests of this module: a start costs more than a test.
pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path_factory.mktemp("bad_agents")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def agent(broker: RunningBroker) -> AsyncIterator[RawAgent]:
    """A channel that was greeted; afterwards the broker still speaks with others, and logged no fault."""
    token = await agent_token(broker)
    async with raw_agent(broker, token) as opened:
        await opened.greet()
        yield opened
    async with raw_agent(broker, token) as other:
        assert (await other.greet("server-2"))["result"]["success"]
    assert "server-2" in await servers(broker)
    await broker.until(lambda: broker.broker.requests_under_way == 0)


@pytest.fixture(autouse=True)
def nothing_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> object:
    """What an agent does wrong is no fault of the program."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR, record.getMessage()
        assert record.exc_info is None, record.getMessage()


async def complaint(agent: RawAgent) -> str:
    async with asyncio.timeout(30):
        return str((await agent.hear(Name.PROTOCOL_ERROR)).body["message"])


def server_update(server: Any, **members: Any) -> str:
    body = {"requestId": REQUEST_ID, "seq": 1, "mode": "full", "server": server, **members}
    return text_of("serverUpdateRequest", body)


def sessions_update(*changed: Any, **members: Any) -> str:
    body = {"requestId": REQUEST_ID, "seq": 1, "mode": "full", "healthy": True, "changed": list(changed)}
    return text_of("sessionsUpdateRequest", {**body, **members})


# ------------------------------------------------------------------ below the messages


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),  # text that is no UTF-8
        (b"\xf1\x82\0\0\0\0ab", 1002),  # reserved bits
        (b"\x81\x02ab", 1002),  # not masked
        (b"\x80\x82\0\0\0\0ab", 1002),  # the continuation of nothing
        (b"\x89\xfe\x10\x00\0\0\0\0" + b"x" * 4096, 1002),  # a ping that is too long
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),  # a length without measure
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
async def test_frames_that_are_none_end_the_channel(agent: RawAgent, frame: bytes, code: int) -> None:
    agent.socket.transport.write(frame)
    async with asyncio.timeout(30):
        assert (await agent.end())[0] == code


async def test_a_message_in_many_frames_counts_as_one(agent: RawAgent) -> None:
    async def pieces() -> AsyncIterator[str]:
        for _ in range(40):
            yield "x" * (MIB // 20)

    with pytest.raises(Exception, match="1009"):
        await agent.socket.send(pieces())
        await agent.hear()


@pytest.mark.parametrize(
    "data", [b"\x00\xff" * 100, b"", b"null", b"[]", b"{}", b'{"a":1,"b":2}', b'{"":{}}']
)
async def test_binary_frames_are_read_as_text_and_complained_about(agent: RawAgent, data: bytes) -> None:
    await agent.say_text(data)
    assert await complaint(agent)


# ------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        server_update({}, seq="SEQ").replace('"SEQ"', "1e400"),
        server_update({}, seq="SEQ").replace('"SEQ"', "9" * 5000),
        server_update({"host": {"cpuLoadAverage": {"oneMinute": "N"}}}).replace('"N"', "1e400"),
        server_update({"host": {"cpuLoadAverage": {"oneMinute": "N"}}}).replace('"N"', "NaN"),
        server_update({"tags": [{"key": "", "value": "x"}]}),
        server_update({"tags": [{"key": "k", "value": "x"}] * 65}),
        server_update({"hostname": "\ud800"}),
        server_update({"hostname": "a\0b"}),
        server_update({"endpoints": [None]}),
        server_update({"endpoints": [{"port": 70_000}]}),
        sessions_update(None),
        sessions_update(session("x", creationTime="0001-01-01T00:00:00+23:59")),
        sessions_update(session("x", lastDisconnectionTime="9999-12-31T23:59:59-23:59")),
        sessions_update(session("x", creationTime="2026-01-01T00:00:00")),
        sessions_update(session("x", numOfConnections=-1)),
        sessions_update(session("x", owner=None)),
        sessions_update(session("x" * 257)),
        sessions_update(*[session("x")] * 1025),
        text_of("commandResult", {"requestId": REQUEST_ID, "commandId": "c", "success": True, "chunks": 257}),
        text_of("agentHelloRequest", {"requestId": REQUEST_ID, **hello("server-1")}),
        text_of("agentHelloRequest", {"requestId": REQUEST_ID, **hello("server-9")}),
        text_of("agentHelloRequest", {"requestId": "no", **hello()}),
        text_of("commandRequest", {"requestId": REQUEST_ID, "commandId": "c"}),  # what only a broker says
    ],
    ids=lambda text: text[:20] + "…" + text[-30:],
)
async def test_what_is_not_understood_changes_nothing(
    broker: RunningBroker, agent: RawAgent, text: str
) -> None:
    before = await servers(broker), await sessions(broker)
    await agent.say_text(text)
    assert await complaint(agent)
    assert (await servers(broker), await sessions(broker)) == before
    await agent.say_text(server_update({}))
    assert (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]


async def test_hello_of_another_id_on_one_channel_makes_no_second_server(
    broker: RunningBroker, agent: RawAgent
) -> None:
    await agent.say(Name.AGENT_HELLO_REQUEST, **hello("server-9"))
    assert await complaint(agent) == "a second hello on one channel"
    assert "server-9" not in await servers(broker)


@pytest.mark.parametrize(
    "text", [server_update({}), sessions_update(), text_of("commandAck", {"requestId": REQUEST_ID})]
)
async def test_updates_before_a_hello_end_the_channel(
    broker: RunningBroker, agent: RawAgent, text: str
) -> None:
    async with raw_agent(broker) as early:
        await early.say_text(text)
        assert (await early.end())[0] == 4001
    await agent.say_text(server_update({}))
    assert (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]


@pytest.mark.parametrize("server_id", ["a/b", "../..", "\x1b[2J\nforged", "ü", "x\u202e", " "])
async def test_ids_that_are_none_get_no_server(
    broker: RunningBroker, agent: RawAgent, server_id: str
) -> None:
    async with raw_agent(broker) as other:
        answer = await other.greet(server_id)
        assert (answer["result"]["success"], answer["newServerId"]) == (False, True)
    assert server_id not in await servers(broker)


async def test_names_of_any_kind_come_out_as_they_went_in(broker: RunningBroker, agent: RawAgent) -> None:
    odd = [
        "\x1b]0;x\x07",
        "\r\n\t",
        "\u202eabc",
        "日本語" * 80,
        "e\u0301" * 100,
        "a" * 256,
        "\U0010ffff",
        '"\\',
    ]
    reports = [session(f"odd-{place}", name=name, owner=name) for place, name in enumerate(odd)]
    await agent.say_text(sessions_update(*reports))
    assert (await agent.hear(Name.SESSIONS_UPDATE_RESPONSE)).body["result"]["success"]
    listed = await sessions(broker)
    assert [listed[f"odd-{place}"]["Name"] for place in range(len(odd))] == odd
    for owner in odd:
        filters = {"Filters": [{"Key": "owner", "Value": owner}]}
        answer = await broker.client.post("/describeSessions", json=filters)
        assert [one["Owner"] for one in answer.json()["Sessions"]] == [owner]


async def test_one_id_twice_in_one_report_is_one_session(broker: RunningBroker, agent: RawAgent) -> None:
    await agent.say_text(sessions_update(session("d"), session("d", owner="bob"), removed=["d", "d"]))
    assert (await agent.hear(Name.SESSIONS_UPDATE_RESPONSE)).body["result"]["success"]
    assert len([one for one in (await sessions(broker)).values() if one["Id"] == "d"]) <= 1


@pytest.mark.parametrize(
    "say",
    [
        lambda number: {"commandId": f"c{number}", "success": True, "chunks": 256},
        lambda number: {"commandId": f"c{number}", "success": True, "data": {"session": session("zz")}},
    ],
)
async def test_results_nobody_asked_for_make_no_session(
    broker: RunningBroker, agent: RawAgent, say: Callable[[int], dict[str, Any]]
) -> None:
    for number in range(3):
        await agent.say(Name.COMMAND_RESULT, **say(number))
        await agent.say(Name.COMMAND_RESULT_CHUNK, commandId=f"c{number}", index=255, data="!!" * 1000)
    await agent.say(Name.COMMAND_ACK, commandId="c", accepted=False, code="BUSY", retryAfterMs=0)
    await agent.say_text(server_update({}))
    assert (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]
    assert "zz" not in await sessions(broker)


async def test_many_tags_of_one_key_are_told_apart_or_joined_but_never_a_fault(
    broker: RunningBroker, agent: RawAgent
) -> None:
    tags = [{"key": "a", "value": value} for value in "123"]
    await agent.say_text(server_update({"tags": tags, "ip": "\x1b]0;x\x07"}))
    assert (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]
    shown = (await servers(broker))["server-1"]
    assert json.dumps(shown["Tags"]).count('"a"') in (1, 3)
