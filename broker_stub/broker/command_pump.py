"""Sends what is due over one agent's channel, when it is due: commands, cancellations, the pace of reports.

The book of the server's commands says what and when (`broker_stub.channel_commands`);
here are the task that sends and the timer that wakes it. One pump lives as long as its
channel speaks for the server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.websockets import WebSocketDisconnect

from broker_stub.channel_commands import Action, CommandBook

SEND_WITHIN_S = 10.0
"""An agent that takes so long to read one message does not read at all."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Tell the agent how many seconds shall at least lie between two of its reports."""

    least_interval_s: int


class CommandPump:
    """The sender of one channel.

    Args:
        book: What is to be sent; nobody else asks it what is due.
        own_interval_s: Seconds between two reports of the agent as it said itself.
        act: Sends one action; may raise `WebSocketDisconnect`, then whoever reads the channel
            knows as well.
        give_up: Called when the agent does not read.
        clock: Seconds, only moving forward.
    """

    def __init__(
        self,
        book: CommandBook,
        own_interval_s: int,
        act: Callable[[Action | Pace], Awaitable[None]],
        give_up: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.book = book
        self._own_interval_s = own_interval_s
        self._interval_s = own_interval_s
        self._act = act
        self._give_up = give_up
        self._clock = clock
        self._pace_due: Pace | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def pace(self, least_s: int) -> None:
        """Tell the agent to let so many seconds pass between two reports, if it does not do so anyway."""
        wanted_s = max(least_s, self._own_interval_s)
        if wanted_s != self._interval_s:
            self._interval_s, self._pace_due = wanted_s, Pace(least_s)
            self.run()

    def run(self) -> None:
        """Send what is due; called whenever the book may have something new."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())

    def stop(self) -> None:
        """Send nothing more: another channel speaks for the server, or none."""
        self._wake_at(None)
        self.book.disconnect()
        if self._task is not None:
            self._task.cancel()

    async def _send_all(self) -> None:
        try:
            while actions := self._due():
                for action in actions:
                    async with asyncio.timeout(SEND_WITHIN_S):
                        await self._act(action)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            self._give_up()
            return
        self._wake_at(self.book.next_wakeup())

    def _due(self) -> list[Action | Pace]:
        pace, self._pace_due = self._pace_due, None
        return [*([pace] if pace else []), *self.book.due_actions(self._clock())]

    def _wake_at(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            wait_s = max(0.0, when - self._clock())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.run)
