"""The client listener: paths, order of checks, reading of bodies, answers and failure texts.

What the operations do is in `operations`; tokens are in `oauth`. One table names
all paths. The order of refusals is fixed: too many requests, unknown path, wrong
method, no or bad token, body too large, body not understood.
"""

import json
import logging
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from broker_stub.broker import audit, live_stream
from broker_stub.broker.external_tokens import ExternalServers
from broker_stub.broker.live_stream import LiveStream
from broker_stub.broker.oauth import Tokens
from broker_stub.broker.operations import Operations
from broker_stub.broker.store import StoreUnavailable
from broker_stub.broker.throttle import Throttle
from broker_stub.broker.token_request import token_endpoint
from dcvtui.api.models import (
    CloseServerRequestData,
    CreateSessionRequestData,
    DeleteSessionRequestData,
    DescribeServersRequestData,
    DescribeSessionsRequestData,
    GetSessionScreenshotRequestData,
    OpenServerRequestData,
    RequestError,
    UpdateSessionPermissionsRequestData,
    WireModel,
    read_request,
)

logger = logging.getLogger(__name__)

MOST_BODY_BYTES = 1024 * 1024
MOST_ITEMS = 1000
MOST_SCREENSHOTS = 100
LONGEST_USER = 256
# A body that is too large is read and dropped up to here, so that the client gets to see the answer:
# one that still sends when the connection is closed sees an error of the network instead.
_DRAINED_BYTES = 512 * MOST_BODY_BYTES

Endpoint = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):  # noqa: N818  an answer, not a fault
    """A request that gets an HTTP error.

    Args:
        status: The HTTP status.
        text: The `error` text.
        headers: Further headers.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the broker serves; `reason` says why not."""

    reason: str | None = None
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class ApiRules:
    """The settings that decide what the listener lets through."""

    needs_token: bool = True
    issues_tokens: bool = True
    trusts_forwarded_for: bool = False
    definition: bytes | None = None
    """The API definition to serve, or `None`."""


