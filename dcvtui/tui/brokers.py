"""The brokers of the console: how each is reached, what keeps its fleet fresh, and what acts on it.

The console looks at one broker or at several; each works for itself, and one that
is away leaves the others as they are.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dcvtui.config import Connection
from dcvtui.errors import ProgramError
from dcvtui.fleet import Difference, Key, SessionRecord, Snapshot
from dcvtui.live import follow
from dcvtui.polling import Link, LinkState, Pace, Poller, Update
from dcvtui.shots import Shots, read_shots

if TYPE_CHECKING:
    from textual.worker import Worker

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
        worker: what `work` runs in.
    """

    def __init__(self, connection: Connection, make_client: Callable[[Connection], "BrokerClient"]) -> None:
        self.connection = connection
        self.client: BrokerClient | None = None
        self.flows: Flows | None = None
        self.poller: Poller | None = None
        self.worker: Worker[None] | None = None
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


class Brokers:
    """The brokers that are looked at now, by the names of their profiles; never none.

    Args:
        make_client: makes the client of each.
    """

    def __init__(self, make_client: Callable[[Connection], "BrokerClient"]) -> None:
        self._make_client = make_client
        self._brokers: dict[str, Broker] = {}

    def __getitem__(self, profile: str) -> Broker:
        return self._brokers[profile]

    def __iter__(self) -> Iterator[Broker]:
        return iter(self._brokers.values())

    def __len__(self) -> int:
        return len(self._brokers)

    def replace(self, connections: Sequence[Connection]) -> tuple[list[Broker], list[Broker]]:
        """Look at these from now on.

        Returns:
            Those that came and those that went; the caller starts and stops them.
        """
        before = self._brokers
        self._brokers = {
            one.name: before.get(one.name) or Broker(one, self._make_client) for one in connections
        }
        came = [broker for name, broker in self._brokers.items() if name not in before]
        return came, [broker for name, broker in before.items() if name not in self._brokers]

    def connections(self) -> list[Connection]:
        """How each is reached."""
        return [broker.connection for broker in self]

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be changed on any of them."""
        return all(broker.connection.read_only for broker in self)

    def now(self) -> datetime:
        """The present time by the clock of the first."""
        return next(iter(self)).now()

    def refresh(self) -> None:
        """Ask all of them now."""
        for broker in self:
            broker.refresh()

    def show(self, servers: Iterable[Key], sessions: Iterable[Key]) -> None:
        """Ask for what is on screen more often than for the rest."""
        for name, broker in self._brokers.items():
            if broker.poller:
                broker.poller.show(_of_profile(name, servers), _of_profile(name, sessions))

    async def take_pictures(
        self, sessions: Sequence[SessionRecord], width: int, height: int
    ) -> Mapping[str, Shots]:
        """Ask for the pictures of some sessions, each at its own broker.

        Raises:
            ProgramError: there was no answer.
        """
        found: dict[str, Shots] = {}
        for profile, broker in self._brokers.items():
            some = [session.id for session in sessions if session.profile == profile]
            items = [{"SessionId": one, "MaxWidth": width, "MaxHeight": height} for one in some]
            if items and broker.client is not None:
                found.update(read_shots((await broker.client.screenshots(items)).model))
        return found

    def look_for(self, keys: Sequence[Key], *, are_sessions: bool) -> None:
        """Ask again where something was done, also for sessions that are not known yet."""
        for name, broker in self._brokers.items():
            if broker.poller and (own := _of_profile(name, keys)):
                broker.poller.refresh(key[-1] for key in own if key[-1] and are_sessions)

    def stop_work(self) -> bool:
        """Stop what is being sent; False if nothing is."""
        stopped = [broker.flows.cancel() for broker in self if broker.flows]
        return any(stopped)


def _of_profile(name: str, keys: Iterable[Key]) -> list[Key]:
    return [key for key in keys if key[0] == name]
