"""A broker and hosts without sockets, in which anything may break at any step.

The broker is its real registry and books of commands, a host its real execution and
journal; the channel between them is queues, the disks are lists. Every message that
is sent, every line of a journal and every start and end of work on a host is a
step with a number. At a step the channel may be cut, the agent or the broker be
killed: what runs there then never goes on.
"""

import asyncio
import errno
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from broker_stub.agent.backend import BackendError, Failure, SessionInfo, SessionSpec
from broker_stub.agent.execution import Execution, Result
from broker_stub.agent.identity import Address
from broker_stub.agent.journal import Journal
from broker_stub.agent.watch import Limits, Watch
from broker_stub.broker.events import AgentDisconnected, CommandExpired, CommandFinished, SessionsReported
from broker_stub.channel_commands import CommandBook, CommandResult, Expire, GiveUpChannel, Send, SendCancel
from tests.agent.small_host import SmallBackend, SmallFacts
from tests.broker.scene import START, Scene, server_block, tag_list

ROOMY = tag_list(**{"dcv_max_virtual_sessions": "-1", "dcv_max_concurrent_sessions_per_user": "100000"})


class Fault(Enum):
    """What may happen at a step."""

    CUT = auto()
    """The channel breaks; both sides notice."""
    CUT_UNNOTICED = auto()
    """The channel breaks; the broker learns of it only from the next hello."""
    SPLIT = auto()
    """The network is split: the channel breaks, and no other opens until the split heals."""
    DELAY = auto()
    """Nothing moves for longer than an acknowledgement may take, and the channel holds."""
    KILL_AGENT = auto()
    KILL_BROKER = auto()
    FILL_DISK = auto()
    """The journal's disk is full from now on, until it is emptied."""


Plan = Callable[[int, str], Fault | None]
"""Told the number and the name of each step; answers what goes wrong there."""


