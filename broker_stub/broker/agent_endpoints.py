"""The HTTP side of the agent listener: health, registration, tokens, and the question of DCV servers.

A DCV server asks whether a connection token is good (broker specification, 7); it
has no credentials, so that path takes none. Channels are in `agents`. Nothing
here writes a token, a secret or a statement to a log.
"""

import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker import audit
from broker_stub.broker.events import Ambiguous
from broker_stub.broker.oauth import ConnectionRefused, StatementRefused, Tokens
from broker_stub.broker.registry import Registry
from broker_stub.broker.store import StoreUnavailable
from broker_stub.broker.token_request import token_endpoint
from broker_stub.channel import REGISTER_PATH, TOKEN_PATH

logger = logging.getLogger(__name__)
_LONGEST_BODY = 16 * 1024
_LONGEST_NAME = 256
_LONGEST_ADDRESS = 64
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_FAILURES = 10
_FAILURES_WITHIN_S = 60.0
_MOST_CALLERS = 10_000
_NO_STORE = {"Cache-Control": "no-store"}


class FailureLimit:
    """Counts failed registrations by caller; good ones are free, since a fleet may arrive at once.

    Args:
        clock: Seconds, only moving forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def wait_s(self, caller: str) -> int:
        """Seconds until the caller may try again, 0 for now."""
        failures = self._failures.get(caller)
        if failures is None or len(failures) < _MOST_FAILURES:
            return 0
        return max(0, math.ceil(failures[0] + _FAILURES_WITHIN_S - self._clock()))

    def note(self, caller: str) -> None:
        """Count a failure."""
        if len(self._failures) >= _MOST_CALLERS:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(caller, deque(maxlen=_MOST_FAILURES)).append(self._clock())


class AgentEndpoints:
    """What the agent listener answers over HTTP.

    Args:
        tokens: Registers agents, issues and checks tokens.
        registry: Knows which sessions can be connected to.
        unhealthy_reason: Why the broker does not serve at the moment, or nothing.
        clock: Seconds, only moving forward.
    """

    def __init__(
        self,
        tokens: Tokens,
        registry: Registry,
        unhealthy_reason: Callable[[], str | None],
        clock: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._registry = registry
        self._unhealthy_reason = unhealthy_reason
        self._failures = FailureLimit(clock)

    def routes(self) -> list[Route]:
        """The paths; DCV servers that are configured with the bare address ask at `/`."""
        return [
            Route("/health", self._health, methods=["GET"]),
            Route(REGISTER_PATH, self._register, methods=["POST"]),
            Route(
                TOKEN_PATH,
                token_endpoint(self._tokens.agents.check, self._tokens.issue_agent),
                methods=["POST"],
            ),
            Route("/agent/validate-authentication-token", self._validate, methods=["POST"]),
            Route("/", self._validate, methods=["POST"]),
        ]

    async def _health(self, _request: Request) -> Response:
        if reason := self._unhealthy_reason():
            return JSONResponse({"status": "DOWN", "reason": reason}, 503, _NO_STORE)
        return JSONResponse({"status": "UP"}, headers=_NO_STORE)

    # -------------------------------------------------------------- registration (RFC 7591)

    async def _register(self, request: Request) -> Response:
        caller = request.client.host if request.client else ""
        body = await _body(request)
        asked = _json_object(body) if body is not None else None
        if asked is None:
            return self._failed(caller, "invalid_client_metadata", "The request is not a small JSON object.")
        statement, name = asked.get("software_statement"), asked.get("client_name")
        grants = asked.get("grant_types", ["client_credentials"])
        if (
            not isinstance(statement, str)
            or not isinstance(grants, list)
            or "client_credentials" not in grants
        ):
            return self._failed(caller, "invalid_client_metadata", "The request lacks a statement or grant.")
        try:
            client_id, secret = await self._tokens.register_agent(statement, _storable_name(name))
        except StatementRefused as error:
            return self._failed(caller, "invalid_software_statement", str(error))
        except StoreUnavailable:
            return _registration_error("temporarily_unavailable", "The database cannot be written.", 503, 5)
        audit.note_actor(client_id)
        answer = {
            "client_id": client_id,
            "client_secret": secret,
            "client_secret_expires_at": 0,
            "grant_types": ["client_credentials"],
            "token_endpoint_auth_method": "client_secret_basic",
        }
        return JSONResponse(answer, 201, _NO_STORE)

    def _failed(self, caller: str, error: str, description: str) -> Response:
        """The answer to a registration that is refused; good ones of the same address are never held up."""
        if wait_s := self._failures.wait_s(caller):
            return _registration_error("too_many_requests", "Too many failed registrations.", 429, wait_s)
        self._failures.note(caller)
        return _registration_error(error, description)

    # -------------------------------------------------------------- connection tokens

    async def _validate(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _verdict("no", status=400)
        try:
            form = parse_qs(body.decode("utf-8"), max_num_fields=20)
        except ValueError:
            return _verdict("no", status=400)
        session_id, token, address = (
            form.get(name, [""])[0] for name in ("sessionId", "authenticationToken", "clientAddress")
        )
        if not session_id or not token:
            return _verdict("no", status=400)
        # Both come from outside, and a log line should stay one that can be read.
        place = (
            f"session {session_id[:_LONGEST_NAME]} from {address[:_LONGEST_ADDRESS] or 'an unknown address'}"
        )
        try:
            user = self._user_of(token, session_id)
        except ConnectionRefused as refused:
            logger.info("Connection to %s refused: %s.", place, refused)
            audit.note(verdict="no")
            return _verdict("no", f"<message>{escape(str(refused))}</message>")
        logger.info("Connection to %s let in as %s.", place, user)
        audit.note(verdict="yes")
        return _verdict("yes", f"<username>{escape(user)}</username>")

    def _user_of(self, token: str, session_id: str) -> str:
        user = self._tokens.check_connection(token, session_id)
        if _NOT_XML.search(user):
            raise ConnectionRefused(
                "Invalid token"
            )  # no XML can carry the name, and another one is not meant
        if not self._is_connectable(session_id, user):
            raise ConnectionRefused("Session not found")
        return user

    def _is_connectable(self, session_id: str, user: str) -> bool:
        try:
            session = self._registry.session(session_id)
        except Ambiguous:
            # `console` exists on many hosts, and the question does not say which host asks.
            try:
                session = self._registry.session(session_id, user)
            except Ambiguous:
                return False
        return session is not None and self._registry.is_connectable(session)


async def _body(request: Request) -> bytes | None:
    """The body, or nothing if it is too large to be meant."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_BODY:
            return None
    return body


def _storable_name(name: Any) -> str:
    """What an agent calls itself; half of a surrogate pair, which JSON can hold, cannot be stored."""
    text = name[:_LONGEST_NAME].encode("utf-8", "replace").decode() if isinstance(name, str) else ""
    return text or "agent"


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _registration_error(error: str, description: str, status: int = 400, retry_after_s: int = 0) -> Response:
    headers = _NO_STORE | ({"Retry-After": str(retry_after_s)} if retry_after_s else {})
    return JSONResponse({"error": error, "error_description": description}, status, headers)


def _verdict(result: str, inside: str = "", status: int = 200) -> Response:
    """The answer that DCV servers understand; status 200 for yes and for no."""
    text = f'<auth result="{result}">{inside}</auth>' if inside else f'<auth result="{result}"/>'
    return Response(text, status, _NO_STORE, media_type="text/xml")
