"""One open channel of an agent, from its hello to its end: reports, commands, answers.

The service opens channels and makes one `Conversation` for each; what is learnt
here about why a channel ended goes back to it as an exception.
"""

import asyncio
import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from broker_stub import channel
from broker_stub.agent.backend import Backend
from broker_stub.agent.execution import Execution, Result
from broker_stub.agent.identity import Identity
from broker_stub.agent.watch import AGENT_VERSION, Watch
from broker_stub.channel import (
    ChannelError,
    CloseCode,
    Code,
    NotUnderstood,
    Refused,
    UnknownMessage,
    UpdateTurn,
)
from broker_stub.channel_commands import chunks_of
from broker_stub.channel_messages import FROM_BROKER, Message, Name, build, difference, read

logger = logging.getLogger(__name__)

_COLLECT_S = 0.5
_LOOK_AGAIN_S = 5.0
_CLOSE_WITHIN_S = 5.0


@dataclass(slots=True)
class Pace:
    """How often an agent speaks, in seconds; a change holds from the next report on.

    Attributes:
        update_interval_s: Between two updates of the server block, as the administrator wants it.
        ping_interval_s: Between two pings of the channel.
    """

    update_interval_s: int = 30
    ping_interval_s: float = channel.PING_INTERVAL_S


class Goodbye(ChannelError):  # noqa: N818  named by what happened
    """The broker ended the channel in good order and said when to come back."""

    def __init__(self, reason: str, reconnect_after_s: float) -> None:
        super().__init__(f"The broker said goodbye: {reason}")
        self.reconnect_after_s = reconnect_after_s


class CopiedHost(Refused):
    """The broker knows this server's id as another machine's."""


