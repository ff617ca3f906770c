"""A small real OAuth 2.0 authorization server, made with authlib: tokens as JWT, keys as JWKS, over TLS.

It stands for Cognito, Azure and the like: the broker knows nothing of it but the
address of its keys. Keys can be rotated, and the whole server can go away.
"""

import asyncio
import base64
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import httpx
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker_stub.broker.listeners import Listener
from broker_stub.broker.sockets import open_socket
from tests.client_certificates import ClientCa

with warnings.catch_warnings(record=True):  # it recommends a newer library at its import
    from authlib.oauth2.rfc6749 import (  # type: ignore[import-untyped]  # no stubs
        AuthorizationServer as AuthlibServer,
    )
    from authlib.oauth2.rfc6749 import (
        ClientMixin,
        OAuth2Request,
    )
    from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant  # type: ignore[import-untyped]  # no stubs
    from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload  # type: ignore[import-untyped]  # no stubs
    from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator  # type: ignore[import-untyped]  # no stubs

Key = RSAKey | ECKey
CLIENT_ID, CLIENT_SECRET = "a-program", "its secret"


class _Client(ClientMixin):  # type: ignore[misc]  # authlib has no types
    def get_client_id(self) -> str:
        return CLIENT_ID

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""


class _Request(OAuth2Request):  # type: ignore[misc]  # authlib has no types
    def __init__(self, request: Request, form: dict[str, str]) -> None:
        super().__init__(request.method, str(request.url), headers=request.headers)
        self.payload = BasicOAuth2Payload(form)
        self._form = form

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _Server(AuthlibServer):  # type: ignore[misc]  # authlib has no types
    def query_client(self, client_id: str) -> _Client | None:
        return _Client() if client_id == CLIENT_ID else None

    def save_token(self, token: Any, request: Any) -> None:
        """Nothing is kept: whoever checks a token has the keys."""

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: tuple[Request, dict[str, str]]) -> Any:
        return _Request(*request)

    def handle_response(self, status: int, body: Any, headers: Any) -> Response:
        return JSONResponse(body, status, dict(headers))


class _Generator(JWTBearerTokenGenerator):  # type: ignore[misc]  # authlib has no types
    def __init__(self, authorization: "Authorization") -> None:
        super().__init__(
            authorization.issuer,
            alg=authorization.algorithm,
            expires_generator=lambda *_: authorization.lifetime_s,
        )
        self._authorization = authorization

    def get_jwks(self) -> Any:
        return KeySet([self._authorization.keys[-1]])

    def get_audiences(self, client: Any, user: Any, scope: Any) -> str:
        return self._authorization.audience

    def get_extra_claims(self, client: Any, grant_type: Any, user: Any, scope: Any) -> dict[str, Any]:
        return self._authorization.claims


def new_key(algorithm: str, **members: str) -> Key:
    """A fresh key with an id; `alg="RS256"` or `use="sig"` among the members are published with it."""
    parameters: Any = {"kid": uuid4().hex, **members}
    if algorithm.startswith("ES"):
        curve = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        return ECKey.generate_key(curve, parameters)
    return RSAKey.generate_key(2048, parameters)


@dataclass
class Authorization:
    """A running server, and what a test changes about it.

    Attributes:
        url: Where it is.
        algorithm: What it signs with.
        keys: Its keys; the last one signs, all are published.
        claims: More claims of its tokens.
        lifetime_s: Seconds that its tokens live.
        fetches: How often its keys were asked for.
        token_requests: How often a token was asked for.
    """

    url: str
    algorithm: str = "RS256"
    keys: list[Key] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    audience: str = "dcv-session-manager"
    lifetime_s: int = 600
    fetches: int = 0
    token_requests: int = 0
    is_down: bool = False

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def keys_url(self) -> str:
        return f"{self.url}/pool/.well-known/jwks.json"

    def rotate(self, *, keep_old: bool = False) -> None:
        """Sign with a new key; the old ones are published no more unless they are kept."""
        self.keys = [*(self.keys if keep_old else []), new_key(self.algorithm)]

    def public_keys(self) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    async def token(self, trust: ssl.SSLContext, scope: str = "dcv-session-manager/sm_scope") -> str:
        """An access token, fetched as a client fetches it."""
        async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
            answer = await client.post(
                f"{self.url}/oauth2/token",
                data={"grant_type": "client_credentials", "scope": scope},
                auth=(CLIENT_ID, CLIENT_SECRET),
            )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@contextlib.asynccontextmanager
async def authorization_server(
    ca: ClientCa, algorithm: str = "RS256", host: str = "127.0.0.1"
) -> AsyncIterator[Authorization]:
    """Run a server inside the block, with a certificate of the CA for that host."""
    listening = open_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    running = Authorization(f"https://{host}:{port}", algorithm)
    running.rotate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.issue(f"server-{port}", host))
    listener = Listener.for_tls(_app(lambda: running), context, grace_s=1)
    task = asyncio.create_task(listener.serve(sockets=[listening]))
    await listener.up.wait()
    try:
        yield running
    finally:
        listener.request_stop()
        await task


def _app(running: Callable[[], Authorization]) -> Starlette:
    async def token(request: Request) -> Response:
        running().token_requests += 1
        server = _Server()
        server.register_grant(ClientCredentialsGrant)
        server.register_token_generator("default", _Generator(running()))
        form = dict(parse_qsl((await request.body()).decode()))
        answer: Response = server.create_token_response((request, form))
        return answer

    async def keys(_request: Request) -> Response:
        running().fetches += 1
        if running().is_down:
            return JSONResponse({"error": "down"}, 503)
        return JSONResponse(running().public_keys())

    return Starlette(
        routes=[
            Route("/oauth2/token", token, methods=["POST"]),
            Route("/pool/.well-known/jwks.json", keys, methods=["GET"]),
        ]
    )


def unsigned(token: str) -> str:
    """The token with the algorithm `none` and no signature."""
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


def trust_of(ca: ClientCa) -> ssl.SSLContext:
    """A context that trusts the CA."""
    return ssl.create_default_context(cafile=str(ca.file))


def trusted_by_this_process(ca: ClientCa, set_variable: Callable[[str, str], None]) -> None:
    """Let programs of this environment trust the CA, as an administrator's system store would."""
    set_variable("SSL_CERT_FILE", str(Path(ca.file)))
