"""Sockets and servers: uvicorn as a part of a program that owns its signals and its loop.

Several servers run side by side in one event loop. uvicorn by itself takes the
signals for each server and polls ten times a second; here it does neither.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import ssl
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from broker_stub import channel
from broker_stub.broker.http_connection import CallersFaults, HttpConnection, LocalConnection

logger = logging.getLogger(__name__)
logging.getLogger("uvicorn.error").addFilter(CallersFaults())

KEEP_ALIVE_S = 65  # a little above the minute that load balancers keep idle connections
_GOODBYE_S = 0.5
_LONGEST_SOCKET_PATH = 100  # the system's limit is 108 bytes, 104 on some, with the end mark


class ListenError(Exception):
    """A listener cannot be opened; the text is a sentence for people."""


def open_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket; `::` takes both families, port 0 lets the system choose.

    Raises:
        ListenError: the address or port cannot be had.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    try:
        # asyncio switches Nagle's algorithm off only where the protocol is named; else answers take 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ListenError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
    return listener


def local_url(listener: socket.socket) -> str:
    """An address under which a program on this host reaches a TLS listener."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"https://[{address}]:{port}" if address.version == 6 else f"https://{address}:{port}"


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for a local socket that fits in a socket address, however deep its folder is.

    Args:
        path: Where the socket file is or will be.

    Yields:
        The path itself, or one through an open descriptor of its folder.

    Raises:
        ListenError: the path is too long and this system offers no way around.
    """
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        yield str(path)
        return
    if not sys.platform.startswith("linux"):
        raise ListenError(f"The path {path} is too long for a socket; choose a shorter working path.")
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


class Listener(uvicorn.Server):
    """One server among others: takes no signals, sleeps until told to stop.

    Attributes:
        up: Set once connections are accepted.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stop = asyncio.Event()

    @classmethod
    def for_tls(
        cls, app: ASGIApp, context: ssl.SSLContext, grace_s: int, *, with_channel: bool = False
    ) -> "Listener":
        """A server for HTTPS, and for the agents' WebSocket channel if `with_channel` is set."""
        return cls(
            uvicorn.Config(
                app,
                http=HttpConnection,
                ws="websockets-sansio" if with_channel else "none",
                ws_max_size=channel.MAX_MESSAGE_BYTES,
                ws_ping_interval=channel.PING_INTERVAL_S,
                ws_ping_timeout=channel.DEAD_AFTER_S - channel.PING_INTERVAL_S,
                ws_per_message_deflate=False,
                ssl_context_factory=lambda _config, _default: context,
                **_common(grace_s),
            )
        )

    @classmethod
    def for_plain(cls, app: ASGIApp, grace_s: int) -> "Listener":
        """A server for HTTP without TLS, for what holds no secrets and is bound to this host."""
        return cls(uvicorn.Config(app, http=HttpConnection, ws="none", **_common(grace_s)))

    @classmethod
    def for_local(cls, app: ASGIApp, path: str, grace_s: int) -> "Listener":
        """A server on a socket file, for root and the broker's own user."""
        return cls(uvicorn.Config(app, http=LocalConnection, ws="none", uds=path, **_common(grace_s)))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the program."""
        yield

    async def main_loop(self) -> None:
        """Serve until told to stop; wake once a second for the `Date` header."""
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 10) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the requests under way, within the grace time.

        uvicorn waits for connections instead, and a client that does not answer TLS's goodbye,
        as an idle one may, would use up the grace time of every stop.
        """
        for server in self.servers:
            server.close()
        for listening in sockets or ():
            listening.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        if not await _is_empty_within(state.tasks, self.config.timeout_graceful_shutdown or 0):
            logger.warning("%d requests did not end in time and are broken off.", len(state.tasks))
            for task in list(state.tasks):
                task.cancel()
        await _is_empty_within(state.connections, _GOODBYE_S)
        for connection in list(state.connections):
            connection.transport.abort()

    def request_stop(self, grace_s: int | None = None) -> None:
        """Take no new connections, finish what is under way within that many seconds, if given."""
        if grace_s is not None:
            self.config.timeout_graceful_shutdown = grace_s
        self.should_exit = True
        self._stop.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        self.up.set()


async def _is_empty_within(collection: Collection[object], seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while collection and loop.time() < ends_at:  # noqa: ASYNC110  uvicorn tells nobody when one ends
        await asyncio.sleep(0.01)
    return not collection


def _common(grace_s: int) -> dict[str, Any]:
    return {
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": grace_s,
    }
