"""Whatever is lost between broker and agent, no command is carried out twice and none is forgotten.

Broker's book and agent's execution over a link that loses messages, breaks, and
an agent that is killed: seeded, without sockets, so that thousands of faults
take seconds.
"""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from broker_stub.agent.execution import Execution, Result
from broker_stub.agent.identity import Address
from broker_stub.agent.journal import Journal
from broker_stub.agent.watch import Limits, Watch
from broker_stub.channel import Code
from broker_stub.channel_commands import CommandBook, Expire, GiveUpChannel, Send, SendCancel
from tests.agent.small_host import SmallBackend, SmallFacts

COMMANDS = 4000
NEVER = 10_000_000.0


class LossyLink:
    """One broker, one host, and everything that can go wrong between them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  faults that can be repeated, not a secret
        self.backend = SmallBackend()
        self.journal = Journal()
        self.book = CommandBook()
        self.now = 0.0
        self.faults = 0
        self.cut_short = 0
        self.results: dict[str, str] = {}
        self.is_up = False

    def is_lost(self) -> bool:
        lost = self.chance.random() < 0.2
        self.faults += lost
        return lost

    async def start_agent(self) -> None:
        """A new process: what the former one was doing is cut off in the middle."""
        watch = Watch(self.backend, SmallFacts(), dict, Limits(-1, 10_000))
        await watch.measure(Address("host", "198.18.0.1"))
        self.execution = Execution(self.backend, watch, self.journal, lambda: datetime.now(UTC))
        self.execution.deliver = self.result_to_broker
        await self.execution.recover()

    async def say_hello(self) -> None:
        """What both sides do when a channel opens (5.5.8)."""
        known = {one["commandId"]: one["state"] for one in self.execution.open_commands()}
        self.book.connect(known)
        self.is_up = True
        for command_id in known:
            if command_id not in self.book:
                await self.execution.forget(command_id)
        for result in self.execution.unsent_results():
            await self.result_to_broker(result)

    def hang_up(self) -> None:
        self.book.disconnect()
        self.is_up = False

    async def result_to_broker(self, result: Result) -> None:
        if not self.is_up or self.is_lost():
            return
        command_id = result["commandId"]
        if self.book.finish(command_id):
            assert command_id not in self.results, "a result was filed twice"
            self.results[command_id] = result["code"]
        if not self.is_lost():
            await self.execution.forget(command_id)

    async def pump(self) -> None:
        for action in self.book.due_actions(self.now):
            match action:
                case Send() if not self.is_lost():
                    await self.command_to_agent(action)
                case SendCancel() if not self.is_lost():
                    self.execution.cancel(action.command_id)
                case Expire():
                    self.results[action.command_id] = "EXPIRED"
                case GiveUpChannel():
                    self.hang_up()

    async def command_to_agent(self, action: Send) -> None:
        request: dict[str, Any] = {
            "commandId": action.command_id,
            "kind": action.kind,
            "payload": action.payload,
            "deadlineMs": 60_000,
        }
        ack, former = await self.execution.take(request)
        if self.is_up and not self.is_lost():
            if ack["accepted"]:
                self.book.acknowledge(action.command_id)
            else:
                assert ack["code"] == Code.BUSY
                self.book.postpone(action.command_id, self.now + 1)
        if former is not None:
            await self.result_to_broker(former)

    async def go_wrong(self) -> None:
        """Now and then the channel breaks, or the agent is killed and comes back."""
        roll = self.chance.random()
        if roll < 0.05:
            self.faults += 1
            self.hang_up()
        if roll < 0.015:
            self.cut_short += len(self.execution.open_commands()) - len(self.execution.unsent_results())
            await self.execution.stop()
            await self.start_agent()
        if roll > 0.7 and not self.is_up:
            await self.say_hello()
        # A host that takes its time, so that what breaks finds commands half done.
        if roll < 0.6:
            self.backend.go_on.set()
        else:
            self.backend.go_on.clear()


@pytest.mark.parametrize("seed", range(4))
async def test_no_command_runs_twice_and_every_one_ends(seed: int) -> None:
    """G29, G30, G32"""
    link = LossyLink(seed)
    await link.start_agent()
    await link.say_hello()
    waiting = [f"c-{number}" for number in range(COMMANDS)]
    async with asyncio.timeout(60):
        while waiting or len(link.book):
            if waiting and len(link.book) < 8:
                command_id = waiting.pop()
                payload = {"sessionId": f"of {command_id}", "owner": "ana", "type": "VIRTUAL"}
                link.book.add(command_id, "createSession", payload, deadline=NEVER)
            await link.pump()
            await asyncio.sleep(0)
            await link.go_wrong()
            link.now += link.chance.random() * 2
    await link.execution.stop()
    assert link.cut_short > 0
    created = [spec.session_id for spec in link.backend.specs]
    assert len(created) == len(set(created)), "a command was carried out twice"
    assert len(link.results) == COMMANDS
    assert set(link.results.values()) <= {"OK", "INTERRUPTED"}
    for command_id, code in link.results.items():
        assert (f"of {command_id}" in link.backend.sessions) == (code == "OK")
    assert link.faults > COMMANDS / 2
