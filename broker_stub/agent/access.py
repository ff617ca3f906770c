"""How an agent gets to its broker: address, TLS, registration, tokens.

One `BrokerAccess` serves any number of agents of one process: they share its TLS
context, the credentials of one registration and the token. Secrets are written
to one file of mode 0600 and never to a log.
"""

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from broker_stub import software_statement
from broker_stub.agent.identity import write_private
from broker_stub.channel import (
    CHANNEL_PATH,
    CONNECT_WITHIN_S,
    REGISTER_PATH,
    TOKEN_PATH,
    NotAuthorized,
    NotTrusted,
    NotUnderstood,
    Refused,
    TimedOut,
    Unreachable,
)

logger = logging.getLogger(__name__)

_TOKEN_USED_FOR = 0.8  # of its lifetime


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker's agent port is and what its certificate is checked against.

    Attributes:
        host: Name or address.
        port: The agent port.
        ca_file: PEM of the CA; nothing means the system's own CAs.
        is_strict: Whether the certificate is checked at all.
    """

    host: str
    port: int = 8445
    ca_file: Path | None = None
    is_strict: bool = True

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def https_url(self) -> str:
        """The base of the broker's HTTP paths."""
        return f"https://{self._authority}"

    @property
    def channel_url(self) -> str:
        """Where the channel is opened."""
        return f"wss://{self._authority}{CHANNEL_PATH}"


