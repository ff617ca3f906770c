"""The agent listener as an agent sees it: every word on the channel said by hand, over TLS."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from broker_stub import channel
from broker_stub.broker import agent_channel, command_pump
from broker_stub.broker.agent_channel import AgentChannel
from broker_stub.channel import CHUNK_BYTES
from broker_stub.channel_commands import chunks_of
from broker_stub.channel_messages import Name, build
from tests.agent.small_host import until_async
from tests.broker.raw_agent import (
    REQUEST_ID,
    agent_token,
    create,
    hello,
    raw_agent,
    servers,
    session,
    sessions,
    text_of,
)
from tests.running import RunningBroker, running_broker

TAGS = [
    {"key": "dcv:max-virtual-sessions", "value": "-1"},
    {"key": "dcv:max-concurrent-sessions-per-user", "value": "100"},
]


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[RunningBroker]:
    async with running_broker(tmp_path, rules={"agent_loss_grace_s": 0.5}) as running:
        yield running


async def state_of(broker: RunningBroker, session_id: str) -> str:
    return str((await sessions(broker))[session_id]["State"])


# ------------------------------------------------------------------ who may come


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_without_a_good_token_there_is_no_channel(broker: RunningBroker, token: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with raw_agent(broker, token):
            pass
    assert caught.value.response.status_code == 401


@pytest.mark.covers("B30")
async def test_with_agent_authorization_off_none_is_needed(tmp_path: Path) -> None:
    """Where agents need no authorization a channel opens without a token."""
    async with running_broker(tmp_path, enable_agent_authorization=False) as broker:
        async with raw_agent(broker, "") as agent:
            assert (await agent.greet())["result"]["success"]


async def test_a_hello_shows_the_server_at_once_and_tells_the_agent_the_limits(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        assert agent.socket.subprotocol == "dcvsm-agent.v1"
        answer = await agent.greet(sessions=[session("found")])
        assert answer["protocolVersion"] == 1
        assert answer["channelId"]
        assert answer["maxInflightCommands"] == 4
        assert answer["chunkBytes"] == CHUNK_BYTES
        assert (await servers(broker))["server-1"]["Availability"] == "AVAILABLE"
        assert await state_of(broker, "found") == "READY"


@pytest.mark.covers("G28")
async def test_without_a_common_version_both_sides_know_why(broker: RunningBroker) -> None:
    """An agent that speaks no version of the broker's is told so in the answer to its hello and in the
    close code."""
    async with raw_agent(broker) as agent:
        answer = await agent.greet(protocolVersions=[2, 3])
        assert answer["result"]["code"] == "UNSUPPORTED_PROTOCOL"
        assert (await agent.end())[0] == 4010
    assert await servers(broker) == {}


@pytest.mark.parametrize(
    "text",
    [
        text_of("agentGoodbye", {"requestId": REQUEST_ID, "reason": "shutdown"}),
        text_of("agentHelloRequest", {"requestId": REQUEST_ID, **hello(), "sessions": "many"}),
        "nonsense",
    ],
)
async def test_whoever_does_not_say_hello_first_has_to_go(broker: RunningBroker, text: str) -> None:
    async with raw_agent(broker) as agent:
        await agent.say_text(text)
        assert (await agent.end())[0] == 4001


# ------------------------------------------------------------------ what is said


@pytest.mark.covers("G27")
async def test_an_unknown_message_is_survived(broker: RunningBroker) -> None:
    """A message of a name that the broker does not know is answered with a complaint, and the channel goes
    on."""
    async with raw_agent(broker) as agent:
        await agent.greet()
        for _ in range(5):
            await agent.say("agentSings", song="la")
            complaint = await agent.hear(Name.PROTOCOL_ERROR)
            assert (complaint.body["code"], complaint.body["about"]) == ("UNKNOWN_MESSAGE", REQUEST_ID)
        await agent.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={}, later="?")
        assert (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]


async def test_three_malformed_messages_in_a_row_end_the_channel(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        for _ in range(2):
            await agent.say_text("nonsense")
            await agent.say_text(b"\xff")
            await agent.say(Name.COMMAND_ACK, commandId="unknown", accepted=True)
        for _ in range(3):
            await agent.say_text("nonsense")
        assert (await agent.end())[0] == 4012


async def test_a_message_above_the_limit_ends_the_channel(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        with pytest.raises(ConnectionClosed):
            await agent.say_text("x" * (1024 * 1024 + 1))
            await agent.hear()
        assert (await agent.end())[0] == 1009


async def test_metrics_of_a_delta_show_beside_what_was_known(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        memory = {"totalBytes": 8, "usedBytes": 5}
        await agent.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={"host": {"memory": memory}})
        answer = (await agent.hear(Name.SERVER_UPDATE_RESPONSE)).body
        assert answer == {"seq": 1, "result": {"success": True}, "needFull": False}
        host = (await servers(broker))["server-1"]["Host"]
        assert host["Memory"] == {"TotalBytes": 8, "UsedBytes": 5}
        assert host["Os"] == {"Family": "linux"}


@pytest.mark.covers("G39")
async def test_a_gap_leads_to_one_full_update_and_not_to_wrong_data(broker: RunningBroker) -> None:
    """After a missing update the broker applies no difference until it has all again, and asks for it."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])

        async def update(seq: int, mode: str, *changed: str) -> bool:
            await agent.say(
                Name.SESSIONS_UPDATE_REQUEST,
                seq=seq,
                mode=mode,
                healthy=True,
                changed=[session(one) for one in changed],
                removed=[],
            )
            return bool((await agent.hear(Name.SESSIONS_UPDATE_RESPONSE)).body["needFull"])

        assert not await update(1, "delta", "b")
        assert await update(3, "delta", "c")
        assert await update(4, "delta", "d")
        assert set(await sessions(broker)) == {"a", "b"}
        assert not await update(5, "full", "b", "c")
        assert not await update(6, "delta")
        states = {key: one["State"] for key, one in (await sessions(broker)).items()}
        assert states == {"a": "DELETED", "b": "READY", "c": "READY"}


