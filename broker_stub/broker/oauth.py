"""Who may talk to the broker: the tokens that clients are given, and what is asked of them.

Three kinds of tokens with keys of their own: access tokens of API clients,
tokens of agents, and connection tokens that a DCV server asks about. Everything
is held in memory and written through to the store, so that a check costs no
query and a restart loses nothing. `token_request` speaks HTTP for it; access
tokens of other authorization servers are judged in `external_tokens`.
"""

import asyncio
import base64
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker_stub.broker.clients import Clients
from broker_stub.broker.signing import RingKey, Signer, new_key_pem, public_pem
from broker_stub.broker.statements import Statements
from broker_stub.broker.store import SigningKey, Store

ISSUER = "dcv-session-manager-broker"
CONNECTION_AUDIENCE = "dcv-session"
AGENT_TOKEN_S = 3600
MOST_ACTIVE_AGENTS = 100_000

Clock = Callable[[], datetime]


class StatementRefused(Exception):  # noqa: N818  named by what happened
    """A software statement that is unknown, malformed or no longer active."""


class ConnectionRefused(Exception):  # noqa: N818  named by what happened
    """A connection token that lets nobody in; the text is for the DCV server that asked."""


def utc_now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)


class Keys:
    """The signing keys of one purpose, in the store and in the signer that uses them. Made by `load`.

    Attributes:
        signer: Issues and checks with them.
    """

    def __init__(self, store: Store, purpose: str, keys: list[SigningKey], now: Clock) -> None:
        self._store = store
        self._purpose = purpose
        self._keys = keys
        self._now = now
        self._turn = asyncio.Lock()
        self.signer = Signer(ISSUER, _ring(keys), lambda: now().timestamp())

    @classmethod
    async def load(cls, store: Store, purpose: str, now: Clock) -> "Keys":
        """Take the keys from the store; a missing one is made, those that have ended are dropped."""
        found = await store.signing_keys(purpose)
        over = [key.kid for key in found if key.ends_at is not None and key.ends_at <= now()]
        made = [] if any(key.ends_at is None for key in found) else [await _new_key(purpose, now)]
        if over or made:
            await store.replace_signing_keys(made, over)
        return cls(store, purpose, [key for key in found if key.kid not in over] + made, now)

    async def renew(self, grace_s: int = 0) -> None:
        """Sign with a new key from now on.

        Args:
            grace_s: How long tokens of the former keys are still good, in seconds.

        Raises:
            StoreUnavailable: it cannot be kept now; the former keys stay in use until the next start.
        """
        async with self._turn:
            made = await _new_key(self._purpose, self._now)
            ends_at = self._now() + timedelta(seconds=grace_s)
            # Only the public half: what ends must not be able to sign again.
            kept = [
                replace(
                    key,
                    pem=public_pem(key.pem.encode()).decode(),
                    ends_at=min(key.ends_at or ends_at, ends_at),
                )
                for key in self._keys
                if grace_s > 0 and (key.ends_at is None or key.ends_at > self._now())
            ]
            still_kept = {key.kid for key in kept}
            removed = [key.kid for key in self._keys if key.kid not in still_kept]
            await self._store.replace_signing_keys([*kept, made], removed)
            self._keys = [*kept, made]
            self.signer.replace_keys(_ring(self._keys))