class RegistrationRefused(NotAuthorized):
    """The broker does not let this agent register: its statement is not known or not active."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    client_id: str
    client_secret: str


class BrokerAccess:
    """Gives agents what they need to open a channel.

    Args:
        address: The broker.
        client_name: Shown in the broker's list of agent clients.
        credentials_file: Where the registration is kept; nothing keeps it in memory.
        statement: The software statement; nothing means the one that everybody knows.
        clock: Seconds, only moving forward.
    """

    def __init__(
        self,
        address: BrokerAddress,
        client_name: str,
        credentials_file: Path | None = None,
        statement: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._client_name = client_name
        self._credentials_file = credentials_file
        self._statement = statement or software_statement.DEFAULT
        self._clock = clock
        self._credentials = self._stored_credentials()
        self._token = ""
        self._token_until = 0.0
        self._refusals = 0
        self._turn = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        self._ca_seen: tuple[int, int] | None = None

    def tls(self) -> ssl.SSLContext:
        """The TLS context, made anew when the CA file changes.

        Raises:
            NotTrusted: the CA file cannot be used.
        """
        ca_file = self.address.ca_file
        try:
            status = ca_file.stat() if ca_file else None
            seen = (status.st_mtime_ns, status.st_size) if status else None
            if self._tls is None or seen != self._ca_seen:
                self._tls = self._new_tls()
                self._ca_seen = seen
        except (OSError, ssl.SSLError) as error:
            raise NotTrusted(f"The CA file {ca_file} cannot be used: {error}") from None
        return self._tls

    def _new_tls(self) -> ssl.SSLContext:
        if not self.address.is_strict:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        return ssl.create_default_context(cafile=self.address.ca_file)

    async def token(self) -> str:
        """A token for the next connection; registers first if there are no credentials.

        Raises:
            ChannelError: the broker cannot be reached, or refuses the statement.
        """
        async with self._turn:
            if not self._token or self._clock() >= self._token_until:
                await self._renew_token()
            return self._token

    def note_refused(self, token: str) -> bool:
        """The broker answered 401 to a token: the next one is new.

        Returns:
            Whether this was the second time in a row, so that the registration is new too.
        """
        if token != self._token:
            return False  # another agent of this process has said so already
        self._token = ""
        self._refusals += 1
        if self._refusals == 1:
            return False
        self.note_revoked()
        return True

    def note_accepted(self) -> None:
        """A channel was opened with the token."""
        self._refusals = 0

    def note_revoked(self) -> None:
        """The registration is no longer valid: the next token begins with a new one."""
        self._token = ""
        self._refusals = 0
        self._credentials = None

    async def _renew_token(self) -> None:
        async with httpx.AsyncClient(
            base_url=self.address.https_url,
            verify=self.tls(),
            timeout=CONNECT_WITHIN_S,
            trust_env=False,  # the way to the broker is in agent.conf, not in the environment
        ) as client:
            if self._credentials is None:
                await self._register(client)
            try:
                answer = await self._fetch_token(client)
            except NotAuthorized:
                # The broker has lost or revoked the registration.
                await self._register(client)
                answer = await self._fetch_token(client)
        try:
            self._token = str(answer["access_token"])
            self._token_until = self._clock() + float(answer["expires_in"]) * _TOKEN_USED_FOR
        except (KeyError, TypeError, ValueError):
            raise NotUnderstood("The broker's answer to a token request has no token in it.") from None

    async def _register(self, client: httpx.AsyncClient) -> None:
        content = {
            "software_statement": self._statement,
            "client_name": self._client_name,
            "grant_types": ["client_credentials"],
        }
        try:
            answer = await _post(client, REGISTER_PATH, json=content)
        except NotAuthorized as error:
            raise RegistrationRefused(str(error)) from None
        try:
            self._credentials = _Credentials(str(answer["client_id"]), str(answer["client_secret"]))
        except (KeyError, TypeError):
            raise NotUnderstood("The broker's answer to the registration has no credentials in it.") from None
        logger.info("Registered with the broker at %s as %s.", self.address.host, self._credentials.client_id)
        if self._credentials_file:
            stored = {
                "clientId": self._credentials.client_id,
                "clientSecret": self._credentials.client_secret,
            }
            await asyncio.to_thread(write_private, self._credentials_file, json.dumps(stored))

    async def _fetch_token(self, client: httpx.AsyncClient) -> Any:
        if self._credentials is None:  # note_revoked() came in between
            await self._register(client)
        credentials = self._credentials
        if credentials is None:
            raise NotAuthorized("The agent's registration was revoked while it asked for a token.")
        return await _post(
            client,
            TOKEN_PATH,
            data={"grant_type": "client_credentials"},
            auth=(credentials.client_id, credentials.client_secret),
        )

    def _stored_credentials(self) -> _Credentials | None:
        if self._credentials_file is None:
            return None
        try:
            stored = json.loads(self._credentials_file.read_text(encoding="utf-8"))
            return _Credentials(stored["clientId"], stored["clientSecret"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("%s cannot be read; the agent registers anew.", self._credentials_file)
            return None


async def _post(client: httpx.AsyncClient, path: str, **content: Any) -> Any:
    try:
        answer = await client.post(path, **content)
    except httpx.TimeoutException:
        raise TimedOut(
            f"The broker at {client.base_url} did not answer within {CONNECT_WITHIN_S:g} s."
        ) from None
    except httpx.HTTPError as error:
        raise unreachable(str(client.base_url), error) from None
    if answer.status_code in (400, 401, 403):
        raise NotAuthorized(
            f"The broker refused {path}: HTTP {answer.status_code} {_error_of(answer)}".rstrip()
        )
    if not answer.is_success:
        raise Refused(
            f"The broker answered {path} with HTTP {answer.status_code}.",
            str(answer.status_code),
            retry_after_s(answer.headers.get("Retry-After")),
        )
    try:
        return answer.json()
    except ValueError:
        raise NotUnderstood(f"The broker's answer to {path} is not JSON.") from None


def _error_of(answer: httpx.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        return ""
    return (
        str(said.get("error_description") or said.get("error") or "")[:400] if isinstance(said, dict) else ""
    )


def retry_after_s(header: str | None) -> float | None:
    """The seconds of a `Retry-After` header; a date in it counts as unknown."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def unreachable(where: str, error: BaseException) -> Unreachable:
    """What a failed connection means: a certificate that is not trusted, or nobody there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotTrusted(f"The certificate of {where} is not trusted: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    reason = str(error) or type(error).__name__
    return Unreachable(f"The broker at {where} cannot be reached: {reason}")