@pytest.mark.covers("G40")
async def test_an_agent_cannot_touch_a_session_of_another_server(broker: RunningBroker) -> None:
    """What an agent says of a session that is bound to another reachable server changes nothing there."""
    async with raw_agent(broker) as first, raw_agent(broker) as second:
        await first.greet("server-1", server=hello()["server"] | {"tags": TAGS})
        (session_id,) = await create(broker)
        command = await first.take_command()
        await first.finish(command, data={"session": session(session_id)})
        await until_async(lambda: is_ready(broker, session_id))
        answer = await second.greet("server-2", sessions=[session(session_id, owner="eve")])
        assert answer["orphanSessions"] == [session_id]
        shown = (await sessions(broker))[session_id]
        assert (shown["Owner"], shown["Server"]["Id"]) == ("ana", "server-1")


async def is_ready(broker: RunningBroker, session_id: str) -> bool:
    return await state_of(broker, session_id) == "READY"


# ------------------------------------------------------------------ two channels for one server


@pytest.mark.covers("G35")
async def test_a_newer_run_of_the_same_host_takes_over(broker: RunningBroker) -> None:
    """A restarted agent takes over from its own former channel, which is closed as superseded."""
    async with raw_agent(broker) as old, raw_agent(broker) as new:
        await old.greet(epoch=1)
        assert (await new.greet(epoch=2))["result"]["success"]
        assert (await old.end())[0] == 4009
        await new.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={})
        assert (await new.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]
        assert (await servers(broker))["server-1"]["Availability"] == "AVAILABLE"
        assert len(broker.broker.agents) == 1


@pytest.mark.covers("G35")
async def test_a_second_process_on_one_host_is_refused(broker: RunningBroker) -> None:
    """A second process of the same host that is not newer is refused, and the first goes on."""
    async with raw_agent(broker) as first, raw_agent(broker) as second:
        await first.greet(epoch=2, instanceId="one")
        answer = await second.greet(epoch=2, instanceId="two")
        assert not answer["result"]["success"]
        assert not answer["newServerId"]
        assert (await second.end())[0] == 4011
        await first.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={})
        assert (await first.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]


@pytest.mark.covers("G34")
async def test_a_copy_of_a_machine_is_told_to_take_a_new_id(broker: RunningBroker) -> None:
    """A host that comes under the id of another machine is told to take a new one."""
    async with raw_agent(broker) as original, raw_agent(broker) as clone:
        await original.greet()
        answer = await clone.greet(epoch=9, machineFingerprint="another machine")
        assert answer["newServerId"]
        assert (await clone.end())[0] == 4011
        await original.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={})
        assert (await original.hear(Name.SERVER_UPDATE_RESPONSE)).body["result"]["success"]


