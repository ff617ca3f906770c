"""One channel of an agent, with the broker's part said by hand: reports, their pace, commands."""

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosedOK

from broker_stub.agent.conversation import Conversation, Goodbye, Pace
from broker_stub.agent.execution import Execution
from broker_stub.agent.identity import Address, Identity
from broker_stub.agent.journal import Journal
from broker_stub.agent.watch import Limits, Watch
from broker_stub.channel import CHUNK_BYTES, MAX_RESULT_BYTES, Code
from broker_stub.channel_commands import ResultAssembly
from broker_stub.channel_messages import FROM_AGENT, Message, Name, build, read
from tests.agent.small_host import SmallBackend, SmallFacts, until

IDENTITY = Identity("server-1", Address("host", "198.18.0.1"), "machine")


class BrokerEnd:
    """A socket in memory: the agent's end is its methods, the broker's end is `say` and `hear`."""

    def __init__(self) -> None:
        self._to_agent: asyncio.Queue[str] = asyncio.Queue()
        self._to_broker: asyncio.Queue[str] = asyncio.Queue()
        self.heard: list[str] = []

    async def send(self, text: str) -> None:
        self._to_broker.put_nowait(text)

    async def recv(self) -> str:
        text = await self._to_agent.get()
        if not text:
            raise ConnectionClosedOK(None, None)
        return text

    def say(self, name: str, request_id: str = "", **fields: Any) -> None:
        self._to_agent.put_nowait(build(name, request_id or uuid.uuid4().hex, datetime.now(UTC), fields))

    def say_text(self, text: str) -> None:
        self._to_agent.put_nowait(text)

    async def hear(self, name: str) -> Message:
        """The next message of a name; each must be one that a broker understands."""
        async with asyncio.timeout(20):
            while True:
                message = read(await self._to_broker.get(), FROM_AGENT)
                self.heard.append(message.name)
                if message.name == name:
                    return message

    def answer(self, message: Message, **fields: Any) -> None:
        """Answer an update."""
        name = message.name.replace("Request", "Response")
        self.say(
            name, message.request_id, **({"seq": message.body["seq"], "result": {"success": True}} | fields)
        )


class Bench:
    """A conversation and what it works on."""

    def __init__(self, interval_s: int) -> None:
        self.backend = SmallBackend()
        self.facts = SmallFacts()
        self.watch = Watch(self.backend, self.facts, dict, Limits(-1, 100))
        self.execution = Execution(self.backend, self.watch, Journal(), lambda: datetime.now(UTC))
        self.broker = BrokerEnd()
        self.conversation = Conversation(
            cast("ClientConnection", self.broker),
            IDENTITY,
            self.watch,
            self.backend,
            self.execution,
            instance_id="run-1",
            pace=Pace(update_interval_s=interval_s),
            chance=lambda: 0.999,
        )
        self.execution.deliver = self.conversation.send_result

    @contextlib.asynccontextmanager
    async def talking(self, **answer: Any) -> AsyncIterator[BrokerEnd]:
        await self.watch.look()
        greeting = asyncio.create_task(self.conversation.greet(await self.watch.measure(IDENTITY.address)))
        hello = await self.broker.hear(Name.AGENT_HELLO_REQUEST)
        self.broker.say(
            Name.AGENT_HELLO_RESPONSE, hello.request_id, **({"result": {"success": True}} | answer)
        )
        await greeting
        serving = asyncio.create_task(self.conversation.serve())
        try:
            yield self.broker
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await self.execution.stop()


def create(session_id: str, command_id: str) -> dict[str, Any]:
    payload = {"sessionId": session_id, "owner": "ana", "type": "VIRTUAL"}
    return {"commandId": command_id, "kind": "createSession", "deadlineMs": 30_000, "payload": payload}


@pytest.mark.parametrize(
    ("what", "name"),
    [("server", Name.SERVER_UPDATE_REQUEST), ("sessions", Name.SESSIONS_UPDATE_REQUEST)],
)
async def test_a_broker_that_asks_gets_a_full_update(what: str, name: str) -> None:
    bench = Bench(3600)
    bench.backend.appear("a")
    async with bench.talking() as broker:
        broker.say(Name.REFRESH_REQUEST, what=what)
        update = await broker.hear(name)
        assert update.body["mode"] == "full"
        if what == "sessions":
            assert [one["id"] for one in update.body["changed"]] == ["a"]
        else:
            assert update.body["server"]["hostname"] == "host"


async def test_asked_for_everything_it_tells_everything() -> None:
    bench = Bench(3600)
    async with bench.talking() as broker:
        broker.say(Name.REFRESH_REQUEST, what="all")
        for name in (Name.SERVER_UPDATE_REQUEST, Name.SESSIONS_UPDATE_REQUEST):
            assert (await broker.hear(name)).body["mode"] == "full"


