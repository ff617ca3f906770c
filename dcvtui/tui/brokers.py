"""One broker of the console: how it is reached, what keeps its fleet fresh, and what acts on it.

The console looks at one broker or at several; each works for itself, and one that
is away leaves the others as they are.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dcvtui.config import Connection
from dcvtui.errors import ProgramError
from dcvtui.fleet import Difference, Snapshot
from dcvtui.live import follow
from dcvtui.polling import Link, LinkState, Pace, Poller, Update

if TYPE_CHECKING:
    from dcvtui.client import BrokerClient
    from dcvtui.tui.flows import Flows


class Broker:
    """A broker that is looked at.

    Args:
        connection: how it is reached.
        make_client: makes its client.

    Attributes:
        client: there once the configuration could be used.
        flows: what acts on it, once it was needed.
    """

    def __init__(self, connection: Connection, make_client: Callable[[Connection], "BrokerClient"]) -> None:
        self.connection = connection
        self.client: BrokerClient | None = None
        self.flows: Flows | None = None
        self.poller: Poller | None = None
        self._make_client = make_client
        self._retry = asyncio.Event()

    async def work(self, take: Callable[[Update], None], pace: Pace, *, follows_changes: bool) -> None:
        """Connect, and follow the fleet for ever.

        Args:
            take: gets every update.
            pace: how often the broker is asked.
            follows_changes: listen to what it tells by itself, where it does.
        """
        async with await self._connected(take) as self.client, asyncio.TaskGroup() as tasks:
            self.poller = Poller(self.client, self.connection.name, pace=pace)
            if follows_changes:
                tasks.create_task(follow(self.client, self.poller))
            async for update in self.poller.updates():
                take(update)

    async def _connected(self, take: Callable[[Update], None]) -> "BrokerClient":
        """The client; a configuration that cannot be used is shown and tried again on a key."""
        while True:
            try:
                return self._make_client(self.connection)
            except ProgramError as error:
                link = Link(LinkState.STALE, error.sentence)
                take(Update(Snapshot(), Difference(), link, False, self.connection.name))
                self._retry.clear()
                await self._retry.wait()

    def refresh(self) -> None:
        """Ask now instead of later."""
        self._retry.set()
        if self.poller:
            self.poller.refresh()

    def now(self) -> datetime:
        """The present time by the broker's clock."""
        return self.poller.broker_now() if self.poller else datetime.now(UTC)
