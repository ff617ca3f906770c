"""The gateway's questions: at which server and port is a session, for one of the two transports.

A listener of its own, open only where a Connection Gateway is used. It takes no
access token; who may ask is decided by client certificates or by the network.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker.dns_names import DnsNames
from broker_stub.broker.events import Ambiguous
from broker_stub.broker.registry import Registry
from broker_stub.broker.server import ServerRecord

logger = logging.getLogger(__name__)

TRANSPORTS = ("HTTP", "QUIC")
# Gateways and their administrators know this text from the original product.
NOT_THERE = "The requested combination of transport and sessionId does not exist"
_NO_STORE = {"Cache-Control": "no-store"}
_LONGEST_SHOWN = 300


class NotThere(Exception):  # noqa: N818  named by what happened
    """No session that can be connected to has the id, or its server does not offer the transport."""


def resolve(registry: Registry, names: DnsNames, session_id: str, transport: str) -> dict[str, Any]:
    """Where a gateway finds a session.

    Args:
        registry: Knows sessions and servers.
        names: DNS names that an administrator registered.
        session_id: The session.
        transport: `HTTP` or `QUIC`.

    Returns:
        The answer's fields.

    Raises:
        NotThere: it cannot be connected to, or not that way.
    """
    try:
        session = registry.session(session_id)
    except Ambiguous:
        raise NotThere from None  # `console` on several hosts: a gateway cannot say which it means
    if session is None or not registry.is_connectable(session) or session.server_id is None:
        raise NotThere
    server = registry.server(session.server_id)
    endpoint = None if server is None else _endpoint(server, transport)
    host = None if server is None else _name(server, names)
    if endpoint is None or host is None:
        raise NotThere
    path = str(endpoint.get("webUrlPath") or "/") if transport == "HTTP" else ""
    return {
        "SessionId": session.id,
        "TransportProtocol": transport,
        "DcvServerEndpoint": host,
        "Port": endpoint["port"],
        "WebUrlPath": path if path.startswith("/") or not path else f"/{path}",
    }


def _endpoint(server: ServerRecord, transport: str) -> Mapping[str, Any] | None:
    """Where the server listens for the transport; of several the one with its own address."""
    own = server.block.get("ip")
    fitting = [
        endpoint
        for endpoint in server.block.get("endpoints") or ()
        if endpoint.get("protocol") == transport and endpoint.get("port")
    ]
    return min(fitting, key=lambda endpoint: endpoint.get("ipAddress") != own, default=None)


def _name(server: ServerRecord, names: DnsNames) -> str | None:
    """The name that the gateway looks up, the registered one first (administrator guide, DNS names)."""
    block = server.block
    aws = (block.get("host") or {}).get("aws") or {}
    return (
        names.internal_name(server.id, aws.get("ec2InstanceId"), block.get("ip"))
        or block.get("defaultDnsName")
        or block.get("hostname")
        or block.get("ip")
        or None
    )


def resolver_app(
    registry: Registry, names: DnsNames, unhealthy_reason: Callable[[], str | None]
) -> Starlette:
    """The application of the gateway's listener.

    Args:
        registry: Knows sessions and servers.
        names: DNS names that an administrator registered.
        unhealthy_reason: Why the broker does not serve at the moment, or nothing.
    """

    async def answer(request: Request) -> Response:
        asked = request.query_params
        session_id, transport = asked.get("sessionId", ""), asked.get("transport", "")
        if not session_id:
            return _refused(400, "Missing sessionId parameter")
        if transport not in TRANSPORTS:
            return _refused(400, f"Invalid transport parameter: {transport[:_LONGEST_SHOWN]}")
        client = asked.get("clientIpAddress") or "an unknown address"
        place = f"{session_id[:_LONGEST_SHOWN]} by {transport} for {client[:_LONGEST_SHOWN]}"
        try:
            found = resolve(registry, names, session_id, transport)
        except NotThere:
            logger.info("A gateway asked for session %s: not there.", place)
            return _refused(404, NOT_THERE)
        logger.info("A gateway asked for session %s: %s.", place, found["DcvServerEndpoint"])
        return JSONResponse(found, headers=_NO_STORE)

    async def health(_request: Request) -> Response:
        if reason := unhealthy_reason():
            return JSONResponse({"status": "DOWN", "reason": reason}, 503, _NO_STORE)
        return JSONResponse({"status": "UP"}, headers=_NO_STORE)

    async def other(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  that is what the handler is registered for
        text = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, error.detail)
        return JSONResponse({"error": text}, error.status_code, error.headers)

    app = Starlette(
        routes=[
            Route("/resolveSession", answer, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
        ],
        exception_handlers={HTTPException: other},
    )
    app.router.redirect_slashes = False  # its redirections lead wherever the Host header says
    return app


def _refused(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, _NO_STORE)