async def test_an_agent_speaks_less_often_when_it_is_asked_to() -> None:
    bench = Bench(1)
    async with bench.talking() as broker:
        broker.answer(await broker.hear(Name.SERVER_UPDATE_REQUEST))
        broker.say(Name.FLOW_CONTROL, minUpdateIntervalSeconds=2)
        broker.answer(await broker.hear(Name.SERVER_UPDATE_REQUEST))
        clock = asyncio.get_running_loop().time
        before = clock()
        broker.answer(await broker.hear(Name.SERVER_UPDATE_REQUEST))
        assert clock() - before > 1.5
        # An hour more is not waited for when the broker takes it back.
        broker.say(Name.FLOW_CONTROL, minUpdateIntervalSeconds=3600)
        broker.answer(await broker.hear(Name.SERVER_UPDATE_REQUEST))
        broker.say(Name.FLOW_CONTROL, minUpdateIntervalSeconds=1)
        await broker.hear(Name.SERVER_UPDATE_REQUEST)


async def test_an_agent_does_no_more_at_once_than_it_is_told() -> None:
    bench = Bench(3600)
    bench.backend.go_on.clear()
    async with bench.talking(maxInflightCommands=2) as broker:
        for number in range(4):
            broker.say(Name.COMMAND_REQUEST, **create(f"s-{number}", f"c-{number}"))
            assert (await broker.hear(Name.COMMAND_ACK)).body["accepted"]
        await until(lambda: len(bench.backend.calls) == 2)
        broker.say(Name.FLOW_CONTROL, maxInflightCommands=3)
        await until(lambda: len(bench.backend.calls) == 3)
        bench.backend.go_on.set()
        for _ in range(4):
            await broker.hear(Name.COMMAND_RESULT)


@pytest.mark.covers("G39")
async def test_a_broker_that_missed_something_gets_one_full_update() -> None:
    """After an answer that says something is missing, the next update of that kind is full, and the one
    after it is a delta again."""
    bench = Bench(1)
    async with bench.talking() as broker:
        first = await broker.hear(Name.SERVER_UPDATE_REQUEST)
        assert first.body["mode"] == "delta"
        broker.answer(first, needFull=True)
        modes = []
        for _ in range(2):
            update = await broker.hear(Name.SERVER_UPDATE_REQUEST)
            modes.append(update.body["mode"])
            broker.answer(update)
        assert modes == ["full", "delta"]


async def test_one_update_of_a_kind_is_unanswered_at_most_and_the_latest_state_comes_next() -> None:
    bench = Bench(3600)
    async with bench.talking() as broker:
        bench.backend.appear("a")
        first = await broker.hear(Name.SESSIONS_UPDATE_REQUEST)
        bench.backend.appear("b")
        bench.backend.disappear("a")
        await until(lambda: set(bench.watch.sessions) == {"b"})  # it has looked, and would have said so
        assert broker._to_broker.empty()
        broker.answer(first)
        second = await broker.hear(Name.SESSIONS_UPDATE_REQUEST)
        assert [one["id"] for one in second.body["changed"]] == ["b"]
        assert second.body["removed"] == ["a"]
        assert second.body["seq"] == first.body["seq"] + 1


@pytest.mark.covers("G18")
async def test_a_large_picture_comes_in_pieces_that_others_pass() -> None:
    """A picture too large for one message comes in pieces of bounded size, and an update that is due
    meanwhile does not wait for the last one."""
    bench = Bench(3600)
    bench.backend.appear("a")
    bench.backend.picture = bytes(range(256)) * 8000
    async with bench.talking() as broker:
        payload = {"sessionId": "a", "format": "png", "maxWidth": 100, "maxHeight": 100}
        broker.say(
            Name.COMMAND_REQUEST,
            commandId="c",
            kind="getSessionScreenshot",
            deadlineMs=9000,
            payload=payload,
        )
        result = (await broker.hear(Name.COMMAND_RESULT)).body
        assert result["chunks"] > 5
        assembly, whole = ResultAssembly(result), None
        while whole is None:
            piece = (await broker.hear(Name.COMMAND_RESULT_CHUNK)).body
            assert len(piece["data"]) <= CHUNK_BYTES
            whole = assembly.add(piece["index"], piece["data"])
        assert base64.b64decode(whole["images"][0]["data"]) == bench.backend.picture


