"""Carries out what the registry decides, in order: store the changes, deliver the commands, answer.

Everything that happens goes through `apply`. An answer or a command leaves only
after what it rests on is durable, so that a broker that dies forgets nothing it
said. The registry stays free of I/O; this is the part around it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker_stub.broker.events import (
    Accepted,
    ClockAdvanced,
    Command,
    CommandFinished,
    Event,
    Outcome,
    PermissionsUpdateRequested,
    RemoveCommand,
    ServerClosingRequested,
    ServerOpeningRequested,
    SessionDeletionRequested,
    SessionRequested,
)
from broker_stub.broker.registry import Registry
from broker_stub.broker.store import Store, StoreUnavailable
from broker_stub.channel_commands import CommandResult

logger = logging.getLogger(__name__)

_ASKED_WITHIN_S = 60.0  # whoever was to ask may have gone away
_TICK_S = 1.0
_LONGEST_LOOK_S = 0.25  # events may bring the next moment nearer without telling this clock
_SHORTEST_LOOK_S = 0.005

# What clients ask for is refused before it changes anything while the store is down; what agents
# tell is taken, for it has happened already.
_REQUESTS = (
    SessionRequested,
    SessionDeletionRequested,
    PermissionsUpdateRequested,
    ServerOpeningRequested,
    ServerClosingRequested,
)


def utc_now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Step:
    """One event on its way from the registry's decision to its answer."""

    outcome: Outcome
    written: Awaitable[None]
    answered: asyncio.Future[Any]


def _nobody_listens(command: Command) -> None:
    logger.warning("A command for an agent was dropped: no listener is attached (%s).", command)


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():  # whoever waited was cancelled
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class Coordinator:
    """The one way into the registry.

    Warning:
        Nothing else may call `Registry.handle`: changes would be lost and commands overtake them.

    Args:
        registry: Decides.
        store: Keeps.
        now: The clock.

    Attributes:
        deliver: Takes each command once its changes are stored; the agent listener sets it.
        database_errors: How many writes failed.
        changed: Called when a server or session has changed; who tells others of it sets it.
    """

    def __init__(self, registry: Registry, store: Store, now: Callable[[], datetime] = utc_now) -> None:
        self.registry = registry
        self.deliver: Callable[[Command], None] = _nobody_listens
        self.changed: Callable[[], None] = lambda: None
        self.database_errors = 0
        self._store = store
        self._now = now
        self._steps: asyncio.Queue[_Step] = asyncio.Queue()
        self._awaited: dict[str, asyncio.Future[CommandResult]] = {}
        self._store_failed = False
        self._held: list[Command] = []

    @property
    def is_store_down(self) -> bool:
        """Whether the last attempt to store something failed."""
        return self._store_failed

    def apply(self, event: Event) -> Awaitable[Any]:
        """Let the registry decide on an event now; the result may be awaited once it is durable.

        Args:
            event: What happened.

        Returns:
            An awaitable of the registry's result. It raises `StoreUnavailable` when the changes
            could not be stored. It need not be awaited.
        """
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        # Whoever only tells an event need not look at what came of it.
        answered.add_done_callback(_look_at)
        if self._store_failed and isinstance(event, _REQUESTS):
            answered.set_exception(StoreUnavailable("the last attempt to write failed"))
            return answered
        number = self.registry.change_number
        outcome = self.registry.handle(event, self._now())
        if self.registry.change_number != number:
            self.changed()
        self._note_results(event, outcome)
        if not outcome.changes and not outcome.commands:
            answered.set_result(outcome.result)
            return answered
        self._carry(outcome, answered)
        return answered

    async def result_of(self, command_id: str, timeout_s: float) -> CommandResult | None:
        """How a permissions command ended; `None` when no answer came in time.

        Each command is asked about once.
        """
        future = self._awaited.get(command_id)
        if future is None:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._awaited.pop(command_id, None)

    async def run(self) -> None:
        """Carry out decisions and keep the registry's clock going, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._carry_out())
            tasks.create_task(self._keep_time())

    async def settle(self) -> None:
        """Wait until everything decided so far is stored and answered."""
        await self._steps.join()

    def _note_results(self, event: Event, outcome: Outcome) -> None:
        if isinstance(event, CommandFinished):
            future = self._awaited.get(event.command_id)
            if future and not future.done():
                future.set_result(CommandResult(event.success, event.code, event.message, event.data))
        elif isinstance(event, PermissionsUpdateRequested):
            command_id = outcome.result.command_id if isinstance(outcome.result, Accepted) else None
            if command_id:
                # Before the command leaves, or a quick agent would answer a question not yet asked.
                loop = asyncio.get_running_loop()
                self._awaited[command_id] = loop.create_future()
                loop.call_later(_ASKED_WITHIN_S, self._awaited.pop, command_id, None)

    def _carry(self, outcome: Outcome, answered: asyncio.Future[Any]) -> None:
        # Begun at once and awaited in order: changes of many events share one commit.
        written = asyncio.ensure_future(self._store.write(outcome.changes))
        self._steps.put_nowait(_Step(outcome, written, answered))

    async def _carry_out(self) -> None:
        while True:
            step = await self._steps.get()
            try:
                await step.written
            except StoreUnavailable as error:
                self.database_errors += 1
                if not self._store_failed:
                    logger.warning("The store cannot be written: %s. Changes are refused.", error)
                self._store_failed = True
                # The store keeps the rows and writes them first when it is back; their commands wait.
                self._held += step.outcome.commands
                _answer(step.answered, error)
            else:
                self._store_failed = False
                commands, self._held = [*self._held, *step.outcome.commands], []
                self._deliver(commands)
                _answer(step.answered, step.outcome.result)
            finally:
                self._steps.task_done()

    def _look_at_store(self) -> None:
        """Find out whether the store is back; it writes what it kept together with anything new."""
        answered = asyncio.get_running_loop().create_future()
        answered.add_done_callback(_look_at)
        self._carry(Outcome(changes=[RemoveCommand("")]), answered)

    def _deliver(self, commands: list[Command]) -> None:
        for command in commands:
            try:
                self.deliver(command)
            except Exception:
                # Channel boundary: one agent's trouble must not stop what everybody else waits for.
                logger.exception("The command for server %s could not be handed over.", command.server_id)

    async def _keep_time(self) -> None:
        loop = asyncio.get_running_loop()
        ticked_at = loop.time()
        while True:
            now = self._now()
            due = self.registry.next_wakeup(now)
            wait_s = _LONGEST_LOOK_S if due is None else (due - now).total_seconds()
            if wait_s <= 0 or loop.time() - ticked_at >= _TICK_S:
                self.apply(ClockAdvanced())
                if self._store_failed:
                    self._look_at_store()
                ticked_at = loop.time()
            await asyncio.sleep(min(max(wait_s, _SHORTEST_LOOK_S), _LONGEST_LOOK_S))