async def test_commands_go_to_the_channel_that_took_over(broker: RunningBroker) -> None:
    async with raw_agent(broker) as old, raw_agent(broker) as new:
        await old.greet(epoch=1)
        (session_id,) = await create(broker)
        command = await old.take_command()
        await new.greet(epoch=2)
        again = await new.take_command()
        assert again["commandId"] == command["commandId"]
        await new.finish(again, data={"session": session(session_id)})
        await until_async(lambda: is_ready(broker, session_id))


# ------------------------------------------------------------------ the end of a channel


@pytest.mark.covers("G20")
async def test_a_goodbye_makes_the_server_unreachable_at_once(broker: RunningBroker) -> None:
    """An agent that says goodbye is unreachable at once, without any grace time."""
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")])
        await agent.say(Name.AGENT_GOODBYE, reason="shutdown")
        assert (await agent.end())[0] == 1000
        server = (await servers(broker))["server-1"]
        assert server["UnavailabilityReason"] == "UNREACHABLE_AGENT"
        assert await state_of(broker, "a") == "UNKNOWN"


async def test_a_goodbye_behind_unanswered_reports_is_heard(tmp_path: Path) -> None:
    """An agent that reports, takes its leave and is gone: answers to it fail, its goodbye counts."""
    report = {"mode": "delta", "healthy": True, "changed": [], "removed": []}
    async with running_broker(tmp_path, rules={"agent_loss_grace_s": 600}) as broker:
        for epoch in range(1, 6):
            async with raw_agent(broker) as agent:
                await agent.greet(epoch=epoch)
                for seq in range(1, 30):
                    await agent.say(Name.SESSIONS_UPDATE_REQUEST, seq=seq, **report)
                await agent.say(Name.AGENT_GOODBYE, reason="shutdown")
                await agent.socket.close()

            async def is_lost() -> bool:
                return bool((await servers(broker))["server-1"]["Availability"] == "UNAVAILABLE")

            await until_async(is_lost)


