"""Servers: uvicorn as a part of a program that owns its signals and its loop.

Several servers run side by side in one event loop. uvicorn by itself takes the
signals for each server and polls ten times a second; here it does neither.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Collection, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from broker_stub import channel
from broker_stub.broker.http_connection import CallersFaults, HttpConnection, LocalConnection

logger = logging.getLogger(__name__)
logging.getLogger("uvicorn.error").addFilter(CallersFaults())

KEEP_ALIVE_S = 65  # a little above the minute that load balancers keep idle connections
_GOODBYE_S = 0.5


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
