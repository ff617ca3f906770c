"""One HTTP connection of a listener: how much a caller may send before it is read, and for how long.

uvicorn's parser gathers a request's head without a limit, in time that grows with
the square of its size, and waits for ever for what does not come. Anybody who
reaches the port could stop a broker with either.
"""

import asyncio
import json
import logging
import os
import pwd
import socket
import struct
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker_stub.broker import audit

MOST_HEAD_BYTES = 64 * 1024
REQUEST_WITHIN_S = 60.0

_PEER = struct.Struct("3i")  # ucred: process, user, group
_NOT_PERMITTED = (
    b"HTTP/1.1 403 Forbidden\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 52\r\n\r\n"
    b'{"error":"only root and the service user may do it"}'
)
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 36\r\n\r\n"
    b'{"error":"Request header too large"}'
)


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection with limits on a request's head and on the time a request takes to come.

    The head may exceed its limit by what one read of the socket brings.
    """

    most_head_bytes: ClassVar[int] = MOST_HEAD_BYTES
    request_within_s: ClassVar[float] = REQUEST_WITHIN_S

    _is_in_head = False
    _is_receiving = False
    _head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        """Begin to count the time: a caller that says nothing has to go too."""
        super().connection_made(transport)
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._end_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, unless it is too much."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if not self._is_receiving:
            self._end_deadline()
            return
        if self._deadline is None:
            self._start_deadline()
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.most_head_bytes and not self.transport.is_closing():
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_receiving = self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is here."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._is_receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the form of all refusals, and end the connection."""
        body = json.dumps({"error": msg.removesuffix(".")}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        """From here on another protocol watches the connection."""
        self._is_receiving = False
        self._end_deadline()
        super().handle_websocket_upgrade()
        channel = self.transport.get_protocol()
        if channel is not self:
            # It and this connection hold each other, and the transport with its buffers, for good.
            del self.parser
        # It reads the head again with limits of its own, and waits in silence when they are exceeded.
        if not getattr(channel, "handshake_initiated", True):
            self.send_400_response("Invalid upgrade request received.")

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a caller's header is no fault of the installation."""

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.request_within_s, self.transport.close)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class LocalConnection(HttpToolsProtocol):
    """A connection to the administration socket: only root and the broker's own user are answered.

    The system says who opened it; the file's mode alone would let in whoever may write it.
    """

    _is_permitted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        """Look who it is."""
        super().connection_made(transport)
        process, user, _ = _PEER.unpack(
            transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        )
        self.client = (_user_name(user), process)
        self._is_permitted = user in (0, os.geteuid())
        if not self._is_permitted:
            audit.write("connect", "refused (403)", audit.Call("", f"process {process}", self.client[0]))

    def data_received(self, data: bytes) -> None:
        """Read what a permitted user says; others are answered without a look at it."""
        if self._is_permitted:
            super().data_received(data)
        elif not self.transport.is_closing():
            self.transport.write(_NOT_PERMITTED)
            self.transport.close()


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


class CallersFaults(logging.Filter):
    """Takes out of uvicorn's log what it calls errors of the program and are faults of callers.

    It logs text that is no UTF-8 on a channel with a traceback, and every refused upgrade as an
    application that returned too early.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is worth logging; some are made smaller."""
        text = record.getMessage()
        if text.startswith("Invalid UTF-8 sequence"):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return text != "ASGI callable returned without completing handshake."
