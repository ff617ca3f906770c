"""The public keys of one external authorization server (JWKS, RFC 7517): fetched, kept, renewed.

Keys count for an hour and are renewed after that. An unknown key id, as after a
rotation, makes the set be fetched anew, at most once a minute: anybody can make up
key ids. While the server cannot be reached its last keys go on counting, for a day.
"""

import asyncio
import json
import logging
import ssl
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

logger = logging.getLogger(__name__)

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
DEFAULT_ALGORITHM = "RS256"
FRESH_S = 3600
USABLE_S = 24 * 3600
ASK_AGAIN_S = 60
FETCH_WITHIN_S = 5.0
_LARGEST_DOCUMENT = 256 * 1024
_MOST_KEYS = 100
_RSA_BITS = range(2048, 8193)


class KeysNotFetched(Exception):  # noqa: N818  named by what happened
    """A server's keys could not be had; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """A key of a server, and what its tokens are signed with, if it says so."""

    kid: str
    key: RSAKey | ECKey
    algorithm: str | None


class KeySet:
    """The keys of one server.

    Args:
        url: Where they are.
        fetch: Gets the document at an address; raises `KeysNotFetched`.
        now: Seconds.
    """

    def __init__(self, url: str, fetch: Callable[[str], Awaitable[bytes]], now: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._now = now
        self._keys: dict[str, PublicKey] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._asked_at: float | None = None
        self._document = b""
        self._under_way: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str) -> PublicKey | None:
        """The key with that id, if it is known and still counts.

        An old set is renewed in the background; the question does not wait for it.
        """
        if self._fetched_at is None:
            return None
        age_s = self._now() - self._fetched_at
        if age_s >= FRESH_S and _is_due(self._tried_at, self._now()):
            self.refresh_later()
        return self._keys.get(kid) if age_s < USABLE_S else None

    async def look_for(self, kid: str) -> None:
        """Wait for another look at the server because of an unknown key, if one is due or under way."""
        if self.find(kid) is not None:
            return  # it came meanwhile
        if self._under_way is None:
            if not _is_due(self._asked_at, self._now()):
                return
            self._asked_at = self._now()
            self.refresh_later()
        if self._under_way is not None:
            await asyncio.wait((self._under_way,))

    async def fetch(self) -> None:
        """Get the keys now.

        Raises:
            KeysNotFetched: it did not work; the former keys go on counting.
        """
        self._tried_at = self._now()
        document = await self._fetch(self._url)
        if document != self._document:  # equal keys stay the same objects: verified tokens hang on them
            self._keys = read_keys(document, self._url)
            self._document = document
            if not self._keys:
                logger.warning("No key at %s can be used; its server's tokens are refused.", self._url)
        self._fetched_at = self._now()

    def refresh_later(self) -> None:
        """Begin to get the keys, unless that is under way; a failure is logged."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._refresh())

    def close(self) -> None:
        """End what is under way."""
        if self._under_way is not None:
            self._under_way.cancel()

    async def _refresh(self) -> None:
        try:
            await self.fetch()
        except KeysNotFetched as error:
            logger.warning("The keys at %s cannot be had: %s.", self._url, error)
        finally:
            self._under_way = None


def _is_due(last: float | None, now: float) -> bool:
    return last is None or now - last >= ASK_AGAIN_S


async def fetch_document(url: str) -> bytes:
    """Get the document at an address, through the proxies that the environment names.

    Raises:
        KeysNotFetched: it cannot be had, or is no JSON document of a sensible size.
    """
    try:
        async with (
            asyncio.timeout(FETCH_WITHIN_S),
            httpx.AsyncClient(verify=_system_trust(), timeout=FETCH_WITHIN_S) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise KeysNotFetched(f"the server answered HTTP {answer.status_code}")
            document = b""
            async for piece in answer.aiter_bytes():
                document += piece
                if len(document) > _LARGEST_DOCUMENT:
                    raise KeysNotFetched(f"the document has more than {_LARGEST_DOCUMENT // 1024} KiB")
            return document
    except (TimeoutError, httpx.TimeoutException):
        raise KeysNotFetched(f"no answer within {FETCH_WITHIN_S:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise KeysNotFetched(str(error) or type(error).__name__) from None


def _system_trust() -> ssl.SSLContext:
    # What this host trusts, and not a list that came with a library: inner servers have inner CAs.
    return ssl.create_default_context()


def read_keys(document: bytes, url: str) -> dict[str, PublicKey]:
    """The keys of a document that can be used, by their ids; others are left out with a log line.

    Raises:
        KeysNotFetched: it is no set of keys.
    """
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeysNotFetched("the document is no JSON Web Key Set") from None
    if not isinstance(listed, list):
        raise KeysNotFetched("the document is no JSON Web Key Set")
    keys: dict[str, PublicKey] = {}
    for entry in listed[:_MOST_KEYS]:
        if isinstance(entry, Mapping) and entry.get("use") != "enc":
            try:
                key = _public_key(entry)
            except (JoseError, ValueError, TypeError) as error:
                logger.warning("A key at %s is left out: %s", url, error)
                continue
            keys[key.kid] = key
    return keys


def _public_key(entry: Mapping[str, Any]) -> PublicKey:
    kid, algorithm = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str) or not kid:
        raise ValueError("it has no id")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ValueError("its algorithm is not supported")
    parameters = {
        str(name): value for name, value in entry.items() if name in ("kty", "n", "e", "crv", "x", "y")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about small keys, which are refused below
        if entry.get("kty") == "RSA":
            rsa = RSAKey.import_key(parameters)
            if rsa.public_key.key_size not in _RSA_BITS:
                raise ValueError("an RSA key must have 2048 to 8192 bits")
            return PublicKey(kid, rsa, algorithm)
        if entry.get("kty") == "EC":
            return PublicKey(kid, ECKey.import_key(parameters), algorithm)
    raise ValueError("only RSA and EC keys can be used")