async def test_a_lost_channel_is_forgiven_for_the_grace_time(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        agent.socket.transport.abort()
    await until_async(lambda: has_lost_channel(broker))
    assert (await servers(broker))["server-1"]["Availability"] == "AVAILABLE"

    async def is_unreachable() -> bool:
        return bool((await servers(broker))["server-1"].get("UnavailabilityReason") == "UNREACHABLE_AGENT")

    await until_async(is_unreachable)


async def has_lost_channel(broker: RunningBroker) -> bool:
    return len(broker.broker.agents) == 0


async def test_a_stopping_broker_says_when_to_come_back(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        token = await agent_token(broker)
        agent_context = raw_agent(broker, token)
        agent = await agent_context.__aenter__()
        await agent.greet()
        stopping = asyncio.create_task(broker.broker.stop())
        goodbye = (await agent.hear(Name.BROKER_GOODBYE)).body
        assert goodbye["reason"] == "shutdown"
        assert 1000 <= goodbye["reconnectAfterMs"] <= 30_000
        assert (await agent.end())[0] == 1001
        await agent_context.__aexit__(None, None, None)
        await stopping


# ------------------------------------------------------------------ commands


async def test_a_command_has_all_it_needs_and_its_result_is_confirmed(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        permissions = base64.b64encode(b"[permissions]\n").decode()
        (session_id,) = await create(broker, PermissionsFile=permissions, MaxConcurrentClients=2)
        command = await agent.take_command()
        assert command["kind"] == "createSession"
        assert 50_000 < command["deadlineMs"] <= 60_000
        assert command["payload"]["sessionId"] == session_id
        assert command["payload"]["owner"] == "ana"
        assert command["payload"]["permissionsFile"] == permissions
        assert command["payload"]["maxConcurrentClients"] == 2
        await agent.finish(command, data={"session": session(session_id)})
        confirmed = (await agent.hear(Name.COMMAND_RESULT_ACK)).body
        assert confirmed["commandId"] == command["commandId"]
        assert await state_of(broker, session_id) == "READY"


@pytest.mark.covers("G38")
async def test_no_more_than_four_commands_are_under_way_at_one_agent(broker: RunningBroker) -> None:
    """An agent that does not answer gets four commands and no more; the others wait in the broker."""
    async with raw_agent(broker) as agent:
        await agent.greet(server=hello()["server"] | {"tags": TAGS})
        ids = await create(broker, 6)
        commands = [await agent.take_command() for _ in range(4)]
        await agent.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={})
        assert (await agent.hear()).name == Name.SERVER_UPDATE_RESPONSE  # and no fifth command before it
        for command in commands:
            await agent.finish(command, data={"session": session(command["payload"]["sessionId"])})
        commands += [await agent.take_command() for _ in range(2)]
        assert {command["payload"]["sessionId"] for command in commands} == set(ids)


async def test_a_busy_agent_gets_the_command_again(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        await create(broker)
        first = (await agent.hear(Name.COMMAND_REQUEST)).body
        refusal = {"accepted": False, "code": "BUSY", "retryAfterMs": 50}
        await agent.say(Name.COMMAND_ACK, commandId=first["commandId"], **refusal)
        again = (await agent.hear(Name.COMMAND_REQUEST)).body
        assert again["commandId"] == first["commandId"]


async def test_a_refused_command_fails_with_the_agents_words(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet()
        (session_id,) = await create(broker, DisableRetryOnFailure=True)
        command = (await agent.hear(Name.COMMAND_REQUEST)).body
        refusal = {"accepted": False, "code": "INTERNAL", "message": "The disk is full."}
        await agent.say(Name.COMMAND_ACK, commandId=command["commandId"], **refusal)
        await agent.hear(Name.COMMAND_RESULT_ACK)
        shown = (await sessions(broker))[session_id]
        assert (shown["State"], shown["StateReason"]) == ("UNKNOWN", "The disk is full.")


@pytest.mark.covers("G30")
async def test_a_result_of_a_former_channel_is_taken_and_an_unknown_one_confirmed(
    broker: RunningBroker,
) -> None:
    """A result may come over another channel than its command; one that nobody knows is confirmed, so that
    the agent forgets it."""
    async with raw_agent(broker) as agent:
        await agent.greet()
        (session_id,) = await create(broker)
        command = await agent.take_command()
    async with raw_agent(broker) as agent:
        known = [
            {"commandId": command["commandId"], "state": "finished"},
            {"commandId": "from another life", "state": "finished"},
        ]
        answer = await agent.greet(epoch=2, openCommands=known)
        assert answer["forgetCommands"] == ["from another life"]
        await agent.finish(command, data={"session": session(session_id)})
        await agent.hear(Name.COMMAND_RESULT_ACK)
        assert await state_of(broker, session_id) == "READY"
        await agent.finish(command)
        await agent.hear(Name.COMMAND_RESULT_ACK)


# ------------------------------------------------------------------ questions


async def ready_session(broker: RunningBroker, agent: Any) -> None:
    await agent.greet(sessions=[session("a")])


def asked_for_a_picture(broker: RunningBroker) -> asyncio.Task[Any]:
    return asyncio.create_task(broker.client.post("/getSessionScreenshots", json=[{"SessionId": "a"}]))


@pytest.mark.covers("G18")
async def test_a_large_picture_comes_in_pieces_while_updates_go_on(broker: RunningBroker) -> None:
    """A picture in pieces is put together while updates pass between the pieces."""
    picture = base64.b64encode(bytes(600_000)).decode()
    async with raw_agent(broker) as agent:
        await ready_session(broker, agent)
        answer = asked_for_a_picture(broker)
        command = await agent.take_command()
        assert command["kind"] == "getSessionScreenshot"
        image = {
            "format": "png",
            "primary": True,
            "creationTime": "2026-03-30T15:47:06.822Z",
            "data": picture,
        }
        pieces = chunks_of({"images": [image]})
        await agent.finish(command, chunks=len(pieces))
        for index, piece in enumerate(pieces):
            about = {"commandId": command["commandId"], "index": index}
            await agent.say(Name.COMMAND_RESULT_CHUNK, data=piece, **about)
            await agent.say(Name.SERVER_UPDATE_REQUEST, seq=index + 1, mode="delta", server={})
            await agent.hear(Name.SERVER_UPDATE_RESPONSE)
        body = (await answer).json()
        assert body["SuccessfulList"][0]["SessionScreenshot"]["Images"][0]["Data"] == picture


async def test_a_question_ends_with_the_channel(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await ready_session(broker, agent)
        answer = asked_for_a_picture(broker)
        await agent.take_command()
        agent.socket.transport.abort()
    refused = (await answer).json()["UnsuccessfulList"]
    assert "not reachable" in refused[0]["FailureReason"]


async def test_a_host_that_offers_no_pictures_is_not_asked(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await agent.greet(sessions=[session("a")], capabilities=["virtual"])
        refused = (await asked_for_a_picture(broker)).json()["UnsuccessfulList"]
        assert "does not offer" in refused[0]["FailureReason"]


async def test_pieces_that_make_no_result_are_complained_about(broker: RunningBroker) -> None:
    async with raw_agent(broker) as agent:
        await ready_session(broker, agent)
        answer = asked_for_a_picture(broker)
        command = await agent.take_command()
        await agent.finish(command, chunks=1)
        wrong = base64.b64encode(json.dumps({"images": "none"}).encode()).decode()
        await agent.say(Name.COMMAND_RESULT_CHUNK, commandId=command["commandId"], index=0, data=wrong)
        assert "images" in (await agent.hear(Name.PROTOCOL_ERROR)).body["message"]
        await agent.finish(command, success=False, code="INTERNAL", message="No luck.")
        refused = (await answer).json()["UnsuccessfulList"]
        assert "No luck." in refused[0]["FailureReason"]


async def test_a_command_without_a_result_makes_the_broker_look_at_the_host(tmp_path: Path) -> None:
    async with (
        running_broker(tmp_path, rules={"create_deadline_s": 0.3}) as broker,
        raw_agent(broker) as agent,
    ):
        await agent.greet()
        (session_id,) = await create(broker, DisableRetryOnFailure=True)
        command = await agent.take_command()
        cancel = await agent.hear(Name.COMMAND_CANCEL_REQUEST)
        assert cancel.body["commandId"] == command["commandId"]
        assert (await agent.hear(Name.REFRESH_REQUEST)).body["what"] == "sessions"
        # The session was made after all; the broker gave it up, and takes it away.
        found = session(session_id)
        await agent.say(Name.SESSIONS_UPDATE_REQUEST, seq=1, mode="full", healthy=True, changed=[found])
        orphan = await agent.take_command()
        assert (orphan["kind"], orphan["payload"]["sessionId"]) == ("deleteSession", session_id)


# ------------------------------------------------------------------ too much at once


async def test_more_agents_than_fit_are_asked_to_speak_less_often(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "UPDATES_PER_S", 1)
    async with raw_agent(broker) as first, raw_agent(broker) as calm, raw_agent(broker) as third:
        await first.greet("a", updateIntervalSeconds=1)
        await calm.greet("b", updateIntervalSeconds=30)
        told = [await first.hear(Name.FLOW_CONTROL)]
        await third.greet("c", updateIntervalSeconds=1)
        told += [await first.hear(Name.FLOW_CONTROL), await third.hear(Name.FLOW_CONTROL)]
        assert [one.body["minUpdateIntervalSeconds"] for one in told] == [2, 4, 4]
        await calm.say(Name.SERVER_UPDATE_REQUEST, seq=1, mode="delta", server={})
        assert (
            await calm.hear()
        ).name == Name.SERVER_UPDATE_RESPONSE  # who speaks little anyway is left alone


async def test_more_hellos_than_can_be_worked_on_are_asked_to_come_later(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_channel, "_HELLO_PLACE_WITHIN_S", 0.1)
    places = broker.broker.agents.hello_places
    while not places.locked():
        await places.acquire()
    async with raw_agent(broker) as agent:
        answer = await agent.greet()
        assert answer["result"]["code"] == "OVERLOADED"
        assert answer["result"]["retryAfterMs"] > 0
        assert (await agent.end())[0] == 1013
    assert await servers(broker) == {}


@pytest.mark.covers("G38")
async def test_an_agent_that_does_not_read_is_given_up(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that takes the answer to its hello and then nothing more does not fill the broker's memory:
    its channel is given up."""
    monkeypatch.setattr(command_pump, "SEND_WITHIN_S", 0.1)
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    frames.put_nowait({"type": "websocket.connect"})
    greeting = build(Name.AGENT_HELLO_REQUEST, REQUEST_ID, datetime.now(UTC), hello())
    frames.put_nowait({"type": "websocket.receive", "text": greeting})

    async def send(event: Any) -> None:
        if Name.COMMAND_REQUEST in event.get("text", ""):
            await asyncio.Event().wait()

    socket = WebSocket({"type": "websocket"}, frames.get, send)
    await socket.accept()
    agents = broker.broker.agents
    silent = AgentChannel(socket, broker.broker.coordinator, agents, time.monotonic)
    served = asyncio.create_task(silent.serve())

    async def is_there() -> bool:
        return bool(await servers(broker))

    await until_async(is_there)
    await create(broker)
    async with asyncio.timeout(30):
        await served
    assert broker.broker.registry.server("server-1").channel_id is None  # type: ignore[union-attr]  # it is there
