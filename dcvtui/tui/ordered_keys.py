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
from textual.driver import Driver
from textual.message_pump import MessagePump

# Enter in an input: the key travels up to the application, which runs the input's action; what the
# input posts then travels up to the screen, which moves the focus. A screen that is pushed is the
# third: it takes the focus once it is composed.
_TRIPS = 3
# Two looks without a step between them: a single late one only tells that the program was busy.
_LOOK_S = 0.25


Typed = events.Key | events.Paste


class OrderedKeysApp(App[ReturnType]):
    """An application that takes keys one after the other."""

    def __init__(self, driver_class: type[Driver] | None = None) -> None:
        super().__init__(driver_class=driver_class)
        self._waiting_keys: deque[Typed] = deque()
        self._key_number = 0
        self._steps = 0
        self._is_key_under_way = False
        self._limit: asyncio.TimerHandle | None = None

    async def on_event(self, event: events.Event) -> None:
        """Hold a key back while the one before is under way."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._waiting_keys.extend(_apart(event))
        if not self._is_key_under_way:
            self._is_key_under_way = True
            await self._begin_key(self._waiting_keys.popleft())

    async def _begin_key(self, event: Typed) -> None:
        self._key_number += 1
        number = self._key_number
        self._look_after(number, self._steps)
        await super().on_event(event)
        self._follow_key(number, _TRIPS)

    def _look_after(self, number: int, steps_before: int, *, is_second: bool = False) -> None:
        """A widget that goes away takes its queue along; keys must not wait for it for ever."""

        def look() -> None:
            if number != self._key_number:
                return  # the key has long had its effect
            is_still = is_second and self._steps == steps_before
            if is_still:
                self._end_key(number)
            else:
                self._look_after(number, self._steps, is_second=True)

        self._limit = asyncio.get_running_loop().call_later(_LOOK_S, look)

    def _follow_key(self, number: int, trips: int) -> None:
        """Follow the way of a key from the focused widget up to the application, a few times."""
        if not trips:
            self._end_key(number)
            return
        nodes: list[DOMNode] = list((self.focused or self.screen).ancestors_with_self)
        route: list[MessagePump] = [node for node in nodes if node is not self and node.is_running]

        def hop(stops: list[MessagePump]) -> None:
            self._steps += 1
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


def _apart(event: Typed) -> list[Typed]:
    """The keys of an event: `esc` and a letter in one read look like a letter with alt; we use none."""
    if isinstance(event, events.Key) and event.key.startswith("alt+") and event.is_printable:
        character = event.character or ""
        return [events.Key("escape", "\x1b"), events.Key(character, character)]
    return [event]
