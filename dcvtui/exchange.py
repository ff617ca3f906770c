"""One request to a broker and its answer: deadline, repeats, and every fault as a sentence.

This is the only place that knows the HTTP library. It knows nothing of sessions
and servers; `dcvtui.client` says what to send and whether it may be sent twice.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from dcvtui.api.text import visible
from dcvtui.errors import (
    BrokerError,
    NotAuthorized,
    NotTrusted,
    NotUnderstood,
    Refused,
    TimedOut,
    Unreachable,
)
from dcvtui.lean_httpx import httpx
from dcvtui.trust import Trust, offered_certificate, ssl_context

DEADLINE_S = 10.0
RETRY_WAITS_S = (0.25, 1.0)
# How long a throttled call waits in all before the broker's 429 is reported.
LONGEST_WAIT_S = 30.0
_THROTTLED_WAIT_S = 1.0
_CONNECT_SHARE = 0.9
_TEXT_LENGTH = 300
_HIDDEN = "•••"

Sleep = Callable[[float], Awaitable[None]]


class Exchange:
    """Sends requests to one broker and gives back answers of any status.

    Args:
        url: address of the broker, for sentences.
        trust: which certificate it must show.
        who: what answers there: the broker, or the token server where that is another.
        secrets: texts that never get into a sentence, shared by those who learn some.
        transport: another way to carry requests than the network, for tests.
        deadline_s: for one request and its answer, connecting included.
        retry_waits_s: what to wait before each repeat of a call that may be repeated.
        sleep: how to wait.
    """

    def __init__(
        self,
        url: str,
        trust: Trust,
        *,
        who: str = "broker",
        secrets: set[str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        deadline_s: float = DEADLINE_S,
        retry_waits_s: Sequence[float] = RETRY_WAITS_S,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._url = url
        self._who = who
        self._deadline_s = deadline_s
        self._retry_waits_s = tuple(retry_waits_s)
        self._sleep = sleep
        self._secrets = set() if secrets is None else secrets
        # The trace that tells whether a request left this machine exists on the network only.
        self._has_trace = transport is None
        self._http = httpx.AsyncClient(
            verify=ssl_context(trust) if transport is None else False,
            transport=transport,
            timeout=deadline_s,  # never reached: `_send_once` bounds the whole exchange, not each step
            follow_redirects=False,  # a secret goes to no other address than the one configured
            trust_env=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=8, keepalive_expiry=4.0),
            headers={"Accept": "application/json", "User-Agent": "dcvtui"},
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def hide(self, secret: str) -> None:
        """Never let this text into a sentence, even if a broker sends it back."""
        if secret:
            self._secrets.add(secret)

    def forget(self, secret: str) -> None:
        """The text is no secret any more: an access token that was replaced."""
        self._secrets.discard(secret)

    async def send(
        self,
        method: str,
        url: str,
        *,
        is_repeatable: bool,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        auth: tuple[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> httpx.Response:
        """Send a request; repeat it where the broker asks for it or where that can do no harm.

        Raises:
            BrokerError: no answer came.
        """
        request = self._http.build_request(method, url, headers=headers, content=content)
        waits = iter(self._retry_waits_s if is_repeatable else ())
        patience_s = LONGEST_WAIT_S
        while True:
            wait_s: float | None
            try:
                response = await self._send_once(request, auth, deadline_s or self._deadline_s)
            except Unreachable:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise
            else:
                if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                    wait_s = _retry_after(response) or _THROTTLED_WAIT_S
                    patience_s -= wait_s
                    if patience_s < 0:
                        return response
                elif response.is_server_error:
                    wait_s = next(waits, None)
                    if wait_s is None:
                        return response
                else:
                    return response
            await self._sleep(wait_s)

    async def _send_once(
        self, request: httpx.Request, auth: tuple[str, str] | None, deadline_s: float
    ) -> httpx.Response:
        was_sent = not self._has_trace

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            nonlocal was_sent
            was_sent = was_sent or event.endswith("send_request_headers.started")

        # A TLS handshake that is cancelled leaves its socket open; one that times out by itself does not.
        timeout = httpx.Timeout(None, connect=_CONNECT_SHARE * deadline_s)
        request.extensions = {"trace": trace, "timeout": timeout.as_dict()}
        # Errors are raised `from None`: the library's own carry the request with its Authorization header.
        try:
            async with asyncio.timeout(deadline_s):
                return await self._http.send(request, auth=auth)
        except (TimeoutError, httpx.ConnectTimeout):
            raise self._timed_out(deadline_s, was_sent=was_sent) from None
        except httpx.DecodingError:
            raise self.not_understood("an answer whose compression is damaged", was_sent=True) from None
        except httpx.TransportError as error:
            failure = error
        raise await self._failure(failure, was_sent=was_sent) from None

    @contextlib.asynccontextmanager
    async def stream(
        self, url: str, *, headers: Mapping[str, str], silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of an answer that does not end, as it comes; read it within the block.

        Args:
            url: what to get.
            headers: of the request.
            silence_s: how long nothing may come before the line counts as dead.

        Raises:
            BrokerError: no good answer came, or the line broke.
        """
        timeout = httpx.Timeout(self._deadline_s, read=silence_s)
        try:
            async with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
                if not response.is_success:
                    await response.aread()
                    raise self.refusal(response)
                yield response.aiter_bytes()
        except httpx.TimeoutException:
            raise self._timed_out(silence_s, was_sent=True) from None
        except httpx.TransportError as error:
            failure = error
        else:
            return
        raise await self._failure(failure, was_sent=True) from None

    def _timed_out(self, deadline_s: float, *, was_sent: bool) -> TimedOut:
        what = "did not answer" if was_sent else "could not be reached"
        advice = (
            "It may be overloaded or another program may listen there; try again or check address and port."
            if was_sent
            else "Check the address and whether a firewall is between."
        )
        return TimedOut(
            f"The {self._who} {self._url} {what} within {deadline_s:g} seconds. {advice}", was_sent=was_sent
        )

    async def _failure(self, error: httpx.TransportError, *, was_sent: bool) -> BrokerError:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return await self._not_trusted(cause)
            if isinstance(cause, socket.gaierror):
                return self._unreachable(
                    "no address is known for its name", "Check the spelling of the name and the DNS settings."
                )
            if isinstance(cause, ConnectionRefusedError):
                return self._unreachable(
                    "connection refused",
                    "Check that it runs and that the port is right (a broker's for clients is usually 8443).",
                )
            if isinstance(cause, ssl.SSLError) and not was_sent:
                return self._unreachable(
                    "what answers there does not speak TLS",
                    "Check the port (a broker's for clients is usually 8443).",
                )
        if was_sent:
            return Unreachable(
                f"The {self._who} {self._url} closed the connection before its answer came. "
                "Look whether it was restarted, then look again at what it did.",
                was_sent=True,
            )
        reason = next((c.strerror for c in _causes(error) if isinstance(c, OSError) and c.strerror), None)
        return self._unreachable(
            (reason or "the connection was closed at once").lower(), "Check the address and the network."
        )

    def _unreachable(self, reason: str, advice: str) -> Unreachable:
        return Unreachable(f"The {self._who} {self._url} could not be reached: {reason}. {advice}")

    async def _not_trusted(self, cause: ssl.SSLCertVerificationError) -> NotTrusted:
        reason = getattr(cause, "verify_message", None) or cause.strerror or "it could not be verified"
        parts = httpx.URL(self._url)
        offered = await offered_certificate(parts.host, parts.port or 443)
        fingerprint = offered.fingerprint if offered else ""
        shown = f" It shows {fingerprint}." if fingerprint else ""
        if self._who != "broker":
            # A pin is the broker's: to offer one for another address would shut the broker out.
            return NotTrusted(
                f"The certificate of the {self._who} {self._url} is not trusted: "
                f"{visible(reason).rstrip('.')}.{shown} Nothing was sent. Put its CA into the file of "
                "--ca-bundle, beside the broker's, or into the system's.",
                reason=reason,
            )
        return NotTrusted(
            f"The certificate of {self._url} is not trusted: {visible(reason).rstrip('.')}.{shown} "
            f"Nothing was sent. If this is your {self._who}, name its CA file with --ca-bundle FILE, or "
            f"compare the fingerprint there and pin it with --trust-fingerprint {fingerprint or 'SHA256:…'}",
            fingerprint=fingerprint,
            reason=reason,
        )

    # ------------------------------------------------------------------ answers that are errors

    def not_understood(self, what: str, *, was_sent: bool = False) -> NotUnderstood:
        """The sentence for an answer that no broker gives."""
        return NotUnderstood(
            f"{self._url} answered with {what}, which no {self._who} does. "
            f"Check that address and port are those of the {self._who} "
            "(a broker's for clients is usually 8443).",
            was_sent=was_sent,
        )

    def json_object(self, response: httpx.Response, *, was_sent: bool = False) -> dict[str, Any]:
        """The JSON object of a good answer.

        Args:
            response: of any status.
            was_sent: what to say about an answer that is not understood.

        Raises:
            BrokerError: the status is an error, or the body is no JSON object.
        """
        if not response.is_success:
            raise self.refusal(response)
        try:
            value = response.json()
        except (ValueError, RecursionError):
            raise self.not_understood(self._kind(response), was_sent=was_sent) from None
        if not isinstance(value, dict):
            raise self.not_understood("JSON of another shape", was_sent=was_sent)
        return value

    def refusal(self, response: httpx.Response) -> BrokerError:
        """What an answer with an error status says, in a sentence with the broker's own words."""
        status = response.status_code
        if response.is_redirect:
            target = self._shown(response.headers.get("Location", "elsewhere"))
            return self.not_understood(f"a redirection to {target}")
        body = _json_or_none(response)
        text = self._broker_text(body)
        if status == httpx.codes.UNAUTHORIZED:
            reason = text or "no reason given"
            return NotAuthorized(
                f'The {self._who} {self._url} does not accept the access token: "{reason}". '
                "Check the credentials, and the clocks of both machines."
            )
        if text is None and response.is_client_error and status != httpx.codes.TOO_MANY_REQUESTS:
            return self.not_understood(f"HTTP {status} and {self._kind(response)}")
        text = text or self._shown(response.reason_phrase) or "no reason given"
        return Refused(
            f'The {self._who} {self._url} answered with HTTP {status}: "{text}". {_advice(status)}',
            status=status,
            text=text,
            request_id=self._shown(str(body.get("RequestId", ""))) if body else "",
            retry_after_s=_retry_after(response),
            # A gateway's answer does not tell what the broker behind it did.
            was_sent=status in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT),
        )

    def _broker_text(self, body: dict[str, Any] | None) -> str | None:
        for name in ("error_description", "error", "message"):
            value = (body or {}).get(name)
            if isinstance(value, str) and value:
                return self._shown(value)
        return None

    def _kind(self, response: httpx.Response) -> str:
        text = response.text.lstrip("\ufeff \r\n\t")
        if not text:
            return "an empty page"
        if text[:1] == "<":
            title = re.search(r"<title>([^<]{1,80})", text, re.IGNORECASE)
            return f'a page of HTML ("{self._shown(title[1].strip())}")' if title else "a page of HTML"
        return "something that is not JSON"

    def _shown(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return visible(text if len(text) <= _TEXT_LENGTH else text[:_TEXT_LENGTH] + "…")


def _advice(status: int) -> str:
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return "It is asked too often; try again later."
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return "It is stopping or its database is down; try again in a moment."
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return "The fault is on its side; its log tells more."
    return "Correct what it names."


def _json_or_none(response: httpx.Response) -> dict[str, Any] | None:
    try:
        value = response.json()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait; the header holds a number or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    moment = date_of(text)
    sent = date_of(response.headers.get("Date", "")) or datetime.now(UTC)
    return max((moment - sent).total_seconds(), 0.0) if moment else None


def date_of(text: str) -> datetime | None:
    """The time of a date header; None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it came from; one failed address of several comes as a group."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    below = error.__cause__ or error.__context__
    if below is not None:
        yield from _causes(below)
