"""The local administration socket: what the administration command asks of a running broker.

Whoever may open the socket file (mode 0600, in the working path) may do
everything here. The printed texts are the command's, in `broker_stub.cli`.
"""

from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker import audit
from broker_stub.broker.clients import DuplicateName, UnknownClient
from broker_stub.broker.oauth import Tokens
from broker_stub.broker.store import StoreUnavailable

LONGEST_NAME = 256


def admin_app(tokens: Tokens, more_routes: Sequence[Route] = ()) -> Starlette:
    """The application behind the administration socket.

    Args:
        tokens: API clients.
        more_routes: What other modules answer, see `admin_trust` and `admin_service`.
    """

    async def register(request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        name = str(asked.get("name", ""))
        if not name.strip() or len(name) > LONGEST_NAME:
            return JSONResponse({"error": f"the name must have 1 to {LONGEST_NAME} characters"}, 400)
        try:
            client_id, secret = await tokens.register_client(name, bool(asked.get("allowDuplicateName")))
        except DuplicateName:
            return JSONResponse({"error": f'an active API client named "{name}" exists'}, 409)
        audit.note(client=client_id)
        return JSONResponse({"clientId": client_id, "clientPassword": secret}, 201)

    async def describe(_request: Request) -> Response:
        return JSONResponse(
            [
                {"name": client.name, "id": client.client_id, "active": client.status == "active"}
                for client in tokens.clients.all()
            ]
        )

    async def unregister(request: Request) -> Response:
        client_id: str = request.path_params["client_id"]
        try:
            await tokens.clients.unregister(client_id)
        except UnknownClient:
            return JSONResponse({"error": f"no API client with id {client_id}"}, 404)
        audit.note(client=client_id)
        return Response(status_code=204)

    async def store_trouble(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "the broker's database cannot be written"}, 503)

    return Starlette(
        exception_handlers={StoreUnavailable: store_trouble},
        routes=[
            Route("/api-clients", register, methods=["POST"]),
            Route("/api-clients", describe, methods=["GET"]),
            Route("/api-clients/{client_id:path}", unregister, methods=["DELETE"]),
            *more_routes,
        ],
    )
