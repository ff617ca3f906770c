"""The door of a host: one TLS port where people connect to the sessions on it.

A WebSocket carries the bytes of RFB, the protocol of VNC. Before anything is
relayed the broker is asked whether the connection token is good, as a DCV server
does, and the session is asked whether that person may come in. What a session is,
and who may see it, is the backend's business (`visits`); the token is in no log.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from broker_stub.agent.backend import Endpoint
from broker_stub.agent.background import Background
from broker_stub.agent.rfb_input import InputFilter, NotUnderstoodInput
from broker_stub.agent.visits import EntryRefused, Reception, Visit
from broker_stub.channel import ChannelError

logger = logging.getLogger(__name__)

# The library's own log quotes requests, and their addresses hold tokens.
_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.setLevel(logging.CRITICAL + 1)

BINARY = Subprotocol("binary")
_PIECE = 64 * 1024
_LONGEST_MESSAGE = 1024 * 1024
_LONGEST_SESSION_ID = 128
_CHECKS_AT_ONCE = 16
_OPEN_WITHIN_S = 15.0
_CLOSE_WITHIN_S = 2.0
_ALIVE_EVERY_S = 20.0

_WENT = 1000
_GOING_AWAY = 1001
_NO_TEXT = 1003
_SHOWN_OUT = 1008

_NOT_A_PAGE = (
    "This is the entrance to the remote desktops of this host, and no web page: "
    "connect with a client that speaks VNC over WebSocket."
)


class TokenVerifier(Protocol):
    """Knows whose a connection token is; `TokenCheck` asks the broker."""

    async def user_of(self, session_id: str, token: str, client_address: str) -> str | None:
        """The user a token stands for in a session, `None` if it is not good.

        Raises:
            ChannelError: it cannot be told now.
        """
        ...


class Entrance:
    """Lets people in to the sessions of one host.

    Args:
        reception: Knows the sessions and their rules.
        check: Knows whose a token is.
        web_url_path: The path of the address, as the endpoint is reported.
        most_clients: More are refused, whatever sessions they want.
    """

    def __init__(
        self, reception: Reception, check: TokenVerifier, *, web_url_path: str = "/", most_clients: int = 512
    ) -> None:
        self._reception = reception
        self._check = check
        self._path = web_url_path
        self._most_clients = most_clients
        self._server: Server | None = None
        self._address: str | None = None
        self._visits: dict[ServerConnection, Visit] = {}
        self._coming = 0
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._background = Background(logger, "a visit did not end well")

    async def open(self, address: str | None, port: int, tls: ssl.SSLContext) -> None:
        """Begin to listen.

        Args:
            address: The interface to listen on; `None` for all.
            port: 0 lets the system choose.
            tls: With the certificate that clients are shown.

        Raises:
            OSError: the port cannot be had.
        """
        self._address = None if address in (None, "0.0.0.0", "::") else address  # noqa: S104  only compared
        self._server = await serve(
            self._serve,
            address,
            port,
            ssl=tls,
            process_request=self._receive,
            select_subprotocol=_subprotocol,
            compression=None,  # pictures are compressed already
            max_size=_LONGEST_MESSAGE,
            open_timeout=_OPEN_WITHIN_S,
            close_timeout=_CLOSE_WITHIN_S,
            ping_interval=_ALIVE_EVERY_S,
            ping_timeout=_ALIVE_EVERY_S,
            server_header=None,
            logger=_SILENT,
        )
        logger.info("The entrance is open on port %d.", self.endpoint.port)

    @property
    def endpoint(self) -> Endpoint:
        """Where people find it, as it is reported to the broker."""
        if self._server is None:
            raise RuntimeError("the entrance is not open")
        port = self._server.sockets[0].getsockname()[1]
        return Endpoint(port=port, web_url_path=self._path, ip_address=self._address)

    async def close(self) -> None:
        """Show everybody out; the sessions live on, and clients may come back to the next agent."""
        if self._server is not None:
            self._server.close(code=_GOING_AWAY, reason="The agent of this host is stopping")
            await self._server.wait_closed()
        await self._background.ended()

    # ------------------------------------------------------------------ at the door

    async def _receive(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decide about a request; `None` opens the WebSocket."""
        try:
            await self._admit(connection, request)
        except EntryRefused as refusal:
            response = connection.respond(refusal.status, f"{refusal.sentence}.\n")
            response.headers["Cache-Control"] = "no-store"
            return response
        return None

    async def _admit(self, connection: ServerConnection, request: Request) -> None:
        address = urlsplit(request.path)
        if address.path.rstrip("/") != self._path.rstrip("/"):
            raise EntryRefused(HTTPStatus.NOT_FOUND, "There is nothing at this address")
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            raise EntryRefused(HTTPStatus.UPGRADE_REQUIRED, _NOT_A_PAGE.removesuffix("."))
        session_id, token = _asked_for(address.query)
        self._check_room()
        caller = str(connection.remote_address[0])
        user = await self._user_of(session_id, token, caller)
        self._check_room()  # others came meanwhile
        self._coming += 1
        try:
            visit = await self._reception.admit(session_id, user)
        except EntryRefused as refusal:
            logger.info("session %r: %r from %s refused: %s", session_id, user, caller, refusal.sentence)
            raise
        finally:
            self._coming -= 1
        # Whatever happens to the connection from here on, also before it is open, ends the visit.
        self._visits[connection] = visit
        self._background.start(self._see_off(connection, visit))
        logger.info("session %r: %r came in from %s", session_id, user, caller)

    def _check_room(self) -> None:
        if len(self._visits) + self._coming >= self._most_clients:
            raise EntryRefused(HTTPStatus.SERVICE_UNAVAILABLE, "This host has as many clients as it takes")

    async def _user_of(self, session_id: str, token: str, caller: str) -> str:
        try:
            async with self._checks:
                user = await self._check.user_of(session_id, token, caller)
        except ChannelError as error:
            logger.warning("session %r: nobody can come in: %s", session_id, error)
            raise EntryRefused(
                HTTPStatus.SERVICE_UNAVAILABLE, "The broker cannot be asked about the token, try again later"
            ) from None
        if user is None:
            logger.info("session %r: a token from %s was refused", session_id, caller)
            raise EntryRefused(HTTPStatus.FORBIDDEN, "The token is not valid for this session")
        return user

    async def _see_off(self, connection: ServerConnection, visit: Visit) -> None:
        await connection.wait_closed()
        del self._visits[connection]
        await self._reception.leave(visit)
        logger.info("session %r: %r has left", visit.session_id, visit.user)

    # ------------------------------------------------------------------ inside

    async def _serve(self, connection: ServerConnection) -> None:
        """Carry bytes until one side ends it or the person has to go."""
        visit = self._visits[connection]
        inbound = asyncio.create_task(_inbound(connection, visit))
        outbound = asyncio.create_task(_outbound(connection, visit))
        ended = asyncio.create_task(visit.ended.wait())
        ways = (inbound, outbound, ended)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if visit.ended.is_set():
                await connection.close(_SHOWN_OUT, visit.reason)
            elif outbound.done():
                await connection.close(_WENT, "The session has ended")
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


