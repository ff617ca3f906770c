"""One simulated host: a backend whose sessions are records, with faults on request.

It does what it is told and nothing by itself; `simulated_backend` lets time pass.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from broker_stub.agent import simulated_host
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
from broker_stub.agent.simulated_desktop import Desktop, take_screenshot
from broker_stub.agent.simulated_fleet import PlannedServer, PlannedSession, Role
from broker_stub.agent.start_files import StartFileError, check_spelling
from dcvtui.api.states import SessionType

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of real fleets."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Faults:
    """What goes wrong on a simulated server from now on; everything can be changed while it runs."""

    slow_s: float = 0.0
    """Every command takes this much longer."""
    failing_create: str = ""
    """Creations fail with this sentence."""
    failing_share: float = 0.0
    """So many of all creations fail by chance, from 0 to 1."""
    stuck: bool = False
    """Commands that change sessions are never finished."""
    hanging_screenshot: bool = False
    """Screenshots are never finished."""
    unhealthy: str = ""
    """The session server does not answer: the reason in one sentence."""
    outside_user: bool = False
    """Somebody is logged in outside every session."""


class SimulatedServer:
    """One invented host as an agent's backend.

    Args:
        plan: What the host is.
        clock: Tells the time, aware UTC.
        is_still: Times and pictures stand still, and creating takes 0.3 s.
    """

    def __init__(self, plan: PlannedServer, clock: Clock = utc_now, *, is_still: bool = False) -> None:
        self.plan = plan
        self.faults = Faults(stuck=plan.role is Role.STUCK)
        self.changed = asyncio.Event()
        self._clock = clock
        self._is_still = is_still
        self._started_at = clock()
        self._random = Random(plan.fingerprint)  # noqa: S311  waiting times, not secrets
        self._sessions: dict[str, SessionInfo] = {}
        self._permissions: dict[str, str | None] = {}
        for session in plan.sessions:
            self.start_on_host(session)

    @property
    def sessions(self) -> tuple[SessionInfo, ...]:
        """What runs on the host now."""
        return tuple(self._sessions.values())

    def permissions(self, session_id: str) -> str | None:
        """The permissions text last given to a session, `None` for the defaults."""
        return self._permissions.get(session_id)

    def host_facts(self) -> dict[str, Any]:
        """The host block of a report, camel case as on the channel."""
        users = [session.owner for session in self._sessions.values()]
        clients = sum(session.num_of_connections for session in self._sessions.values())
        moment = self._picture_time().timestamp()
        return simulated_host.fixed_facts(self.plan) | simulated_host.metrics(
            self.plan, moment, users, clients
        )

    # ------------------------------------------------------------------ what happens on the host by itself

    def start_on_host(self, planned: PlannedSession) -> None:
        """A session appears without anybody having asked the agent."""
        now = self._clock()
        idle = None if planned.idle_s is None else timedelta(seconds=planned.idle_s)
        self._keep(
            SessionInfo(
                id=planned.id,
                name=planned.name,
                owner=planned.owner,
                type=planned.type,
                creation_time=now - timedelta(seconds=planned.age_s),
                last_disconnection_time=None if idle is None else now - idle,
                num_of_connections=planned.connections,
                max_concurrent_clients=planned.max_concurrent_clients,
            )
        )

    def end_on_host(self, session_id: str) -> None:
        """A session ends without anybody having asked the agent: its owner logged out."""
        self._permissions.pop(session_id, None)
        if self._sessions.pop(session_id, None):
            self.changed.set()

    def connect_client(self, session_id: str) -> None:
        """Somebody opens a session."""
        session = self._sessions[session_id]
        limit = session.max_concurrent_clients
        if limit is None or session.num_of_connections < limit:
            self._keep(replace(session, num_of_connections=session.num_of_connections + 1))

    def has_room_for_client(self, session_id: str) -> bool:
        """Whether one more person may and would look at a session: three are a crowd."""
        session = self._sessions[session_id]
        return session.num_of_connections < min(3, session.max_concurrent_clients or 3)

    def disconnect_client(self, session_id: str) -> None:
        """Somebody leaves a session, if anybody is there."""
        session = self._sessions[session_id]
        if session.num_of_connections:
            self._keep(
                replace(
                    session,
                    num_of_connections=session.num_of_connections - 1,
                    last_disconnection_time=self._clock(),
                )
            )

    def _keep(self, session: SessionInfo) -> None:
        self._sessions[session.id] = session
        self.changed.set()

    # ------------------------------------------------------------------ the backend

    async def probe(self) -> Probe:
        """See `Backend.probe`."""
        is_linux = self.plan.os_family == "linux"
        capabilities = {"screenshot", "console", "setPermissions", "storageRoot", "autorun"}
        return Probe(
            version=simulated_host.DCV_VERSION,
            endpoints=tuple(
                Endpoint(
                    port=one["port"],
                    protocol=one["protocol"],
                    web_url_path=one.get("webUrlPath"),
                    ip_address=one["ipAddress"],
                )
                for one in simulated_host.endpoints(self.plan)
            ),
            console_allowed=True,
            virtual_allowed=is_linux,
            healthy=not self.faults.unhealthy,
            reason=self.faults.unhealthy,
            capabilities=frozenset(capabilities | ({"virtual", "init", "gl"} if is_linux else set())),
        )

    async def list(self) -> list[SessionInfo]:
        """See `Backend.list`."""
        if self.faults.unhealthy:
            raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, self.faults.unhealthy)
        return list(self._sessions.values())

    async def create(self, spec: SessionSpec) -> SessionInfo:
        """See `Backend.create`."""
        await self._take_time(0.3, 0.3) if self._is_still else await self._take_time(0.5, 3.0)
        if self.faults.failing_create:
            raise BackendError(Failure.DCV_COMMAND_FAILED, self.faults.failing_create)
        if self._random.random() < self.faults.failing_share:
            raise BackendError(Failure.DCV_COMMAND_FAILED, "The session's desktop ended at once, by chance")
        if present := self._sessions.get(spec.session_id):
            if (present.owner, present.type) == (spec.owner, spec.type):
                return present
            raise BackendError(
                Failure.SESSION_ID_CONFLICT,
                f"A session with the id {spec.session_id} already runs here for {present.owner}",
            )
        self._refuse_impossible(spec)
        self._permissions[spec.session_id] = spec.permissions
        session = SessionInfo(
            id=spec.session_id,
            name=spec.name,
            owner=spec.owner,
            type=spec.type,
            creation_time=self._clock(),
            storage_root=(spec.storage_root or "").replace("%home%", self._home(spec.owner)),
            max_concurrent_clients=spec.max_concurrent_clients,
        )
        self._keep(session)
        return session

    async def close(self, session_id: str, force: bool) -> None:
        """See `Backend.close`."""
        self._present(session_id)
        await self._take_time(0.0, 0.1) if force or self._is_still else await self._take_time(0.3, 1.2)
        self.end_on_host(session_id)

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        """See `Backend.set_permissions`."""
        self._present(session_id)
        await self._take_time(0.0, 0.1)
        self._permissions[session_id] = text

    async def screenshot(
        self, session_id: str, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Sequence[Image]:
        """See `Backend.screenshot`."""
        session = self._present(session_id)
        if self.faults.hanging_screenshot:
            await asyncio.Event().wait()
        if self.faults.slow_s:
            await asyncio.sleep(self.faults.slow_s)
        seed = int.from_bytes(
            hashlib.blake2b(f"{self.plan.server_id}/{session.id}".encode(), digest_size=4).digest()
        )
        desktop = Desktop(seed, session.name, session.owner, is_windows=self.plan.os_family == "windows")
        moment = self._picture_time()
        return [
            await asyncio.to_thread(take_screenshot, desktop, moment, max_width, max_height, image_format),
        ]

    async def connections(self, session_id: str) -> int:
        """See `Backend.connections`."""
        return self._present(session_id).num_of_connections

    async def stop(self) -> None:
        """See `Backend.stop`: there is nothing to let go of."""

    # ------------------------------------------------------------------ details

    def _picture_time(self) -> datetime:
        return self._started_at if self._is_still else self._clock()

    def _present(self, session_id: str) -> SessionInfo:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise BackendError(
                Failure.SESSION_NOT_FOUND, f"There is no session {session_id} on {self.plan.hostname}"
            ) from None

    async def _take_time(self, least_s: float, most_s: float) -> None:
        if self.faults.stuck:
            await asyncio.Event().wait()
        await asyncio.sleep(self._random.uniform(least_s, most_s) + self.faults.slow_s)

    def _home(self, owner: str) -> str:
        return f"C:\\Users\\{owner}" if self.plan.os_family == "windows" else f"/home/{owner}"

    def _refuse_impossible(self, spec: SessionSpec) -> None:
        if spec.type is SessionType.VIRTUAL and self.plan.os_family == "windows":
            raise BackendError(Failure.TYPE_NOT_SUPPORTED, "Virtual sessions run on Linux hosts only")
        kinds = {session.type for session in self._sessions.values()}
        if SessionType.CONSOLE in kinds or (spec.type is SessionType.CONSOLE and kinds):
            raise BackendError(
                Failure.CONSOLE_BUSY,
                "A console session excludes every other session on its host, and one is running",
            )
        for name, failure in (
            # The deprecated absolute spelling: every file of an invented host lies in its init folder.
            (spec.init_file and spec.init_file.removeprefix("/"), Failure.INIT_FILE_INVALID),
            (spec.autorun_file, Failure.AUTORUN_FILE_INVALID),
        ):
            if name is not None:
                try:
                    check_spelling(name)
                except StartFileError as error:
                    raise BackendError(failure, str(error)) from None
