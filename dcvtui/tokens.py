"""Access tokens: one is fetched when needed, kept for 80 % of its life, and dropped when refused.

The request is ten lines on the one HTTP client instead of authlib's: that
client takes a quarter of a second to import, warns on standard error that the
HTTP library under it is deprecated there, cannot encode a secret outside
Latin-1, renews by its own rule (a fixed leeway), and keeps the secret in a
public attribute.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from dcvtui.config import Credentials
from dcvtui.errors import BrokerError, NotAuthorized
from dcvtui.exchange import Exchange
from dcvtui.lean_httpx import httpx

# Section 15 of the API specification; the best-known client does the same.
USED_SHARE_OF_LIFE = 0.8
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+\Z")


class Tokens:
    """Gives the access token to use now.

    Args:
        exchange: sends the request, to the broker or to another token server.
        url: of the broker.
        credentials: None gives no token at all.
        now: a clock in seconds that never goes back.
    """

    def __init__(
        self, exchange: Exchange, url: str, credentials: Credentials | None, now: Callable[[], float]
    ) -> None:
        self._exchange = exchange
        self._broker_url = url
        self._credentials = credentials
        self._now = now
        self._lock = asyncio.Lock()
        self._token: str | None = None
        self._good_until = 0.0
        if credentials:
            exchange.hide(credentials.client_secret)
            exchange.hide(credentials.access_token or "")

    @property
    def is_needed(self) -> bool:
        """The broker is asked with a token."""
        return self._credentials is not None

    @property
    def can_renew(self) -> bool:
        """Another token can be had when one is refused."""
        return self._credentials is not None and self._credentials.access_token is None

    async def current(self) -> str | None:
        """The token to send; None when the broker asks for none.

        Raises:
            BrokerError: none could be had.
        """
        credentials = self._credentials
        if credentials is None:
            return None
        if credentials.access_token is not None:
            return _checked(credentials.access_token)
        async with self._lock:  # ten calls at once fetch one token
            if self._token is None or self._now() >= self._good_until:
                await self._fetch(credentials)
            return self._token

    def drop(self, token: str | None) -> None:
        """The broker refused this token; a newer one that another call fetched meanwhile stays."""
        if token is not None and token == self._token:
            self._token = None
            self._exchange.forget(token)

    async def _fetch(self, credentials: Credentials) -> None:
        asked_at = self._now()
        try:
            answer = await self._ask(credentials)
        except BrokerError as error:
            error.was_sent = False  # the call that the token is for has not begun
            raise
        token = answer.get("access_token")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise self._exchange.not_understood("a token answer without a token")
        self._exchange.hide(token)
        self._token = token
        self._good_until = asked_at + USED_SHARE_OF_LIFE * _seconds(answer.get("expires_in"))

    async def _ask(self, credentials: Credentials) -> dict[str, Any]:
        url, form = self._request(credentials)
        response = await self._exchange.send(
            "POST",
            url,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            content=urlencode(form).encode(),
            auth=(credentials.client_id, credentials.client_secret),
            is_repeatable=True,  # a token more changes nothing
        )
        if not response.is_success:
            raise self._refusal(response)
        return self._exchange.json_object(response)

    def _request(self, credentials: Credentials) -> tuple[str, dict[str, str]]:
        # Every known client of the broker sends the grant type in the URL and an empty body; a token
        # server of another make gets it in the form, as RFC 6749 has it.
        url = credentials.token_url or f"{self._broker_url}/oauth2/token?grant_type=client_credentials"
        form = {"scope": credentials.scope} if credentials.scope else {}
        if "grant_type" not in parse_qs(urlsplit(url).query):
            form["grant_type"] = "client_credentials"
        return url, form

    def _refusal(self, response: httpx.Response) -> BrokerError:
        try:
            code = response.json().get("error")
        except (ValueError, AttributeError):
            code = None
        if response.status_code == httpx.codes.UNAUTHORIZED or code == "invalid_client":
            return NotAuthorized(
                f"The broker {self._broker_url} does not accept the client id or the client secret. "
                "Check both; its command `register-api-client` makes new ones.",
                reason="wrong client id or secret",
            )
        if response.status_code == httpx.codes.NOT_FOUND and code is not None:
            return NotAuthorized(
                f"The broker {self._broker_url} gives no tokens itself. "
                "Name its token server with --auth-server URL."
            )
        return self._exchange.refusal(response)


def _checked(token: str) -> str:
    if not _TOKEN.match(token):
        raise NotAuthorized(
            "DCV_SM_OAUTH2_TOKEN holds characters that no access token has. Set it to the token alone."
        )
    return token


def _seconds(value: Any) -> float:
    """The life of a token; an answer that does not tell it is good for one call."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