async def test_a_picture_that_nobody_could_carry_is_refused() -> None:
    bench = Bench(3600)
    bench.backend.appear("a")
    bench.backend.picture = bytes(MAX_RESULT_BYTES)
    async with bench.talking() as broker:
        payload = {"sessionId": "a", "format": "png"}
        broker.say(
            Name.COMMAND_REQUEST,
            commandId="c",
            kind="getSessionScreenshot",
            deadlineMs=9000,
            payload=payload,
        )
        result = (await broker.hear(Name.COMMAND_RESULT)).body
        assert (result["success"], result["code"]) == (False, Code.TOO_LARGE)


async def test_a_new_session_has_not_ended_because_the_next_look_fails() -> None:
    """What a failed look does not show is not told as gone: the last good one may be older."""
    bench = Bench(1)
    async with bench.talking() as broker:
        broker.say(Name.COMMAND_REQUEST, **create("s", "c"))
        await broker.hear(Name.COMMAND_RESULT)
        bench.backend.is_listable = False
        await until(lambda: bench.watch.has_failed_look)
        broker.say(Name.REFRESH_REQUEST, what="sessions")
        while (update := await broker.hear(Name.SESSIONS_UPDATE_REQUEST)).body["mode"] != "full":
            assert update.body["removed"] == []
            broker.answer(update)
        assert [one["id"] for one in update.body["changed"]] == ["s"]


async def test_a_cancelled_command_ends_as_cancelled() -> None:
    bench = Bench(3600)
    bench.backend.go_on.clear()
    async with bench.talking() as broker:
        broker.say(Name.COMMAND_REQUEST, **create("s", "c"))
        await broker.hear(Name.COMMAND_ACK)
        await until(lambda: bench.backend.calls)
        broker.say(Name.COMMAND_CANCEL_REQUEST, commandId="c")
        assert (await broker.hear(Name.COMMAND_ACK)).body["commandId"] == "c"
        result = (await broker.hear(Name.COMMAND_RESULT)).body
        assert (result["success"], result["code"]) == (False, Code.CANCELLED)
        assert bench.backend.sessions == {}


async def test_a_command_whose_time_is_over_before_its_turn_is_not_run() -> None:
    bench = Bench(3600)
    bench.backend.go_on.clear()
    async with bench.talking(maxInflightCommands=1) as broker:
        broker.say(Name.COMMAND_REQUEST, **create("s-1", "c-1"))
        broker.say(Name.COMMAND_REQUEST, **(create("s-2", "c-2") | {"deadlineMs": 50}))
        result = (await broker.hear(Name.COMMAND_RESULT)).body
        assert (result["commandId"], result["code"]) == ("c-2", Code.DEADLINE_EXCEEDED)
        assert bench.backend.calls == ["create"]


@pytest.mark.covers("G27")
@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "[]",
        "{}",
        '{"serverUpdateResponse": {}}',
        '{"somethingNew": {"requestId": "0123456789abcdef0123456789abcdef", "a": 1}}',
        '{"flowControl": {"requestId": "0123456789abcdef0123456789abcdef", "maxInflightCommands": 0}}',
    ],
)
async def test_an_agent_survives_what_it_does_not_understand(text: str) -> None:
    """A message that is none, or of a name that means nothing yet, is answered with a complaint; the
    channel goes on, and unknown members of a known message are passed over."""
    bench = Bench(3600)
    async with bench.talking() as broker:
        broker.say_text(text)
        assert (await broker.hear(Name.PROTOCOL_ERROR)).body["code"] in (Code.MALFORMED, Code.UNKNOWN_MESSAGE)
        broker.say(Name.REFRESH_REQUEST, what="sessions", since="yesterday")
        await broker.hear(Name.SESSIONS_UPDATE_REQUEST)


async def test_a_goodbye_says_when_to_come_back() -> None:
    bench = Bench(3600)
    async with bench.talking() as broker:
        again = asyncio.create_task(bench.conversation.serve())
        broker.say(Name.BROKER_GOODBYE, reason="drain", reconnectAfterMs=2500)
        broker.say(Name.BROKER_GOODBYE, reason="drain", reconnectAfterMs=2500)
        with pytest.raises(Goodbye) as goodbye:
            await again
        assert goodbye.value.reconnect_after_s == 2.5


async def test_a_slow_host_keeps_nobody_from_hearing_commands() -> None:
    """Listing sessions may take ten seconds on a real host; commands are taken meanwhile."""
    bench = Bench(3600)
    async with bench.talking() as broker:
        may_answer = asyncio.Event()

        async def slow_list() -> list[Any]:
            await may_answer.wait()
            return []

        bench.backend.list = slow_list  # type: ignore[method-assign]  # this host has become slow
        broker.say(Name.REFRESH_REQUEST, what="all")
        broker.say(Name.COMMAND_REQUEST, **create("s", "c"))
        assert (await broker.hear(Name.COMMAND_ACK)).body["accepted"]
        may_answer.set()
        await broker.hear(Name.SESSIONS_UPDATE_REQUEST)
