"""How many commands an agent works on at once: a number that the broker may change meanwhile."""

import asyncio
import contextlib
from collections import deque


class Places:
    """How many commands may run at once; the number may change while some run.

    Args:
        most: The number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def most(self) -> int:
        """The number as of now."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        self._wake()

    async def __aenter__(self) -> None:
        if self._taken < self._most and not self._waiting:
            self._taken += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                self._leave()  # the place came at the moment of giving up
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._taken -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._taken < self._most:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                self._taken += 1
                turn.set_result(None)