class Tokens:
    """Issues and checks all tokens. Made by `load`.

    Attributes:
        clients: API clients.
        agents: Agent clients.
        statements: What lets agents register.
        access_token_s: Lifetime of new access tokens.
        connection_token_s: Lifetime of new connection tokens.
    """

    def __init__(
        self,
        clients: Clients,
        agents: Clients,
        statements: Statements,
        keys: dict[str, Keys],
        *,
        access_token_s: int,
        connection_token_s: int,
    ) -> None:
        self.clients = clients
        self.agents = agents
        self.statements = statements
        self.access_token_s = access_token_s
        self.connection_token_s = connection_token_s
        self._keys = keys

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
        """Take clients, statements and keys from the store; missing keys are made and stored.

        Args:
            store: Where they are kept.
            access_token_s: Lifetime of access tokens.
            connection_token_s: Lifetime of connection tokens.
            accept_default_statement: Whether the statement that everybody knows lets an agent in.
            now: The clock.
        """
        keys = await asyncio.gather(*(Keys.load(store, purpose, now) for purpose in _PURPOSES))
        return cls(
            Clients(await store.api_clients(), store.save_api_client, now),
            Clients(await store.agent_clients(), store.save_agent_client, now),
            Statements(
                await store.software_statements(),
                store.save_software_statement,
                now,
                accept_default_statement,
            ),
            dict(zip(_PURPOSES, keys, strict=True)),
            access_token_s=access_token_s,
            connection_token_s=connection_token_s,
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
        return self._keys["access"].signer.issue(self.access_token_s, sub=client_id), self.access_token_s

    def check_access(self, token: str) -> str | None:
        """The API client an access token belongs to, if it is good."""
        return self._active_subject("access", token, self.clients)

    async def renew_access_keys(self, grace_s: int = 0) -> None:
        """Sign access tokens with a new key; clients and their secrets stay as they are.

        Args:
            grace_s: How long the tokens that are out are still good, in seconds.

        Raises:
            StoreUnavailable: the new key cannot be kept now; nothing changes before the next start.
        """
        await self._keys["access"].renew(grace_s)

    async def register_agent(self, statement: str, name: str) -> tuple[str, str]:
        """Register an agent that shows a software statement.

        Returns:
            Its client id and secret.

        Raises:
            StatementRefused: the statement lets nobody in.
        """
        if not self.statements.is_active(statement):
            raise StatementRefused("The software statement is not known or not active.")
        if self.agents.active_count >= MOST_ACTIVE_AGENTS:
            raise StatementRefused("Too many agents are registered.")
        secret = secrets.token_urlsafe(32)
        return await self.agents.register(name, secret), secret

    def issue_agent(self, client_id: str) -> tuple[str, int]:
        """A token for an agent's channel, and its seconds."""
        return self._keys["agent"].signer.issue(AGENT_TOKEN_S, sub=client_id), AGENT_TOKEN_S

    def check_agent(self, token: str) -> str | None:
        """The agent client a token belongs to, if it is good."""
        return self._active_subject("agent", token, self.agents)

    def issue_connection(self, session_id: str, user: str) -> str:
        """A token with which one user connects to one session."""
        return self._keys["connection"].signer.issue(
            self.connection_token_s, aud=CONNECTION_AUDIENCE, sid=session_id, sub=user
        )

    def check_connection(self, token: str, session_id: str) -> str:
        """The user of a connection token; whether the session can be connected to is for the caller to know.

        Raises:
            ConnectionRefused: the token was not issued here, or for another session, or has ended.
        """
        reading = self._keys["connection"].signer.read(token)
        if reading is None or reading.claims.get("sid") != session_id:
            raise ConnectionRefused("Invalid token")
        if reading.is_over:
            raise ConnectionRefused("Token expired")
        return str(reading.claims["sub"])

    def _active_subject(self, purpose: str, token: str, clients: Clients) -> str | None:
        claims = self._keys[purpose].signer.check(token)
        client_id = str(claims["sub"]) if claims else ""
        return client_id if clients.is_active(client_id) else None


_PURPOSES = ("access", "agent", "connection")


async def _new_key(purpose: str, now: Clock) -> SigningKey:
    pem = await asyncio.to_thread(new_key_pem)
    return SigningKey(uuid.uuid4().hex, purpose, pem.decode(), now())


def _ring(keys: Iterable[SigningKey]) -> dict[str, RingKey]:
    """The keys as a signer takes them: the one without an end last, because it signs."""
    ordered = sorted(keys, key=lambda key: (key.ends_at is None, key.created_at))
    return {
        key.kid: RingKey(key.pem.encode(), key.ends_at.timestamp() if key.ends_at else None)
        for key in ordered
    }
