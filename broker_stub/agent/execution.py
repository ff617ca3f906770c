"""Carries out the broker's commands on a backend: limits, order, deadlines, journal.

Every command is acknowledged at once and runs as a task of its own; results go
to whoever sends them. A command that was taken before is never carried out a
second time. What the channel does meanwhile is the service's business.
"""

import asyncio
import base64
import binascii
import logging
import weakref
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from broker_stub.agent.backend import Backend, BackendError, Failure, ImageFormat, SessionSpec
from broker_stub.agent.journal import Entry, Journal
from broker_stub.agent.places import Places
from broker_stub.agent.watch import Watch, session_object
from broker_stub.channel import MAX_INFLIGHT_COMMANDS, MAX_QUEUED_COMMANDS, Code, CommandKind, NotUnderstood
from broker_stub.channel_messages import read_payload, wire_time
from dcvtui.api.states import SessionType

logger = logging.getLogger(__name__)

_BUSY_RETRY_MS = 1000
Result = dict[str, Any]
"""The body of a `commandResult`."""
Ending = tuple[bool, str, str, dict[str, Any]]
"""Success, code, message and data of a command that ended."""
Deliver = Callable[[Result], Awaitable[None]]


class CommandFailed(Exception):  # noqa: N818  named by what happened
    """The agent itself refuses a command.

    Args:
        code: Which kind of failure.
        message: One sentence for the operator.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Execution:
    """Commands of one agent.

    Args:
        backend: Runs the sessions.
        watch: What is on the host, and its limits.
        journal: What was promised.
        now: The clock for `finishedAt`.

    Attributes:
        deliver: Takes each result; the service sets it and sends them.
    """

    def __init__(self, backend: Backend, watch: Watch, journal: Journal, now: Callable[[], datetime]) -> None:
        self._backend = backend
        self._watch = watch
        self._journal = journal
        self._now = now
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._ended: set[str] = set()
        self._places = Places(MAX_INFLIGHT_COMMANDS)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._starting: dict[str, tuple[str, SessionType]] = {}
        self.deliver: Deliver = _nowhere

    def limit(self, most: int) -> None:
        """Carry out no more than so many commands at once; what runs already goes on."""
        self._places.most = most

    def open_commands(self) -> list[dict[str, str]]:
        """The `openCommands` of a hello."""
        return [{"commandId": one.command_id, "state": one.state} for one in self._journal.entries()]

    def unsent_results(self) -> list[Result]:
        """Results that the broker has not confirmed."""
        return [one.result for one in self._journal.entries() if one.result is not None]

    async def forget(self, command_id: str) -> None:
        """The broker has the result, or does not want it."""
        try:
            await self._journal.forget(command_id)
        except OSError as error:
            logger.warning("The journal cannot be written: %s", error)

    async def recover(self) -> None:
        """Settle what a former process of this agent left without a result."""
        for entry in self._journal.entries():
            if entry.result is None and entry.command_id not in self._running:
                await self._keep(await self._recovered(entry))

    async def _recovered(self, entry: Entry) -> Result:
        interrupted: Ending = (
            False,
            Code.INTERRUPTED,
            "The agent was restarted while it worked on this.",
            {},
        )
        try:
            sessions = {info.id: info for info in await self._backend.list()}
        except BackendError:
            return self._result(entry.command_id, *interrupted)
        info = sessions.get(entry.payload.get("sessionId", ""))
        if entry.kind == CommandKind.CREATE_SESSION and info is not None:
            return self._result(entry.command_id, True, Code.OK, "", {"session": session_object(info)})
        if entry.kind == CommandKind.DELETE_SESSION and info is None:
            return self._result(entry.command_id, True, Code.OK, "", {})
        return self._result(entry.command_id, *interrupted)

    async def take(self, request: dict[str, Any]) -> tuple[dict[str, Any], Result | None]:
        """Take a `commandRequest`.

        Returns:
            The body of its `commandAck`, and the stored result if it was carried out before.
        """
        command_id, kind = request["commandId"], request["kind"]
        entry = self._journal.find(command_id)
        if command_id in self._running or (entry is not None and entry.result is None):
            return {"commandId": command_id, "accepted": True, "duplicate": True}, None
        if entry is not None:
            return {"commandId": command_id, "accepted": True, "duplicate": True}, entry.result
        if len(self._running) >= MAX_QUEUED_COMMANDS:
            refusal = _refusal(command_id, Code.BUSY, "The agent has too many commands waiting.")
            return refusal | {"retryAfterMs": _BUSY_RETRY_MS}, None
        try:
            payload = read_payload(kind, request["payload"])
        except NotUnderstood as error:
            return _refusal(command_id, Code.UNSUPPORTED, str(error)), None
        until = asyncio.get_running_loop().time() + request["deadlineMs"] / 1000
        # Screenshots change nothing and are large: asking again is cheaper than keeping them.
        if kind != CommandKind.GET_SESSION_SCREENSHOT:
            try:
                await self._journal.accept(command_id, kind, payload)
            except OSError as error:
                logger.warning("The journal cannot be written: %s. The command is refused.", error)
                return _refusal(
                    command_id, Code.INTERNAL, f"The agent's journal cannot be written: {error}"
                ), None
        task = asyncio.create_task(self._run(command_id, kind, payload, until), name=command_id)
        self._running[command_id] = task
        task.add_done_callback(lambda _: self._note_end(command_id))
        return {"commandId": command_id, "accepted": True, "duplicate": False}, None

    def _note_end(self, command_id: str) -> None:
        self._running.pop(command_id, None)
        self._cancelled.discard(command_id)
        self._ended.discard(command_id)

    def cancel(self, command_id: str) -> dict[str, Any]:
        """Nobody waits for the command any more; the body of the `commandAck`."""
        task = self._running.get(command_id)
        # What is done already is only being written and told: cutting that short would lose the result.
        if task is not None and command_id not in self._ended:
            self._cancelled.add(command_id)
            task.cancel()
        return {"commandId": command_id, "accepted": True, "duplicate": task is None}

    async def stop(self) -> None:
        """End what is still running; the journal remembers it."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -------------------------------------------------------------- one command

    async def _run(self, command_id: str, kind: str, payload: dict[str, Any], until: float) -> None:
        try:
            outcome = await self._guarded(kind, payload, until)
        except asyncio.CancelledError:
            if command_id not in self._cancelled:
                raise  # the agent stops; the next one finds the command in the journal
            outcome = (False, Code.CANCELLED, "The broker no longer waits for this.", {})
        self._ended.add(command_id)
        result = self._result(command_id, *outcome)
        await self._keep(result)
        await self.deliver(result)

    async def _keep(self, result: Result) -> None:
        """Note how a command ended; on a full disk in memory only, and the next process looks at the host."""
        try:
            await self._journal.finish(result["commandId"], result)
        except OSError as error:
            logger.warning("The result of command %s cannot be kept: %s", result["commandId"], error)

    async def _guarded(self, kind: str, payload: dict[str, Any], until: float) -> Ending:
        """Wait for the session's turn and a free place, run, and put every ending into a result."""
        is_started = False
        lock = self._lock_of(kind, payload)
        try:
            async with asyncio.timeout_at(until), lock, self._places:
                is_started = True
                return True, Code.OK, "", await self._carry_out(kind, payload)
        except TimeoutError:
            if is_started:
                return False, Code.TIMEOUT, "The host did not finish in time.", {}
            return False, Code.DEADLINE_EXCEEDED, "The command waited too long on its host.", {}
        except (BackendError, CommandFailed) as error:
            return False, str(error.code), error.message, {}
        except Exception as error:
            # Channel boundary: a bug in a backend is an answer to the broker, not the end of the agent.
            logger.exception("A command of kind %s failed in a way that nobody foresaw.", kind)
            return False, Code.INTERNAL, f"Internal error of the agent: {type(error).__name__}", {}

    def _lock_of(self, kind: str, payload: dict[str, Any]) -> asyncio.Lock:
        """One command that changes a session at a time, in order of arrival."""
        if kind == CommandKind.GET_SESSION_SCREENSHOT:
            return asyncio.Lock()
        session_id = payload["sessionId"]
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    async def _carry_out(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        match kind:
            case CommandKind.CREATE_SESSION:
                return await self._create(payload)
            case CommandKind.DELETE_SESSION:
                return await self._delete(payload)
            case CommandKind.UPDATE_SESSION_PERMISSIONS:
                await self._backend.set_permissions(payload["sessionId"], _permissions(payload))
                return {}
            case _:
                return await self._screenshot(payload)

    async def _create(self, payload: dict[str, Any]) -> dict[str, Any]:
        spec = SessionSpec(
            session_id=payload["sessionId"],
            name=payload.get("name", ""),
            owner=payload["owner"],
            type=SessionType(payload["type"]),
            max_concurrent_clients=payload.get("maxConcurrentClients"),
            dcv_gl_enabled=payload.get("dcvGlEnabled"),
            init_file=payload.get("initFile"),
            autorun_file=payload.get("autorunFile"),
            autorun_file_arguments=tuple(payload.get("autorunFileArguments", ())),
            permissions=_permissions(payload),
            storage_root=payload.get("storageRoot"),
        )
        existing = {info.id: info for info in await self._backend.list()}
        if info := existing.get(spec.session_id):
            if (info.owner, info.type) != (spec.owner, spec.type):
                raise CommandFailed(
                    Code.SESSION_ID_CONFLICT, "A session with this id belongs to somebody else."
                )
            return {"session": session_object(info), "alreadyExisted": True}
        present = {info.id: (info.owner, info.type) for info in existing.values()} | self._starting
        _check_limits(spec, list(present.values()), self._watch)
        self._starting[spec.session_id] = (spec.owner, spec.type)
        try:
            return {"session": session_object(await self._backend.create(spec)), "alreadyExisted": False}
        finally:
            self._watch.note_change()
            del self._starting[spec.session_id]

    async def _delete(self, payload: dict[str, Any]) -> dict[str, Any]:
        session_id = payload["sessionId"]
        info = next((one for one in await self._backend.list() if one.id == session_id), None)
        if info is None:
            return {"alreadyGone": True}
        if payload.get("owner", info.owner) != info.owner:
            raise CommandFailed(Code.OWNER_MISMATCH, "The session on the host belongs to somebody else.")
        if payload.get("reason") == "orphan" and await self._backend.connections(session_id):
            raise CommandFailed(
                Code.CANCELLED, "The session is not known to the broker but somebody is connected to it."
            )
        return await self._close(session_id, bool(payload.get("force")))

    async def _close(self, session_id: str, force: bool) -> dict[str, Any]:
        try:
            await self._backend.close(session_id, force)
        except BackendError as error:
            if error.code != Failure.SESSION_NOT_FOUND:
                raise
            return {"alreadyGone": True}
        finally:
            self._watch.note_change()
        return {"alreadyGone": False}

    async def remove_orphan(self, session_id: str) -> None:
        """Close a session that the broker does not want here, unless somebody is connected to it."""
        try:
            async with self._lock_of(CommandKind.DELETE_SESSION, {"sessionId": session_id}):
                if await self._backend.connections(session_id):
                    logger.warning(
                        "Session %s should not be on this host but is in use; it stays.", session_id
                    )
                    return
                await self._close(session_id, False)
        except BackendError as error:
            logger.warning("Session %s should not be on this host: %s", session_id, error.message)

    async def _screenshot(self, payload: dict[str, Any]) -> dict[str, Any]:
        image_format: ImageFormat = "jpeg" if payload.get("format") == "jpeg" else "png"
        images = await self._backend.screenshot(
            payload["sessionId"], payload.get("maxWidth"), payload.get("maxHeight"), image_format
        )
        return {
            "images": [
                {
                    "format": image.format,
                    "primary": image.primary,
                    "creationTime": wire_time(image.creation_time),
                    "data": base64.b64encode(image.data).decode(),
                }
                for image in images
            ]
        }

    def _result(
        self, command_id: str, success: bool, code: str, message: str, data: dict[str, Any]
    ) -> Result:
        return {
            "commandId": command_id,
            "success": success,
            "code": str(code),
            "message": message[:1000],
            "data": data,
            "chunks": 0,
            "finishedAt": wire_time(self._now().astimezone(UTC)),
        }


async def _nowhere(result: Result) -> None:
    """Where results go before a service is there; the journal has them."""


def _refusal(command_id: str, code: str, message: str) -> dict[str, Any]:
    return {"commandId": command_id, "accepted": False, "code": str(code), "message": message[:1000]}


def _permissions(payload: dict[str, Any]) -> str | None:
    encoded = payload.get("permissionsFile")
    if encoded is None:
        return None
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        raise CommandFailed(
            Code.PERMISSIONS_INVALID, "The permissions file is not Base64 of UTF-8 text."
        ) from None


def _check_limits(spec: SessionSpec, present: list[tuple[str, SessionType]], watch: Watch) -> None:
    """The host has the last word on what it takes (agent specification, 3.5)."""
    probe, limits = watch.probe, watch.limits
    allowed = probe.console_allowed if spec.type == SessionType.CONSOLE else probe.virtual_allowed
    if not allowed:
        raise CommandFailed(Code.TYPE_NOT_SUPPORTED, f"This host does not offer {spec.type.value} sessions.")
    virtual = [owner for owner, kind in present if kind == SessionType.VIRTUAL]
    if spec.type == SessionType.CONSOLE:
        if present:
            raise CommandFailed(
                Code.CONSOLE_BUSY, "A console session needs a host without any other session."
            )
        return
    if len(virtual) != len(present):
        raise CommandFailed(Code.CONSOLE_BUSY, "The host has a console session.")
    if 0 <= limits.max_virtual_sessions <= len(virtual):
        raise CommandFailed(Code.SERVER_FULL, "The host has as many virtual sessions as it takes.")
    if virtual.count(spec.owner) >= limits.max_concurrent_sessions_per_user:
        raise CommandFailed(
            Code.USER_LIMIT_REACHED, "The owner has as many sessions on this host as one may have."
        )
