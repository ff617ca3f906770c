"""The agent listener: who may open a channel, which channel speaks for which server, commands on their way.

Turns what agents say into events for the registry and delivers what it decides.
What is said on one channel is in `agent_channel`, plain HTTP in `agent_endpoints`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from broker_stub.broker.agent_channel import AgentChannel
from broker_stub.broker.agent_endpoints import AgentEndpoints
from broker_stub.broker.coordinator import Coordinator
from broker_stub.broker.events import CancelCommand, Command, ReportsPaced, SendCommand
from broker_stub.broker.metrics import Metrics
from broker_stub.broker.oauth import Tokens
from broker_stub.channel import (
    CHANNEL_PATH,
    MAX_QUEUED_COMMANDS,
    SUBPROTOCOL,
    AgentUnreachable,
    CloseCode,
    Code,
    CommandKind,
    TimedOut,
    least_update_interval,
)
from broker_stub.channel_commands import CommandBook, CommandResult

logger = logging.getLogger(__name__)

_HELLOS_AT_ONCE = 50
_RETURN_PER_AGENT_MS = 10
_RETURN_AT_LEAST_MS = 1000
_RETURN_AT_MOST_MS = 30_000
_CAPABILITY = {CommandKind.GET_SESSION_SCREENSHOT: "screenshot"}


class AgentChannels:
    """All channels of this broker.

    Args:
        coordinator: Takes events, in order.
        tokens: Who may open a channel.
        requires_token: Whether one is needed at all.
        clock: Seconds, only moving forward.
        now: The clock that deadlines are given in.
        metrics: Counts how long commands take.

    Attributes:
        app: The ASGI application of the agent listener.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        tokens: Tokens,
        *,
        requires_token: bool = True,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        metrics: Metrics | None = None,
    ) -> None:
        self._coordinator = coordinator
        self._tokens = tokens
        self._requires_token = requires_token
        self._clock = clock
        self._now = now
        self._metrics = metrics or Metrics("default")
        self._is_stopping = False
        self._channels: dict[str, AgentChannel] = {}
        self._clients: dict[str, set[AgentChannel]] = {}
        self._books: dict[str, CommandBook] = {}
        self._asked: dict[str, tuple[str, asyncio.Future[CommandResult]]] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self.least_interval_s = 1
        self.hello_places = asyncio.Semaphore(_HELLOS_AT_ONCE)
        self.broker_id = str(uuid.uuid4())
        endpoints = AgentEndpoints(tokens, coordinator.registry, self._unhealthy_reason, clock)
        self.app = Starlette(
            routes=[*endpoints.routes(), WebSocketRoute(CHANNEL_PATH, self._open)],
            exception_handlers={ClientDisconnect: _gone},
        )
        self.app.router.redirect_slashes = False  # its redirections lead wherever the Host header says

    def __len__(self) -> int:
        return len(self._channels)

    # -------------------------------------------------------------- for the rest of the broker

    def deliver(self, command: Command) -> None:
        """Take a command that is stored; it goes out as soon as the server's agent can have it."""
        if isinstance(command, CancelCommand):
            if book := self._books.get(command.server_id):
                book.cancel(command.command_id)
                self._drop_empty_book(command.server_id)
        elif isinstance(command, SendCommand):
            self._metrics.command_given(command.command_id, command.kind)
            left_s = (command.deadline_at - self._now()).total_seconds()
            self._book(command.server_id).add(
                command.command_id,
                command.kind,
                command.payload,
                deadline=self._clock() + left_s,
                attempt=command.attempt,
            )
        if channel := self._channels.get(command.server_id):
            channel.pump()

    async def ask(
        self, server_id: str, kind: str, payload: dict[str, Any], timeout_s: float
    ) -> CommandResult:
        """Send a command that changes nothing, such as a screenshot, and wait for its result.

        Raises:
            AgentUnreachable: there is no channel to that server's agent, or it was lost meanwhile.
            TimedOut: no result came in time.
        """
        channel = self._channels.get(server_id)
        if channel is None:
            raise AgentUnreachable(f"The agent of server {server_id} is not connected.")
        if _CAPABILITY.get(CommandKind(kind), kind) not in channel.capabilities:
            return CommandResult(False, Code.UNSUPPORTED, "The host does not offer this.")
        book = self._book(server_id)
        if book.count(kind) >= MAX_QUEUED_COMMANDS:
            return CommandResult(False, Code.BUSY, "Too many such requests wait for this host.")
        command_id = str(uuid.uuid4())
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._asked[command_id] = (server_id, future)
        self._metrics.command_given(command_id, kind)
        book.add(command_id, kind, payload, deadline=self._clock() + timeout_s)
        channel.pump()
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise TimedOut(f"Server {server_id} did not answer within {timeout_s:g} s.") from None
        finally:
            del self._asked[command_id]
            book.cancel(command_id)
            channel.pump()

    def refuse_new(self) -> None:
        """Take no new channels; those that are open go on."""
        self._is_stopping = True

    def close_all(self, reason: str) -> None:
        """Ask every agent to come back, spread over a time that fits their number, and take no new ones."""
        self.refuse_new()
        after_ms = _RETURN_AT_LEAST_MS + _RETURN_PER_AGENT_MS * len(self._channels)
        for channel in list(self._channels.values()):
            self._in_background(channel.say_goodbye(reason, min(after_ms, _RETURN_AT_MOST_MS)))

    def close_client(self, client_id: str) -> None:
        """End every channel that was opened with the credentials of an agent client."""
        for channel in list(self._clients.get(client_id, ())):
            self._in_background(channel.close(CloseCode.FORBIDDEN, "the agent client was unregistered"))

    # -------------------------------------------------------------- for channels

    def opened(self, channel: AgentChannel, superseded: str | None) -> CommandBook:
        """A hello was accepted: the channel speaks for its server from now on."""
        former = None
        if superseded:
            former = next((one for one in self._channels.values() if one.id == superseded), None)
        self._channels[channel.server_id] = channel
        if former is not None:
            former.step_down()
            self._in_background(former.close(CloseCode.SUPERSEDED, "a newer channel took over"))
        self._pace_reports()
        return self._book(channel.server_id)

    def _pace_reports(self) -> None:
        """Ask all agents to speak less often while there are very many of them."""
        least_s = least_update_interval(len(self._channels), self.least_interval_s)
        if least_s == self.least_interval_s:
            return
        logger.info("%d agents: at least %d s between two reports of one.", len(self._channels), least_s)
        self.least_interval_s = least_s
        self._coordinator.apply(ReportsPaced(least_s))
        for channel in self._channels.values():
            channel.pace(least_s)

    def is_asked(self, command_id: str) -> bool:
        """Whether somebody in this process waits for the command's result."""
        return command_id in self._asked

    def finished(self, command_id: str, result: CommandResult) -> bool:
        """A result came; whether somebody in this process asked for it."""
        self._metrics.command_finished(command_id, success=result.success)
        asked = self._asked.get(command_id)
        if asked is None:
            return False
        if not asked[1].done():
            asked[1].set_result(result)
        return True

    # -------------------------------------------------------------- channels

    async def _open(self, socket: WebSocket) -> None:
        client_id = self._client_of(socket)
        if refusal := self._refusal(client_id):
            await socket.send_denial_response(refusal)
            return
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        channel = AgentChannel(socket, self._coordinator, self, self._clock)
        self._clients.setdefault(client_id or "", set()).add(channel)
        try:
            await channel.serve()
        finally:
            self._forget_client(client_id or "", channel)
            self._ended(channel)

    def _client_of(self, socket: WebSocket) -> str | None:
        """The agent client whose good token opens the channel; nobody where none is needed."""
        if not self._requires_token:
            return None
        scheme, _, token = socket.headers.get("authorization", "").partition(" ")
        return self._tokens.check_agent(token.strip()) if scheme.lower() == "bearer" else None

    def _refusal(self, client_id: str | None) -> Response | None:
        if self._is_stopping:
            return JSONResponse({"error": "The broker is stopping"}, 503, {"Retry-After": "1"})
        if client_id is None and self._requires_token:
            return JSONResponse({"error": "The agent's token is missing or not valid"}, 401)
        return None

    def _forget_client(self, client_id: str, channel: AgentChannel) -> None:
        channels = self._clients[client_id]
        channels.discard(channel)
        if not channels:
            del self._clients[client_id]

    def _ended(self, channel: AgentChannel) -> None:
        server_id = channel.server_id
        if not server_id or self._channels.get(server_id) is not channel:
            return
        del self._channels[server_id]
        self._pace_reports()
        lost = AgentUnreachable(f"The channel to the agent of server {server_id} was lost.")
        for asked_server, future in self._asked.values():
            if asked_server == server_id and not future.done():
                future.set_exception(lost)
        self._drop_empty_book(server_id)

    def _in_background(self, farewell: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(farewell)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)

    def _book(self, server_id: str) -> CommandBook:
        book = self._books.get(server_id)
        if book is None:
            book = self._books[server_id] = CommandBook()
        return book

    def _drop_empty_book(self, server_id: str) -> None:
        if server_id not in self._channels and not self._books.get(server_id, True):
            del self._books[server_id]

    def _unhealthy_reason(self) -> str | None:
        if self._is_stopping:
            return "the broker is stopping"
        return "the database cannot be written" if self._coordinator.is_store_down else None


async def _gone(_request: Request, _error: Exception) -> Response:
    """The answer for a caller that hung up in the middle of its request; nobody reads it."""
    return Response(status_code=400)
