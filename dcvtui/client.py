"""A Session Manager broker as its clients see it: the nine operations, pages and tokens handled.

Follows section 15 of the API specification. Answers are read tolerantly; pages
of servers and sessions stay plain dictionaries, because a fleet has tens of
thousands of them. Nothing here knows screens or files. The errors are those of
`dcvtui.errors`.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from urllib.parse import quote, urlsplit

from dcvtui.config import Connection, Credentials, check_url, is_same_origin
from dcvtui.errors import NotAuthorized, Refused
from dcvtui.exchange import Exchange, date_of
from dcvtui.lean_httpx import httpx
from dcvtui.tokens import Tokens
from dcvtui.trust import Trust

if TYPE_CHECKING:
    from dcvtui.api import models

# Two known clients send at most this many, one of them as the broker's limit (API specification, 11).
SCREENSHOTS_PER_CALL = 5
IDS_PER_CALL = 1000
# The broker gives a host 10 s for a picture or new permissions, so a call may take a little longer.
_HOST_DEADLINE_S = 15.0

_LIVE_PATH = re.compile(r"/[A-Za-z0-9_][A-Za-z0-9_./-]*")

ModelT = TypeVar("ModelT", bound="models.WireModel")
Items = Sequence[Mapping[str, Any]]
Page = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer(Generic[ModelT]):
    """An answer of the broker, read and as it came.

    Attributes:
        model: the fields we know, also where the broker spells them differently.
        raw: everything it sent.
    """

    model: ModelT
    raw: dict[str, Any] = field(repr=False)


class BrokerClient:
    """One broker. Use it as an async context manager, or call `close` at the end.

    Args:
        url: of the broker's client API.
        credentials: None for a broker that asks for no token.
        trust: which certificate it must show.
        transport: another way to carry requests than the network, for tests.
        now: a clock in seconds that never goes back.
        **exchange: deadlines and waits, see `Exchange`.

    Raises:
        ConfigError: the address is no broker's, or the CA file cannot be used.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials | None,
        trust: Trust,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.monotonic,
        **exchange: Any,
    ) -> None:
        self.url = check_url(url, "the program")
        options = {"transport": transport, "secrets": set(), **exchange}
        self._exchange = Exchange(self.url, trust, **options)
        self._token_exchange = self._exchange
        if credentials and credentials.token_url and not is_same_origin(credentials.token_url, self.url):
            is_same_host = urlsplit(credentials.token_url).hostname == urlsplit(self.url).hostname
            shown_there = trust if is_same_host else trust.elsewhere
            self._token_exchange = Exchange(credentials.token_url, shown_there, who="token server", **options)
        self._tokens = Tokens(self._token_exchange, self.url, credentials, now)
        self._now = now
        self._date: tuple[datetime, float] | None = None
        self._takes_sizes = True

    @classmethod
    def to(cls, connection: Connection, **exchange: Any) -> Self:
        """A client for what the configuration names."""
        return cls(connection.url, connection.credentials, connection.trust, **exchange)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"BrokerClient({self.url!r})"

    async def close(self) -> None:
        """Close all connections."""
        await self._exchange.close()
        if self._token_exchange is not self._exchange:
            await self._token_exchange.close()

    @property
    def broker_time(self) -> datetime | None:
        """What the broker's clock says now, as far as its answers told; ages are counted against it."""
        if self._date is None:
            return None
        moment, read_at = self._date
        return moment + timedelta(seconds=self._now() - read_at)

    @property
    def needs_token(self) -> bool:
        """The broker is asked with an access token."""
        return self._tokens.is_needed

    async def authorize(self) -> None:
        """Make sure that a token can be had, without asking for anything.

        Raises:
            BrokerError: the broker is not reached or does not take the credentials.
        """
        await self._tokens.current()

    # ------------------------------------------------------------------ reading

    async def describe_sessions_page(
        self,
        ids: Sequence[str] = (),
        filters: Sequence[tuple[str, str]] = (),
        max_results: int | None = None,
        next_token: str | None = None,
        known: bytes | None = None,
    ) -> Page:
        """One page of sessions: `Sessions` is a list of objects, `NextToken` there only if more follow.

        Args:
            known: the `Digest` of this page when it was read last. If it is the same still, the answer is
                not read again: `Sessions` is missing, and `NextToken` is the caller's to remember.
        """
        body: Page = {"SessionIds": list(ids)} if ids else {}
        if filters:
            body["Filters"] = [{"Key": key, "Value": value} for key, value in filters]
        return await self._page("/describeSessions", "Sessions", body, max_results, next_token, known)

    async def describe_servers_page(
        self,
        ids: Sequence[str] = (),
        max_results: int | None = None,
        next_token: str | None = None,
        known: bytes | None = None,
    ) -> Page:
        """One page of servers: `Servers` is a list of objects, `NextToken` there only if more follow.

        `known` is as in `describe_sessions_page`.
        """
        body: Page = {"ServerIds": list(ids)} if ids else {}
        return await self._page("/describeServers", "Servers", body, max_results, next_token, known)

    async def session_pages(
        self, ids: Sequence[str] = (), filters: Sequence[tuple[str, str]] = (), max_results: int | None = None
    ) -> AsyncIterator[Page]:
        """All pages of sessions."""
        for some in _chunks(ids, IDS_PER_CALL) or [ids]:

            async def fetch(token: str | None, some: Sequence[str] = some) -> Page:
                return await self.describe_sessions_page(some, filters, max_results, token)

            async for page in _follow(fetch):
                yield page

    async def server_pages(
        self, ids: Sequence[str] = (), max_results: int | None = None
    ) -> AsyncIterator[Page]:
        """All pages of servers."""
        for some in _chunks(ids, IDS_PER_CALL) or [ids]:

            async def fetch(token: str | None, some: Sequence[str] = some) -> Page:
                return await self.describe_servers_page(some, max_results, token)

            async for page in _follow(fetch):
                yield page

    async def sessions(
        self, ids: Sequence[str] = (), filters: Sequence[tuple[str, str]] = (), max_results: int | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The sessions, page by page."""
        async for page in self.session_pages(ids, filters, max_results):
            yield page["Sessions"]

    async def servers(
        self, ids: Sequence[str] = (), max_results: int | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """The servers, page by page."""
        async for page in self.server_pages(ids, max_results):
            yield page["Servers"]

    async def connection_data(
        self, session_id: str, user: str
    ) -> "Answer[models.GetSessionConnectionDataResponse]":
        """How a user reaches a session; the token in the answer is a secret."""
        from dcvtui.api import models  # noqa: PLC0415  0.12 s that lists of servers and sessions do not need

        path = f"/sessionConnectionData/{_path_part(session_id)}/{_path_part(user)}"
        raw = await self._call("GET", path, None, is_repeatable=True)
        return self._read(models.GetSessionConnectionDataResponse, raw, was_sent=False)

    async def screenshots(self, items: Items) -> "Answer[models.GetSessionScreenshotsResponse]":
        """Pictures of sessions, any number of items; brokers too old for sizes are asked without."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        answers = [
            self._read(
                models.GetSessionScreenshotsResponse, await self._screenshots_call(some), was_sent=False
            )
            for some in _chunks(items, SCREENSHOTS_PER_CALL)
        ]
        return self._read(models.GetSessionScreenshotsResponse, join_answers(answers), was_sent=False)

    async def _screenshots_call(self, items: Items) -> Page:
        path = "/getSessionScreenshots"
        if self._takes_sizes:
            try:
                return await self._call("POST", path, list(items), deadline_s=_HOST_DEADLINE_S)
            except Refused as error:
                names_size = "MaxWidth" in error.text or "MaxHeight" in error.text
                has_size = any("MaxWidth" in item or "MaxHeight" in item for item in items)
                if error.status != httpx.codes.BAD_REQUEST or not names_size or not has_size:
                    raise
                # "must be greater than 0" is about the value, anything else about a field it does not know.
                self._takes_sizes = "greater than" in error.text
        plain = [{"SessionId": item["SessionId"]} for item in items if "SessionId" in item]
        return await self._call("POST", path, plain, deadline_s=_HOST_DEADLINE_S)

    # ------------------------------------------------------------------ told by the broker

    async def live_path(self) -> str | None:
        """Where the broker offers a stream of changes; `None` for brokers that do not.

        Raises:
            BrokerError: nobody can tell now, as while it starts or stops.
        """
        response = await self._exchange.send("GET", self.url + "/health", is_repeatable=False)
        if response.is_server_error:
            raise self._exchange.refusal(response)
        try:
            path = response.json().get("liveChanges") if response.is_success else None
        except (ValueError, RecursionError, AttributeError):
            return None
        # Only a path: the token is for this broker and for nobody that an answer may name.
        return path if isinstance(path, str) and _LIVE_PATH.fullmatch(path) else None

    @contextlib.asynccontextmanager
    async def live_stream(
        self, path: str, last_id: str, silence_s: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The broker's stream of changes, from the event after `last_id` on; see `dcvtui.live`."""
        headers = {"Accept": "text/event-stream"}
        if last_id.isascii() and last_id.isprintable() and last_id:
            headers["Last-Event-ID"] = last_id
        token = await self._tokens.current()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with self._exchange.stream(self.url + path, headers=headers, silence_s=silence_s) as stream:
                yield stream
        except NotAuthorized:
            # The next try has a new one.
            if token and self._tokens.can_renew:
                self._tokens.drop(token)
            raise

    # ------------------------------------------------------------------ changing: never sent twice

    async def create_sessions(self, items: Items) -> "Answer[models.CreateSessionsResponse]":
        """Ask for new sessions; success means accepted, not ready."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        return await self.send_change("POST", "/createSessions", items, models.CreateSessionsResponse)

    async def delete_sessions(self, items: Items) -> "Answer[models.DeleteSessionsResponse]":
        """Delete sessions; each item names the session and its owner."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        return await self.send_change("POST", "/deleteSessions", items, models.DeleteSessionsResponse)

    async def update_permissions(self, items: Items) -> "Answer[models.UpdateSessionPermissionsResponse]":
        """Replace the permissions of sessions; the file is Base64."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        return await self.send_change(
            "PUT", "/sessionPermissions", items, models.UpdateSessionPermissionsResponse
        )

    async def open_servers(self, items: Items) -> "Answer[models.OpenServersResponse]":
        """Let placement use servers again."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        return await self.send_change("POST", "/openServers", items, models.OpenServersResponse)

    async def close_servers(self, items: Items) -> "Answer[models.CloseServersResponse]":
        """Keep new sessions off servers."""
        from dcvtui.api import models  # noqa: PLC0415  as above

        return await self.send_change("POST", "/closeServers", items, models.CloseServersResponse)

    # ------------------------------------------------------------------ underneath

    async def send_change(self, method: str, path: str, items: Items, model: type[ModelT]) -> Answer[ModelT]:
        """Send one request that changes something; a client that must not, does something else here."""
        raw = await self._call(method, path, list(items), deadline_s=_HOST_DEADLINE_S, is_change=True)
        return self._read(model, raw, was_sent=True)

    async def _page(
        self,
        path: str,
        name: str,
        body: Page,
        max_results: int | None,
        next_token: str | None,
        known: bytes | None,
    ) -> Page:
        if max_results is not None:
            body["MaxResults"] = max_results
        if next_token:
            body["NextToken"] = next_token
        response = await self._answer("POST", path, body, is_repeatable=True)
        digest = _digest(response.content) if known is not None and response.is_success else b""
        if known and digest == known:
            return {"Digest": digest}
        page = self._exchange.json_object(response)
        if known is not None:
            page["Digest"] = digest
        entities = page.setdefault(name, [])
        if entities is None:
            entities = page[name] = []
        if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
            raise self._exchange.not_understood(f"a {name} member that is no list of objects")
        token = page.pop("NextToken", None)
        if isinstance(token, str) and token:
            page["NextToken"] = token
        return page

    async def _call(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        is_repeatable: bool = False,
        is_change: bool = False,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        response = await self._answer(method, path, body, is_repeatable=is_repeatable, deadline_s=deadline_s)
        return self._exchange.json_object(response, was_sent=is_change)

    async def _answer(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        is_repeatable: bool = False,
        deadline_s: float | None = None,
    ) -> httpx.Response:
        request: dict[str, Any] = {"is_repeatable": is_repeatable, "deadline_s": deadline_s}
        if body is not None:
            request["content"] = json.dumps(body, separators=(",", ":")).encode()
        token = await self._tokens.current()
        response = await self._send(method, path, token, request)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._tokens.can_renew:
            # A refused call did nothing, so that repeating it once is right for every operation.
            self._tokens.drop(token)
            response = await self._send(method, path, await self._tokens.current(), request)
        return response

    async def _send(
        self, method: str, path: str, token: str | None, request: Mapping[str, Any]
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if "content" in request:
            headers["Content-Type"] = "application/json"
        response = await self._exchange.send(method, self.url + path, headers=headers, **request)
        moment = date_of(response.headers.get("Date", ""))
        if moment:
            self._date = (moment.astimezone(UTC), self._now())
        return response

    def _read(self, model: type[ModelT], raw: dict[str, Any], *, was_sent: bool) -> Answer[ModelT]:
        try:
            return Answer(model.read(raw), raw)
        except ValueError:  # pydantic's report would quote values, tokens among them
            raise self._exchange.not_understood("JSON of another shape", was_sent=was_sent) from None


def _digest(content: bytes) -> bytes:
    """Tells two answers apart by what they say; each has a `RequestId` of its own, which does not count."""
    start = content.find(b'"RequestId"')
    end = content.find(b'"', content.find(b":", start) + 2 if start >= 0 else 0)
    digest = hashlib.blake2b(content[: max(start, 0)], digest_size=16)
    digest.update(memoryview(content)[end if start >= 0 else 0 :])
    return digest.digest()


async def _follow(fetch: Callable[[str | None], Awaitable[Page]]) -> AsyncIterator[Page]:
    seen: set[str] = set()
    token: str | None = None
    while True:
        page = await fetch(token)
        yield page
        token = page.get("NextToken")
        if token is None or token in seen:  # a broker that gives a token again would never end
            return
        seen.add(token)


def join_answers(answers: Sequence[Answer[Any]]) -> dict[str, Any]:
    """Several answers of one operation as one: lists joined, every other member is the last one's.

    Lists have their canonical names, whatever the broker calls them; entries stay as they came.
    """
    joined: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {"SuccessfulList": [], "UnsuccessfulList": []}
    for answer in answers:
        read = answer.model.to_wire()
        joined |= {name: value for name, value in answer.raw.items() if not isinstance(value, list)}
        for name, entries in lists.items():
            raw = answer.raw.get(name)
            entries.extend(raw if isinstance(raw, list) else read.get(name, []))
    return joined | lists


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _path_part(text: str) -> str:
    # A part of dots alone would be taken for a step in the path and resolved away.
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
