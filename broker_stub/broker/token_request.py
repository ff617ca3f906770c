"""Token requests (OAuth 2.0 client credentials) as HTTP: reading them and their answers.

Both listeners use this, for API clients and for agents; who is known and what a
token looks like comes in as functions. Errors follow RFC 6749, section 5.2.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker_stub.broker import audit

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="dcv-session-manager"'}
_LONGEST_BODY = 16 * 1024


class _TokenRefused(Exception):  # noqa: N818  named by what happened
    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.status = status


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request presents; several credentials are two readings of the same header."""

    credentials: list[tuple[str, str]]
    grant_type: str | None


CheckSecret = Callable[[str, str], bool]
"""Whether (client id, secret) belong to an active client."""
IssueToken = Callable[[str], tuple[str, int]]
"""A token for a client id, and its seconds."""


def token_endpoint(check: CheckSecret, issue: IssueToken) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for `POST` that answers token requests.

    Args:
        check: Tells whether credentials are right.
        issue: Makes the token.
    """

    async def endpoint(request: Request) -> Response:
        try:
            asked = _read(request.headers, request.url.query, await _body(request))
            client_id = _authenticated(asked, check)
            audit.note_actor(client_id)
            _check_grant(asked.grant_type)
        except _TokenRefused as refused:
            headers = _NO_STORE | (_CHALLENGE if refused.status == 401 else {})
            answer = {"error": refused.error, "error_description": str(refused)}
            return JSONResponse(answer, refused.status, headers)
        token, expires_in = issue(client_id)
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": expires_in}, headers=_NO_STORE
        )

    return endpoint


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST_BODY:
            raise _TokenRefused("invalid_request", "The request body is too large.")
    return body


def _read(headers: Mapping[str, str], query: str, body: bytes) -> _Asked:
    in_query, in_body = _form(query), _form(body.decode("utf-8", "replace"))
    if "client_id" in in_query or "client_secret" in in_query:
        raise _TokenRefused("invalid_request", "Credentials must not be in the query.")
    basic = _basic(headers.get("authorization", ""))
    posted_id, posted_secret = _single(in_body, "client_id"), _single(in_body, "client_secret")
    if basic is not None and (posted_secret is not None or posted_id not in (None, *(id for id, _ in basic))):
        raise _TokenRefused("invalid_request", "Credentials are given twice.")
    credentials = basic or []
    if basic is None and posted_id is not None and posted_secret is not None:
        credentials = [(posted_id, posted_secret)]
    grant_types = {*in_query.get("grant_type", ()), *in_body.get("grant_type", ())}
    if len(grant_types) > 1:
        raise _TokenRefused("invalid_request", "grant_type is given twice with different values.")
    return _Asked(credentials, next(iter(grant_types), None))


def _form(text: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(text, errors="replace", max_num_fields=100):
            fields.setdefault(name, []).append(value)
    except ValueError:
        raise _TokenRefused("invalid_request", "The request cannot be read as a form.") from None
    return fields


def _single(form: Mapping[str, list[str]], name: str) -> str | None:
    values = form.get(name, [])
    if len(values) > 1:
        raise _TokenRefused("invalid_request", f"{name} is given twice.")
    return values[0] if values else None


def _basic(header: str) -> list[tuple[str, str]] | None:
    """The header's credentials as they are and percent-decoded; `None` without a Basic header."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, colon, secret = (
            base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        )
    except ValueError:  # no Base64, no ASCII or no UTF-8
        return []
    if not colon:
        return []
    readings = [(client_id, secret)]
    # RFC 6749, 2.3.1 has both parts form-encoded; hardly any client of the real broker does that.
    decoded = (unquote(client_id.replace("+", " ")), unquote(secret.replace("+", " ")))
    return readings if decoded == readings[0] else [*readings, decoded]


def _authenticated(asked: _Asked, check: CheckSecret) -> str:
    for client_id, secret in asked.credentials:
        if check(client_id, secret):
            return client_id
    raise _TokenRefused("invalid_client", "The client's credentials are missing or wrong.", 401)


def _check_grant(grant_type: str | None) -> None:
    if grant_type is None:
        raise _TokenRefused("invalid_request", "grant_type is missing.")
    if grant_type != "client_credentials":
        raise _TokenRefused("unsupported_grant_type", "Only client_credentials is supported.")
