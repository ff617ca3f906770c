"""An application that finishes one key before it begins the next, so that typing ahead is safe.

Over a slow line several keys arrive in one read. Textual sends each to the widget
that has the focus at that moment, while what the key before does (open a line,
close it, push a screen) still travels through message queues: `/ana` would then
open a filter line and details, and the key after `enter` would be typed into a
line that is closing. Here a key waits until the one before has had its effect.
"""

import asyncio
from collections import deque

from textual import events
from textual.app import App, ReturnType
from textual.dom import DOMNode
from textual.message_pump import MessagePump

# Enter in an input: the key travels up to the application, which runs the input's action; what the
# input posts then travels up to the screen, which moves the focus. A screen that is pushed is the
# third: it takes the focus once it is composed.
_TRIPS = 3
_AT_MOST_S = 0.5


class OrderedKeysApp(App[ReturnType]):
    """An application that takes keys one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting_keys: deque[events.Key] = deque()
        self._key_number = 0
        self._is_key_under_way = False
        self._limit: asyncio.TimerHandle | None = None

    async def on_event(self, event: events.Event) -> None:
        """Hold a key back while the one before is under way."""
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
        elif self._is_key_under_way:
            self._waiting_keys.append(event)
        else:
            self._is_key_under_way = True
            await self._begin_key(event)

    async def _begin_key(self, event: events.Key) -> None:
        self._key_number += 1
        number = self._key_number
        # A widget that goes away takes its queue along; keys must not wait for it for ever.
        self._limit = asyncio.get_running_loop().call_later(_AT_MOST_S, self._end_key, number)
        await super().on_event(event)
        self._follow_key(number, _TRIPS)

    def _follow_key(self, number: int, trips: int) -> None:
        """Follow the way of a key from the focused widget up to the application, a few times."""
        if not trips:
            self._end_key(number)
            return
        nodes: list[DOMNode] = list((self.focused or self.screen).ancestors_with_self)
        route: list[MessagePump] = [node for node in nodes if node is not self and node.is_running]

        def hop(stops: list[MessagePump]) -> None:
            if stops:
                stops[0].call_later(hop, stops[1:])
            else:
                self.call_later(self._follow_key, number, trips - 1)

        hop(route)

    def _end_key(self, number: int) -> None:
        if number != self._key_number:
            return  # the timer of a key that has long had its effect
        self._key_number += 1
        if self._limit:
            self._limit.cancel()
        if self._waiting_keys:
            self.call_next(self._begin_key, self._waiting_keys.popleft())
        else:
            self._is_key_under_way = False
