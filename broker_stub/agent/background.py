"""Work that goes on while nobody waits for it, and whose failure is still told."""

import asyncio
from collections.abc import Collection, Coroutine
from logging import Logger
from typing import Any


class Background:
    """Tasks of one owner, kept until they end.

    Args:
        logger: The owner's; takes the failure of a task, with its traceback.
        complaint: What has not been done when a task fails, half a sentence.
    """

    def __init__(self, logger: Logger, complaint: str) -> None:
        self._logger = logger
        self._complaint = complaint
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin something; the event loop alone would forget it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def cancel(self, spare: Collection[asyncio.Task[Any] | None] = ()) -> None:
        """Cancel whatever is under way.

        Args:
            spare: Tasks that are to reach their end.
        """
        for task in self._tasks.difference(spare):
            task.cancel()

    async def ended(self) -> None:
        """Wait for all there is now, however it ends."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._logger.error(self._complaint, exc_info=error)
