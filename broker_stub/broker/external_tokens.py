"""Access tokens of other authorization servers: registered by the address of their keys, judged here.

A token is good if a registered server's key signed it with an algorithm that is
allowed, if it is in its time, and if it says what the settings ask for. How keys
are fetched and how long they count is in `key_sets`.
"""

import asyncio
import hashlib
import json
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from joserfc import jws
from joserfc.errors import JoseError

from broker_stub.broker.key_sets import ALGORITHMS, DEFAULT_ALGORITHM, KeySet, KeysNotFetched, PublicKey
from broker_stub.broker.signing import is_compact
from broker_stub.broker.store import AuthServer

logger = logging.getLogger(__name__)

LEEWAY_S = 60
_LONGEST_TOKEN = 16 * 1024  # Azure's hold lists of groups
_LONGEST_NAME = 256
_REMEMBERED = 10_000
_USUAL_ENDING = ".well-known/jwks.json"
_LONGEST_URL = 600

Clock = Callable[[], datetime]
FetchKeys = Callable[[str], Awaitable[bytes]]
"""Gets the document behind an address; raises `key_sets.KeysNotFetched`."""


class ServerRefused(Exception):  # noqa: N818  named by what happened
    """An address that cannot be that of a server's keys; the text is a sentence for people."""


class UnknownServer(Exception):  # noqa: N818  named by what happened
    """No server with that address is registered."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What a token must say besides being signed; empty: anything.

    Attributes:
        issuers: One of them is its `iss`.
        audiences: One of them is in its `aud`.
        scopes: All of them are in its scope.
    """

    issuers: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature was checked, and with which key."""

    url: str
    key: PublicKey
    claims: Mapping[str, Any]


def check_url(url: str) -> list[str]:
    """Look at the address of a server's keys before it is registered.

    Returns:
        Warnings.

    Raises:
        ServerRefused: keys from there could not be trusted.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not url.isprintable() or " " in url or len(url) > _LONGEST_URL or not parts.hostname:
        raise ServerRefused("the URL must look like https://my-auth-server.com/.well-known/jwks.json")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ServerRefused("the URL must begin with https://: whoever can change the keys can make tokens")
    if parts.username or parts.password:
        raise ServerRefused("the URL must not hold credentials")
    return [] if parts.path.endswith(_USUAL_ENDING) else [f"the URL does not end in {_USUAL_ENDING}"]


