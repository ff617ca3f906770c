"""Real sessions without DCV: an X server with a program in it for each, owned by the session's user.

Sessions are processes of their own that outlive the agent; state files let the
next agent find them again. People connect to those on Xvnc, through the host's
entrance. A host with a display on its screen can offer that one as its console.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from broker_stub.agent.backend import (
    BackendError,
    Failure,
    Image,
    ImageFormat,
    Monitor,
    Probe,
    SessionInfo,
    SessionSpec,
)
from broker_stub.agent.background import Background
from broker_stub.agent.processes import Children
from broker_stub.agent.screenshots import Screen, ScreenGrabber, monitors_of
from broker_stub.agent.session_layout import change_layout, screen_of
from broker_stub.agent.session_permissions import check as check_permissions
from broker_stub.agent.x_clients import XClients
from broker_stub.agent.x_console import check_company, open_console
from broker_stub.agent.x_programs import PROGRAMS
from broker_stub.agent.x_session import (
    XSettings,
    clear_session,
    plan_start,
    start_session,
    wait_for_end,
)
from broker_stub.agent.x_state import SessionFolder, XSession, session_folders
from dcvtui.api.states import SessionType

logger = logging.getLogger(__name__)

_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")
_CAPABILITIES = frozenset(("screenshot", "virtual", "init", "autorun", "storageRoot", "setPermissions"))


class XBackend:
    """The backend of one host. Made by `open`, which finds the sessions of an earlier agent again.

    Args:
        settings: How it runs sessions.

    Attributes:
        clients: Lets people in to the sessions; what the entrance works with.
    """

    def __init__(self, settings: XSettings) -> None:
        self.changed = asyncio.Event()
        self._settings = settings
        self._sessions: dict[str, XSession] = {}
        self._starting: dict[str, SessionType] = {}
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._background = Background(logger, "a session could not be watched or cleared up")
        self._children = Children()
        # Processes are marked with paths below it, so it must have one name only.
        state_folder = settings.state_folder.resolve()
        self._folders = state_folder / "sessions"
        self._grabber = ScreenGrabber(settings.screenshot_limit_s)
        self.clients = XClients(self._sessions.get, self._folder, self._note_connections)

    @classmethod
    async def open(cls, settings: XSettings) -> "XBackend":
        """Start the backend: adopt what lives, clear up after what has died meanwhile."""
        backend = cls(settings)
        await asyncio.to_thread(backend._make_folders)
        backend._adopt()
        return backend

    # ------------------------------------------------------------------ the backend

    async def probe(self) -> Probe:
        """See `Backend.probe`."""
        program = PROGRAMS[self._settings.server]
        reason = "" if program.find() else program.missing
        return Probe(
            version=program.title,
            endpoints=(self._settings.endpoint,),
            console_allowed=self._settings.console is not None,
            virtual_allowed=True,
            healthy=not reason,
            reason=reason,
            capabilities=_CAPABILITIES | ({"console"} if self._settings.console else set()),
        )

    async def list(self) -> list[SessionInfo]:
        """See `Backend.list`."""
        self._children.reap()
        for session_id in self._sessions:
            folder = self._folder(session_id)
            folder.log.cap()
            folder.server_log.cap()
        self.clients.note_all(tuple(self._sessions.values()))
        return [session.info for session in self._sessions.values()]

    async def create(self, spec: SessionSpec) -> SessionInfo:
        """See `Backend.create`."""
        if not _SESSION_ID.fullmatch(spec.session_id):
            raise BackendError(Failure.DCV_COMMAND_FAILED, f"{spec.session_id!r} cannot be a session id here")
        while ending := self._endings.get(spec.session_id):
            await asyncio.wait([ending])
        if present := self._sessions.get(spec.session_id):
            if (present.owner, present.type) == (spec.owner, spec.type):
                return present.info
            raise BackendError(
                Failure.SESSION_ID_CONFLICT, f"The session exists already and belongs to {present.owner}"
            )
        if spec.session_id in self._starting:
            raise BackendError(Failure.SESSION_ID_CONFLICT, "A session of this id is just starting")
        there = [session.type for session in self._sessions.values()]
        check_company(spec.type, [*there, *self._starting.values()])
        self._starting[spec.session_id] = spec.type
        try:
            return (await self._start(spec)).info
        except OSError as error:
            raise BackendError(
                Failure.INTERNAL, f"The session could not be started: {error.strerror}"
            ) from error
        finally:
            del self._starting[spec.session_id]

    async def close(self, session_id: str, force: bool) -> None:
        """See `Backend.close`."""
        ending = self._endings.get(session_id)
        if ending is None:
            self._present(session_id)
            grace_s = 0.0 if force else self._settings.grace_s
            ending = self._end_in_background(self._folder(session_id), grace_s)
        # What was begun is finished, even if the caller stops waiting.
        await asyncio.shield(ending)

    async def set_permissions(self, session_id: str, text: str | None) -> None:
        """See `Backend.set_permissions`: kept beside the session, and applied to who is connected."""
        session = self._present(session_id)
        await asyncio.to_thread(check_permissions, text)
        mark = await asyncio.to_thread(self._folder(session_id).write_permissions, text)
        logger.info("session %s: permissions %s", session_id, mark)
        await self.clients.apply_permissions(session)

    async def screenshot(
        self, session_id: str, max_width: int | None, max_height: int | None, image_format: ImageFormat
    ) -> Sequence[Image]:
        """See `Backend.screenshot`."""
        session = self._present(session_id)
        bounds = max_width, max_height
        found, images = await self._grabber.take(self._screen(session), *bounds, image_format)
        self._note_layout(session, found)
        return images

    async def layout(self, session_id: str) -> tuple[Monitor, ...]:
        """Where the monitors of a session are, the primary one first.

        Raises:
            BackendError: there is no such session, or its display does not answer.
        """
        session = self._present(session_id)
        found = await monitors_of(self._screen(session), self._settings.screenshot_limit_s)
        self._note_layout(session, found)
        return found

    async def set_layout(self, session_id: str, layout: str) -> None:
        """Give a session another size, or other monitors.

        Args:
            session_id: Which session.
            layout: As `read_layout` takes it, such as `800x600,1024x768`; the first is the primary one.

        Raises:
            BackendError: no such session, no such layout, or its display cannot have it.
        """
        session = self._present(session_id)
        limit_s = self._settings.screenshot_limit_s
        folder = self._folder(session_id)
        found = await change_layout(session, folder, layout, self._settings.user_mode, limit_s)
        self._note_layout(session, found)

    async def connections(self, session_id: str) -> int:
        """See `Backend.connections`."""
        session = self._present(session_id)
        count = self.clients.count(session)
        self._note_connections(session, count)
        return count

    async def stop(self) -> None:
        """See `Backend.stop`. Sessions that are just ending are ended, within their grace time."""
        await asyncio.gather(*self._endings.values(), return_exceptions=True)
        self._background.cancel()
        await self._background.ended()
        await self._grabber.stop()
        self._children.let_go()

    def use_folders(self, init: Path, autorun: Path) -> None:
        """Look for start files there from now on."""
        self._settings = replace(self._settings, init_folder=init, autorun_folder=autorun)

    # ------------------------------------------------------------------ beginning

    def _make_folders(self) -> None:
        self._folders.mkdir(parents=True, exist_ok=True)
        # Owners pass through to the cookie of their session; the umask may have taken that away.
        self._folders.parent.chmod(0o711)
        self._folders.chmod(0o711)

    def _adopt(self) -> None:
        """Take in what an earlier agent left alive, end the remains of the rest."""
        for folder in session_folders(self._folders):
            session = folder.read()
            if session is not None and session.is_alive and session.id == folder.session_id:
                logger.info("session %s: found again on display :%s", session.id, session.display)
                self._take_in(session)
            else:
                logger.info("session %s: has ended meanwhile, clearing up", folder.session_id)
                self._end_in_background(folder, self._settings.grace_s)

    async def _start(self, spec: SessionSpec) -> XSession:
        folder = self._folder(spec.session_id)
        try:
            session = await self._new_session(spec, folder)
        except asyncio.CancelledError:
            # Nobody waits any more: what is half-made goes away behind the caller's back.
            self._end_in_background(folder, 0.0)
            raise
        except Exception:
            await asyncio.shield(self._end_in_background(folder, 0.0))
            raise
        self._take_in(session)
        return session

    def _note_connections(self, session: XSession, count: int) -> None:
        """Keep how many clients a session has, over a restart of the agent too."""
        current = self._sessions.get(session.id)
        if current is not None and current.connections != count:
            self._keep(current.with_connections(count, datetime.now(UTC)))

    def _note_layout(self, session: XSession, layout: tuple[Monitor, ...]) -> None:
        current = self._sessions.get(session.id)
        if current is not None and current.layout != layout:
            self._keep(replace(current, layout=layout))

    def _keep(self, session: XSession) -> None:
        self._sessions[session.id] = session
        self.changed.set()
        if session.id in self._endings:
            return  # its folder is just being removed
        try:
            self._folder(session.id).write(session)
        except OSError as error:
            # Only the next agent will miss it.
            logger.warning("session %s: its state cannot be written: %s", session.id, error)

    async def _new_session(self, spec: SessionSpec, folder: SessionFolder) -> XSession:
        settings = self._settings
        if spec.type is SessionType.CONSOLE:
            limit_s = settings.screenshot_limit_s
            return await open_console(spec, settings.console, folder, settings.user_mode, limit_s)
        plan = await asyncio.to_thread(plan_start, spec, settings)
        return await self._with_layout(await start_session(spec, plan, settings, folder, self._children))

    async def _with_layout(self, session: XSession) -> XSession:
        """The session with its monitors: the first question its display has to answer."""
        session = replace(
            session, layout=await monitors_of(self._screen(session), self._settings.screenshot_limit_s)
        )
        self._folder(session.id).write(session)
        return session

    def _take_in(self, session: XSession) -> None:
        self._sessions[session.id] = session
        self._background.start(self._watch(session))
        self.changed.set()

    # ------------------------------------------------------------------ ending

    async def _watch(self, session: XSession) -> None:
        """Notice that a session ends by itself: its owner logged out, its X server died."""
        await wait_for_end(session)
        if session.id in self._endings:
            return
        code = self._children.exit_code(session.init)
        logger.info(
            "session %s: ended by itself%s", session.id, "" if code is None else f" with exit code {code}"
        )
        # It is no session any more, whatever time its remains take.
        self._sessions.pop(session.id, None)
        self.changed.set()
        self._end_in_background(self._folder(session.id), self._settings.grace_s)

    def _end_in_background(self, folder: SessionFolder, grace_s: float) -> asyncio.Task[None]:
        task = self._background.start(self._end(folder, grace_s))
        self._endings[folder.session_id] = task
        return task

    async def _end(self, folder: SessionFolder, grace_s: float) -> None:
        try:
            await clear_session(folder, grace_s)
        finally:
            self._sessions.pop(folder.session_id, None)
            self.clients.forget(folder.session_id)
            self._endings.pop(folder.session_id, None)
            self._children.reap()
            self.changed.set()

    # ------------------------------------------------------------------ books

    def _folder(self, session_id: str) -> SessionFolder:
        return SessionFolder(self._folders / session_id)

    def _present(self, session_id: str) -> XSession:
        try:
            return self._sessions[session_id]
        except KeyError:
            raise BackendError(
                Failure.SESSION_NOT_FOUND, f"There is no session {session_id!r} on this host"
            ) from None

    def _screen(self, session: XSession) -> Screen:
        return screen_of(session, self._folder(session.id))