class HttpApi:
    """The ASGI application of the client listener.

    Args:
        operations: What the API does.
        tokens: Checks access tokens and API clients.
        external: Checks access tokens of other authorization servers.
        throttle: Counts requests per caller.
        health: Tells how the broker is.
        rules: What is switched on.
        live: Tells consoles what changes; `None` if that is switched off.
    """

    def __init__(
        self,
        operations: Operations,
        tokens: Tokens,
        external: ExternalServers,
        throttle: Throttle,
        health: Callable[[], Health],
        rules: ApiRules,
        live: LiveStream | None = None,
    ) -> None:
        self._live = live
        self._tokens = tokens
        self._external = external
        self._throttle = throttle
        self._health = health
        self._rules = rules
        self._operations = operations
        self._routes: dict[str, tuple[str, Endpoint]] = {
            "/describeSessions": (
                "POST",
                self._object(DescribeSessionsRequestData, operations.describe_sessions),
            ),
            "/describeServers": (
                "POST",
                self._object(DescribeServersRequestData, operations.describe_servers),
            ),
            "/createSessions": ("POST", self._array(CreateSessionRequestData, operations.create_sessions)),
            "/deleteSessions": ("POST", self._array(DeleteSessionRequestData, operations.delete_sessions)),
            "/sessionPermissions": (
                "PUT",
                self._array(UpdateSessionPermissionsRequestData, operations.update_session_permissions),
            ),
            "/getSessionScreenshots": (
                "POST",
                self._array(
                    GetSessionScreenshotRequestData, operations.session_screenshots, MOST_SCREENSHOTS
                ),
            ),
            "/openServers": ("POST", self._array(OpenServerRequestData, operations.open_servers)),
            "/closeServers": ("POST", self._array(CloseServerRequestData, operations.close_servers)),
        }
        if live is not None:
            self._routes[live_stream.PATH] = ("GET", self._live_changes)
        self._open_routes: dict[str, tuple[str, Endpoint]] = {"/health": ("GET", self._health_answer)}
        if rules.issues_tokens:
            endpoint = token_endpoint(tokens.clients.check, tokens.issue_access)
            self._open_routes["/oauth2/token"] = ("POST", endpoint)
        self.change_rules(rules)

    def change_rules(self, rules: ApiRules) -> None:
        """Take other rules; whether tokens are issued stays as it was."""
        self._rules = rules
        if rules.definition is not None:
            self._open_routes["/dcv-session-manager-api.yaml"] = ("GET", self._definition)
        else:
            self._open_routes.pop("/dcv-session-manager-api.yaml", None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = JSONResponse({"error": str(refusal)}, refusal.status, refusal.headers)
        except RequestError as error:
            response = JSONResponse({"error": _sendable(str(error))}, 400)
        except StoreUnavailable:
            response = JSONResponse({"error": "Service unavailable"}, 503)
        except ClientDisconnect:
            return
        except Exception:
            # Request boundary: a fault of ours is logged with its place and never shown.
            logger.exception("%s %s failed.", request.method, request.url.path)
            response = JSONResponse({"error": "Internal server error"}, 500)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode("latin-1")
        if path != "/health" and (wait_s := self._throttle.admit(self._caller(request))):
            raise Refusal(429, "Too many requests", {"Retry-After": str(wait_s)})
        is_open = path in self._open_routes
        method, endpoint = (
            self._open_routes.get(path) or self._routes.get(path) or self._connection_route(path)
        )
        if request.method != method and not (request.method == "HEAD" and method == "GET" and is_open):
            raise Refusal(405, "Method not allowed", {"Allow": method})
        if is_open:
            return await endpoint(request)
        if self._rules.needs_token:
            await self._authorize(request)
        if self._health().is_stopping:
            raise Refusal(503, "Service unavailable", {"Connection": "close"})
        return await endpoint(request)

    def _caller(self, request: Request) -> str:
        if self._rules.trusts_forwarded_for:
            for part in request.headers.get("x-forwarded-for", "").split(","):
                try:
                    address = str(ip_address(part.strip()))
                except ValueError:
                    continue
                audit.note(forwarded=address)  # the address of the call itself is a load balancer's
                return address
        client = request.scope.get("client")
        return str(client[0]) if client else ""

    async def _authorize(self, request: Request) -> None:
        # The list itself: making an object of the headers costs as much as checking the token.
        headers = request.scope["headers"]
        header = next((value.decode("latin-1") for name, value in headers if name == b"authorization"), None)
        if header is None:
            raise Refusal(401, "No authorization header", {"WWW-Authenticate": "Bearer"})
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or " " in token:
            raise Refusal(401, "Invalid authorization header", {"WWW-Authenticate": "Bearer"})
        client_id = await self._client_of(token)
        if client_id is None:
            challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            raise Refusal(401, "Invalid access token", challenge)
        audit.note_actor(client_id)

    async def _client_of(self, token: str) -> str | None:
        """Whom an access token was issued to, if it is good: the broker's own, or another server's."""
        own = self._tokens.check_access(token) if self._rules.issues_tokens else None
        return own or await self._external.check(token)

    # -------------------------------------------------------------- endpoints

    async def _health_answer(self, _request: Request) -> Response:
        reason = self._health().reason
        if reason is None:
            announced = {} if self._live is None else {"liveChanges": live_stream.PATH}
            return JSONResponse({"status": "UP"} | announced)
        return JSONResponse({"status": "DOWN", "reason": reason}, 503)

    async def _definition(self, _request: Request) -> Response:
        return Response(self._rules.definition, media_type="application/yaml")

    async def _live_changes(self, request: Request) -> Response:
        assert self._live is not None, "no such route otherwise"  # noqa: S101  a wrong order of calls, no input
        if self._live.is_full:
            raise Refusal(503, "Too many live streams", {"Retry-After": "30"})
        _, _, token = request.headers.get("authorization", "").partition(" ")

        async def is_allowed() -> bool:
            return not self._rules.needs_token or await self._client_of(token.strip()) is not None

        return self._live.answer(request, is_allowed)

    def _connection_route(self, path: str) -> tuple[str, Endpoint]:
        # Split first, decode afterwards: a user may contain an encoded slash.
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != "sessionConnectionData" or not parts[2] or not parts[3]:
            raise Refusal(404, "Not found")

        async def endpoint(_request: Request) -> Response:
            user = _decoded(parts[3])
            if user is None or len(user) > LONGEST_USER or any(map(_is_control, user)):
                raise RequestError("Invalid user")
            session_id = _decoded(parts[2])
            if session_id is None:
                raise RequestError("Dcv session not found.")
            return _json(await self._operations.session_connection_data(session_id, user))

        return "GET", endpoint

    def _object(self, model: type[WireModel], operation: Callable[[Any], Awaitable[bytes]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            body = await _body(request)
            read = _remembered if len(body) <= _REMEMBERED_BYTES else _read_object
            return _json(await operation(read(model, body)))

        return endpoint

    def _array(
        self,
        model: type[WireModel],
        operation: Callable[[list[Any]], Awaitable[bytes]],
        most: int = MOST_ITEMS,
    ) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            raw = _parsed(await _body(request), empty=None)
            if not isinstance(raw, list):
                raise RequestError("Request body must be a JSON array")
            if len(raw) > most:
                raise RequestError("Too many items")
            items = [_item(model, number, fields) for number, fields in enumerate(raw, start=1)]
            return _json(await operation(items))

        return endpoint


class JsonAnswer(Response):
    """JSON that is encoded already. Made for every answer, so it does only what these need.

    Args:
        content: The body.
    """

    def __init__(self, content: bytes) -> None:
        self.status_code = 200
        self.background = None
        self.body = content
        self.raw_headers = [
            (b"content-length", str(len(content)).encode()),
            (b"content-type", b"application/json"),
        ]


def _json(content: bytes) -> Response:
    return JsonAnswer(content)


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _decoded(part: str) -> str | None:
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        return None


async def _body(request: Request) -> bytes:
    pieces: list[bytes] = []
    size = 0
    is_more = True
    while is_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece, is_more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size <= MOST_BODY_BYTES:
            pieces.append(piece)
        elif size > _DRAINED_BYTES:
            raise Refusal(413, "Request body too large", {"Connection": "close"})
    if size > MOST_BODY_BYTES:
        raise Refusal(413, "Request body too large")
    return b"".join(pieces)


def _parsed(body: bytes, empty: Any) -> Any:
    """The JSON of a body; `empty` for none at all, an error where that is `None`."""
    if not body.strip():
        if empty is None:
            raise RequestError("Request body is required")
        return empty
    try:
        text = body.removeprefix(BOM_UTF8).decode("utf-8")  # some tools put the mark before all they write
        raw = _DECODER.decode(text)
        if "\\ud" in text.lower():
            # Half a surrogate pair is JSON but no text: it could never be sent back.
            json.dumps(raw, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise RequestError(f"Malformed JSON request: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):
        raise RequestError("Malformed JSON request") from None
    return raw


def _read_object(model: type[WireModel], body: bytes) -> WireModel:
    raw = _parsed(body, empty={})
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise RequestError("Request body must be a JSON object")
    read = read_request(model, raw)
    _check_describe(read)
    return read


# Who watches a fleet asks the same again and again. What was read is for reading only.
_REMEMBERED_BYTES = 2048
_remembered = lru_cache(maxsize=1024)(_read_object)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # making one costs as much as reading a request


def _item(model: type[WireModel], number: int, raw: Any) -> WireModel:
    if not isinstance(raw, dict):
        raise RequestError(f"Malformed JSON request: item {number} is not an object")
    read = read_request(model, raw)
    if isinstance(read, GetSessionScreenshotRequestData):
        for name, value in (("MaxWidth", read.max_width), ("MaxHeight", read.max_height)):
            if value is not None and value < 1:
                raise RequestError(f"{name} must be greater than 0")
    return read


def _check_describe(read: WireModel) -> None:
    """Refuse what this document of the API marks as wrong structure in a Describe request."""
    if isinstance(read, DescribeSessionsRequestData):
        ids = read.session_ids
        for item in read.filters or ():
            if item.key is None or item.value is None:
                raise RequestError('Invalid value for field "Filters"')
            if item.key.lower() != "owner" and not item.key.startswith("tag:"):
                raise RequestError(f'Unsupported filter "{item.key}"')
    elif isinstance(read, DescribeServersRequestData):
        ids = read.server_ids
    else:
        return
    if ids and len(ids) > MOST_ITEMS:
        raise RequestError("Too many items")
