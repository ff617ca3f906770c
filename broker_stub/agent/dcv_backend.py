"""Sessions of a real DCV server, through its command line.

The server owns the sessions; the agent's restart means nothing to them. All state
comes from one `list-sessions` every few seconds and after each change, so the cost
does not grow with their number (DCV server specification, 2).
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker_stub.agent.backend import (
    BackendError,
    Failure,
    Image,
    ImageFormat,
    Probe,
    SessionInfo,
    SessionSpec,
)
from broker_stub.agent.background import Background
from broker_stub.agent.dcv_files import SESSION_ID, SessionFiles
from broker_stub.agent.dcv_output import DcvSession, NotReadable, read_connections, read_picture
from broker_stub.agent.dcv_server import DcvServer
from broker_stub.agent.dcv_start import DcvSettings, Start, create_arguments, plan_start, start_autorun
from broker_stub.agent.pictures import size_of
from broker_stub.agent.processes import Children
from dcvtui.api.states import SessionType

logger = logging.getLogger(__name__)

_LINUX_CAPABILITIES = frozenset(
    ("screenshot", "virtual", "console", "init", "autorun", "gl", "storageRoot", "setPermissions")
)
_WINDOWS_CAPABILITIES = frozenset(("screenshot", "console", "storageRoot", "setPermissions"))
_GONE_AFTER_LOOKS = 2


class DcvBackend:
    """The backend of one host with a DCV server. Made by `open`, which begins to poll.

    Args:
        settings: How it works.
    """

    def __init__(self, settings: DcvSettings) -> None:
        self.changed = asyncio.Event()
        self._settings = settings
        self._server = DcvServer(settings)
        self._files = SessionFiles(settings.state_folder)
        self._hidden: set[str] = set()
        self._first_seen: dict[str, datetime] = {}
        self._last: tuple[SessionInfo, ...] | str | None = None
        self._background = Background(logger, "the DCV server could not be watched")
        self._undoing: set[asyncio.Task[Any] | None] = set()
        self._settled = 0
        self._children = Children()

    @classmethod
    async def open(cls, settings: DcvSettings) -> "DcvBackend":
        """Start the backend; whether the server answers shows with the first look."""
        backend = cls(settings)
        backend._background.start(backend._poll())
        return backend

    # ------------------------------------------------------------------ the backend

    async def probe(self) -> Probe:
        """See `Backend.probe`."""
        probe = await self._server.probe()
        is_windows = self._settings.is_windows
        return replace(
            probe,
            console_allowed=self._settings.console_allowed,
            virtual_allowed=not is_windows,
            capabilities=_WINDOWS_CAPABILITIES if is_windows else _LINUX_CAPABILITIES,
        )

    async def list(self) -> list[SessionInfo]:
        """See `Backend.list`."""
        return [self._info(one) for one in await self._listed() if one.id not in self._hidden]

    async def create(self, spec: SessionSpec) -> SessionInfo:
        """See `Backend.create`: READY only once `dcv` shows a display and the session has stayed."""
        sessions = [self._info(one) for one in await self._listed()]
        if present := next((one for one in sessions if one.id == spec.session_id), None):
            return _same(spec, present)
        if spec.session_id in self._hidden:
            raise BackendError(Failure.SESSION_ID_CONFLICT, "A session of this id is just starting or ending")
        if not SESSION_ID.fullmatch(spec.session_id):
            raise BackendError(Failure.DCV_COMMAND_FAILED, f"{spec.session_id!r} cannot be a session id here")
        _check_company(spec, sessions)
        self._hidden.add(spec.session_id)
        try:
            start = await asyncio.to_thread(plan_start, spec, self._settings)
        except BaseException:
            self._hidden.discard(spec.session_id)
            raise
        try:
            async with asyncio.timeout(self._settings.create_limit_s):
                info = await self._start(spec, start)
        except asyncio.CancelledError:
            # Nobody waits any more: what is half-made goes away behind the caller's back.
            self._background.start(self._undo(spec.session_id))
            raise
        except Exception as error:
            await asyncio.shield(self._background.start(self._undo(spec.session_id)))
            raise self._failed_creation(error) from error
        self._show(spec.session_id)
        return info

    async def close(self, session_id: str, force: bool) -> None:  # noqa: ARG002  the contract has it
        """See `Backend.close`; `dcv` knows no harder way, so `force` changes nothing here."""
        try:
            await self._server.run(
                "close-session", _checked(session_id), limit_s=self._settings.close_limit_s
            )
            async with asyncio.timeout(self._settings.close_limit_s):
                while await self._server.has(session_id):  # noqa: ASYNC110  dcv can only be polled
                    await asyncio.sleep(min(self._settings.create_poll_s, 0.5))
        except TimeoutError:
            raise BackendError(
                Failure.TIMEOUT, "The session was closed but is still there; look into the DCV server's log"
            ) from None
        except BackendError as error:
            raise await self._server.told_apart(session_id, error) from None
        finally:
            self.changed.set()
        await asyncio.to_thread(self._files.remove, session_id)

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        """See `Backend.set_permissions`."""
        arguments = ["set-permissions", "--session", _checked(session_id)]
        if text is None:
            arguments.append("--reset-builtin")
        elif not text:
            arguments.append("--none")
        else:
            if not SESSION_ID.fullmatch(session_id):
                raise BackendError(Failure.PERMISSIONS_INVALID, f"No file can be written for {session_id!r}")
            try:
                path = await asyncio.to_thread(self._files.write_permissions, session_id, text)
            except OSError as error:
                raise BackendError(
                    Failure.INTERNAL, f"The permissions file cannot be written: {error.strerror}"
                ) from None
            arguments += ["--file", str(path)]
        try:
            await self._server.run(*arguments, limit_s=self._settings.permissions_limit_s)
        except BackendError as error:
            raise await self._server.told_apart(session_id, error) from None

    async def screenshot(
        self, session_id: str, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Sequence[Image]:
        """See `Backend.screenshot`: the primary display, sized by `dcv` itself, which never scales up."""
        arguments = ["get-screenshot", "--json", "--format", image_format]
        for option, bound in (("--max-width", max_width), ("--max-height", max_height)):
            if bound is not None:
                arguments += [option, str(bound)]
        try:
            output = await self._server.run(
                *arguments, "--primary", _checked(session_id), limit_s=self._settings.screenshot_limit_s
            )
            found_format, data = read_picture(output)
            width, height = await asyncio.to_thread(size_of, data)
        except BackendError as error:
            raise await self._server.told_apart(session_id, error) from None
        except ValueError as error:
            raise BackendError(
                Failure.DCV_COMMAND_FAILED, f"The screenshot cannot be read: {error}"
            ) from None
        return (
            Image(
                format="jpeg" if found_format == "jpeg" else "png",
                primary=True,
                creation_time=datetime.now(UTC),
                data=data,
                width=width,
                height=height,
            ),
        )

    async def connections(self, session_id: str) -> int:
        """See `Backend.connections`.

        Raises:
            BackendError: also if the answer cannot be read: that is not zero.
        """
        try:
            output = await self._server.run(
                "list-connections", "--json", _checked(session_id), limit_s=self._settings.list_limit_s
            )
            return read_connections(output)
        except BackendError as error:
            raise await self._server.told_apart(session_id, error) from None
        except NotReadable as error:
            raise BackendError(
                Failure.DCV_COMMAND_FAILED, f"How many clients are connected is not known: {error}"
            ) from None

    async def stop(self) -> None:
        """See `Backend.stop`. What is being undone is undone first."""
        self._background.cancel(spare=self._undoing)
        await self._background.ended()
        self._children.let_go()

    def use_folders(self, init: Path, autorun: Path) -> None:
        """Look for start files there from now on."""
        self._settings = replace(self._settings, init_folder=init, autorun_folder=autorun)

    # ------------------------------------------------------------------ creating

    async def _start(self, spec: SessionSpec, start: Start) -> SessionInfo:
        permissions = None
        if spec.permissions is not None:
            permissions = await asyncio.to_thread(
                self._files.write_permissions, spec.session_id, spec.permissions
            )
        if spec.max_concurrent_clients is not None:
            self._files.remember_clients(spec.session_id, spec.max_concurrent_clients)
        arguments = create_arguments(spec, start, permissions, is_windows=self._settings.is_windows)
        await self._server.run("create-session", *arguments, limit_s=self._settings.create_limit_s)
        session = await self._usable(spec)
        if start.autorun:
            try:
                self._children.keep(start_autorun(start, session))
            except (OSError, ValueError) as error:  # ValueError: a NUL character in an argument
                # It is the session that was asked for; a program beside it may fail (agent, 3.4).
                logger.warning("session %s: the autorun program cannot be started: %s", session.id, error)
        return self._info(session)

    async def _usable(self, spec: SessionSpec) -> DcvSession:
        """Look at a new session until it has been usable for a while; `create-session` promises little.

        Raises:
            BackendError: it disappeared.
        """
        clock = asyncio.get_running_loop().time
        usable_since: float | None = None
        looks_without = 0
        while True:
            session = await self._server.session(spec.session_id)
            if session is None:
                looks_without += 1
                usable_since = None
                if looks_without >= _GONE_AFTER_LOOKS:
                    raise BackendError(
                        Failure.DCV_COMMAND_FAILED,
                        "The session ended right after its creation; its desktop or init script cannot run",
                    )
            elif not _is_usable(session, spec):
                usable_since = None
            elif usable_since is None:
                usable_since = clock()
            elif clock() - usable_since >= self._settings.settle_s:
                return session
            await asyncio.sleep(min(self._settings.create_poll_s, self._settings.settle_s))

    def _failed_creation(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            limit_s = self._settings.create_limit_s
            return BackendError(Failure.TIMEOUT, f"The session was not usable within {limit_s:g} seconds")
        if isinstance(error, OSError):
            return BackendError(Failure.INTERNAL, f"The session's files cannot be written: {error.strerror}")
        return error

    async def _undo(self, session_id: str) -> None:
        """Take away what is left of a creation that failed."""
        task = asyncio.current_task()
        self._undoing.add(task)
        try:
            await self._server.run("close-session", session_id, limit_s=self._settings.close_limit_s)
        except BackendError as error:
            logger.debug("session %s: nothing to take away: %s", session_id, error.message)
        finally:
            self._undoing.discard(task)
            await asyncio.to_thread(self._files.remove, session_id)
            self._show(session_id)

    def _show(self, session_id: str) -> None:
        """From now on a session is what `dcv` says."""
        self._hidden.discard(session_id)
        self._settled += 1
        self.changed.set()

    # ------------------------------------------------------------------ looking

    async def _poll(self) -> None:
        """Notice what nobody told: sessions and clients that come and go, a server that stops."""
        while True:
            self._children.reap()
            try:
                found: tuple[SessionInfo, ...] | str = tuple(await self.list())
            except BackendError as error:
                found = error.message
            if found != self._last:
                self._last = found
                self.changed.set()
            await asyncio.sleep(self._settings.poll_s)

    async def _listed(self) -> Sequence[DcvSession]:
        """Every session of the server, also half-made ones; what was kept of others is thrown away."""
        kept, settled = set(self._hidden), self._settled
        sessions = await self._server.sessions()
        ids = {one.id for one in sessions}
        self._first_seen = {key: seen for key, seen in self._first_seen.items() if key in ids}
        if settled == self._settled:  # else the list is older than a session that has just been created
            await asyncio.to_thread(self._files.keep_only, ids | kept | self._hidden)
        return sessions

    def _info(self, session: DcvSession) -> SessionInfo:
        seen = self._first_seen.setdefault(session.id, datetime.now(UTC))
        default = SessionType.CONSOLE if self._settings.is_windows else SessionType.VIRTUAL
        return SessionInfo(
            id=session.id,
            name=session.name,
            owner=session.owner or "",
            type=session.type or default,
            creation_time=session.creation_time or seen,
            last_disconnection_time=session.last_disconnection_time,
            num_of_connections=session.num_of_connections or 0,
            storage_root=session.storage_root,
            max_concurrent_clients=self._files.most_clients(session.id),
        )


def _checked(session_id: str) -> str:
    """An id that cannot be taken for an option.

    Raises:
        BackendError: this one could.
    """
    if not session_id or session_id.startswith("-") or "\0" in session_id:
        raise BackendError(Failure.DCV_COMMAND_FAILED, f"{session_id!r} cannot be handed to dcv")
    return session_id


def _same(spec: SessionSpec, present: SessionInfo) -> SessionInfo:
    if (present.owner, present.type) == (spec.owner, spec.type):
        return present
    raise BackendError(
        Failure.SESSION_ID_CONFLICT, f"The session exists already and belongs to {present.owner}"
    )


def _check_company(spec: SessionSpec, sessions: Sequence[SessionInfo]) -> None:
    """Console and virtual sessions exclude each other on a host."""
    is_console = spec.type is SessionType.CONSOLE
    if sessions and (is_console or any(one.type is SessionType.CONSOLE for one in sessions)):
        raise BackendError(
            Failure.CONSOLE_BUSY,
            "A console session excludes every other session on its host, and one is running",
        )


def _is_usable(session: DcvSession, spec: SessionSpec) -> bool:
    """A console session is when it is listed; a virtual one needs its display and the right to use it."""
    if spec.type is SessionType.CONSOLE:
        return True
    if session.display is None:
        return False
    if session.authority is None:
        return True  # a release that does not tell
    try:
        return Path(session.authority).exists()
    except OSError:  # in the owner's private folder, which only root can look into
        return True
