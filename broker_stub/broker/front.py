"""What every request to a listener passes first: its id, audit, timing, the answer while the broker starts.

A listener is open before the broker is ready and stays open while it stops, so that
load balancers get an answer they understand instead of a refused connection.
"""

import json
import re
import time
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker_stub.broker import audit

CLIENT_ACTIONS: Mapping[tuple[str, str], str] = {
    ("POST", "/createSessions"): "create-sessions",
    ("POST", "/deleteSessions"): "delete-sessions",
    ("PUT", "/sessionPermissions"): "update-session-permissions",
    ("POST", "/openServers"): "open-servers",
    ("POST", "/closeServers"): "close-servers",
    ("POST", "/oauth2/token"): "request-token",
}
AGENT_ACTIONS: Mapping[tuple[str, str], str] = {
    ("POST", "/agent/register"): "register-agent",
    ("POST", "/agent/oauth2/token"): "request-agent-token",
}
OPERATIONS: Mapping[str, str] = {
    "/describeSessions": "describe-sessions",
    "/describeServers": "describe-servers",
    "/createSessions": "create-sessions",
    "/deleteSessions": "delete-sessions",
    "/sessionPermissions": "update-session-permissions",
    "/getSessionScreenshots": "get-session-screenshots",
    "/openServers": "open-servers",
    "/closeServers": "close-servers",
    "/oauth2/token": "request-token",
    "/agent/register": "register-agent",
    "/agent/oauth2/token": "request-agent-token",
    "/agent/validate-authentication-token": "check-connection-token",
    "/resolveSession": "resolve-session",
}
"""Names of what is timed; other paths are `other`, for anybody may ask for any path."""

COMMAND_HEADER = "x-command"
"""Header in which an administration command names itself."""

_CONNECTION_DATA = re.compile(r"/sessionConnectionData/")
_UNTIMED = ("/health", "/liveChanges", "/agent/v1/channel")
_STARTING = "the broker is starting"

Observe = Callable[[str, int, float, audit.Call], None]
"""Takes operation, status and seconds of each request, with what was noted of it."""


def _observe_nothing(_operation: str, _status: int, _seconds: float, _call: audit.Call) -> None:
    pass


class Front:
    """The ASGI application of a listener, around the one that answers.

    Args:
        actions: Method and path of what the audit trail records, with the words for it.
        observe: Takes the time of each request.

    Attributes:
        app: What answers; `None` while the broker starts.
        under_way: Ids of the requests that are being answered, health checks and streams left out.
    """

    def __init__(self, actions: Mapping[tuple[str, str], str], observe: Observe = _observe_nothing) -> None:
        self.app: ASGIApp | None = None
        self.under_way: set[str] = set()
        self._actions = actions
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass a channel on."""
        call = self._begin(scope)
        if self.app is None:
            await _say_starting(scope, send)
        elif scope["type"] != "http" or scope["path"] in _UNTIMED:
            await self.app(scope, receive, send)
        else:
            await self._answer(self.app, call, scope, receive, send)

    async def _answer(
        self, app: ASGIApp, call: audit.Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        status = 0
        header = (b"x-request-id", call.request_id.encode())

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        path = scope["path"]
        begun = time.perf_counter()
        self.under_way.add(call.request_id)
        try:
            await app(scope, receive, send_named)
        finally:
            self.under_way.discard(call.request_id)
            self._observe(_operation(path), status, time.perf_counter() - begun, call)
            if action := self._action(scope):
                audit.write(action, _outcome(status), call)

    def _begin(self, scope: Scope) -> audit.Call:
        client = scope.get("client")
        return audit.begin(client[0] if client else "")

    def _action(self, scope: Scope) -> str | None:
        return self._actions.get((scope["method"], scope["path"]))


class LocalFront(Front):
    """The same for the administration socket: every request is recorded, with the user who sent it."""

    def __init__(self) -> None:
        super().__init__({})

    def _begin(self, scope: Scope) -> audit.Call:
        user, process = scope["client"] or ("", 0)
        call = audit.begin(f"process {process}")
        call.actor = user
        return call

    def _action(self, scope: Scope) -> str:
        # What the administrator typed says more than the path it became.
        command = dict(scope["headers"]).get(COMMAND_HEADER.encode(), b"").decode("ascii", "replace")
        return command or f"{scope['method']} {scope['path']}"


def _operation(path: str) -> str:
    if operation := OPERATIONS.get(path):
        return operation
    return "get-session-connection-data" if _CONNECTION_DATA.match(path) else "other"


def _outcome(status: int) -> str:
    if status == 0:
        return "no answer"  # the caller hung up
    return "done" if status < 400 else f"refused ({status})"


async def _say_starting(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1013})
        return
    is_health = scope["path"] == "/health"
    body = {"status": "DOWN", "reason": _STARTING} if is_health else {"error": "Service unavailable"}
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": json.dumps(body).encode()})
