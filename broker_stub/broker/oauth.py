"""Who may talk to the broker: clients with their secrets, and the tokens they are given.

Three kinds of tokens with keys of their own: access tokens of API clients,
tokens of agents, and connection tokens that a DCV server asks about. Everything
is held in memory and written through to the store, so that a check costs no
query and a restart loses nothing. `token_request` speaks HTTP for it.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

from broker_stub import software_statement
from broker_stub.broker.signing import Signer, new_key_pem
from broker_stub.broker.store import ApiClient, SigningKey, Store

ISSUER = "dcv-session-manager-broker"
CONNECTION_AUDIENCE = "dcv-session"
AGENT_TOKEN_S = 3600
MOST_ACTIVE_AGENTS = 100_000

Clock = Callable[[], datetime]


class DuplicateName(Exception):  # noqa: N818  named by what happened
    """An active client of that name exists."""


class UnknownClient(Exception):  # noqa: N818  named by what happened
    """No client has the id."""


class StatementRefused(Exception):  # noqa: N818  named by what happened
    """A software statement that is unknown, malformed or no longer active."""


def utc_now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)


class Clients:
    """The clients of one kind, with salted hashes of their secrets.

    Args:
        known: What the store held.
        save: Writes one client durably.
        now: The clock.
    """

    def __init__(
        self, known: Iterable[ApiClient], save: Callable[[ApiClient], Awaitable[None]], now: Clock
    ) -> None:
        self._clients = {client.client_id: client for client in known}
        self._active = sum(client.status == "active" for client in self._clients.values())
        self._save = save
        self._now = now
        # Compared against for unknown ids, so that those take as long as a wrong secret.
        self._nobody = _with_secret("", "", secrets.token_hex(), now())

    @property
    def active_count(self) -> int:
        """How many are registered and not unregistered."""
        return self._active

    def all(self) -> list[ApiClient]:
        """Every client, oldest first, inactive ones included."""
        return sorted(self._clients.values(), key=lambda client: client.created_at)

    def is_active(self, client_id: str) -> bool:
        """Whether the client is registered and was not unregistered."""
        client = self._clients.get(client_id)
        return client is not None and client.status == "active"

    def check(self, client_id: str, secret: str) -> bool:
        """Whether the secret is that of an active client, in the same time for every answer."""
        client = self._clients.get(client_id, self._nobody)
        right = hmac.compare_digest(client.secret_hash, _hash(client.salt, secret))
        return right and client is not self._nobody and client.status == "active"

    async def register(self, name: str, secret: str, allow_duplicate: bool = True) -> str:
        """Add a client; only a hash of the secret is kept.

        Returns:
            The new client's id.

        Raises:
            DuplicateName: an active client has the name and `allow_duplicate` is not set.
        """
        if not allow_duplicate and any(each.name == name and each.status == "active" for each in self.all()):
            raise DuplicateName(name)
        client = _with_secret(str(uuid.uuid4()), name, secret, self._now())
        await self._save(client)
        self._clients[client.client_id] = client
        self._active += 1
        return client.client_id

    async def unregister(self, client_id: str) -> None:
        """Refuse the client and its tokens from now on. Again is no error.

        Raises:
            UnknownClient: there is no such client.
        """
        client = self._clients.get(client_id)
        if client is None:
            raise UnknownClient(client_id)
        if client.status != "active":
            return
        inactive = ApiClient(
            client.client_id, client.name, client.salt, client.secret_hash, "inactive", client.created_at
        )
        await self._save(inactive)
        self._clients[client_id] = inactive
        self._active -= 1


class Tokens:
    """Issues and checks all tokens. Made by `load`.

    Attributes:
        clients: API clients.
        agents: Agent clients.
    """

    def __init__(
        self,
        clients: Clients,
        agents: Clients,
        signers: dict[str, Signer],
        *,
        access_token_s: int,
        connection_token_s: int,
        accept_default_statement: bool,
    ) -> None:
        self.clients = clients
        self.agents = agents
        self._signers = signers
        self._access_token_s = access_token_s
        self._connection_token_s = connection_token_s
        self._accept_default_statement = accept_default_statement

    @classmethod
    async def load(
        cls,
        store: Store,
        *,
        access_token_s: int = 3600,
        connection_token_s: int = 3600,
        accept_default_statement: bool = True,
        now: Clock = utc_now,
    ) -> "Tokens":
        """Take clients and keys from the store; missing keys are made and stored.

        Args:
            store: Where they are kept.
            access_token_s: Lifetime of access tokens.
            connection_token_s: Lifetime of connection tokens.
            accept_default_statement: Whether the statement that everybody knows lets an agent in.
            now: The clock.
        """
        rings = await asyncio.gather(*(_ring(store, purpose, now) for purpose in _PURPOSES))
        signers = {
            purpose: Signer(ISSUER, ring, lambda: now().timestamp())
            for purpose, ring in zip(_PURPOSES, rings, strict=True)
        }
        return cls(
            Clients(await store.api_clients(), store.save_api_client, now),
            Clients(await store.agent_clients(), store.save_agent_client, now),
            signers,
            access_token_s=access_token_s,
            connection_token_s=connection_token_s,
            accept_default_statement=accept_default_statement,
        )

    async def register_client(self, name: str, allow_duplicate: bool = False) -> tuple[str, str]:
        """Register an API client.

        Returns:
            Its id and its secret; the secret cannot be shown again.

        Raises:
            DuplicateName: an active client has the name.
        """
        # Base64 of printable text, as the original's passwords are; scripts cut it out of the output.
        secret = base64.b64encode(secrets.token_hex(33).encode()).decode()
        return await self.clients.register(name, secret, allow_duplicate), secret

    def issue_access(self, client_id: str) -> tuple[str, int]:
        """An access token of an API client, and its seconds."""
        return self._signers["access"].issue(self._access_token_s, sub=client_id), self._access_token_s

    def check_access(self, token: str) -> str | None:
        """The API client an access token belongs to, if it is good."""
        claims = self._signers["access"].check(token)
        client_id = str(claims["sub"]) if claims else ""
        return client_id if self.clients.is_active(client_id) else None

    async def register_agent(self, statement: str, name: str) -> tuple[str, str]:
        """Register an agent that shows a software statement.

        Returns:
            Its client id and secret.

        Raises:
            StatementRefused: the statement lets nobody in.
        """
        shown = statement.strip().encode("utf-8", "surrogatepass")
        known = hmac.compare_digest(shown, software_statement.DEFAULT.encode())
        if not known or not self._accept_default_statement:
            raise StatementRefused("The software statement is not known or not active.")
        if self.agents.active_count >= MOST_ACTIVE_AGENTS:
            raise StatementRefused("Too many agents are registered.")
        secret = secrets.token_urlsafe(32)
        return await self.agents.register(name, secret), secret

    def issue_agent(self, client_id: str) -> tuple[str, int]:
        """A token for an agent's channel, and its seconds."""
        return self._signers["agent"].issue(AGENT_TOKEN_S, sub=client_id), AGENT_TOKEN_S

    def check_agent(self, token: str) -> str | None:
        """The agent client a token belongs to, if it is good."""
        claims = self._signers["agent"].check(token)
        client_id = str(claims["sub"]) if claims else ""
        return client_id if self.agents.is_active(client_id) else None

    def issue_connection(self, session_id: str, user: str) -> str:
        """A token with which one user connects to one session."""
        return self._signers["connection"].issue(
            self._connection_token_s, aud=CONNECTION_AUDIENCE, sid=session_id, sub=user
        )

    def check_connection(self, token: str, session_id: str) -> str | None:
        """The user of a connection token, if it is good for that session.

        Whether the session can be connected to is for the caller to know.
        """
        claims = self._signers["connection"].check(token)
        if not claims or claims.get("sid") != session_id:
            return None
        return str(claims["sub"])


_PURPOSES = ("access", "agent", "connection")


async def _ring(store: Store, purpose: str, now: Clock) -> dict[str, bytes]:
    keys = await store.signing_keys(purpose)
    if not keys:
        pem = await asyncio.to_thread(new_key_pem)
        keys = [SigningKey(uuid.uuid4().hex, purpose, pem.decode(), now())]
        await store.save_signing_key(keys[0])
    return {key.kid: key.pem.encode() for key in keys}


def _with_secret(client_id: str, name: str, secret: str, now: datetime) -> ApiClient:
    salt = secrets.token_hex(16)
    return ApiClient(client_id, name, salt, _hash(salt, secret), "active", now)


def _hash(salt: str, secret: str) -> str:
    # One round is enough: the secrets are random and long, there is nothing to guess by trying.
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode("utf-8", "surrogatepass")).hexdigest()