class MemoryDisk:
    """Where a journal is kept: outlives the process, may be full."""

    def __init__(self, step: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        self._lines: list[bytes] = []
        self._step = step
        self.is_full = False

    def lines(self) -> list[bytes]:
        return list(self._lines)

    async def append(self, line: bytes) -> None:
        await self._step("before a line of the journal")
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._lines.append(line)
        await self._step("after a line of the journal")

    async def replace(self, lines: Sequence[bytes]) -> None:
        await self._step("before a new journal")
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._lines = list(lines)

    def close(self) -> None:
        """Nothing to let go of."""


class SteppedBackend(SmallBackend):
    """Sessions of a host: they outlive its agent. Counts what was done for each command."""

    def __init__(self, step: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._step = step
        self.done: Counter[str] = Counter()

    def _count(self) -> None:
        """A command's task has its id for a name; what is removed after a hello is nobody's command."""
        task = asyncio.current_task()
        if task is not None and not task.get_name().startswith("Task-"):
            self.done[task.get_name()] += 1

    async def create(self, spec: SessionSpec) -> SessionInfo:
        await self._step("before a creation")
        self._count()
        self.appear(spec.session_id, owner=spec.owner, name=spec.name, type=spec.type)
        await self._step("after a creation")
        return self.sessions[spec.session_id]

    async def close(self, session_id: str, force: bool) -> None:
        await self._step("before a close")
        self._count()
        if self.sessions.pop(session_id, None) is None:
            raise BackendError(Failure.SESSION_NOT_FOUND, "There is no such session.")
        self.changed.set()
        await self._step("after a close")

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        await self._step("before new permissions")
        if session_id not in self.sessions:
            raise BackendError(Failure.SESSION_NOT_FOUND, "There is no such session.")
        self._count()
        self.permissions[session_id] = text
        await self._step("after new permissions")


@dataclass(eq=False)
class Link:
    """One channel; what is sent on a broken one is lost."""

    channel_id: str = ""
    is_up: bool = True
    is_greeted: bool = False
    to_agent: asyncio.Queue[tuple[str, Any]] = field(default_factory=asyncio.Queue)


class Host:
    """One server: what stays on it, and the process that is its agent just now.

    Args:
        world: Where it is.
        server_id: Its id.
    """

    def __init__(self, world: "World", server_id: str) -> None:
        self.world = world
        self.server_id = server_id
        self.disk = MemoryDisk(self._own_step)
        self.backend = SteppedBackend(self._own_step)
        self.epoch = 0
        self.is_split = False
        self.link: Link | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_dead = True

    async def _own_step(self, name: str) -> None:
        """A step of the agent's own; if it is killed there, nothing after it ever happens."""
        if asyncio.current_task() in self._tasks or self._is_command_running():
            await self.world.step(name, self)
        if self._is_dead:
            await asyncio.Event().wait()

    def _is_command_running(self) -> bool:
        return asyncio.current_task() in self.execution._running.values()

    # -------------------------------------------------------------- the process

    async def start(self) -> None:
        """A new process on what the last one left."""
        self.epoch += 1
        self.instance_id = f"{self.server_id}/{self.epoch}"
        self._is_dead = False
        self.watch = Watch(self.backend, SmallFacts(), dict, Limits(-1, 100_000))
        await self.watch.look()
        await self.watch.measure(Address("host", "198.18.0.1"))
        self.execution = Execution(self.backend, self.watch, Journal(self.disk), lambda: datetime.now(UTC))
        self.execution.deliver = self._send_result
        await self.in_process(self.execution.recover())

    async def in_process(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something as the process; returns when it is done or the process is dead."""
        await asyncio.wait([self._spawn(work)])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def kill(self) -> None:
        """End the process in the middle of whatever it does."""
        self._is_dead = True
        self.cut()
        for task in (*self._tasks, *self.execution._running.values()):
            task.cancel()
        self._tasks.clear()

    @property
    def is_dead(self) -> bool:
        return self._is_dead

    @property
    def is_idle(self) -> bool:
        """Nothing runs, nothing is promised, and all is told."""
        return (
            not self._is_dead
            and self.link is not None
            and self.link.is_greeted
            and self.link.to_agent.empty()
            and not self.execution._running
            and not self.execution.open_commands()
            and not self.backend.changed.is_set()
        )

    # -------------------------------------------------------------- the channel

    def connect(self) -> None:
        """Open a new channel and serve it."""
        self.link = Link(uuid.uuid4().hex)
        self._spawn(self._serve(self.link))

    def cut(self, *, is_noticed: bool = True) -> None:
        """Break the channel."""
        link, self.link = self.link, None
        if link is None:
            return
        link.is_up = False
        if is_noticed:
            self.world.lose(self, link)

    async def _serve(self, link: Link) -> None:
        await self.watch.look()
        hello = {
            "sessions": list(self.watch.sessions.values()),
            "openCommands": self.execution.open_commands(),
            "epoch": self.epoch,
            "instanceId": self.instance_id,
        }
        await self.world.step("a hello", self)
        if not link.is_up:
            return
        answer = self.world.greeted(self, link, hello)
        await self.world.step("the answer to a hello", self)
        if not link.is_up or answer is None:
            return
        for command_id in answer.forget_commands:
            await self.execution.forget(command_id)
        for session_id in answer.orphan_sessions:
            await self.execution.remove_orphan(session_id)
        link.is_greeted = True
        self._spawn(self._report(link))
        for result in self.execution.unsent_results():
            await self._send_result(result)
        while link.is_up:
            name, told = await link.to_agent.get()
            await self._hear(link, name, told)

    async def _hear(self, link: Link, name: str, told: Any) -> None:
        if name == "a command":
            ack, former = await self.execution.take(told)
            await self.world.step("an acknowledgement", self)
            if link.is_up:
                self.world.acknowledged(self, ack)
            if former is not None:
                await self._send_result(former)
        elif name == "a cancellation":
            self.execution.cancel(told)
        else:
            await self.execution.forget(told)

    async def _report(self, link: Link) -> None:
        while link.is_up:
            await self.backend.changed.wait()
            self.backend.changed.clear()
            await self.watch.look()
            while self.watch.is_outdated:
                await self.watch.look()
            sessions = list(self.watch.sessions.values())
            await self.world.step("a report", self)
            if link.is_up:
                self.world.reported(self, link, sessions)

    async def _send_result(self, result: Result) -> None:
        link = self.link
        if link is None or not link.is_greeted:
            return  # the journal has it, and the next hello finds it
        await self.world.step("a result", self)
        if link.is_up:
            await self.world.finished(self, link, result)


class World:
    """The broker, its hosts, and time.

    Args:
        plan: What goes wrong, and where.
        hosts: How many hosts there are.
        rules: Times and limits of the broker.
    """

    def __init__(self, plan: Plan, hosts: int = 2, **rules: Any) -> None:
        self.plan = plan
        self.scene = Scene(**rules)
        self.steps = 0
        self.names: list[str] = []
        self.faults: Counter[Fault] = Counter()
        self.hosts = [Host(self, f"s{number}") for number in range(1, hosts + 1)]
        self._books: dict[str, CommandBook] = {}

    async def step(self, name: str, host: Host) -> None:
        """Something is just going to happen on, or with, a host."""
        self.steps += 1
        self.names.append(name)
        fault = self.plan(self.steps, name)
        if fault is not None:
            self.faults[fault] += 1
            self.happen(fault, host)
        await asyncio.sleep(0)
        if fault is Fault.DELAY:
            await self.pump()  # the broker has waited long enough and sends again

    def happen(self, fault: Fault, host: Host) -> None:
        match fault:
            case Fault.CUT:
                host.cut()
            case Fault.CUT_UNNOTICED:
                host.cut(is_noticed=False)
            case Fault.SPLIT:
                host.cut()
                host.is_split = True
            case Fault.DELAY:
                self.scene.wait(6.0)
            case Fault.KILL_AGENT:
                host.kill()
            case Fault.FILL_DISK:
                host.disk.is_full = True
            case Fault.KILL_BROKER:
                self._books.clear()
                self.scene.restart()
                for one in self.hosts:
                    one.cut(is_noticed=False)

    # -------------------------------------------------------------- the broker's side of channels

    @property
    def clock(self) -> float:
        return (self.scene.now - START).total_seconds()

    def book(self, server_id: str) -> CommandBook:
        return self._books.setdefault(server_id, CommandBook())

    def lose(self, host: Host, link: Link) -> None:
        server = self.scene.registry.server(host.server_id)
        if server is not None and server.channel_id == link.channel_id:
            self.book(host.server_id).disconnect()
            self.scene.handle(AgentDisconnected(host.server_id, link.channel_id, False))

    def greeted(self, host: Host, link: Link, hello: dict[str, Any]) -> Any:
        answer = self.scene.hello(
            host.server_id,
            server_block(tags=ROOMY),
            sessions=hello["sessions"],
            openCommands=hello["openCommands"],
            epoch=hello["epoch"],
            instanceId=hello["instanceId"],
        )
        if not answer.accepted:
            host.cut()
            return None
        link.channel_id = self.scene.channel(host.server_id)
        self.deliver()
        known = {one["commandId"]: one["state"] for one in hello["openCommands"]}
        self.book(host.server_id).connect(known)
        return answer

    def acknowledged(self, host: Host, ack: dict[str, Any]) -> None:
        book = self.book(host.server_id)
        if ack["accepted"]:
            book.acknowledge(ack["commandId"])
        elif ack["code"] == "BUSY":
            book.postpone(ack["commandId"], self.clock + 1)
        elif ack["commandId"] in book:
            self._file(host, ack["commandId"], CommandResult(False, ack["code"], ack["message"]))

    def reported(self, host: Host, link: Link, sessions: list[dict[str, Any]]) -> None:
        self.scene.handle(SessionsReported(host.server_id, link.channel_id, True, True, sessions))
        self.deliver()

    async def finished(self, host: Host, link: Link, result: Result) -> None:
        told = CommandResult(result["success"], result["code"], result["message"], result["data"])
        self._file(host, result["commandId"], told)
        await self.step("the confirmation of a result", host)
        if link.is_up:
            link.to_agent.put_nowait(("a confirmation", result["commandId"]))

    def _file(self, host: Host, command_id: str, result: CommandResult) -> None:
        self.book(host.server_id).finish(command_id)
        channel_id = self.scene.channel(host.server_id)
        self.scene.handle(
            CommandFinished(
                host.server_id,
                channel_id,
                command_id,
                result.success,
                result.code,
                result.message,
                result.data,
            )
        )
        self.deliver()

    def deliver(self) -> None:
        """What the registry has decided goes into the books."""
        while self.scene.sent:
            command = self.scene.sent.pop(0)
            deadline = (command.deadline_at - START).total_seconds()
            self.book(command.server_id).add(
                command.command_id, command.kind, command.payload, deadline=deadline, attempt=command.attempt
            )
        while self.scene.cancelled:
            command_id = self.scene.cancelled.pop(0)
            for book in self._books.values():
                book.cancel(command_id)

    async def pump(self) -> None:
        """Send what is due on every channel."""
        for host in self.hosts:
            link = host.link
            if link is None or not link.is_greeted:
                continue
            for action in self.book(host.server_id).due_actions(self.clock):
                await self._act(host, link, action)

    async def _act(self, host: Host, link: Link, action: object) -> None:
        match action:
            case Send():
                request = {
                    "commandId": action.command_id,
                    "kind": action.kind,
                    "payload": action.payload,
                    "deadlineMs": 60_000,
                }
                await self.step("a command", host)
                if link.is_up:
                    link.to_agent.put_nowait(("a command", request))
            case SendCancel():
                await self.step("a cancellation", host)
                if link.is_up:
                    link.to_agent.put_nowait(("a cancellation", action.command_id))
            case Expire():
                self.scene.handle(CommandExpired(action.command_id))
                self.deliver()
            case GiveUpChannel():
                host.cut()

    # -------------------------------------------------------------- time

    async def turn(self, seconds: float = 0.0) -> None:
        """Let everything that can go on do so, and some time pass."""
        for host in self.hosts:
            if host.is_dead:
                await host.start()
            if host.link is None and not host.is_dead and not host.is_split:
                host.connect()
        self.scene.wait(seconds)
        if seconds:
            for host in self.hosts:
                host.backend.changed.set()  # an agent also reports when nothing has changed
        self.deliver()
        await self.pump()
        for _ in range(8):
            await asyncio.sleep(0)

    async def settle(self, turns: int = 4000) -> None:
        """Go on until nothing is left to do; full disks and split networks do not last."""
        for number in range(turns):
            if number % 50 == 0:
                for host in self.hosts:
                    host.disk.is_full = host.is_split = False
            await self.turn(1.0 if number % 10 == 9 else 0.0)
            if self._is_settled():
                return
        states = [session["State"] for session in self.scene.sessions()]
        busy = {host.server_id: host.execution.open_commands() for host in self.hosts if not host.is_idle}
        raise AssertionError(f"never settled: {states}, {list(self.scene.disk.commands)}, {busy}")

    def _is_settled(self) -> bool:
        is_quiet = not self.scene.disk.commands and all(host.is_idle for host in self.hosts)
        states = {session["State"] for session in self.scene.sessions()}
        return is_quiet and not states & {"CREATING", "DELETING"}

    async def end(self) -> None:
        """Take everything down."""
        for host in self.hosts:
            if not host.is_dead:
                host.kill()
        await asyncio.sleep(0)

    # -------------------------------------------------------------- what must be true

    def check(self, accepted: Sequence[str]) -> None:
        """Assert that nothing was done twice or forgotten, and that the API tells the truth.

        Args:
            accepted: Ids of the sessions that clients were told to get.
        """
        for host in self.hosts:
            twice = {name: count for name, count in host.backend.done.items() if count > 1}
            assert not twice, f"carried out twice on {host.server_id}: {twice}"
        shown = {session["Id"]: session for session in self.scene.sessions()}
        assert set(accepted) <= set(shown), "an accepted session is not shown any more"
        for session_id, session in shown.items():
            there = [host.server_id for host in self.hosts if session_id in host.backend.sessions]
            expected = [session["Server"]["Id"]] if session["State"] == "READY" else []
            assert there == expected, f"{session_id} is shown {session['State']} and is on {there}"
        on_hosts = {session_id for host in self.hosts for session_id in host.backend.sessions}
        assert on_hosts <= set(shown), "a host runs what nobody knows of"
        self.scene.check()