class Conversation:
    """What is said on one channel.

    Args:
        socket: The open WebSocket.
        identity: Who the server is.
        watch: What is on the host.
        backend: Tells when sessions change.
        execution: Carries out commands.
        instance_id: The UUID of this agent's run.
        pace: How often to speak.
        chance: Random numbers from 0 up to 1.
        now: The clock.
    """

    def __init__(
        self,
        socket: ClientConnection,
        identity: Identity,
        watch: Watch,
        backend: Backend,
        execution: Execution,
        *,
        instance_id: str,
        pace: Pace,
        chance: Callable[[], float] = random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._socket = socket
        self._identity = identity
        self._watch = watch
        self._backend = backend
        self._execution = execution
        self._instance_id = instance_id
        self._pace = pace
        self._chance = chance
        self._now = now
        self._chunk_bytes = channel.CHUNK_BYTES
        self._told_server: dict[str, Any] = {}
        self._told_sessions: dict[str, dict[str, Any]] = {}
        self._server_turn = UpdateTurn()
        self._sessions_turn = UpdateTurn()
        self._is_server_due = False
        self._is_sessions_due = False
        self._least_interval_s = 1

    async def greet(self, server: dict[str, Any]) -> None:
        """Say hello with full state and take in the answer.

        Args:
            server: What was measured before the channel was opened: a host that takes long to ask
                must not be late with its hello.

        Raises:
            Refused: the broker does not accept this agent now.
            NotUnderstood: its answer is none.
            TimeoutError: there was no answer.
        """
        self._told_server = server
        while self._watch.is_outdated:
            await self._watch.look()
        self._told_sessions = self._watch.sessions
        await self._send(Name.AGENT_HELLO_REQUEST, self._hello())
        async with asyncio.timeout(channel.HELLO_WITHIN_S):
            answer = read(await self._socket.recv(), FROM_BROKER)
        if answer.name != Name.AGENT_HELLO_RESPONSE:
            raise NotUnderstood(f"The broker answered the hello with {answer.name}.", answer.request_id)
        body = answer.body
        if not body["result"]["success"]:
            raise _refused_hello(body)
        server_id = self._identity.server_id
        logger.info("The broker accepted server %s, channel %s.", server_id, body.get("channelId"))
        self._chunk_bytes = body.get("chunkBytes") or channel.CHUNK_BYTES
        self._execution.limit(body.get("maxInflightCommands") or channel.MAX_INFLIGHT_COMMANDS)
        for command_id in body.get("forgetCommands") or ():
            await self._execution.forget(command_id)
        for session_id in body.get("orphanSessions") or ():
            logger.warning("The broker does not want session %s on this host.", session_id)
            await self._execution.remove_orphan(session_id)

    def _hello(self) -> dict[str, Any]:
        identity = self._identity
        hello = {
            "protocolVersions": list(channel.PROTOCOL_VERSIONS),
            "capabilities": self._watch.capabilities(),
            "agentVersion": AGENT_VERSION,
            "instanceId": self._instance_id,
            "epoch": identity.epoch,
            "serverId": identity.server_id,
            "machineFingerprint": identity.fingerprint,
            "hostname": identity.address.hostname,
            "server": self._told_server,
            "sessions": list(self._told_sessions.values()),
            "openCommands": self._execution.open_commands(),
            "updateIntervalSeconds": self._pace.update_interval_s,
        }
        if identity.previous_server_id:
            hello["previousServerId"] = identity.previous_server_id
        return hello

    async def serve(self) -> None:
        """Report and carry out commands until the channel ends.

        Raises:
            Goodbye: the broker said so in good order.
            ConnectionClosed: it was closed or broke.
        """
        reporter = asyncio.create_task(self._report())
        reporter.add_done_callback(self._end_after_fault)
        try:
            for result in self._execution.unsent_results():
                await self.send_result(result)
            while True:
                frame = await self._socket.recv()
                try:
                    await self._receive(read(frame, FROM_BROKER))
                except NotUnderstood as error:
                    await self._complain(error)
        finally:
            reporter.cancel()
            (fault,) = await asyncio.gather(reporter, return_exceptions=True)
            if isinstance(fault, Exception):
                raise fault

    def _end_after_fault(self, reporter: asyncio.Task[None]) -> None:
        """A channel without reports is worth nothing: end it, `serve` then raises the fault."""
        if not reporter.cancelled() and reporter.exception():
            self._socket.transport.abort()

    async def say_goodbye(self) -> None:
        """Tell the broker that this agent ends, and close the channel."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN_S):
                await self._send(Name.AGENT_GOODBYE, {"reason": "shutdown"})
                await self._socket.close(CloseCode.NORMAL, "shutdown")

    async def _complain(self, error: NotUnderstood) -> None:
        logger.warning("A message of the broker was not understood: %s", error)
        code = Code.UNKNOWN_MESSAGE if isinstance(error, UnknownMessage) else Code.MALFORMED
        await self._send(
            Name.PROTOCOL_ERROR,
            {"code": code, "message": str(error)[:1000], "about": error.about[:256]},
        )

    # -------------------------------------------------------------- what the broker says

    async def _receive(self, message: Message) -> None:
        body = message.body
        match message.name:
            case Name.SERVER_UPDATE_RESPONSE:
                self._note_answer(self._server_turn, body)
                if self._is_server_due or self._server_turn.is_full_wanted:
                    self._report_soon()
            case Name.SESSIONS_UPDATE_RESPONSE:
                _log_answer(message)
                self._note_answer(self._sessions_turn, body)
                if self._is_sessions_due or self._sessions_turn.is_full_wanted:
                    self._report_soon()
            case Name.COMMAND_REQUEST:
                ack, former_result = await self._execution.take(body)
                await self._send(Name.COMMAND_ACK, ack)
                if former_result is not None:
                    await self.send_result(former_result)
            case Name.COMMAND_CANCEL_REQUEST:
                await self._send(Name.COMMAND_ACK, self._execution.cancel(body["commandId"]))
            case Name.COMMAND_RESULT_ACK:
                await self._execution.forget(body["commandId"])
            case Name.REFRESH_REQUEST:
                self._refresh(body["what"])
            case Name.FLOW_CONTROL:
                self._slow_down(body)
            case Name.BROKER_GOODBYE:
                after_s = (body.get("reconnectAfterMs") or 0) / 1000
                raise Goodbye(body["reason"], after_s)
            case Name.PROTOCOL_ERROR:
                logger.warning("The broker did not understand: %s %s", body.get("code"), body.get("message"))

    def _note_answer(self, turn: UpdateTurn, body: dict[str, Any]) -> None:
        needs_full = bool(body.get("needFull")) or not body["result"]["success"]
        turn.answer(body["seq"], needs_full=needs_full)

    def _refresh(self, what: str) -> None:
        if what in ("server", "all"):
            self._server_turn.request_full()
        if what in ("sessions", "all"):
            self._sessions_turn.request_full()
        self._report_soon()

    def _slow_down(self, body: dict[str, Any]) -> None:
        """Speak less often, or more often again, and do less at once: the broker knows how many we are."""
        if most := body.get("maxInflightCommands"):
            self._execution.limit(most)
        if least_s := body.get("minUpdateIntervalSeconds"):
            self._least_interval_s = least_s
            self._report_soon()  # the next report was planned before

    def _report_soon(self) -> None:
        """Have the reporter look and speak; whoever reads the channel must never wait for the host."""
        self._backend.changed.set()

    @property
    def _interval_s(self) -> int:
        return max(self._pace.update_interval_s, self._least_interval_s)

    # -------------------------------------------------------------- what the agent says

    async def _report(self) -> None:
        """Sessions as soon as they change, everything at the interval (5.5 rule 6)."""
        changed = self._backend.changed
        clock = asyncio.get_running_loop().time
        # Agents of one process that start together must not report together for ever.
        due_at = clock() + self._interval_s * self._chance()
        try:
            while True:
                due_at = min(due_at, clock() + self._interval_s)
                wait_s = due_at - clock()
                if self._watch.has_failed_look:
                    wait_s = min(wait_s, _LOOK_AGAIN_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, wait_s)):
                        await changed.wait()
                        await asyncio.sleep(_COLLECT_S)
                is_due = clock() >= due_at
                was_healthy = self._watch.is_healthy
                changed.clear()
                await self._watch.look()
                if is_due:
                    due_at = clock() + self._interval_s
                is_new = was_healthy != self._watch.is_healthy
                if is_due or is_new or self._is_server_due or self._server_turn.is_full_wanted:
                    await self._send_server()
                await self._send_sessions(is_due=is_due or self._is_sessions_due)
        except ConnectionClosed:
            return  # whoever reads the channel notices too, and knows why

    async def _send_server(self) -> None:
        turn = self._server_turn
        if turn.is_unanswered:
            self._is_server_due = True
            return
        self._is_server_due = False
        seq, is_full = turn.begin()
        block = await self._watch.measure(self._identity.address)
        content = block if is_full else difference(self._told_server, block)
        self._told_server = block
        fields = {"seq": seq, "mode": "full" if is_full else "delta", "server": content}
        await self._send(Name.SERVER_UPDATE_REQUEST, fields)

    async def _send_sessions(self, *, is_due: bool = True) -> None:
        while self._watch.is_outdated:
            await self._watch.look()
        turn, told = self._sessions_turn, self._told_sessions
        # After a look that failed the last one may be older than a session made since: nothing has ended.
        now = told if self._watch.has_failed_look else self._watch.sessions
        changed = [session for key, session in now.items() if told.get(key) != session]
        removed = [key for key in told if key not in now]
        if not (changed or removed or is_due or turn.is_full_wanted):
            return
        if turn.is_unanswered:
            self._is_sessions_due = True
            return
        self._is_sessions_due = False
        seq, is_full = turn.begin()
        self._told_sessions = now
        fields = {
            "seq": seq,
            "mode": "full" if is_full else "delta",
            "healthy": self._watch.is_healthy,
            "changed": list(now.values()) if is_full else changed,
            "removed": [] if is_full else removed,
        }
        await self._send(Name.SESSIONS_UPDATE_REQUEST, fields)

    async def send_result(self, result: Result) -> None:
        """Send a result, a large one in pieces; if it is lost on the way, the next hello finds it."""
        pieces: list[str] = []
        if _is_large(result["data"], self._chunk_bytes):
            try:
                pieces = chunks_of(result["data"], self._chunk_bytes)
                result = {**result, "data": {}, "chunks": len(pieces)}
            except channel.ResultTooLarge as error:
                refusal = {"success": False, "code": Code.TOO_LARGE, "message": str(error), "data": {}}
                result = {**result, **refusal}
        with contextlib.suppress(ConnectionClosed):
            await self._send(Name.COMMAND_RESULT, result)
            if created := result["data"].get("session"):
                # The broker knows it from here on: if it ends before the next report, that has to say so.
                self._told_sessions = {**self._told_sessions, created["id"]: created}
            for index, piece in enumerate(pieces):
                chunk = {"commandId": result["commandId"], "index": index, "data": piece}
                await self._send(Name.COMMAND_RESULT_CHUNK, chunk)

    async def _send(self, name: str, fields: dict[str, Any]) -> None:
        await self._socket.send(build(name, uuid.uuid4().hex, self._now(), fields))


def _refused_hello(body: dict[str, Any]) -> Refused:
    result = body["result"]
    text = f"The broker refused the hello: {result.get('code')} {result.get('message') or ''}".rstrip()
    if body.get("newServerId"):
        return CopiedHost(text, retry_after_s=0.0)
    retry_after_ms = result.get("retryAfterMs")
    return Refused(text, result.get("code") or "", retry_after_ms / 1000 if retry_after_ms else None)


def _is_large(data: dict[str, Any], limit: int) -> bool:
    """Whether a result's data should go in pieces; only pictures grow large."""
    return sum(len(image["data"]) for image in data.get("images", ())) > limit // 2


def _log_answer(message: Message) -> None:
    # Administrators look for these two words in the log (agent specification, 3.7).
    if logger.isEnabledFor(logging.INFO):
        word = "success" if message.body["result"]["success"] else "failure"
        logger.info(
            'Processing broker message "{ "%s" : { "requestId" : "%s", "result" : { "%s" : true } } }"',
            message.name,
            message.request_id,
            word,
        )