def _asked_for(query: str) -> tuple[str, str]:
    """The session and the token in an address."""
    try:
        fields = parse_qs(query, max_num_fields=20, errors="strict")
        session_id, token = fields["sessionId"][0], fields["authToken"][0]
    except (ValueError, KeyError):
        session_id = token = ""
    if not token or not 0 < len(session_id) <= _LONGEST_SESSION_ID:
        raise EntryRefused(
            HTTPStatus.BAD_REQUEST, "The address must hold the parameters authToken and sessionId"
        ) from None
    return session_id, token


def _subprotocol(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    if offered and BINARY not in offered:
        raise NegotiationError("the entrance speaks the subprotocol binary")
    return BINARY if offered else None


async def _inbound(connection: ServerConnection, visit: Visit) -> None:
    """From the person to the session, what the person may send."""
    allowed = InputFilter()
    with suppress(ConnectionClosed, OSError):
        async for message in connection:
            if isinstance(message, str):
                await connection.close(_NO_TEXT, "Only binary messages")
                return
            try:
                visit.writer.write(allowed.feed(message, visit.rights))
            except NotUnderstoodInput as error:
                visit.end(str(error))
                return
            await visit.writer.drain()


async def _outbound(connection: ServerConnection, visit: Visit) -> None:
    """From the session to the person."""
    with suppress(ConnectionClosed, OSError):
        while piece := await visit.reader.read(_PIECE):
            await connection.send(piece)
