"""Registered clients of one kind, API clients or agents: ids, salted hashes of secrets, who is active.

Held in memory and written through to the store, so that a check costs no query.
What a client may do with its secret is in `oauth`.
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime

from broker_stub.broker.store import ApiClient

Clock = Callable[[], datetime]


class DuplicateName(Exception):  # noqa: N818  named by what happened
    """An active client of that name exists."""


class UnknownClient(Exception):  # noqa: N818  named by what happened
    """No client has the id."""


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


def _with_secret(client_id: str, name: str, secret: str, now: datetime) -> ApiClient:
    salt = secrets.token_hex(16)
    return ApiClient(client_id, name, salt, _hash(salt, secret), "active", now)


def _hash(salt: str, secret: str) -> str:
    # One round is enough: the secrets are random and long, there is nothing to guess by trying.
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode("utf-8", "surrogatepass")).hexdigest()
