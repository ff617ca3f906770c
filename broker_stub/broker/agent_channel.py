"""One agent's channel on the broker: what comes in becomes events, what is due goes out.

`agents` opens and finds channels; here is what is said on one. The registry
decides everything about state; this module knows only the protocol.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from broker_stub.broker.command_pump import CommandPump, Pace
from broker_stub.broker.coordinator import Coordinator
from broker_stub.broker.events import (
    AgentConnected,
    AgentDisconnected,
    CommandExpired,
    CommandFinished,
    HelloAnswer,
    ReportAnswer,
    ServerReported,
    SessionsReported,
)
from broker_stub.broker.store import StoreUnavailable
from broker_stub.channel import (
    CHUNK_BYTES,
    HELLO_WITHIN_S,
    MALFORMED_IN_A_ROW,
    MAX_INFLIGHT_COMMANDS,
    MAX_MESSAGE_BYTES,
    REPEATABLE,
    CloseCode,
    Code,
    NotUnderstood,
    ResultTooLarge,
    UnknownMessage,
    UpdateOrder,
    common_version,
)
from broker_stub.channel_commands import (
    Action,
    CommandBook,
    CommandResult,
    Expire,
    GiveUpChannel,
    ResultAssembly,
    Send,
    SendCancel,
)
from broker_stub.channel_messages import (
    FROM_AGENT,
    Message,
    Name,
    build,
    failure,
    read,
    read_result_data,
    success,
    wire_time,
)

logger = logging.getLogger(__name__)

BROKER_VERSION = "0.1.0"
_HELLO_PLACE_WITHIN_S = 5.0
_HEAR_OUT_S = 1.0
_OVERLOADED_RETRY_MS = 2000
_MOST_ASSEMBLIES = 4
_LONGEST_CLOSE_REASON = 120  # bytes of a close frame less its code


class Closed(Exception):  # noqa: N818  named by what happened
    """This side ends the channel.

    Args:
        code: The close code.
        reason: A few words for the agent's log.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Exchange(Protocol):
    """What a channel needs of the listener it belongs to."""

    hello_places: asyncio.Semaphore
    broker_id: str
    least_interval_s: int

    def opened(self, channel: "AgentChannel", superseded: str | None) -> CommandBook:
        """A hello was accepted; the book of the server's commands."""
        ...

    def is_asked(self, command_id: str) -> bool:
        """Whether somebody in this process waits for the command's result."""
        ...

    def finished(self, command_id: str, result: CommandResult) -> bool:
        """A result came; whether somebody in this process asked for it."""
        ...