class ExternalServers:
    """The registered servers, and the judgement on their tokens.

    Args:
        known: What the store held.
        save: Writes one server durably.
        remove: Removes one, by its address.
        fetch: Gets a server's keys.
        now: The clock of tokens.
        demands: What tokens must say.
    """

    def __init__(
        self,
        known: Iterable[AuthServer],
        save: Callable[[AuthServer], Awaitable[None]],
        remove: Callable[[str], Awaitable[None]],
        fetch: FetchKeys,
        now: Clock,
        demands: Demands = Demands(),
    ) -> None:
        self.demands = demands
        self._save = save
        self._remove = remove
        self._fetch = fetch
        self._now = now
        self._servers = {server.url: server for server in known}
        self._key_sets = {url: self._key_set(url) for url in self._servers}
        self._verified: dict[bytes, _Verified] = {}

    def all(self) -> list[AuthServer]:
        """Every registered server, oldest first."""
        return list(self._servers.values())

    async def register(self, url: str, algorithm: str | None) -> None:
        """Accept the tokens of a server from now on; again changes the algorithm.

        Args:
            url: Where its keys are; see `check_url`.
            algorithm: What its tokens are signed with, if its keys do not say it.

        Raises:
            ServerRefused: the address or the algorithm cannot be used.
            StoreUnavailable: it cannot be kept; it does not count.
        """
        check_url(url)
        if algorithm is not None and algorithm not in ALGORITHMS:
            raise ServerRefused(f"the algorithm must be one of {', '.join(ALGORITHMS)}")
        former = self._servers.get(url)
        server = AuthServer(url, algorithm, former.created_at if former else self._now())
        await self._save(server)
        self._servers[url] = server
        self._key_sets.setdefault(url, self._key_set(url)).refresh_later()
        self._verified.clear()

    async def unregister(self, url: str) -> None:
        """Refuse the tokens of a server from now on.

        Raises:
            UnknownServer: it is not registered.
            StoreUnavailable: the change cannot be kept; nothing changes.
        """
        if url not in self._servers:
            raise UnknownServer(url)
        await self._remove(url)
        self._servers.pop(url, None)
        if keys := self._key_sets.pop(url, None):
            keys.close()

    async def check_keys(self, url: str) -> None:
        """Look whether there are keys at an address, registered or not.

        Raises:
            KeysNotFetched: why there are none.
        """
        keys = self._key_set(url)
        await keys.fetch()
        if not len(keys):
            raise KeysNotFetched("no key there can be used")

    def warm_up(self) -> None:
        """Begin to get the keys of all servers, so that the first token need not wait for them."""
        for keys in self._key_sets.values():
            keys.refresh_later()

    def close(self) -> None:
        """End what is under way."""
        for keys in self._key_sets.values():
            keys.close()

    async def check(self, token: str) -> str | None:
        """Judge a token.

        Returns:
            Whom it was issued to, for the logs; `None` if it is not good.
        """
        if not self._servers or len(token) > _LONGEST_TOKEN:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        verified = self._verified.get(digest)
        if verified is None or not self._still_counts(verified):
            self._verified.pop(digest, None)
            verified = await self._verify(token)
            if verified is None:
                return None
            while len(self._verified) >= _REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = verified
        if not self._is_in_time(verified.claims) or not _meets(verified.claims, self.demands):
            return None
        return _name(verified.claims)

    # -------------------------------------------------------------- signatures

    def _key_set(self, url: str) -> KeySet:
        return KeySet(url, self._fetch, lambda: self._now().timestamp())

    def _still_counts(self, verified: _Verified) -> bool:
        keys = self._key_sets.get(verified.url)
        return keys is not None and keys.find(verified.key.kid) is verified.key

    async def _verify(self, token: str) -> _Verified | None:
        header = _header(token)
        if header is None:
            return None
        algorithm, kid = header
        # Nobody is asked for keys while one that is here will do.
        lacking = [url for url, keys in self._key_sets.items() if keys.find(kid) is None]
        for url in self._key_sets.keys() - lacking:
            if verified := self._verify_with(url, token, algorithm, kid):
                return verified
        await asyncio.gather(*(self._key_sets[url].look_for(kid) for url in lacking))
        for url in lacking:
            if verified := self._verify_with(url, token, algorithm, kid):
                return verified
        return None

    def _verify_with(self, url: str, token: str, algorithm: str, kid: str) -> _Verified | None:
        server, keys = self._servers.get(url), self._key_sets.get(url)
        if server is None or keys is None or (key := keys.find(kid)) is None:
            return None
        stated = {server.algorithm, key.algorithm} - {None} or {DEFAULT_ALGORITHM}
        claims = _claims(token, key, algorithm) if stated == {algorithm} else None
        return None if claims is None else _Verified(url, key, claims)

    # -------------------------------------------------------------- claims

    def _is_in_time(self, claims: Mapping[str, Any]) -> bool:
        now = self._now().timestamp()
        end, begin = _seconds(claims.get("exp")), claims.get("nbf")
        if end is None or end + LEEWAY_S <= now:
            return False
        return begin is None or ((start := _seconds(begin)) is not None and start - LEEWAY_S <= now)


def _header(token: str) -> tuple[str, str] | None:
    """Algorithm and key id of a signed token, if it is one that can be judged at all."""
    if not is_compact(token):
        return None
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS or not isinstance(kid, str) or not kid or "crit" in header:
        return None
    return str(algorithm), kid


def _claims(token: str, key: PublicKey, algorithm: str) -> Mapping[str, Any] | None:
    try:
        payload = jws.deserialize_compact(token, key.key, algorithms=[algorithm]).payload
        claims = json.loads(payload)
    except (JoseError, ValueError, TypeError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _meets(claims: Mapping[str, Any], demands: Demands) -> bool:
    if demands.issuers and claims.get("iss") not in demands.issuers:
        return False
    if demands.audiences and not set(demands.audiences) & set(_texts(claims.get("aud"))):
        return False
    # RFC 9068 has one text with blanks under `scope`; Azure writes `scp`, some servers write lists.
    held = {word for name in ("scope", "scp") for text in _texts(claims.get(name)) for word in text.split()}
    return set(demands.scopes) <= held


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)]


def _name(claims: Mapping[str, Any]) -> str:
    found = next((claims[name] for name in ("client_id", "azp", "sub") if claims.get(name)), "")
    return f"external client {str(found)[:_LONGEST_NAME]}".rstrip()
