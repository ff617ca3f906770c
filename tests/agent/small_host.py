"""A whole server for tests, made of small real parts: a backend in memory, fixed facts, an agent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker_stub.agent.access import BrokerAccess, BrokerAddress
from broker_stub.agent.backend import (
    BackendError,
    Endpoint,
    Failure,
    Image,
    ImageFormat,
    Probe,
    SessionInfo,
    SessionSpec,
)
from broker_stub.agent.conversation import Pace
from broker_stub.agent.identity import Address, FixedIdentity, Identity
from broker_stub.agent.journal import Journal
from broker_stub.agent.journal_file import JournalFile
from broker_stub.agent.service import Agent
from broker_stub.agent.watch import Limits
from dcvtui.api.states import SessionType


async def until(is_so: Callable[[], object], within_s: float = 30.0) -> None:
    """Wait for a condition; a test that waits in vain says so."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110  conditions of running programs have no event
            await asyncio.sleep(0.01)


async def until_async(is_so: Callable[[], Awaitable[object]], within_s: float = 30.0) -> None:
    """Wait for a condition that has to be asked for."""
    async with asyncio.timeout(within_s):
        while not await is_so():  # noqa: ASYNC110  conditions of running programs have no event
            await asyncio.sleep(0.02)


class SmallBackend:
    """Sessions as entries of a dictionary; it counts its calls and can be held up or made to fail."""

    def __init__(self) -> None:
        self.sessions: dict[str, SessionInfo] = {}
        self.permissions: dict[str, str | None] = {}
        self.specs: list[SessionSpec] = []
        self.calls: list[str] = []
        self.picture = b"a picture"
        self.is_listable = True
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._changed = asyncio.Event()

    @property
    def changed(self) -> asyncio.Event:
        return self._changed

    async def probe(self) -> Probe:
        return Probe(
            version="test",
            endpoints=(Endpoint(port=8443),),
            console_allowed=True,
            virtual_allowed=True,
            capabilities=frozenset(("screenshot", "virtual", "console", "setPermissions")),
        )

    async def list(self) -> list[SessionInfo]:
        if not self.is_listable:
            raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, "The server is down.")
        return list(self.sessions.values())

    async def create(self, spec: SessionSpec) -> SessionInfo:
        self.calls.append("create")
        self.specs.append(spec)
        await self.go_on.wait()
        if spec.owner == "nobody":
            raise BackendError(Failure.OWNER_NOT_FOUND, "Specified user is not a local user")
        self.appear(spec.session_id, owner=spec.owner, name=spec.name, type=spec.type)
        return self.sessions[spec.session_id]

    async def close(self, session_id: str, force: bool) -> None:
        self.calls.append("close")
        await self.go_on.wait()
        if self.sessions.pop(session_id, None) is None:
            raise BackendError(Failure.SESSION_NOT_FOUND, "There is no such session.")
        self._changed.set()

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        self.calls.append("set_permissions")
        self.permissions[session_id] = text

    async def screenshot(
        self, session_id: str, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Sequence[Image]:
        self.calls.append("screenshot")
        await self.go_on.wait()
        if session_id not in self.sessions:
            raise BackendError(Failure.SESSION_NOT_FOUND, "There is no such session.")
        return [
            Image(
                format=image_format,
                primary=True,
                creation_time=datetime.now(UTC),
                data=self.picture,
                width=max_width or 1,
                height=max_height or 1,
            )
        ]

    async def connections(self, session_id: str) -> int:
        info = self.sessions.get(session_id)
        return info.num_of_connections if info else 0

    async def stop(self) -> None:
        """Nothing to let go of."""

    def appear(
        self,
        session_id: str,
        *,
        owner: str = "ana",
        name: str = "",
        type: SessionType = SessionType.VIRTUAL,
        connections: int = 0,
    ) -> None:
        """A session is there, whoever made it."""
        self.sessions[session_id] = SessionInfo(
            id=session_id,
            name=name,
            owner=owner,
            type=type,
            creation_time=datetime(2026, 3, 30, 12, tzinfo=UTC),
            num_of_connections=connections,
        )
        self._changed.set()

    def disappear(self, session_id: str) -> None:
        """A session ends by itself."""
        del self.sessions[session_id]
        self._changed.set()


class SmallFacts:
    """The facts of a host that has little to say."""

    def __init__(self, family: str = "linux") -> None:
        self.family = family
        self.has_user = False
        self.load = 0.5

    async def read(self) -> dict[str, Any]:
        return {
            "os": {"family": self.family, "name": "Test OS"},
            "memory": {"totalBytes": 8 * 2**30, "usedBytes": 2**30},
            "cpuLoadAverage": {"oneMinute": self.load, "fiveMinutes": 0.4, "fifteenMinutes": 0.3},
            "cpuInfo": {"numberOfCpus": 4},
            "gpus": [],
            "loggedInUsers": [],
        }

    def has_outside_user(self) -> bool:
        return self.has_user


class SmallHost:
    """One server: what stays when its agent is stopped and started again.

    Args:
        access: The way to the broker.
        number: Tells several hosts of one test apart.
        folder: Where the journal is; nothing keeps it in memory, over restarts of the agent too.
    """

    def __init__(
        self, access: BrokerAccess, number: int = 1, *, folder: Path | None = None, pace: Pace | None = None
    ) -> None:
        self.access = access
        self.pace = pace or Pace(update_interval_s=1)
        self.identity = Identity(
            server_id=f"server-{number}",
            address=Address(f"host-{number}", f"198.18.0.{number}", f"host-{number}.example"),
            fingerprint=f"machine-{number}",
            epoch=0,
        )
        self.backend = SmallBackend()
        self.facts = SmallFacts()
        self.tags: dict[str, str] = {"color": "blue"}
        self.limits = Limits(max_concurrent_sessions_per_user=10)
        self._folder = folder
        self._journal = Journal()

    def agent(self, *, same_epoch: bool = False) -> Agent:
        """A new process of this host's agent."""
        if not same_epoch:
            self.identity = replace(self.identity, epoch=self.identity.epoch + 1)
        return Agent(
            FixedIdentity(self.identity),
            self.access,
            self.backend,
            self.facts,
            tags=lambda: self.tags,
            limits=self.limits,
            journal=Journal(JournalFile(self._folder / "journal")) if self._folder else self._journal,
            pace=self.pace,
            chance=lambda: 0.05,
        )

    @contextlib.asynccontextmanager
    async def running(self, agent: Agent | None = None) -> AsyncIterator[Agent]:
        """The agent runs for the length of the block and is connected at its beginning."""
        agent = agent or self.agent()
        task = asyncio.create_task(agent.run())
        try:
            await until(lambda: agent.is_connected or task.done())
            yield agent
        finally:
            agent.stop()
            await asyncio.wait_for(task, 10)


def access_to(agent_url: str, ca_file: Path | None) -> BrokerAccess:
    """The way to a broker of a test."""
    parts = urlsplit(agent_url)
    return BrokerAccess(BrokerAddress(parts.hostname or "", parts.port or 0, ca_file), "test-agent")