class AgentChannel:
    """A channel from its upgrade to its end.

    Args:
        socket: The accepted WebSocket.
        coordinator: Takes the events.
        exchange: The listener.
        clock: Seconds, only moving forward.
    """

    def __init__(
        self, socket: WebSocket, coordinator: Coordinator, exchange: Exchange, clock: Callable[[], float]
    ) -> None:
        self.id = uuid.uuid4().hex
        self.server_id = ""
        self.capabilities: frozenset[str] = frozenset()
        self._socket = socket
        self._coordinator = coordinator
        self._exchange = exchange
        self._clock = clock
        self._pump: CommandPump | None = None
        self._server_order = UpdateOrder()
        self._sessions_order = UpdateOrder()
        self._assemblies: dict[str, ResultAssembly] = {}
        self._malformed = 0
        self._said_goodbye = False
        self._is_abandoned = False
        self._task: asyncio.Task[Any] | None = None

    # -------------------------------------------------------------- life

    async def serve(self) -> None:
        """Talk with the agent until either side ends the channel."""
        self._task = asyncio.current_task()
        try:
            await self._welcome()
            while not self._said_goodbye:
                await self._take(await self._next_frame())
        except Closed as end:
            await self.close(end.code, end.reason)
        except WebSocketDisconnect:
            await self._hear_out()
        except asyncio.CancelledError:
            if not self._is_abandoned:
                raise
        finally:
            self.step_down()
            if self.server_id:
                self._coordinator.apply(AgentDisconnected(self.server_id, self.id, self._said_goodbye))
        if self._said_goodbye:
            await self.close(CloseCode.NORMAL, "goodbye")

    async def close(self, code: int, reason: str) -> None:
        """End the channel from this side; again is harmless."""
        if self._socket.application_state is WebSocketState.DISCONNECTED:
            return
        words = reason.encode()[:_LONGEST_CLOSE_REASON].decode("utf-8", "ignore")
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the agent was faster
            await self._socket.close(code, words)

    async def say_goodbye(self, reason: str, reconnect_after_ms: int) -> None:
        """Ask the agent to come back later, and end the channel."""
        try:
            await self._send(Name.BROKER_GOODBYE, {"reason": reason, "reconnectAfterMs": reconnect_after_ms})
        except WebSocketDisconnect:
            return
        await self.close(CloseCode.GOING_AWAY, reason)

    async def _hear_out(self) -> None:
        """Look for a goodbye among what came before the end, which an answer that found no way out hides."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(_HEAR_OUT_S):
                while not self._said_goodbye:
                    frame = await self._next_frame()
                    with contextlib.suppress(NotUnderstood):
                        self._said_goodbye = read(frame, FROM_AGENT).name == Name.AGENT_GOODBYE

    async def _next_frame(self) -> str | bytes:
        event = await self._socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1006), event.get("reason"))
        frame: str | bytes = event.get("text") or event.get("bytes") or ""
        return frame

    # -------------------------------------------------------------- hello

    async def _welcome(self) -> None:
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                hello = read(await self._next_frame(), FROM_AGENT)
        except TimeoutError:
            raise Closed(CloseCode.NO_HELLO, "no hello came") from None
        except NotUnderstood as error:
            await self._complain(error)
            raise Closed(CloseCode.NO_HELLO, "the first message was no hello") from None
        if hello.name != Name.AGENT_HELLO_REQUEST:
            raise Closed(CloseCode.NO_HELLO, "the first message was no hello")
        version = common_version(hello.body["protocolVersions"])
        if version is None:
            await self._refuse_hello(hello, Code.UNSUPPORTED_PROTOCOL, "This broker speaks version 1 only.")
            raise Closed(CloseCode.NO_COMMON_VERSION, "no common protocol version")
        answer = await self._admit(hello)
        await self._accept_hello(hello, version, answer)

    async def _admit(self, hello: Message) -> HelloAnswer:
        """Let the registry decide, a bounded number of hellos at a time."""
        places = self._exchange.hello_places
        server_id: str = hello.body["serverId"]
        try:
            async with asyncio.timeout(_HELLO_PLACE_WITHIN_S):
                await places.acquire()
        except TimeoutError:
            await self._refuse_hello(hello, Code.OVERLOADED, "Too many agents at once.", _OVERLOADED_RETRY_MS)
            raise Closed(CloseCode.OVERLOADED, "too many agents at once") from None
        try:
            self.server_id = server_id  # from now on the end of this channel is news for the registry
            answer: HelloAnswer = await self._coordinator.apply(
                AgentConnected(server_id, self.id, hello.body)
            )
        finally:
            places.release()
        if not answer.accepted:
            self.server_id = ""
            await self._refuse_hello(
                hello,
                Code.DUPLICATE_SERVER,
                "This server id belongs to another machine."
                if answer.new_server_id
                else "Another process speaks for this server.",
                new_server_id=answer.new_server_id,
            )
            logger.warning(
                "A second agent came as server %s and was refused (%s).",
                server_id,
                "a copy of it on another machine" if answer.new_server_id else "not newer than the first",
            )
            raise Closed(answer.close_code or CloseCode.DUPLICATE_SERVER, "duplicate server id")
        return answer

    async def _refuse_hello(
        self, hello: Message, code: Code, text: str, retry_after_ms: int = 0, *, new_server_id: bool = False
    ) -> None:
        body = {"result": failure(code, text, retry_after_ms), "newServerId": new_server_id}
        await self._send(Name.AGENT_HELLO_RESPONSE, body, hello.request_id)

    async def _accept_hello(self, hello: Message, version: int, answer: HelloAnswer) -> None:
        self.capabilities = frozenset(hello.body.get("capabilities") or ())
        book = self._exchange.opened(self, answer.superseded_channel)
        body = {
            "result": success(),
            "protocolVersion": version,
            "capabilities": ["chunking"],
            "brokerId": self._exchange.broker_id,
            "brokerVersion": BROKER_VERSION,
            "brokerTime": wire_time(datetime.now(UTC)),
            "channelId": self.id,
            "maxMessageBytes": MAX_MESSAGE_BYTES,
            "maxInflightCommands": MAX_INFLIGHT_COMMANDS,
            "chunkBytes": CHUNK_BYTES,
            "newServerId": False,
            "orphanSessions": answer.orphan_sessions,
            "forgetCommands": answer.forget_commands,
        }
        await self._send(Name.AGENT_HELLO_RESPONSE, body, hello.request_id)
        known = {one["commandId"]: one["state"] for one in hello.body.get("openCommands") or ()}
        book.connect(known)
        interval_s = hello.body.get("updateIntervalSeconds") or 1
        self._pump = CommandPump(book, interval_s, self._act, self._abandon, self._clock)
        self.pace(self._exchange.least_interval_s)
        self.pump()

    def pace(self, least_s: int) -> None:
        """See `CommandPump.pace`."""
        if self._pump is not None:
            self._pump.pace(least_s)

    # -------------------------------------------------------------- what the agent says

    async def _take(self, frame: str | bytes) -> None:
        try:
            message = read(frame, FROM_AGENT)
            await self._receive(message)
        except UnknownMessage as error:
            await self._complain(error)
            return
        except NotUnderstood as error:
            self._malformed += 1
            await self._complain(error)
            if self._malformed >= MALFORMED_IN_A_ROW:
                raise Closed(CloseCode.MALFORMED, "three malformed messages in a row") from None
            return
        self._malformed = 0

    async def _complain(self, error: NotUnderstood) -> None:
        logger.warning("Server %s sent what is not understood: %s", self.server_id or "(unknown)", error)
        code = Code.UNKNOWN_MESSAGE if isinstance(error, UnknownMessage) else Code.MALFORMED
        body = {"code": code, "message": str(error)[:1000], "about": error.about[:256]}
        await self._send(Name.PROTOCOL_ERROR, body)

    async def _receive(self, message: Message) -> None:
        body = message.body
        match message.name:
            case Name.SERVER_UPDATE_REQUEST:
                await self._take_server(message, body)
            case Name.SESSIONS_UPDATE_REQUEST:
                await self._take_sessions(message, body)
            case Name.COMMAND_ACK:
                await self._take_ack(body)
            case Name.COMMAND_RESULT:
                await self._take_result(body)
            case Name.COMMAND_RESULT_CHUNK:
                await self._take_chunk(body)
            case Name.AGENT_GOODBYE:
                self._said_goodbye = True
            case Name.COMMAND_PROGRESS:
                logger.debug(
                    "Server %s, command %s: %s", self.server_id, body["commandId"], body.get("stage")
                )
            case Name.PROTOCOL_ERROR:
                logger.warning("Server %s did not understand: %s", self.server_id, body.get("message"))
            case Name.AGENT_HELLO_REQUEST:
                raise NotUnderstood("a second hello on one channel", message.request_id)

    async def _take_server(self, message: Message, body: dict[str, Any]) -> None:
        is_full = body["mode"] == "full"
        answer = ReportAnswer(accepted=True, need_full=True)
        if self._server_order.accept(body["seq"], is_full=is_full):
            answer = await self._report(ServerReported(self.server_id, self.id, is_full, body["server"]))
        await self._answer_update(Name.SERVER_UPDATE_RESPONSE, message, answer)

    async def _take_sessions(self, message: Message, body: dict[str, Any]) -> None:
        is_full = body["mode"] == "full"
        answer = ReportAnswer(accepted=True, need_full=True)
        if self._sessions_order.accept(body["seq"], is_full=is_full):
            changed, removed = body["changed"], body.get("removed") or ()
            answer = await self._report(
                SessionsReported(self.server_id, self.id, is_full, body["healthy"], changed, removed)
            )
        await self._answer_update(Name.SESSIONS_UPDATE_RESPONSE, message, answer)

    async def _report(self, event: ServerReported | SessionsReported) -> ReportAnswer:
        try:
            answer: ReportAnswer = await self._coordinator.apply(event)
        except StoreUnavailable:
            # The registry knows it and the store will: the next report brings what is missing.
            return ReportAnswer(accepted=True)
        return answer

    async def _answer_update(self, name: str, message: Message, answer: ReportAnswer) -> None:
        if not answer.accepted:
            raise Closed(CloseCode.SUPERSEDED, "another channel speaks for this server")
        body = {"seq": message.body["seq"], "result": success(), "needFull": answer.need_full}
        await self._send(name, body, message.request_id)

    # -------------------------------------------------------------- commands

    def pump(self) -> None:
        """Send what is due; called whenever the book may have something new."""
        if self._pump is not None:
            self._pump.run()

    async def _act(self, action: Action | Pace) -> None:
        match action:
            case Send():
                await self._send(
                    Name.COMMAND_REQUEST,
                    {
                        "commandId": action.command_id,
                        "kind": action.kind,
                        "attempt": action.attempt,
                        "deadlineMs": action.deadline_ms,
                        "payload": action.payload,
                    },
                )
            case SendCancel():
                await self._send(Name.COMMAND_CANCEL_REQUEST, {"commandId": action.command_id})
                if action.kind not in REPEATABLE:
                    # Nobody knows what became of the session: have the agent look.
                    await self._send(Name.REFRESH_REQUEST, {"what": "sessions"})
            case Expire():
                if not self._exchange.is_asked(action.command_id):  # whoever asked looks at the clock too
                    self._coordinator.apply(CommandExpired(action.command_id))
            case Pace():
                await self._send(Name.FLOW_CONTROL, {"minUpdateIntervalSeconds": action.least_interval_s})
            case GiveUpChannel():
                await self.close(CloseCode.NO_ACK, "commands are not acknowledged")

    def _abandon(self) -> None:
        # What cannot be sent is not read: a close frame would only wait behind it.
        logger.warning("Server %s does not read what it is sent; its channel is given up.", self.server_id)
        self._is_abandoned = True
        if self._task is not None:
            self._task.cancel()

    def step_down(self) -> None:
        """Leave the server's commands alone: another channel speaks for it, or none."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.stop()

    async def _take_ack(self, body: dict[str, Any]) -> None:
        command_id = body["commandId"]
        if self._pump is None or command_id not in self._pump.book:
            return
        book = self._pump.book
        if body["accepted"]:
            book.acknowledge(command_id)
        elif body.get("code") == Code.BUSY:
            book.postpone(command_id, self._clock() + (body.get("retryAfterMs") or 1000) / 1000)
        else:
            code = body.get("code") or Code.INTERNAL
            await self._finish(command_id, CommandResult(False, code, body.get("message") or ""))
        self.pump()

    async def _take_result(self, body: dict[str, Any]) -> None:
        command_id = body["commandId"]
        if body.get("chunks"):
            if len(self._assemblies) >= _MOST_ASSEMBLIES:
                raise NotUnderstood("too many results in pieces at once")
            self._assemblies[command_id] = ResultAssembly(body)
            return
        await self._complete(body, body.get("data") or {})

    async def _take_chunk(self, body: dict[str, Any]) -> None:
        command_id = body["commandId"]
        assembly = self._assemblies.get(command_id)
        if assembly is None:
            return  # the rest of a result that was refused
        try:
            whole = assembly.add(body["index"], body["data"])
            data = None if whole is None else read_result_data(whole)
        except ResultTooLarge as error:
            del self._assemblies[command_id]
            await self._finish(command_id, CommandResult(False, Code.TOO_LARGE, str(error)))
            return
        except NotUnderstood:
            del self._assemblies[command_id]
            raise
        if data is not None:
            del self._assemblies[command_id]
            await self._complete(assembly.result, data)

    async def _complete(self, body: Any, data: dict[str, Any]) -> None:
        code = body.get("code") or (Code.OK if body["success"] else Code.INTERNAL)
        result = CommandResult(body["success"], code, body.get("message") or "", data)
        await self._finish(body["commandId"], result)

    async def _finish(self, command_id: str, result: CommandResult) -> None:
        """File a result; it is confirmed only when it is durable, so that none is lost."""
        if self._pump is not None:
            self._pump.book.finish(command_id)
        if not self._exchange.finished(command_id, result):
            event = CommandFinished(
                self.server_id,
                self.id,
                command_id,
                result.success,
                result.code,
                result.message,
                result.data,
            )
            try:
                await self._coordinator.apply(event)
            except StoreUnavailable:
                return  # the agent keeps the result and sends it again after its next hello
        await self._send(Name.COMMAND_RESULT_ACK, {"commandId": command_id})
        self.pump()

    async def _send(self, name: str, fields: dict[str, Any], request_id: str = "") -> None:
        text = build(name, request_id or uuid.uuid4().hex, datetime.now(UTC), fields)
        try:
            await self._socket.send_text(text)
        except RuntimeError:
            # Starlette says so when this side has closed the channel meanwhile.
            raise WebSocketDisconnect(CloseCode.GOING_AWAY) from None
