"""The DCV server of this host as its command shows it: its sessions, and what it is.

Knows the commands that only look; what changes sessions is in `dcv_backend`.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from broker_stub.agent.backend import BackendError, Failure, Probe
from broker_stub.agent.dcv_command import DcvCommand
from broker_stub.agent.dcv_output import (
    DcvSession,
    NotReadable,
    read_endpoints,
    read_session,
    read_sessions,
    read_version,
)
from broker_stub.agent.dcv_start import DcvSettings

_PROBE_AGAIN_S = 600.0


class DcvServer:
    """A DCV server, looked at.

    Args:
        settings: Where its command is, and how long each question may take.
    """

    def __init__(self, settings: DcvSettings) -> None:
        self._settings = settings
        self._dcv = DcvCommand(settings.program)
        self._probed: tuple[float, Probe] | None = None

    async def run(self, *arguments: str, limit_s: float) -> bytes:
        """Run one command, see `DcvCommand.run`."""
        return await self._dcv.run(*arguments, limit_s=limit_s)

    async def probe(self) -> Probe:
        """Version and endpoints, asked for every ten minutes; not healthy if the command is missing."""
        if reason := self._dcv.missing:
            self._probed = None
            return Probe(version="", healthy=False, reason=reason)
        if self._probed is not None and time.monotonic() - self._probed[0] < _PROBE_AGAIN_S:
            return self._probed[1]
        version, endpoints = await asyncio.gather(
            self._answer("version"), self._answer("list-endpoints", "--json")
        )
        probe = Probe(version=read_version(version), endpoints=read_endpoints(endpoints))
        if version and endpoints:  # else the server is just starting or going: ask again next time
            self._probed = (time.monotonic(), probe)
        return probe

    async def _answer(self, *arguments: str) -> bytes:
        """What a command says, or nothing: what is only nice to know must not fail anything."""
        try:
            return await self.run(*arguments, limit_s=self._settings.probe_limit_s)
        except BackendError:
            return b""

    async def sessions(self) -> Sequence[DcvSession]:
        """Every session.

        Raises:
            BackendError: they are not known. That never means there are none.
        """
        try:
            output = await self.run("list-sessions", "--json", limit_s=self._settings.list_limit_s)
            sessions = read_sessions(output)
        except NotReadable as error:
            raise BackendError(
                Failure.DCV_SERVER_UNAVAILABLE, f"The DCV server's list of sessions cannot be read: {error}"
            ) from None
        except BackendError as error:
            raise BackendError(Failure.DCV_SERVER_UNAVAILABLE, error.message) from None
        # Old releases list ids only; `DcvCommand` lets four of these run at once.
        return await asyncio.gather(*(self._complete(one) for one in sessions))

    async def _complete(self, session: DcvSession) -> DcvSession:
        if not session.is_sparse or session.id.startswith("-"):
            return session
        try:
            return await self._described(session.id)
        except (BackendError, NotReadable):
            return session  # listed, so it is there; what is missing may come with the next look

    async def _described(self, session_id: str) -> DcvSession:
        limit_s = self._settings.list_limit_s
        return read_session(await self.run("describe-session", session_id, "--json", limit_s=limit_s))

    async def session(self, session_id: str) -> DcvSession | None:
        """All about one session, `None` if there is none of this id.

        Raises:
            BackendError: it cannot be told.
        """
        try:
            return await self._described(session_id)
        except NotReadable as error:
            raise BackendError(
                Failure.DCV_COMMAND_FAILED, f"The session cannot be described: {error}"
            ) from None
        except BackendError as error:
            if error.code is not Failure.DCV_COMMAND_FAILED or await self.has(session_id):
                raise
            return None

    async def has(self, session_id: str) -> bool:
        """Whether there is a session of this id.

        Raises:
            BackendError: it cannot be told.
        """
        return any(one.id == session_id for one in await self.sessions())

    async def told_apart(self, session_id: str, error: BackendError) -> BackendError:
        """The reason of a failure: there may simply be no such session (any more)."""
        if error.code is Failure.DCV_COMMAND_FAILED:
            with contextlib.suppress(BackendError):
                if not await self.has(session_id):
                    return BackendError(
                        Failure.SESSION_NOT_FOUND, f"There is no session {session_id!r} on this host"
                    )
        return error
